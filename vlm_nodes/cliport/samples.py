"""One labelled picture of the table, and many of them as tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vlm_nodes.cliport.episode import Episode, EpisodeError, episode_files
from vlm_nodes.cliport.poses import labels_of_poses
from vlm_nodes.cliport.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Sample:
    """What was seen, what was said, and where to pick and to place.

    Places are (row, column) in pixels; the centre of a pixel has whole numbers, as
    `Workspace.points` takes them.

    Attributes:
        color: (H, W, 3) uint8, RGB.
        height_m: (H, W) float32, metres in the table frame, 0 in holes.
        seen: (H, W) bool.
        instruction: The sentence.
        pick: Where to pick.
        place: Where to place.
        pick_angle_rad: Angle of the tool at the pick.
        place_angle_rad: Angle of the tool at the place, less that at the pick.
        task: Name of the task it was shown in.
        workspace: What the picture shows, before augmentation; None where nobody said.

    Raises:
        ValueError: Shapes differ, or a label lies outside the picture.
    """

    color: NDArray[np.uint8]
    height_m: NDArray[np.float32]
    seen: NDArray[np.bool_]
    instruction: str
    pick: tuple[float, float]
    place: tuple[float, float]
    pick_angle_rad: float = 0.0
    place_angle_rad: float = 0.0
    task: str = ''
    workspace: Workspace | None = None

    def __post_init__(self) -> None:
        """Check shapes and labels."""
        shape = self.seen.shape
        if self.color.shape != (*shape, 3) or self.height_m.shape != shape:
            raise ValueError(
                f'color {self.color.shape}, height_m {self.height_m.shape} and seen {shape} differ'
            )
        for name in ('pick', 'place'):
            label = getattr(self, name)
            if not all(-0.5 <= v < n - 0.5 for v, n in zip(label, shape, strict=True)):
                raise ValueError(f'{name} {label} lies outside the picture of {shape}')


@dataclass(frozen=True, eq=False)
class Scene:
    """What the network sees of B tables.

    Attributes:
        color: (B, 3, H, W) float32 in [0, 1].
        height_m: (B, H, W) float32.
        seen: (B, H, W) bool.
    """

    color: Tensor
    height_m: Tensor
    seen: Tensor

    @classmethod
    def of(
        cls, pictures: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool_]]]
    ) -> Scene:
        """Stack pictures of one size, each colour, height and what was seen."""
        colors, heights, seen = (
            torch.from_numpy(np.ascontiguousarray(np.stack(parts)))
            for parts in zip(*pictures, strict=True)
        )
        return cls(colors.permute(0, 3, 1, 2).float() / 255, heights.float(), seen)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        return int(self.seen.shape[-2]), int(self.seen.shape[-1])

    def to(self, device: torch.device | str) -> Scene:
        """The same on another device."""
        return Scene(self.color.to(device), self.height_m.to(device), self.seen.to(device))


def samples_of(episode: Episode) -> list[Sample]:
    """One sample a step of a demonstration.

    Raises:
        ValueError: A pose is outside the workspace, or its tool leans.
    """
    samples = []
    for step in episode.steps:
        pick, place = labels_of_poses(episode.workspace, step.pick, step.place)
        samples.append(
            Sample(
                step.heightmap.color,
                step.heightmap.height_m,
                step.heightmap.seen,
                step.instruction,
                (pick.row, pick.col),
                (place.row, place.col),
                pick.angle_rad,
                place.angle_rad,
                episode.task,
                episode.workspace,
            )
        )
    return samples


def read_samples(folders: Sequence[Path], limit: int | None = None) -> list[list[Sample]]:
    """All demonstrations of some folders, decoded and held in memory.

    Args:
        folders: With episode files.
        limit: Most episodes to read of each folder, the first by name.

    Returns:
        A list of samples for each episode.

    Raises:
        ValueError: A file is damaged, a pose cannot be a label, or pictures differ in size or
            in the size of their pixels.
        FileNotFoundError: A folder is missing or has no episode.
    """
    episodes: list[list[Sample]] = []
    for folder in folders:
        for path in tqdm(episode_files(folder)[:limit], folder.name, leave=False, disable=None):
            try:
                episodes.append(samples_of(Episode.load(path)))
            except EpisodeError:
                raise  # It names the file.
            except ValueError as error:
                raise ValueError(f'{path} cannot be learned from: {error}') from error
    shapes = {sample.seen.shape for samples in episodes for sample in samples}
    if len(shapes) > 1:
        raise ValueError(f'pictures differ in size: {sorted(shapes)}; train on each apart')
    scales = {
        sample.workspace.pixel_m for samples in episodes for sample in samples if sample.workspace
    }
    if len(scales) > 1:
        raise ValueError(f'pixels differ in size: {sorted(scales)} m; train on each apart')
    return episodes


def commonest_workspace(episodes: Sequence[Sequence[Sample]]) -> Workspace | None:
    """What most episodes show; None where none of them says."""
    known = Counter(samples[0].workspace for samples in episodes if samples)
    del known[None]
    return known.most_common(1)[0][0] if known else None
