"""A stream's stamps: their order, gaps, jumps, and skew against the receive times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Stamps = NDArray[np.int64]

# An interval this many times the usual one is a gap: a single missing message doubles it.
GAP_FACTOR = 1.5
# Intervals shorter than this share of a long one (their 90th percentile) are those between
# several publishers of one topic, as of tf, and no measure of what is missing.
_LONG_PERCENTILE, _SHORT_SHARE = 90, 0.45


@dataclass(frozen=True)
class StampReport:
    """What a stream's stamps look like, in the order in which they were received.

    Attributes:
        samples: Messages.
        used: Messages left after those without a usable stamp and those beyond jumps.
        rate_hz: Samples a second, by the median period; 0 for fewer than two.
        first_ns: First stamp used.
        last_ns: Last stamp used.
        longest_gap_s: Longest time without a sample.
        gaps: Intervals of more than 1.5 times the usual one: see `count_gaps`.
        out_of_order: Messages stamped before one that was received earlier.
        repeated: Messages stamped as another.
        unstamped: Messages with a stamp of 0, left out.
        jumps: Jumps of the header clock.
        beyond_jumps: Messages beyond jumps, left out.
        skew_median_s: Median of header stamp less receive time.
        skew_spread_s: Central 90 % of it, from the 5th to the 95th percentile.
    """

    samples: int
    used: int
    rate_hz: float
    first_ns: int
    last_ns: int
    longest_gap_s: float
    gaps: int
    out_of_order: int
    repeated: int
    unstamped: int
    jumps: int
    beyond_jumps: int
    skew_median_s: float
    skew_spread_s: float


@dataclass(frozen=True)
class StreamStamps:
    """Usable stamps of a stream.

    Attributes:
        stamps: (N,) int64 sorted stamps in nanoseconds.
        order: (N,) int64 ordinal of each of them among the stream's messages as received.
        report: What was found.
    """

    stamps: Stamps
    order: NDArray[np.int64]
    report: StampReport


def sort_stamps(header_ns: Stamps, receive_ns: Stamps, *, use: str, jump_s: float) -> StreamStamps:
    """Sort a stream's samples by time, leaving out what its clock's jumps put elsewhere.

    Args:
        header_ns: (N,) int64 header stamps in the order of receipt.
        receive_ns: (N,) int64 receive times.
        use: 'header' or 'receive'.
        jump_s: Step of the header clock, against the receive clock or backwards, that is a jump.
    """
    stamped = header_ns != 0
    chosen = header_ns if use == 'header' else receive_ns
    usable = stamped if use == 'header' else np.ones(len(header_ns), dtype=np.bool_)
    kept = np.flatnonzero(usable)
    jumps, keep = find_jumps(header_ns[kept], receive_ns[kept], jump_s)
    beyond = 0
    if use == 'header':
        beyond = int((~keep).sum())
        kept = kept[keep]
    arrival = chosen[kept]
    order = kept[np.argsort(arrival, kind='stable')]
    stamps = chosen[order]
    skew = (header_ns - receive_ns)[stamped] / 1e9
    report = _report(stamps, arrival, skew, samples=len(header_ns))
    found: dict[str, Any] = {
        'unstamped': int((~stamped).sum()) if use == 'header' else 0,
        'jumps': jumps,
        'beyond_jumps': beyond,
    }
    return StreamStamps(stamps, order, StampReport(**report, **found))


def find_jumps(
    header_ns: Stamps, receive_ns: Stamps, jump_s: float
) -> tuple[int, NDArray[np.bool_]]:
    """Jumps of a header clock, and the samples of its longest stretch without one.

    A jump is a step back by more than `jump_s`, or one ahead of the receive clock by as much: a
    slow simulation's clock falls behind, but does not jump. After a single wrong stamp the clock
    resumes where it was, and its stretch goes on.

    Returns:
        The number of jumps, and (N,) bool which samples belong to the longest stretch.
    """
    count = len(header_ns)
    if count < 2:
        return 0, np.ones(count, dtype=np.bool_)
    jump_ns = int(jump_s * 1e9)
    step, waited = np.diff(header_ns), np.diff(receive_ns)
    # A message that was held up and then delivered steps the receive clock, not the header's.
    # A slow stream's own period is no jump, though a recording may be played fast.
    forward_ns = max(jump_ns, 3 * int(np.median(np.abs(step))))
    is_jump = (step < -jump_ns) | (step - waited > forward_ns)
    starts = np.concatenate(([0], np.flatnonzero(is_jump) + 1))
    if len(starts) == 1:
        return 0, np.ones(count, dtype=np.bool_)
    ends = np.concatenate((starts[1:], [count]))
    label = _join_stretches(header_ns, receive_ns, starts, ends, jump_ns)
    sizes = np.bincount(label, weights=ends - starts)
    return len(starts) - 1, np.repeat(label == np.argmax(sizes), ends - starts)


def _join_stretches(
    header_ns: Stamps,
    receive_ns: Stamps,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    jump_ns: int,
) -> NDArray[np.int64]:
    """Number stretches so that those which one clock goes on through share a number."""
    skew = header_ns - receive_ns
    label = np.zeros(len(starts), dtype=np.int64)
    tails: list[int] = []
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        near = [n for n, tail in enumerate(tails) if abs(skew[start] - skew[tail]) <= jump_ns]
        label[i] = near[0] if near else len(tails)
        tails += [] if near else [0]
        tails[label[i]] = int(end) - 1
    return label


def count_gaps(stamps: Stamps) -> int:
    """How many intervals are so long that a message or more is missing.

    An interval is a gap if it is more than 1.5 times the usual one, which is the median of those
    that are not the short ones between several publishers.

    Args:
        stamps: (N,) int64 sorted stamps in nanoseconds.
    """
    steps = np.diff(stamps)
    if not len(steps):
        return 0
    # Intervals that are there, none between two: of few, a gap would become half usual.
    long = np.percentile(steps, _LONG_PERCENTILE, method='lower')
    usual = np.percentile(steps[steps >= _SHORT_SHARE * long], 50, method='lower')
    return int((steps > GAP_FACTOR * usual).sum()) if usual > 0 else 0


def _report(
    stamps: Stamps, arrival: Stamps, skew_s: NDArray[np.float64], samples: int
) -> dict[str, Any]:
    periods = np.diff(stamps) / 1e9
    positive = periods[periods > 0]
    median = float(np.median(positive)) if len(positive) else 0.0
    low, middle, high = np.percentile(skew_s, [5, 50, 95]) if len(skew_s) else (0.0, 0.0, 0.0)
    behind = arrival < np.maximum.accumulate(arrival) if len(arrival) else np.zeros(0, np.bool_)
    return {
        'samples': samples,
        'used': len(stamps),
        'rate_hz': 1 / median if median else 0.0,
        'first_ns': int(stamps[0]) if len(stamps) else 0,
        'last_ns': int(stamps[-1]) if len(stamps) else 0,
        'longest_gap_s': float(periods.max()) if len(periods) else 0.0,
        'gaps': count_gaps(stamps),
        'out_of_order': int(behind.sum()),
        'repeated': int((periods == 0).sum()),
        'skew_median_s': float(middle),
        'skew_spread_s': float(high - low),
    }
