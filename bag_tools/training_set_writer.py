"""A training set on disk: arrays laid out whole, then filled episode by episode."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from bag_tools.episode import ACTIONS, JOINTS, is_valid_key
from bag_tools.episode_split import SPLITS
from bag_tools.training_set import TrainingSet
from bag_tools.whole_folder import whole_folder

TASK_DICT, EPISODES = 'task_dict.json', 'episodes.json'
BOUNDS_FILES = {JOINTS: 'joint_bounds.npy', ACTIONS: 'action_bounds.npy'}
HOLDS = (*SPLITS, TASK_DICT, EPISODES, *BOUNDS_FILES.values())


def write_training_set(
    made: TrainingSet, path: Path, *, overwrite: bool, progress: Iterable[int] | None = None
) -> None:
    """Write a training set whole; of the data, no more than an episode is in memory at a time.

    Args:
        made: What it holds.
        path: The folder.
        overwrite: Replace a training set that is there.
        progress: `range(len(made.episodes))` or a progress bar around it.

    Raises:
        OSError: The folder is there, or the disk is too small.
        EpisodeError: An episode is broken.
    """
    bounds = made.bounds
    with whole_folder(path, overwrite=overwrite, holds=HOLDS) as folder:
        _check_disk(made, folder.parent)
        for split in SPLITS:
            (folder / split).mkdir(parents=True)
            _lay_out(made, folder / split, split)
        for i in range(len(made.episodes)) if progress is None else progress:
            _write_episode(made, folder, i)
        for key, bound in bounds.items():
            np.save(folder / BOUNDS_FILES[key], bound.low_high)
        _write_json(folder / TASK_DICT, dict(enumerate(made.task_texts)))
        _write_json(folder / EPISODES, _record(made))


def _check_disk(made: TrainingSet, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if made.bytes > free:
        raise OSError(
            f'the data set needs {made.bytes / 1e9:.1f} GB, but {folder.parent} has '
            f'{free / 1e9:.1f} GB free'
        )


def _lay_out(made: TrainingSet, folder: Path, split: str) -> None:
    rows = made.rows(split)
    for key in made.keys:
        file, dtype, shape = folder / made.file_name(key), made.dtype(key), made.shape(split, key)
        if rows:
            open_memmap(file, mode='w+', dtype=dtype, shape=shape)
        else:
            np.save(file, np.empty(shape, dtype=dtype))
    for key in made.streams:
        _write_references(made, folder, key, rows)
    np.save(folder / 'tasks.npy', np.array([made.task_id(i) for i in rows], dtype=np.int64))
    lengths = [made.episodes[i].steps for i in rows]
    np.save(folder / 'lengths.npy', np.array(lengths, dtype=np.int64))


def _write_references(made: TrainingSet, folder: Path, key: str, rows: list[int]) -> None:
    images = [image for i in rows if (image := made.episodes[i].reference(key)) is not None]
    if images:
        np.save(folder / f'{Path(made.file_name(key)).stem}_reference.npy', np.stack(images))


def _write_episode(made: TrainingSet, folder: Path, i: int) -> None:
    split, row = made.place(i)
    for key in made.keys:
        # Opened anew for each episode: what is mapped counts as memory for as long as it is.
        target = open_memmap(folder / split / made.file_name(key), mode='r+')[row]
        done = 0
        for block in made.blocks(i, key):
            target[done : done + len(block)] = block
            done += len(block)
        # Padding repeats the last tick, so that no filter sees a jump; it is never valid.
        target[done:] = False if is_valid_key(key) else target[done - 1]


def _record(made: TrainingSet) -> dict[str, Any]:
    """What `episodes.json` says."""
    return {
        'episodes': [_episode_record(made, i) for split in SPLITS for i in made.rows(split)],
        'joint_names': list(made.joint_names),
        'still_joints': made.still_joints,
        'streams': {
            key: {
                'file': made.file_name(key),
                'shape': list(made.shape(SPLITS[0], key)[2:]),
                'dtype': str(made.dtype(key)),
                'subtracted': bool(made.episodes[0].described(key).get('subtracted')),
            }
            for key in made.keys
        },
        'test_share': made.config.test_share,
        'seed': made.config.seed,
    }


def _episode_record(made: TrainingSet, i: int) -> dict[str, Any]:
    split, row = made.place(i)
    return {
        'split': split,
        'row': row,
        'file': str(made.episodes[i].path),
        'task': made.tasks[i],
        'task_id': made.task_id(i),
        'steps': made.episodes[i].steps,
    }


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')
