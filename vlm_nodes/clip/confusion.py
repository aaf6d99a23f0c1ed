"""Intersection over union from counts of (true, predicted) labels."""

import numpy as np
from numpy.typing import NDArray


def count_pairs(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], size: int
) -> NDArray[np.int64]:
    """Counts of true against predicted labels.

    Args:
        truth: any shape, values in [0, size).
        predicted: same shape and values.
        size: number of labels.

    Returns:
        (size, size), rows are the truth.
    """
    pairs = truth.ravel().astype(np.int64) * size + predicted.ravel()
    return np.bincount(pairs, minlength=size * size).reshape(size, size)


def intersection_over_union(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of every label; NaN where the label is not in the truth.

    Args:
        counts: (size, size) as of `count_pairs`.

    Returns:
        (size,).
    """
    hits, true, predicted = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    union = np.maximum(true + predicted - hits, 1)
    return np.where(true > 0, hits / union, np.nan)


def mean_iou(iou: NDArray[np.float64], labels: list[int]) -> float:
    """Mean over those of the labels that occur in the truth; NaN where none does."""
    values = iou[labels]
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float('nan')
