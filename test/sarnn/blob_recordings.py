"""Recordings in which a point goes to the blob that its task names, as make_dataset writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bag_tools.episode import Episode
from bag_tools.thumbnails import png_text
from bag_tools.training_set import SetConfig, TrainingSet
from bag_tools.training_set_writer import write_training_set

NAMES = ('across', 'down', 'still')
TASKS = ('reach the red ball', 'reach the blue ball')
COLOURS = ((220, 20, 20), (20, 20, 220))
PERIOD_NS = 100_000_000
TOUCH_LEVEL = 120


def draw(places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A blob of each colour at (x, y) in [0, 1] on grey."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.full((*size, 3), 128, np.uint8)
    for (x, y), colour in zip(places, COLOURS, strict=True):
        far = np.hypot(columns + 0.5 - x * size[1], rows + 0.5 - y * size[0])
        image[far < 0.12 * min(size)] = colour
    return image


def blob_episode(
    seed: int, task: int, steps: int, size: tuple[int, int] = (16, 24)
) -> dict[str, Any]:
    """A point that goes from a corner to the blob of a task, and presses where it is."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(0.15, 0.85, (2, 2))
    share = np.linspace(0, 1, steps)[:, None]
    start = rng.uniform(0, 0.2, 2)
    across_down = start + (places[task] - start) * share
    joints = np.concatenate([across_down, np.full((steps, 1), 0.3)], axis=1).astype(np.float32)
    touch = np.full((steps, 8, 12, 3), TOUCH_LEVEL, np.uint8)
    touch[steps // 2 :, 2:6, 3:9] += 40
    depth = np.full((steps, *size), 500, np.uint16)
    return {
        'color': np.repeat(draw(places, size)[None], steps, axis=0),
        'depth': depth,
        'gelsight1': touch,
        'joints_state': joints,
        'actions': np.concatenate([joints[1:], joints[-1:]]),
        'stamps': 1_700_000_000_000_000_000 + np.arange(steps) * PERIOD_NS,
        'joint_names': np.array(NAMES),
        'valid_color': np.ones(steps, np.bool_),
        'valid_joints_state': np.ones(steps, np.bool_),
    }


def write_recordings(
    folder: Path,
    count: int = 8,
    steps: int = 8,
    *,
    test_share: float = 0.25,
    streams: tuple[str, ...] | None = None,
    size: tuple[int, int] = (16, 24),
    first_seed: int = 0,
) -> Path:
    """A data set of `count` episodes of steps, steps + 1, steps + 2 ticks in turn; its folder."""
    npz = folder / 'npz'
    npz.mkdir(parents=True)
    reference = np.full((8, 12, 3), TOUCH_LEVEL, np.uint8)
    metadata = {'streams': {'gelsight1': {'reference_png': png_text(reference)}}}
    for i in range(count):
        arrays = blob_episode(first_seed + i, i % 2, steps + i // 2 % 3, size)
        np.savez(npz / f'{i:03}.npz', metadata=np.array(json.dumps(metadata)), **arrays)
    episodes = [Episode(path) for path in sorted(npz.iterdir())]
    tasks = [TASKS[i % 2] for i in range(count)]
    made = TrainingSet(episodes, tasks, SetConfig(streams=streams, test_share=test_share))
    write_training_set(made, folder / 'data', overwrite=False)
    return folder / 'data'
