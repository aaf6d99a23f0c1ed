"""Pairs of two streams by stamp, from a stream that is read once."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar('T')


@dataclass
class _Stream(Generic[T]):
    stamps: list[int] = field(default_factory=list)
    items: list[T] = field(default_factory=list)
    newest: int | None = None

    def insert(self, stamp_ns: int, item: T) -> None:
        at = bisect_left(self.stamps, stamp_ns)
        insort(self.stamps, stamp_ns)
        self.items.insert(at, item)
        self.newest = stamp_ns if self.newest is None else max(self.newest, stamp_ns)

    def nearest(self, stamp_ns: int) -> int | None:
        """Index of the item nearest to a stamp."""
        at = bisect_left(self.stamps, stamp_ns)
        near = [i for i in (at - 1, at) if 0 <= i < len(self.stamps)]
        return min(near, key=lambda i: abs(self.stamps[i] - stamp_ns), default=None)

    def pop(self, index: int) -> T:
        del self.stamps[index]
        return self.items.pop(index)

    def passed(self, stamp_ns: int) -> bool:
        """Whether nothing before a stamp is still expected."""
        return self.newest is not None and self.newest > stamp_ns


class StampPairer(Generic[T]):
    """Joins items of two streams that are each other's nearest, within a slop.

    Pairs come in the order of their stamps and never cross.

    An item leaves as soon as no nearer partner can come any more, so that no more is held than
    the slop spans, or `max_pending` items where the streams arrive far apart.

    Args:
        slop_s: Largest difference of two stamps of a pair.
        max_pending: Items of one stream held at most; the oldest goes unpaired beyond it.
    """

    def __init__(self, slop_s: float, max_pending: int = 100) -> None:
        if not slop_s >= 0:
            raise ValueError(f'slop_s = {slop_s} must be 0 or more seconds')
        self.slop_ns = round(slop_s * 1e9)
        self.max_pending = max_pending
        self.unpaired = [0, 0]
        self._streams: tuple[_Stream[T], _Stream[T]] = (_Stream(), _Stream())

    def add(self, stream: int, stamp_ns: int, item: T) -> Iterator[tuple[T, T]]:
        """Add an item of stream 0 or 1 and yield the pairs that are certain now."""
        newest = self._streams[stream].newest
        if newest is not None and newest - stamp_ns > 1_000_000_000 + self.slop_ns:
            # The clock jumped back, as when a simulation restarts: what is before is complete.
            yield from self.flush()
        self._streams[stream].insert(stamp_ns, item)
        yield from self._settled(final=False)

    def flush(self) -> Iterator[tuple[T, T]]:
        """Yield what pairs remain and forget the rest: nothing more comes."""
        yield from self._settled(final=True)
        for index, stream in enumerate(self._streams):
            self.unpaired[index] += len(stream.items)
        self._streams = (_Stream(), _Stream())

    def _settled(self, *, final: bool) -> Iterator[tuple[T, T]]:
        first, second = self._streams
        while first.stamps and (final or self._is_settled()):
            stamp = first.stamps[0]
            partner = second.nearest(stamp)
            if partner is None or not self._is_mutual(stamp, second.stamps[partner]):
                first.pop(0)
                self.unpaired[0] += 1
                continue
            self._drop_before(partner)
            yield first.pop(0), second.pop(0)
        if not first.stamps:
            self._drop_passed()

    def _is_settled(self) -> bool:
        first, second = self._streams
        stamp = first.stamps[0]
        if max(len(first.stamps), len(second.stamps)) > self.max_pending:
            return True
        return second.passed(stamp + self.slop_ns) and first.passed(stamp + 2 * self.slop_ns)

    def _is_mutual(self, stamp: int, partner: int) -> bool:
        if abs(partner - stamp) > self.slop_ns:
            return False
        back = self._streams[0].nearest(partner)
        return back is not None and self._streams[0].stamps[back] == stamp

    def _drop_before(self, index: int) -> None:
        for _ in range(index):
            self._streams[1].pop(0)
            self.unpaired[1] += 1

    def _drop_passed(self) -> None:
        """Forget items of the second stream that no item of the first can still want."""
        first, second = self._streams
        too_old = (first.newest - self.slop_ns) if first.newest is not None else None
        while second.stamps and (
            len(second.stamps) > self.max_pending
            or (too_old is not None and second.stamps[0] < too_old)
        ):
            second.pop(0)
            self.unpaired[1] += 1
