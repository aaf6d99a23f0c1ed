"""What a joint may be told: limits of position and of speed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Limited:
    """A command within its limits, and what the limits took away.

    Attributes:
        positions: (P,) radians or metres.
        by_position: Names of joints whose target lay outside their range.
        by_velocity: Names of joints whose target lay farther than they may move at once.
    """

    positions: NDArray[np.float64]
    by_position: tuple[str, ...]
    by_velocity: tuple[str, ...]


@dataclass(frozen=True)
class JointLimits:
    """Limits of the joints that are commanded, in their order.

    Attributes:
        names: Of the P joints.
        lower: Least position of each, radians or metres; -inf where there is none.
        upper: Greatest position of each; inf where there is none.
        max_velocity: Greatest speed of each, radians or metres a second.
        max_lag: How far each may be from its last command before something is wrong; inf for any.
    """

    names: tuple[str, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    max_velocity: tuple[float, ...]
    max_lag: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check every joint.

        Raises:
            ValueError: The message names the joint and the number.
        """
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f'joints {list(self.names)} must be named, each once')
        for label in ('lower', 'upper', 'max_velocity', 'max_lag'):
            if len(getattr(self, label)) != len(self.names):
                raise ValueError(f'{label} needs {len(self.names)} numbers, one a joint')
        for name, lower, upper, velocity, lag in zip(
            self.names, self.lower, self.upper, self.max_velocity, self.max_lag, strict=True
        ):
            if not lower < upper:  # NaN is caught too
                raise ValueError(f'joint {name!r}: position limits {lower} to {upper} are no range')
            if not 0 < velocity < math.inf:
                raise ValueError(f'joint {name!r}: max_velocity = {velocity} is no speed above 0')
            if not lag > 0:
                raise ValueError(f'joint {name!r}: max_lag = {lag} is not above 0')

    def limit(
        self,
        target: NDArray[np.floating],
        last: NDArray[np.float64],
        elapsed_s: float,
        speed: float = 1.0,
    ) -> Limited:
        """The command nearest to a target that the limits allow.

        Speed goes before position: a joint that is outside its range is led back at its speed, not
        at once.

        Args:
            target: (P,) finite positions.
            last: (P,) what was commanded last.
            elapsed_s: Seconds since then.
            speed: Share of `max_velocity` that is allowed, 0 to 1.
        """
        lower, upper = np.array(self.lower), np.array(self.upper)
        step = np.array(self.max_velocity) * (max(elapsed_s, 0.0) * speed)
        inside = np.clip(np.asarray(target, dtype=np.float64), lower, upper)
        positions = np.clip(inside, last - step, last + step)
        return Limited(
            positions,
            by_position=self._which(inside != target),
            by_velocity=self._which(positions != inside),
        )

    def outside(self, positions: NDArray[np.floating]) -> tuple[str, ...]:
        """Names of joints that are outside their range."""
        return self._which((positions < self.lower) | (positions > self.upper))

    def lagging(
        self, measured: NDArray[np.floating], last: NDArray[np.float64]
    ) -> tuple[str, float, float] | None:
        """The joint that is farthest beyond its `max_lag`: name, distance, limit; None if none."""
        distance = np.abs(np.asarray(measured, dtype=np.float64) - last)
        excess = distance - np.array(self.max_lag)
        worst = int(np.argmax(excess))
        if not excess[worst] > 0:
            return None
        return self.names[worst], float(distance[worst]), self.max_lag[worst]

    def _which(self, mask: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(name for name, hit in zip(self.names, mask, strict=True) if hit)
