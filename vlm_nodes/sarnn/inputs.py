"""The newest sample of everything that a policy senses, and how old it is."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SECOND_NS = 1_000_000_000
NO_STAMP = 'its messages have no stamp: its driver must fill in header.stamp'


class InputError(ValueError):
    """A sample cannot be used; the text names the input and says why."""


@dataclass(frozen=True)
class Stream:
    """An input of images.

    Attributes:
        name: Of the data set's stream.
        topic: Where it comes from, as told to users.
        decode: Makes the image of a sample, (H, W) or (H, W, 3); raises ValueError.
    """

    name: str
    topic: str
    decode: Callable[[Any], NDArray[Any]]

    def image(self, sample: Any) -> NDArray[Any]:
        """The image of a sample.

        Raises:
            InputError: It is broken.
        """
        try:
            return self.decode(sample)
        except ValueError as error:
            raise InputError(f'{self.topic} cannot be used: {error}') from error


@dataclass(frozen=True)
class Snapshot:
    """The newest samples at one moment.

    Attributes:
        samples: Of each stream, by its name, not decoded.
        joints: (P,) positions in the order of the joints asked for, radians or metres.
        oldest_ns: Least stamp of all of them.
    """

    samples: Mapping[str, Any]
    joints: NDArray[np.float64]
    oldest_ns: int


class NewestInputs:
    """Keeps the newest sample of each stream, and of each joint by its name.

    Joints may come in several messages that name some of them each. Samples are taken as they
    come, whatever their stamps. Safe to call from several threads.
    """

    def __init__(self, streams: Sequence[Stream], joints: Sequence[str], joints_topic: str) -> None:
        self.streams = {stream.name: stream for stream in streams}
        self._names = tuple(joints)
        self._joints_topic = joints_topic
        self._samples: dict[str, tuple[int, Any]] = {}
        self._joints: dict[str, tuple[int, float]] = {}
        self._unusable: dict[str, str] = {}
        self._lock = threading.Condition()

    def put(self, name: str, stamp_ns: int, sample: Any) -> None:
        """A sample of a stream came."""
        with self._lock:
            self._samples[name] = (stamp_ns, sample)
            self._lock.notify_all()

    def put_joints(self, stamp_ns: int, positions: Mapping[str, float]) -> None:
        """Positions of joints came, of all or of some."""
        with self._lock:
            self._joints |= {name: (stamp_ns, value) for name, value in positions.items()}
            self._unusable.pop(self._joints_topic, None)
            self._lock.notify_all()

    def joints_are_unusable(self, why: str) -> None:
        """A message of joints came that is of no use."""
        with self._lock:
            self._unusable[self._joints_topic] = why

    def wait_until(self, stamp_ns: int, timeout_s: float) -> bool:
        """Wait until every input is stamped then or later; returns whether they are."""
        with self._lock:
            return self._lock.wait_for(lambda: self._oldest_ns() >= stamp_ns, timeout_s)

    def clear(self) -> None:
        """Forget all that came."""
        with self._lock:
            self._samples.clear()
            self._joints.clear()
            self._unusable.clear()

    def ages_s(self, now_ns: int) -> dict[str, float]:
        """Now less the newest stamp, by topic; inf where nothing came.

        Joints are as old as the oldest of those asked for.
        """
        with self._lock:
            ages = {
                stream.topic: _age_s(now_ns, self._samples.get(name))
                for name, stream in self.streams.items()
            }
            joints = [_age_s(now_ns, self._joints.get(name)) for name in self._names]
            return ages | {self._joints_topic: max(joints, key=abs)}

    def details(self, now_ns: int) -> dict[str, str]:
        """What is known of an input that is late, by topic."""
        with self._lock:
            said = {
                stream.topic: NO_STAMP
                for name, stream in self.streams.items()
                if self._samples.get(name, (1, None))[0] == 0
            }
            if why := self._unusable.get(self._joints_topic) or self._about_joints(now_ns):
                said[self._joints_topic] = why
            return said

    def _about_joints(self, now_ns: int) -> str:
        """Why joints are late; '' where nothing is known."""
        if not self._joints:
            return ''
        if missing := [name for name in self._names if name not in self._joints]:
            named, came = ', '.join(map(repr, missing)), ', '.join(sorted(self._joints))
            return f'no joint {named} among {came}'
        stamps = {name: self._joints[name][0] for name in self._names}
        oldest = min(stamps, key=lambda name: stamps[name])
        if stamps[oldest] == 0:
            return NO_STAMP
        if stamps[oldest] == max(stamps.values()):
            return ''
        return f'joint {oldest!r} is {_age_s(now_ns, self._joints[oldest]):.2f} s old'

    def joints(self) -> NDArray[np.float64]:
        """(P,) newest positions, in the order of the joints asked for; NaN where none came."""
        with self._lock:
            return self._positions()

    def snapshot(self) -> Snapshot:
        """The newest of everything.

        Raises:
            InputError: An input never came.
        """
        with self._lock:
            absent = [s.topic for name, s in self.streams.items() if name not in self._samples]
            absent += [self._joints_topic] * any(n not in self._joints for n in self._names)
            if absent:
                raise InputError(f'nothing came on {", ".join(absent)}')
            samples = {name: sample for name, (_, sample) in self._samples.items()}
            return Snapshot(samples, self._positions(), round(self._oldest_ns()))

    def _oldest_ns(self) -> float | int:
        found = [self._samples.get(name) for name in self.streams]
        found += [self._joints.get(name) for name in self._names]
        return min(-math.inf if one is None else one[0] for one in found)

    def _positions(self) -> NDArray[np.float64]:
        nothing = (0, math.nan)
        return np.array([self._joints.get(name, nothing)[1] for name in self._names])


def _age_s(now_ns: int, found: tuple[int, Any] | None) -> float:
    return math.inf if found is None else (now_ns - found[0]) / SECOND_NS
