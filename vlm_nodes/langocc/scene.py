"""What a network said of one moment, as what others want to know: voxels, a plan, answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.langocc.pictures import COLOURS
from vlm_nodes.langocc.predictor import Prediction
from vlm_nodes.langocc.vocabulary import ClassTexts
from vlm_nodes.surround import VoxelGrid
from vlm_nodes.surround.occupancy import CLASSES, FREE

UNKNOWN = -1
"""Cell of a plan that no camera looks at."""

_CLEAREST: Final = 1e-6
"""What light is left behind the densest voxel that can be told from one without any."""


@dataclass(frozen=True)
class Voxels:
    """The occupied voxels of a moment.

    Attributes:
        points_m: (N, 3) float32 their middles, in the ego frame.
        density: (N,) float32 1/m, which gives the voxel its opacity.
        classes: (N,) uint8 Occ3D's numbers.
        scores: (N,) float32 cosine with the class's best prompt.
        hidden: (N, C) float32 unit features.
    """

    points_m: NDArray[np.float32]
    density: NDArray[np.float32]
    classes: NDArray[np.uint8]
    scores: NDArray[np.float32]
    hidden: NDArray[np.float32]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.points_m)

    def colours(self) -> NDArray[np.uint8]:
        """(N, 3) RGB of their classes."""
        return COLOURS[self.classes]


def occupied_voxels(prediction: Prediction, texts: ClassTexts, threshold: float) -> Voxels:
    """The voxels of at least so much opacity that do not look like sky, and what they are."""
    opacity, every = prediction.opacity(), prediction.hidden()
    filled = (opacity >= threshold) & (texts.classify(every)[0] != FREE)
    hidden = every[filled]
    classes, scores = texts.classify(hidden)
    clear = np.maximum(1 - opacity[filled], _CLEAREST)
    density = -np.log(clear) / prediction.grid.voxel_m
    points = prediction.grid.centres()[filled].astype(np.float32)
    return Voxels(points, density.astype(np.float32), classes, scores, hidden)


@dataclass(frozen=True)
class PlanConfig:
    """What stands in the way, seen from above.

    Attributes:
        low_m: Voxels count whose middles lie between these heights
        high_m: in the ego frame.
        ground: Names of Occ3D's classes that one can go on.

    Raises:
        ValueError: Heights are not in order, or a class is not known.
    """

    low_m: float = 0.2
    high_m: float = 2.5
    ground: tuple[str, ...] = ('driveable_surface', 'other_flat', 'sidewalk', 'terrain')

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        if not self.low_m < self.high_m:
            raise ValueError(f'low_m {self.low_m} must be below high_m {self.high_m}')
        if unknown := sorted(set(self.ground) - set(CLASSES[:FREE])):
            raise ValueError(f'ground classes {unknown} are none of {", ".join(CLASSES[:FREE])}')

    def layers(self, grid: VoxelGrid) -> slice:
        """The layers of a grid that count.

        Raises:
            ValueError: There is none.
        """
        middles = grid.lower_m[2] + (np.arange(grid.shape[2]) + 0.5) * grid.voxel_m
        chosen = np.flatnonzero((middles >= self.low_m) & (middles <= self.high_m))
        if not len(chosen):
            raise ValueError(
                f'no layer of the grid has its middle between {self.low_m} and {self.high_m} m: '
                f'they are at {", ".join(f"{m:.1f}" for m in middles)} m'
            )
        return slice(int(chosen[0]), int(chosen[-1]) + 1)


def seen_from_above(
    prediction: Prediction, texts: ClassTexts, seen: NDArray[np.bool_], config: PlanConfig
) -> NDArray[np.int8]:
    """What stands in the way, as cells of an occupancy grid.

    Args:
        prediction: Of the network.
        texts: Classes.
        seen: (X, Y) columns that cameras look at.
        config: What counts.

    Returns:
        (Y, X) int8: 0 to 100, the largest opacity in the column of what is not ground, in percent;
        `UNKNOWN` where no camera looks. Row 0 has the lowest y.
    """
    layers = config.layers(prediction.grid)
    opacity = prediction.opacity()[:, :, layers]
    classes, _ = texts.classify(prediction.hidden()[:, :, layers])
    ground = np.isin(classes, [FREE, *(CLASSES.index(name) for name in config.ground)])
    highest = np.where(ground, 0, opacity).max(axis=2)
    cells = np.rint(100 * highest).astype(np.int8)
    return np.ascontiguousarray(np.where(seen, cells, np.int8(UNKNOWN)).T)


@dataclass(frozen=True)
class Found:
    """Where texts are.

    Attributes:
        positions_m: (T, 3) middle of the voxel that fits each text best.
        scores: (T,) its cosine with the text.
        counts: (T,) voxels that reach the threshold.
        fitting: Places among the voxels of those that reach it for some text.
        best: (len(fitting),) which text fits each of them best.
        best_scores: (len(fitting),) its cosine.
    """

    positions_m: NDArray[np.float32]
    scores: NDArray[np.float32]
    counts: NDArray[np.int64]
    fitting: NDArray[np.int64]
    best: NDArray[np.int64]
    best_scores: NDArray[np.float32]


def find(voxels: Voxels, texts: NDArray[np.float32], threshold: float) -> Found:
    """Look for texts among occupied voxels.

    Args:
        voxels: At least one.
        texts: (T, C) as of `vocabulary.in_volume`.
        threshold: Least cosine.

    Raises:
        ValueError: There is no voxel or no text.
    """
    if not len(voxels) or not len(texts):
        raise ValueError(f'{len(voxels)} occupied voxels, {len(texts)} texts: nothing to look for')
    cosines = voxels.hidden @ texts.T
    first = cosines.argmax(axis=0)
    reach = cosines >= threshold
    fitting = np.flatnonzero(reach.any(axis=1))
    best = cosines[fitting].argmax(axis=1)
    return Found(
        voxels.points_m[first],
        cosines[first, np.arange(len(texts))],
        reach.sum(axis=0),
        fitting,
        best,
        cosines[fitting, best],
    )


def sentence(texts: Sequence[str], found: Found) -> str:
    """What was found, in words."""
    parts = [
        f'{text!r} {score:.2f} at ({x:.1f}, {y:.1f}, {z:.1f}), {count} voxel(s)'
        for text, score, (x, y, z), count in zip(
            texts, found.scores, found.positions_m, found.counts, strict=True
        )
    ]
    return '; '.join(parts)
