"""Voxels that touch, as things."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.mapping.jit import kernel
from vlm_nodes.mapping.voxel_index import AXIS_BITS, EMPTY, slot_of


@dataclass(frozen=True)
class MapMatch:
    """One thing that a query found, in the map frame.

    Attributes:
        label: The text asked for.
        score: In [0, 1]: mean score of the better half of its voxels, pulled toward 0 where
            these are few (n / (n + 2)), so that a speck does not outrank a thing.
        centroid: (3,) float64 metres, weighted by score.
        size: (3,) float64 metres, axis-aligned.
        voxels: Number of voxels.
        first_seen_ns: Earliest stamp.
        last_seen_ns: Latest stamp.
    """

    label: str
    score: float
    centroid: NDArray[np.float64]
    size: NDArray[np.float64]
    voxels: int
    first_seen_ns: int
    last_seen_ns: int


@kernel
def _join_neighbours(
    keys: NDArray[np.int64],
    slots: NDArray[np.int32],
    steps: NDArray[np.int64],
    parents: NDArray[np.int64],
) -> None:
    mask = slots.size - 1
    for i in range(keys.size):
        slot = slot_of(keys[i], mask)
        while slots[slot] != EMPTY:
            slot = (slot + 1) & mask
        slots[slot] = i
    for i in range(keys.size):
        for step in steps:
            key = keys[i] + step
            slot = slot_of(key, mask)
            while slots[slot] != EMPTY and keys[slots[slot]] != key:
                slot = (slot + 1) & mask
            if slots[slot] != EMPTY:
                a, b = i, int(slots[slot])
                while parents[a] != a:
                    parents[a] = parents[parents[a]]
                    a = parents[a]
                while parents[b] != b:
                    parents[b] = parents[parents[b]]
                    b = parents[b]
                if a < b:
                    parents[b] = a
                else:
                    parents[a] = b
    for i in range(keys.size):
        parents[i] = parents[parents[i]]  # roots are the lowest of their set: one step suffices


def components(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """26-connected components of distinct voxels.

    Args:
        keys: (N,) packed voxel keys.

    Returns:
        (N,) int64 component numbers, from 0, in the order of each component's first voxel.
    """
    ahead = [
        (dx << (2 * AXIS_BITS)) + (dy << AXIS_BITS) + dz
        for dx in (-1, 0, 1)
        for dy in (-1, 0, 1)
        for dz in (-1, 0, 1)
        if (dx, dy, dz) > (0, 0, 0)
    ]
    slots = np.full(1 << max(4, (2 * keys.size).bit_length()), EMPTY, dtype=np.int32)
    parents = np.arange(keys.size)
    _join_neighbours(keys, slots, np.array(ahead, dtype=np.int64), parents)
    return np.unique(parents, return_inverse=True)[1]


@dataclass(frozen=True)
class MatchedVoxels:
    """The voxels above a query's threshold.

    Attributes:
        keys: (N,) packed voxel keys.
        points: (N, 3) float64 metres.
        scores: (N,) float32.
        first_seen: (N,) int64 ns.
        last_seen: (N,) int64 ns.
    """

    keys: NDArray[np.int64]
    points: NDArray[np.float64]
    scores: NDArray[np.float32]
    first_seen: NDArray[np.int64]
    last_seen: NDArray[np.int64]


def find_instances(
    matched: MatchedVoxels, label: str, *, min_voxels: int, max_matches: int, voxel_size_m: float
) -> list[MapMatch]:
    """Connected components of at least `min_voxels` voxels, best first."""
    if matched.keys.size == 0:
        return []
    numbers = components(matched.keys)
    order = np.lexsort((matched.scores, numbers))
    sizes = np.bincount(numbers)
    ends = np.cumsum(sizes)
    scores = _ranking(matched.scores[order].astype(np.float64), ends - sizes, ends)
    ranked = np.lexsort((-sizes, -scores))
    chosen = [n for n in ranked if sizes[n] >= min_voxels][:max_matches]
    return [
        _instance(
            matched, order[ends[n] - sizes[n] : ends[n]], label, float(scores[n]), voxel_size_m
        )
        for n in chosen
    ]


def _ranking(
    scores: NDArray[np.float64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Each thing's score, from voxel scores ascending within [start, end)."""
    sums = np.concatenate([[0.0], np.cumsum(scores)])
    middles = starts + (ends - starts) // 2
    means: NDArray[np.float64] = (sums[ends] - sums[middles]) / (ends - middles + 2)
    return means


def _instance(
    matched: MatchedVoxels,
    rows: NDArray[np.int64],
    label: str,
    score: float,
    voxel_size_m: float,
) -> MapMatch:
    points = matched.points[rows]
    return MapMatch(
        label=label,
        score=score,
        centroid=np.average(points, axis=0, weights=matched.scores[rows].astype(np.float64)),
        size=np.maximum(np.ptp(points, axis=0), voxel_size_m),
        voxels=len(rows),
        first_seen_ns=int(matched.first_seen[rows].min()),
        last_seen_ns=int(matched.last_seen[rows].max()),
    )
