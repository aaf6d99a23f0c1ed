"""Numbers of a bag by name and time: joints merged from partial messages, fields of any message."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bag_tools.resample import Stamps, interpolate, match

JOINT_TYPES = ('sensor_msgs/msg/JointState', 'trajectory_msgs/msg/JointTrajectory')
_TRAJECTORY = {'position': 'positions', 'velocity': 'velocities', 'effort': 'effort'}


class NumbersError(Exception):
    """A message does not hold the numbers that it should."""


@dataclass(frozen=True)
class Sampled:
    """Numbers at the ticks of a clock.

    Attributes:
        values: (T, P) float32, held where not valid, 0 before anything was known.
        valid: (T,) bool whether all P were known within the tolerance.
        error_ns: (T,) int64 the largest distance of the samples used from the tick, with its sign.
    """

    values: NDArray[np.float32]
    valid: NDArray[np.bool_]
    error_ns: NDArray[np.int64]


class NumberSeries:
    """Named numbers with the ordinal of the message that each value came in.

    Values are kept as they come: a message may name some of the columns only, in any order.
    Sixteen bytes a value are held, images never are.
    """

    def __init__(self) -> None:
        self._ordinals: dict[str, array[int]] = {}
        self._values: dict[str, array[float]] = {}
        self._layouts: Counter[tuple[str, ...]] = Counter()
        self.not_finite = 0

    def add(self, ordinal: int, names: tuple[str, ...], values: Sequence[float]) -> None:
        """Add what one message says."""
        self._layouts[names] += 1
        for name, value in zip(names, values, strict=True):
            if name not in self._values:
                self._ordinals[name], self._values[name] = array('q'), array('d')
            self._ordinals[name].append(ordinal)
            self._values[name].append(value)

    @property
    def names(self) -> tuple[str, ...]:
        """All names: those of the most usual of the fullest messages in its order, then the rest.

        Now and then a driver lists joints in another order; the usual one is meant.
        """
        if not self._layouts:
            return ()
        fullest = max(len(names) for names in self._layouts)
        usual = max(
            (names for names in self._layouts if len(names) == fullest),
            key=lambda names: self._layouts[names],
        )
        return usual + tuple(sorted(set(self._values) - set(usual)))

    def sample(
        self,
        names: Sequence[str],
        stamp_of: NDArray[np.int64],
        ticks: Stamps,
        policy: str,
        tolerance_ns: int,
    ) -> Sampled:
        """The columns of some names at ticks.

        Args:
            names: Columns wanted.
            stamp_of: (N,) int64 stamp of each message by its ordinal; negative leaves it out.
            ticks: (T,) int64 sorted ticks in nanoseconds.
            policy: 'nearest', 'latest' or 'linear'.
            tolerance_ns: Furthest that a sample may lie from its tick.
        """
        values = np.zeros((len(ticks), len(names)), dtype=np.float32)
        valid = np.ones(len(ticks), dtype=np.bool_)
        error = np.zeros(len(ticks), dtype=np.int64)
        for column, name in enumerate(names):
            stamps, known = self._column(name, stamp_of)
            made, good, distance = _sample_column(stamps, known, ticks, policy, tolerance_ns)
            values[:, column] = np.nan_to_num(made, nan=0.0)
            valid &= good
            error = np.where(np.abs(distance) > np.abs(error), distance, error)
        return Sampled(values, valid, error)

    def _column(self, name: str, stamp_of: NDArray[np.int64]) -> tuple[Stamps, NDArray[np.float64]]:
        if name not in self._values:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        values = np.frombuffer(self._values[name], dtype=np.float64)
        stamps = stamp_of[np.frombuffer(self._ordinals[name], dtype=np.int64)]
        good = np.isfinite(values) & (stamps >= 0)
        self.not_finite += int((~np.isfinite(values)).sum())
        stamps, values = stamps[good], values[good]
        order = np.argsort(stamps, kind='stable')
        return stamps[order], values[order]


def _sample_column(
    stamps: Stamps, values: NDArray[np.float64], ticks: Stamps, policy: str, tolerance_ns: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    if policy == 'linear':
        return interpolate(stamps, values, ticks, tolerance_ns)
    found = match(policy, stamps, ticks, tolerance_ns)
    made = np.full(len(ticks), np.nan)
    known = found.index >= 0
    made[known] = values[found.index[known]]
    return made, found.valid, found.error_ns


def joint_values(message: Any, values: Sequence[str]) -> tuple[tuple[str, ...], list[float]]:
    """Names and numbers of a JointState, or of a JointTrajectory's first point.

    Columns are named as their joint for positions, and 'joint/velocity' and the like for others.

    Raises:
        NumbersError: The message has numbers for another count of joints than it names.
    """
    joints, source, keys = _joint_parts(message)
    names: list[str] = []
    numbers: list[float] = []
    for value in values:
        given = getattr(source, keys[value]) if source is not None else ()
        if len(given) == 0:
            continue
        if len(given) != len(joints):
            raise NumbersError(f'{len(joints)} joints are named, {len(given)} have a {value}')
        names.extend(joints if value == 'position' else (f'{j}/{value}' for j in joints))
        numbers.extend(np.asarray(given, dtype=np.float64).tolist())
    return tuple(names), numbers


def _joint_parts(message: Any) -> tuple[Sequence[str], Any, dict[str, str]]:
    if hasattr(message, 'joint_names'):
        points = message.points
        return message.joint_names, (points[0] if len(points) else None), _TRAJECTORY
    return message.name, message, {key: key for key in _TRAJECTORY}


def field_values(message: Any, paths: Sequence[str]) -> tuple[tuple[str, ...], list[float]]:
    """Numbers under dotted paths of a message; an array's are named 'path[0]' and so on.

    Raises:
        NumbersError: A path leads nowhere, or to what is no number.
    """
    names: list[str] = []
    numbers: list[float] = []
    for path in paths:
        try:
            found = np.asarray(reduce(getattr, path.split('.'), message), dtype=np.float64)
        except (AttributeError, TypeError, ValueError) as error:
            raise NumbersError(f'{path} is no number of {_type_name(message)}: {error}') from error
        if found.ndim == 0:
            names.append(path)
        else:
            names.extend(f'{path}[{i}]' for i in range(found.size))
        numbers.extend(found.ravel().tolist())
    return tuple(names), numbers


def _type_name(message: Any) -> str:
    return str(getattr(message, '__msgtype__', type(message).__name__))
