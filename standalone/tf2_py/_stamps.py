"""Times and durations as whole nanoseconds."""

from __future__ import annotations

import math
from typing import Any

NS_PER_S = 1_000_000_000


def to_ns(value: Any, what: str = 'time') -> int:
    """Give the nanoseconds of a time or duration, as an rclpy object or as a message.

    Args:
        value: Anything with ``sec`` and ``nanosec``, or with ``nanoseconds``.
        what: How the error calls it.

    Raises:
        TypeError: If it has neither.
    """
    try:
        return int(value.sec) * NS_PER_S + int(value.nanosec)
    except AttributeError:
        pass
    try:
        return int(value.nanoseconds)
    except AttributeError:
        raise TypeError(f'{what} must have sec and nanosec, or nanoseconds.') from None


def to_seconds(ns: int) -> float:
    """Give nanoseconds in seconds; the fraction is scaled on its own, which keeps its digits."""
    whole, rest = divmod(abs(ns), NS_PER_S)
    return math.copysign(whole + 1e-9 * rest, ns)


def from_seconds(seconds: float) -> int:
    """Give seconds in nanoseconds, rounded to the nearest."""
    whole = math.floor(seconds)
    return whole * NS_PER_S + round((seconds - whole) * NS_PER_S)


def display(ns: int) -> str:
    """Give a time as error messages show it: seconds with six decimals."""
    return f'{to_seconds(ns):.6f}'
