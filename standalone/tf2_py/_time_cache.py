"""The history of one frame: its poses in its parent, by stamp."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import NamedTuple

from ._exceptions import ExtrapolationException
from ._rotation import Quaternion, Vector, slerp
from ._stamps import display

# In a request this stamp means the latest; a stored zero is an ordinary stamp.
LATEST = 0


class Sample(NamedTuple):
    """The pose of a frame in its parent at one stamp."""

    stamp_ns: int
    parent: str
    rotation: Quaternion
    translation: Vector


class StaticCache:
    """One pose that holds at any time."""

    def __init__(self) -> None:
        self._sample: Sample | None = None

    def __len__(self) -> int:
        return 1

    def insert(self, sample: Sample) -> bool:
        """Replace the pose; this always succeeds."""
        self._sample = sample
        return True

    def at(self, time_ns: int) -> Sample:
        """Give the pose, which is the same at any time."""
        assert self._sample is not None
        return self._sample

    before = at

    def latest(self) -> tuple[int, str | None]:
        """Give the stamp, always zero, and the parent."""
        return 0, self.at(LATEST).parent

    @property
    def latest_ns(self) -> int:
        """Zero: a static pose has no time."""
        return 0

    oldest_ns = latest_ns

    def clear(self) -> None:
        """Keep the pose: what is static outlives a jump of the clock."""


class TimeCache:
    """Poses of the last seconds, interpolated between stamps.

    Args:
        length_ns: How far behind the newest pose the older ones are kept.
    """

    def __init__(self, length_ns: int) -> None:
        self._length_ns = length_ns
        # Ascending, side by side, so that bisect searches plain integers. Of equal stamps the
        # one that came last is the later.
        self._stamps: list[int] = []
        self._samples: list[Sample] = []

    def __len__(self) -> int:
        return len(self._stamps)

    def insert(self, sample: Sample) -> bool:
        """Store a pose by its stamp; a repeated one is stored once.

        Returns:
            False where it is older than the cache is long.
        """
        stamps = self._stamps
        self._prune()
        if stamps and sample.stamp_ns < stamps[-1] - self._length_ns:
            return False
        place = bisect_right(stamps, sample.stamp_ns)
        same = bisect_left(stamps, sample.stamp_ns, hi=place)
        if sample not in self._samples[same:place]:
            stamps.insert(place, sample.stamp_ns)
            self._samples.insert(place, sample)
        return True

    def _prune(self) -> None:
        stamps = self._stamps
        if stamps and stamps[0] < stamps[-1] - self._length_ns:
            expired = bisect_left(stamps, stamps[-1] - self._length_ns)
            del stamps[:expired], self._samples[:expired]

    def at(self, time_ns: int) -> Sample:
        """Give the pose at a time, interpolated unless the parent changes there.

        Raises:
            ExtrapolationException: If the time is not between the oldest and the newest stamp.
        """
        index = self._index(time_ns)
        older = self._samples[index]
        if time_ns in (LATEST, older.stamp_ns):
            return older
        newer = self._samples[index + 1]
        if newer.parent != older.parent:
            return older
        return _interpolate(older, newer, time_ns)

    def before(self, time_ns: int) -> Sample:
        """Give the stored pose at a time or next before it, with the errors of `at`."""
        return self._samples[self._index(time_ns)]

    def _index(self, time_ns: int) -> int:
        stamps = self._stamps
        if not stamps:
            # Nothing is known to name here; the walk adds between which frames.
            raise ExtrapolationException
        latest = stamps[-1]
        if time_ns in (LATEST, latest):
            return len(stamps) - 1
        if stamps[0] < time_ns < latest:
            return bisect_right(stamps, time_ns) - 1
        if time_ns == stamps[0]:
            return 0
        raise ExtrapolationException(self._out_of_range(time_ns))

    def _out_of_range(self, time_ns: int) -> str:
        if len(self._stamps) == 1:
            return (
                f'Lookup would require extrapolation at time {display(time_ns)}, '
                f'but only time {display(self._stamps[0])} is in the buffer'
            )
        if time_ns > self._stamps[-1]:
            return (
                f'Lookup would require extrapolation into the future.  Requested time '
                f'{display(time_ns)} but the latest data is at time {display(self._stamps[-1])}'
            )
        return (
            f'Lookup would require extrapolation into the past.  Requested time '
            f'{display(time_ns)} but the earliest data is at time {display(self._stamps[0])}'
        )

    def latest(self) -> tuple[int, str | None]:
        """Give stamp and parent of the newest pose; zero and None where there is none."""
        if not self._stamps:
            return 0, None
        return self._stamps[-1], self._samples[-1].parent

    @property
    def latest_ns(self) -> int:
        """The newest stamp, zero where there is none."""
        return self._stamps[-1] if self._stamps else 0

    @property
    def oldest_ns(self) -> int:
        """The oldest stamp, zero where there is none."""
        return self._stamps[0] if self._stamps else 0

    def clear(self) -> None:
        """Forget every pose."""
        self._stamps.clear()
        self._samples.clear()


def _interpolate(older: Sample, newer: Sample, time_ns: int) -> Sample:
    ratio = (time_ns - older.stamp_ns) / (newer.stamp_ns - older.stamp_ns)
    (ax, ay, az), (bx, by, bz) = older.translation, newer.translation
    rest = 1.0 - ratio
    return Sample(
        time_ns,
        older.parent,
        slerp(older.rotation, newer.rotation, ratio),
        (rest * ax + ratio * bx, rest * ay + ratio * by, rest * az + ratio * bz),
    )
