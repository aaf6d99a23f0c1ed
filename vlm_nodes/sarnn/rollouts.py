"""What a policy predicts of recorded episodes, and how far off it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vlm_nodes.sarnn.batch import JOINTS, Batch
from vlm_nodes.sarnn.data import Sequences
from vlm_nodes.sarnn.model import Sarnn
from vlm_nodes.sarnn.observation import Prediction
from vlm_nodes.sarnn.pictures import joint_picture, keypoint_frame
from vlm_nodes.sarnn.plots import Image
from vlm_nodes.sarnn.preprocess import Preprocessor

ALL = 'all'


@dataclass(frozen=True)
class Rollout:
    """A policy's predictions of one episode of T ticks.

    Attributes:
        task: Its text.
        target: (T, P) joints, in their units; those of tick t + 1 were to be predicted at tick t.
        one_step: (T - 1, P) predicted from what was measured, of ticks 1 to T - 1.
        closed: (T - 1, P) predicted from the first tick and the policy's own predictions.
        counts: (T - 1,) which of them count.
        episode: What was measured; None where it was not kept.
        prediction: One step ahead, leading shape (1, T - 1); None where it was not kept.
    """

    task: str
    target: NDArray[np.float64]
    one_step: NDArray[np.float64]
    closed: NDArray[np.float64]
    counts: NDArray[np.bool_]
    episode: Batch | None = None
    prediction: Prediction | None = None


@torch.inference_mode()
def roll_out(model: Sarnn, episode: Batch, task: str, *, keep: bool) -> Rollout:
    """Let a policy predict an episode, from measurements and in closed loop.

    Args:
        model: In evaluation mode.
        episode: A batch of one.
        task: Its text.
        keep: Whether to keep what was seen and predicted besides joints, images above all.
    """
    device = next(model.parameters()).device
    moved = episode.to(device)
    inputs = moved.observations.window(0, moved.steps)
    prediction, _ = model(inputs, moved.task, decode_images=keep)
    closed, _ = model(inputs, moved.task, measured=0.0)
    unscale = Preprocessor(model.config).unscale
    return Rollout(
        task,
        unscale(episode.targets[0]),
        unscale(prediction.joints[0]),
        unscale(closed.joints[0]),
        episode.counts[JOINTS][0, 1:].numpy(),
        episode if keep else None,
        prediction.to('cpu') if keep else None,
    )


def roll_out_all(model: Sarnn, sequences: Sequences, rows: Iterable[int]) -> list[Rollout]:
    """Let a policy in evaluation mode predict some episodes.

    Images are kept of each task's first episode: those of all would fill the memory.
    """
    made: list[Rollout] = []
    for row in rows:
        task = sequences.tasks[row]
        first = all(rollout.task != task for rollout in made)
        made.append(roll_out(model, sequences[row], task, keep=first))
    return made


def error_table(
    rollouts: Sequence[Rollout], names: Sequence[str], bounds: NDArray[np.float64]
) -> dict[str, dict[str, Any]]:
    """Root mean squared errors of joints by task, and of all episodes under `all`.

    Args:
        rollouts: At least one.
        names: P joints.
        bounds: (2, P): what joints are divided by for the errors that have no unit.

    Returns:
        By task: `episodes`, and of `one_step` and `closed` `normalised` (a share of the joints'
        range), `units` (over all joints, each in its own unit) and `joints` (by name).
    """
    tasks = [ALL, *sorted({rollout.task for rollout in rollouts})]
    table: dict[str, dict[str, Any]] = {}
    for task in tasks:
        chosen = [rollout for rollout in rollouts if task in (ALL, rollout.task)]
        table[task] = {'episodes': len(chosen)} | {
            kind: _errors([_misses(rollout, kind) for rollout in chosen], names, bounds)
            for kind in ('one_step', 'closed')
        }
    return table


def episode_frames(rollout: Rollout, camera: str) -> list[Image]:
    """An episode as one camera sees it: keypoints, and the images that were predicted of it.

    Raises:
        ValueError: They were not kept.
    """
    episode, prediction = rollout.episode, rollout.prediction
    if episode is None or prediction is None:
        raise ValueError('the images of this episode were not kept')
    branches = [name for name in prediction.keypoints if name.split('/')[0] == camera]
    measured = _pictures(episode.observations.images[camera][0])
    predicted = _pictures(prediction.images[camera][0])
    frames = []
    for tick in range(len(predicted)):
        seen = [prediction.encoded_keypoints[name][0, tick].numpy() for name in branches]
        expected = [prediction.keypoints[name][0, tick].numpy() for name in branches]
        caption = f'{rollout.task}   {tick + 1}/{len(predicted)}'
        frames.append(keypoint_frame(measured[tick], predicted[tick], seen, expected, caption))
    return frames


def joints_of(rollout: Rollout, names: Sequence[str]) -> Image:
    """An episode's joints, recorded and predicted."""
    return joint_picture(names, rollout.target, rollout.one_step, rollout.closed, rollout.task)


def _misses(rollout: Rollout, kind: str) -> NDArray[np.float64]:
    predicted: NDArray[np.float64] = getattr(rollout, kind)
    return (predicted - rollout.target[1:])[rollout.counts]


def _errors(
    misses: Sequence[NDArray[np.float64]], names: Sequence[str], bounds: NDArray[np.float64]
) -> dict[str, Any]:
    squared = np.concatenate(misses) ** 2
    if len(squared) == 0:
        raise ValueError('no tick of the episodes has valid joints: there is no error to tell')
    by_joint = np.sqrt(squared.mean(axis=0))
    return {
        'normalised': float(np.sqrt((squared / (bounds[1] - bounds[0]) ** 2).mean())),
        'units': float(np.sqrt(squared.mean())),
        'joints': {name: float(error) for name, error in zip(names, by_joint, strict=True)},
    }


def _pictures(images: torch.Tensor) -> list[Image]:
    """(T, 3, H, W) in [0, 1] -> T images."""
    scaled = (images.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return list(scaled.permute(0, 2, 3, 1).numpy())
