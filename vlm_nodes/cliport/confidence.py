"""How sure a map of scores is of its best pixel, and what its next best ones are."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def probabilities(scores: ArrayLike) -> NDArray[np.float64]:
    """Softmax over all entries of a map of scores, of any shape.

    Raises:
        ValueError: There is no score, or one is NaN or plus infinity; minus infinity rules out.
    """
    s = np.asarray(scores, dtype=np.float64)
    if not s.size or np.isnan(s).any() or not np.isfinite(s.max()):
        raise ValueError(f'scores of shape {s.shape} have no finite maximum, or hold NaN')
    exp = np.exp(s - s.max())
    return np.asarray(exp / exp.sum())


def normalised_entropy(probability: ArrayLike) -> float:
    """Entropy as a share of the greatest one: 0 is one pixel only, 1 every pixel alike."""
    p = np.asarray(probability, dtype=np.float64).ravel()
    if p.size < 2:
        return 0.0
    p = p[p > 0] / p.sum()
    return float(min(1.0, max(0.0, -(p * np.log(p)).sum() / np.log(np.size(probability)))))


def window_mass(probability: ArrayLike, row: int, col: int, radius_px: int) -> float:
    """Probability within a square window about a pixel, over all angles.

    Args:
        probability: (..., H, W), summing to 1.
        row: Middle of the window.
        col: Middle of the window.
        radius_px: The window is 2 radius_px + 1 pixels wide, cut at the map's edges.
    """
    p = np.asarray(probability)
    rows = slice(max(0, row - radius_px), row + radius_px + 1)
    cols = slice(max(0, col - radius_px), col + radius_px + 1)
    return float(p[..., rows, cols].sum())


def best_pixels(
    probability: ArrayLike, count: int, apart_px: int
) -> list[tuple[tuple[int, ...], float]]:
    """The most probable entries, no two within `apart_px` rows and columns of each other.

    Args:
        probability: (H, W) or (angles, H, W).
        count: How many at most.
        apart_px: Side of the square around each that holds no other, less 1, halved.

    Returns:
        (index, probability) pairs, the best first; an index is (row, col) or (angle, row, col).
    """
    p = np.array(probability, dtype=np.float64)
    found: list[tuple[tuple[int, ...], float]] = []
    while len(found) < count:
        index = tuple(int(i) for i in np.unravel_index(int(p.argmax()), p.shape))
        if not p[index] > 0:
            break
        found.append((index, float(p[index])))
        row, col = index[-2:]
        p[
            ...,
            max(0, row - apart_px) : row + apart_px + 1,
            max(0, col - apart_px) : col + apart_px + 1,
        ] = 0
    return found
