"""Occupancy scored as Occ3D does, and retrieval of points as POP-3D does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.clip.confusion import count_pairs, intersection_over_union
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.prompts import FIFTEEN, SEVENTEEN
from vlm_nodes.surround.occupancy import CLASSES, FREE, Occupancy


@dataclass
class OccupancyScore:
    """Counts of voxels, truth by prediction, over those that a camera can see.

    Attributes:
        counts: (18, 18) int64.
    """

    counts: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    )

    def add(self, truth: Occupancy, predicted: NDArray[np.uint8]) -> None:
        """Count a keyframe's voxels.

        Raises:
            LangOccError: The prediction is of another grid.
        """
        if predicted.shape != truth.semantics.shape:
            raise LangOccError(
                f'the labels have {truth.semantics.shape} voxels, the network {predicted.shape}: '
                'it was trained for another grid'
            )
        seen = truth.mask_camera
        self.counts += count_pairs(
            truth.semantics[seen].astype(np.int64), predicted[seen].astype(np.int64), len(CLASSES)
        )

    def iou(self) -> float:
        """Of occupied against free, whatever the class."""
        both = int(self.counts[:FREE, :FREE].sum())
        either = int(self.counts.sum() - self.counts[FREE, FREE])
        return both / either if either else float('nan')

    def class_iou(self) -> dict[str, float]:
        """By class; NaN where a class neither occurs nor is predicted."""
        values = intersection_over_union(self.counts)
        return {name: float(values[CLASSES.index(name)]) for name in SEVENTEEN}

    def miou(self, names: Sequence[str]) -> float:
        """Mean over the classes of some names that occur in the truth; NaN without any.

        A class that is predicted but never occurs does not lower the mean by itself: its voxels are
        missing from the classes that are there.
        """
        values = self.class_iou()
        present = [n for n in names if self.counts[CLASSES.index(n)].any()]
        return float(np.mean([values[n] for n in present])) if present else float('nan')

    def figures(self) -> dict[str, Any]:
        """All of it, for a report."""
        present = [n for n in SEVENTEEN if self.counts[CLASSES.index(n)].any()]
        values = self.class_iou()
        return {
            'iou': self.iou(),
            'miou_17': self.miou(SEVENTEEN),
            'miou_15': self.miou(FIFTEEN),
            'classes_present': len(present),
            'classes': {name: values[name] for name in present},
        }


def average_precision(wanted: NDArray[np.bool_], scores: NDArray[np.floating[Any]]) -> float:
    """Area under precision over recall, without interpolation; equal scores are taken together.

    Args:
        wanted: (N,) whether a point is of what was asked for; at least one must be.
        scores: (N,) how well it fits.

    Raises:
        LangOccError: Nothing is wanted, a score is not finite, or lengths differ.
    """
    if wanted.shape != scores.shape or not wanted.any() or not np.isfinite(scores).all():
        raise LangOccError(
            f'average precision needs finite scores and one wanted point of {wanted.shape}, '
            f'got scores {scores.shape} with {int(wanted.sum())} wanted'
        )
    order = np.argsort(-scores, kind='stable')
    hits = wanted[order].cumsum()
    last = np.r_[np.flatnonzero(np.diff(scores[order])), len(scores) - 1]
    precision = hits[last] / (last + 1)
    recall = hits[last] / hits[-1]
    return float((np.diff(np.r_[0.0, recall]) * precision).sum())


@dataclass
class Retrieval:
    """Average precision of one query after the other, and what chance would give.

    Attributes:
        precisions: Of each query.
        prevalences: Share of points that were wanted: the mean of what random scores give.
    """

    precisions: list[float] = field(default_factory=list)
    prevalences: list[float] = field(default_factory=list)

    def add(self, wanted: NDArray[np.bool_], scores: NDArray[np.floating[Any]]) -> None:
        """Count a query, unless nothing is wanted."""
        if wanted.any():
            self.precisions.append(average_precision(wanted, scores))
            self.prevalences.append(float(wanted.mean()))

    def figures(self) -> dict[str, float]:
        """mAP, prevalence and their ratio; NaN without a query."""
        if not self.precisions:
            return {'map': float('nan'), 'prevalence': float('nan'), 'ratio': float('nan')}
        mean, chance = float(np.mean(self.precisions)), float(np.mean(self.prevalences))
        return {'map': mean, 'prevalence': chance, 'ratio': mean / chance}
