"""Why does nothing come out? The question every robot's user has first, answered by the node."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

_REMEMBERED = 60


@dataclass
class _Input:
    topic: str
    seen_s: float | None = None
    stamps_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    incompatibility: str = ''
    unusable: str = ''


class InputWatch:
    """Watches the inputs of one camera and says what keeps them from becoming pairs.

    Safe to call from several threads.
    """

    def __init__(
        self,
        topics: Mapping[str, str],
        *,
        paired: tuple[str, str] | tuple[str],
        slop_s: float,
        since_s: float,
    ) -> None:
        """Begin to watch.

        Args:
            topics: Resolved topic of each input, by the input's name.
            paired: The two inputs that are paired by stamp; or the one whose images are put
                together with those of other cameras.
            slop_s: How far apart the stamps of a pair, or of such images, may be.
            since_s: Now, in seconds of any clock that never jumps.
        """
        self._inputs = {name: _Input(topic) for name, topic in topics.items()}
        self._paired = paired
        self._slop_s = slop_s
        self._since_s = since_s
        self._lock = threading.Lock()

    def saw(self, name: str, stamp_ns: int, now_s: float) -> None:
        """A message of an input came."""
        with self._lock:
            self._inputs[name].seen_s = now_s
            self._inputs[name].stamps_ns.append(stamp_ns)

    def saw_pair(self, now_s: float) -> None:
        """A pair with all it needs came: patience begins anew."""
        with self._lock:
            self._since_s = now_s

    def is_incompatible(self, name: str, reason: str) -> None:
        """A publisher of an input cannot be heard, because of its quality of service."""
        with self._lock:
            self._inputs[name].incompatibility = reason

    def is_unusable(self, name: str, reason: str) -> None:
        """The messages of an input come, but are of no use; '' once they are."""
        with self._lock:
            self._inputs[name].unusable = reason

    def complaint(
        self, now_s: float, patience_s: float, publishers: Callable[[str], int]
    ) -> str | None:
        """What is wrong, or None while a pair came within the last `patience_s` seconds.

        Args:
            now_s: On the clock of `since_s`.
            patience_s: How long without a pair is too long.
            publishers: How many publishers a topic has.
        """
        with self._lock:
            quiet_s = now_s - self._since_s
            if quiet_s < patience_s:
                return None
            reasons = [
                reason
                for entry in self._inputs.values()
                if (reason := _silence(entry, publishers(entry.topic)))
            ]
            if not reasons:
                reasons = self._stopped(now_s - patience_s) or [self._unpaired()]
        what = 'image pair' if len(self._paired) > 1 else 'image'
        return f'no {what} for {quiet_s:.0f} s: ' + '; '.join(reasons)

    def _stopped(self, since_s: float) -> list[str]:
        images = [self._inputs[name] for name in self._paired]
        return [
            f'{entry.topic} came, then stopped: is the camera still running?'
            for entry in images
            if entry.seen_s is not None and entry.seen_s <= since_s
        ]

    def _unpaired(self) -> str:
        if len(self._paired) == 1:
            return (
                f'{self._inputs[self._paired[0]].topic} comes, but never within {self._slop_s} s '
                "of other cameras' images, or too late: check that all are stamped by one clock, "
                'or raise set_wait_s'
            )
        first, second = (self._inputs[name] for name in self._paired)
        gap_s = _nearest_gap_ns(first.stamps_ns, second.stamps_ns) / 1e9
        both = f'{first.topic} and {second.topic} both come'
        if gap_s >= self._slop_s:
            return (
                f'{both}, but their stamps are never within sync_slop_s = {self._slop_s} s: the '
                f'nearest were {gap_s:.3f} s apart; raise sync_slop_s, or check that both are '
                'stamped by one clock'
            )
        return f'{both}, but one is gone when its partner comes: raise sync_queue'


def _silence(entry: _Input, publishers: int) -> str:
    if entry.unusable:
        return f'{entry.topic} cannot be used: {entry.unusable}'
    if entry.seen_s is not None:
        return ''
    if entry.incompatibility:
        return f'{entry.topic}: {entry.incompatibility}'
    if publishers == 0:
        return f'nobody publishes {entry.topic}: check its name and remapping'
    return f'{entry.topic} has {publishers} publisher(s), but no message has come'


def _nearest_gap_ns(first: deque[int], second: deque[int]) -> int:
    return min(abs(a - b) for a in first for b in second)
