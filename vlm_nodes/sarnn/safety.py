"""Whether a policy may move the robot, and how fast: pure rules, without a clock of their own.

Times are seconds of one clock, whichever, that may jump only between `disable` and `enable`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.sarnn.command import JointLimits, Limited

# An age beyond this is no age: the stamp and the node's time are of two clocks.
_OTHER_CLOCK_S = 3600.0


class GuardState(Enum):
    """What the guard lets through.

    DISABLED: nothing, until somebody enables. RAMPING: commands, their speed rising from 0.
    RUNNING: commands within their limits. HOLDING: the last command again and again, until the
    inputs are back. STOPPED: nothing, until somebody enables anew.
    """

    DISABLED = 'disabled'
    RAMPING = 'ramping'
    RUNNING = 'running'
    HOLDING = 'holding'
    STOPPED = 'stopped'


MOVING = (GuardState.RAMPING, GuardState.RUNNING)


@dataclass(frozen=True)
class GuardConfig:
    """The rules.

    Attributes:
        limits: Of the joints.
        period_s: Between commands. A command that comes late moves no farther than one in time.
        ramp_s: How long speed takes from 0 to the limits after enabling and after holding.
        hold_after_s: Age of an input from which the last command is held.
        stop_after_s: Age of an input from which nothing is sent until somebody enables.
    """

    limits: JointLimits
    period_s: float = 0.1
    ramp_s: float = 2.0
    hold_after_s: float = 0.3
    stop_after_s: float = 2.0

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: The message names the value.
        """
        if not self.period_s > 0:
            raise ValueError(f'period_s = {self.period_s} is not above 0')
        if not self.ramp_s >= 0:
            raise ValueError(f'ramp_s = {self.ramp_s} is below 0')
        if not 0 < self.hold_after_s <= self.stop_after_s:
            raise ValueError(
                f'hold_after_s = {self.hold_after_s} must be above 0 and not above '
                f'stop_after_s = {self.stop_after_s}'
            )


class CommandGuard:
    """Stands between a policy and the robot. Starts disabled. Not safe to call from two threads."""

    def __init__(self, config: GuardConfig) -> None:
        self._config = config
        self._state = GuardState.DISABLED
        self._reason = 'not enabled yet'
        self._last = np.zeros(len(config.limits.names))
        self._last_s = 0.0
        self._ramp_since_s = 0.0

    @property
    def state(self) -> GuardState:
        """What is let through now."""
        return self._state

    @property
    def reason(self) -> str:
        """Why; '' while the robot moves."""
        return self._reason

    @property
    def active(self) -> bool:
        """Whether commands go out: it moves or holds."""
        return self._state in (*MOVING, GuardState.HOLDING)

    def enable(self, measured: NDArray[np.floating], now_s: float) -> None:
        """Begin from the pose that was measured, whatever the state was.

        Args:
            measured: (P,) positions.
            now_s: Now.

        Raises:
            ValueError: A position is not finite.
        """
        if bad := self._not_finite(measured):
            raise ValueError(f'the measured position of {bad}: cannot begin from there')
        self._last = np.array(measured, dtype=np.float64)
        self._last_s = now_s
        self.ramp(now_s)

    def ramp(self, now_s: float) -> None:
        """Let speed rise from 0 again, from the last command on."""
        self._ramp_since_s = now_s
        self._become(GuardState.RAMPING, '')

    def disable(self, reason: str) -> None:
        """Let nothing through."""
        self._become(GuardState.DISABLED, reason)

    def stop(self, reason: str) -> None:
        """Let nothing through since something is wrong."""
        self._become(GuardState.STOPPED, reason)

    def check(
        self,
        ages_s: Mapping[str, float],
        now_s: float,
        details: Mapping[str, str] | None = None,
    ) -> NDArray[np.float64] | None:
        """Look at the ages of all inputs: hold, stop, or go on after holding.

        Args:
            ages_s: Now less the stamp of the newest sample, by the input's name; inf without one.
                Below 0 the stamp is in the future, which counts as much.
            now_s: Now.
            details: What is known about why an input is late, by its name.

        Returns:
            (P,) the last command, to be sent again, while holding; else None.
        """
        if not self.active:
            return None
        late = [name for name, age_s in ages_s.items() if not _within(age_s, self._hold_after_s)]
        if not late:
            if self._state is GuardState.HOLDING:
                self._last_s = now_s
                self.ramp(now_s)
            return None
        known = details or {}
        told = '; '.join(tell_age(name, ages_s[name], known.get(name, '')) for name in late)
        if any(not _within(ages_s[name], self._config.stop_after_s) for name in late):
            self.stop(f'{told}; stops after {self._config.stop_after_s:g} s')
            return None
        self._become(GuardState.HOLDING, f'{told}; holds after {self._hold_after_s:g} s')
        return self._last.copy()

    def command(
        self, target: NDArray[np.floating], measured: NDArray[np.floating], now_s: float
    ) -> Limited | None:
        """What may be sent of what the policy wants; None where nothing may.

        Args:
            target: (P,) positions that the policy wants.
            measured: (P,) positions that the policy saw.
            now_s: Now.
        """
        if self._state not in MOVING:
            return None
        if bad := self._not_finite(target):
            self.stop(f'the policy wants {bad}')
            return None
        if lagging := self._config.limits.lagging(measured, self._last):
            name, distance, limit = lagging
            self.stop(
                f'joint {name!r} is {distance:.3g} from its last command, more than max_lag = '
                f'{limit:g}: is it blocked, or does its controller not run?'
            )
            return None
        elapsed_s = min(now_s - self._last_s, self._config.period_s)
        limited = self._config.limits.limit(target, self._last, elapsed_s, self._speed(now_s))
        self._last, self._last_s = limited.positions, now_s
        return limited

    @property
    def _hold_after_s(self) -> float:
        return self._config.hold_after_s

    def _speed(self, now_s: float) -> float:
        """Share of the full speed; the ramp ends where it reaches 1."""
        if self._state is GuardState.RUNNING:
            return 1.0
        since_s = now_s - self._ramp_since_s
        if since_s >= self._config.ramp_s:
            self._become(GuardState.RUNNING, '')
            return 1.0
        return max(since_s, 0.0) / self._config.ramp_s

    def _not_finite(self, positions: NDArray[np.floating]) -> str:
        names = self._config.limits.names
        return ', '.join(
            f'joint {name!r} at {value}'
            for name, value in zip(names, positions, strict=True)
            if not np.isfinite(value)
        )

    def _become(self, state: GuardState, reason: str) -> None:
        self._state, self._reason = state, reason


def _within(age_s: float, limit_s: float) -> bool:
    return abs(age_s) <= limit_s


def tell_age(name: str, age_s: float, detail: str = '') -> str:
    """What is wrong with an input of an age, in users' words; `detail` is what is known of it."""
    if detail:
        return f'{name}: {detail}'
    if abs(age_s) == float('inf'):
        return f'{name} never came'
    if abs(age_s) > _OTHER_CLOCK_S:
        return (
            f'{name} is stamped {abs(age_s):.0f} s in the {"past" if age_s > 0 else "future"}: by '
            'another clock? use_sim_time must fit, and the clocks of two computers must agree'
        )
    if age_s < 0:
        return f'{name} is stamped {-age_s:.2f} s in the future: do the clocks agree?'
    return f'{name} is {age_s:.2f} s old'
