"""Which samples of a stream belong to the ticks of a clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Stamps = NDArray[np.int64]


@dataclass(frozen=True)
class Match:
    """The sample that each tick gets.

    Attributes:
        index: (T,) int64 sample of each tick, -1 where there is none at all.
        error_ns: (T,) int64 stamp of that sample less the tick's; 0 where there is none.
        valid: (T,) bool whether the sample lies within the tolerance and by the policy's side.
    """

    index: NDArray[np.int64]
    error_ns: NDArray[np.int64]
    valid: NDArray[np.bool_]


def _match(
    stamps: Stamps, ticks: Stamps, index: NDArray[np.int64], good: NDArray[np.bool_]
) -> Match:
    """Where the policy finds nothing, hold the sample before the tick, or none before the first."""
    before = np.searchsorted(stamps, ticks, side='right') - 1
    index = np.where(good, index, before)
    error = np.zeros(len(ticks), dtype=np.int64)
    known = index >= 0
    error[known] = stamps[index[known]] - ticks[known]
    return Match(index, error, good)


def match_nearest(stamps: Stamps, ticks: Stamps, tolerance_ns: int) -> Match:
    """The sample nearest to each tick; of two as near, the earlier.

    Args:
        stamps: (N,) int64 sorted stamps in nanoseconds.
        ticks: (T,) int64 sorted ticks in nanoseconds.
        tolerance_ns: Furthest that a sample may lie from its tick.
    """
    if len(stamps) == 0:
        return _nothing(ticks)
    after = np.searchsorted(stamps, ticks, side='left')
    low, high = np.maximum(after - 1, 0), np.minimum(after, len(stamps) - 1)
    nearer_high = np.abs(stamps[high] - ticks) < np.abs(stamps[low] - ticks)
    index = np.where(nearer_high, high, low)
    return _match(stamps, ticks, index, np.abs(stamps[index] - ticks) <= tolerance_ns)


def match_latest(stamps: Stamps, ticks: Stamps, tolerance_ns: int) -> Match:
    """The latest sample that is not after each tick. Arguments as of `match_nearest`."""
    if len(stamps) == 0:
        return _nothing(ticks)
    index = np.searchsorted(stamps, ticks, side='right') - 1
    age = ticks - stamps[np.maximum(index, 0)]
    return _match(stamps, ticks, index, (index >= 0) & (age <= tolerance_ns))


def match(policy: str, stamps: Stamps, ticks: Stamps, tolerance_ns: int) -> Match:
    """The samples of a policy that picks one ('nearest' or 'latest')."""
    chosen = {'nearest': match_nearest, 'latest': match_latest}[policy]
    return chosen(stamps, ticks, tolerance_ns)


def interpolate(
    stamps: Stamps, values: NDArray[np.float64], ticks: Stamps, tolerance_ns: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Values on the straight line between the two samples around each tick.

    Args:
        stamps: (N,) int64 sorted stamps in nanoseconds.
        values: (N,) float64 values at them.
        ticks: (T,) int64 sorted ticks in nanoseconds.
        tolerance_ns: Furthest that either sample may lie from the tick.

    Returns:
        (T,) values, held beyond the ends and NaN where there is no sample at all; (T,) whether the
        tick lies on a sample or between two within the tolerance; (T,) the nearer sample's stamp
        less the tick's.
    """
    if len(stamps) == 0:
        none = _nothing(ticks)
        return np.full(len(ticks), np.nan), none.valid, none.error_ns
    low = np.searchsorted(stamps, ticks, side='right') - 1
    high = np.minimum(low + 1, len(stamps) - 1)
    inside = (low >= 0) & ((low < len(stamps) - 1) | (stamps[low] == ticks))
    low = np.maximum(low, 0)
    gap = (stamps[high] - stamps[low]).astype(np.float64)
    weight = np.divide(ticks - stamps[low], gap, out=np.zeros(len(ticks)), where=gap > 0)
    weight = np.clip(weight, 0.0, 1.0)
    back, ahead = ticks - stamps[low], stamps[high] - ticks
    exact = back == 0
    good = inside & (exact | ((back <= tolerance_ns) & (ahead <= tolerance_ns)))
    # Across a gap that is too long there is no line to follow: the last value is held.
    weight[~good] = 0.0
    made = values[low] + weight * (values[high] - values[low])
    nearer = np.where(np.abs(ahead) < np.abs(back), ahead, -back)
    return made, good, nearer


def _nothing(ticks: Stamps) -> Match:
    count = len(ticks)
    return Match(
        np.full(count, -1, dtype=np.int64),
        np.zeros(count, dtype=np.int64),
        np.zeros(count, dtype=np.bool_),
    )


def rate_ticks(first_ns: int, last_ns: int, rate_hz: float) -> Stamps:
    """Ticks from a first stamp on, at a rate, up to a last stamp; none where it lies before."""
    if last_ns < first_ns:
        return np.zeros(0, dtype=np.int64)
    # One ns of grace: the last tick of whole periods must not fall to rounding.
    count = int((last_ns - first_ns + 1) * rate_hz / 1e9) + 1
    steps: Stamps = np.rint(np.arange(count) * (1e9 / rate_hz)).astype(np.int64)
    return first_ns + steps
