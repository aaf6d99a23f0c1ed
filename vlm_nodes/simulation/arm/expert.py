"""A scripted expert that shows how the tasks are done.

It knows where everything lies, but not where the box's stop is: that it feels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation.arm.kinematics import (
    JOINTS,
    REST_TIP,
    TIP_RADIUS_M,
    Limits,
    UnreachableError,
    joints_for_tip,
    tip_position,
)
from vlm_nodes.simulation.arm.placement import BALL_RADIUS_M, BOX_HALF_M, Point
from vlm_nodes.simulation.arm.tasks import BALL_OF_TASK, check_task

FELT_STOP_N: Final = 2.0
"""Pushing the free box takes about 1 N."""

_SPEED_M_S: Final = 0.12
_RETREAT_SPEED_M_S: Final = 0.22
_PUSH_SPEED_M_S: Final = 0.05
_BRAKE_M_S2: Final = 0.20
_START_M_S2: Final = 0.30
# By how much the measured joints lag behind their targets.
_LAG_S: Final = 0.09
_HOVER_M: Final = 0.008
_BEHIND_M: Final = 0.02
_PUSH_TIP_M: Final = BOX_HALF_M - TIP_RADIUS_M
_LIFT_M: Final = 0.07
_ARRIVED_M: Final = 0.012
_CLEAR_M: Final = 0.03
_AHEAD_M: Final = 0.05
# Where a detour leads to, from where the fingertip is: never down, nor at the box.
_DETOUR_M: Final = ((-0.06, 0.0, 0.03), (0.06, 0.08, 0.10))
# Aside of the box's middle, above the height to push at, and away from the box.
_PUSH_FROM_M: Final = (0.018, 0.02, 0.04)


@dataclass(frozen=True)
class Sight:
    """What the expert goes by.

    Attributes:
        joints: (4,) radians, in the order of `JOINTS`.
        force_n: on the fingertip.
        balls: centre of each, by label, metres in `base_link`.
        box: centre of the green box.
    """

    joints: NDArray[np.float64]
    force_n: float
    balls: Mapping[str, Point]
    box: Point


def sight_from_truth(truth: Mapping[str, Any]) -> Sight:
    """What the expert goes by, of all that `ArmSimulator.truth` tells."""
    x, y, z = truth['box']
    return Sight(
        joints=np.array([truth['joints'][name] for name in JOINTS]),
        force_n=truth['fingertip_force_n'],
        balls={label: (c[0], c[1], c[2]) for label, c in truth['balls'].items()},
        box=(x, y, z),
    )


@dataclass(frozen=True)
class Shake:
    """Disturbances of the commands, which the expert then corrects: recoveries to learn from.

    Attributes:
        noise_rad: standard deviation of the noise, the wobble of an unsteady hand.
        keep: share of the noise that is left a tick later.
        kick_rad: standard deviation of sudden pushes.
        kick_probability: of one at a tick.
        push_share: how much of all this there is while the box is pushed and when at the aim.
        stall_probability: at a tick, of a stall: the arm stays where it is for a while.
        stall_ticks: the longest stall.
        detour_probability: at a tick of pushing, of a detour: the finger rises and goes elsewhere
            for a while, as if the push were done; from there it begins anew. Without, rising would
            always mean that the stop was felt, and a policy that happens to rise a little would
            take its task for done.
        detour_ticks: the longest detour.
        slowest: share of the usual speed that an episode has at least; the rest is drawn.
    """

    noise_rad: float = 0.006
    keep: float = 0.7
    kick_rad: float = 0.05
    kick_probability: float = 0.05
    push_share: float = 0.1
    stall_probability: float = 0.025
    stall_ticks: int = 8
    detour_probability: float = 0.04
    detour_ticks: int = 12
    slowest: float = 0.7


class _Phase(Enum):
    APPROACH = 'approach'
    PUSH = 'push'
    LIFT = 'lift'
    REST = 'rest'


class ArmExpert:
    """Does one task.

    Attributes:
        intended: (4,) joint targets of the last tick before they were disturbed. These are what a
            policy should learn: how to correct disturbances, not to make them (noise injection,
            Laskey et al. 2017, DART).

    Args:
        task: one of `TASKS`.
        rate_hz: how often it is asked, which its speed depends on.
        shake: disturbances; none where not given.
        seed: of the disturbances.

    Raises:
        ValueError: there is no such task.
    """

    def __init__(
        self, task: str, rate_hz: float = 10.0, shake: Shake | None = None, seed: int = 0
    ) -> None:
        self._ball = BALL_OF_TASK.get(check_task(task))
        self._tick_s = 1.0 / rate_hz
        self._shake = shake
        self._rng = np.random.default_rng([seed, 43])
        self._noise = np.zeros(4)
        self._pace = self._rng.uniform(shake.slowest, 1.0) if shake else 1.0
        self._interrupted, self._held = 0, np.zeros(4)
        self._detour: NDArray[np.float64] | None = None
        self._phase = _Phase.APPROACH
        self._speed_m_s = 0.0
        self._limits = Limits()
        self._lifted = np.zeros(3)
        self.intended = np.zeros(4)

    def act(self, sight: Sight) -> NDArray[np.float64]:
        """Joint targets (4,) for the next tick, radians in the order of `JOINTS`."""
        tip = tip_position(sight.joints)
        goal, speed, steady = self._plan(sight, tip)
        targets = _joints_near(self._step_toward(goal, tip, speed), sight.joints)
        self.intended = self._limits.clip(targets)
        if self._is_interrupted(tip):
            # The task goes on from rest.
            self._speed_m_s = 0.0
            if self._detour is None:
                return self._held
            targets = _joints_near(self._stepped(tip, self._detour), sight.joints)
        self._held = self._limits.clip(targets + self._shaken(steady))
        return self._held

    def _plan(
        self, sight: Sight, tip: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float, bool]:
        """Where to go, how fast, and whether with a steady hand."""
        if self._ball is not None:
            top = _raised(np.array(sight.balls[self._ball]), BALL_RADIUS_M + _HOVER_M)
            near = bool(np.linalg.norm(tip - top) < 2 * _ARRIVED_M)
            return _over(top, tip), _SPEED_M_S, near
        self._go_on(sight, tip)
        box = np.array(sight.box)
        if self._phase is _Phase.APPROACH:
            behind = _behind(box, _BEHIND_M)
            return _over(behind, tip), _SPEED_M_S, bool(np.linalg.norm(tip - behind) < 0.06)
        if self._phase is _Phase.PUSH:
            # To the left, and back to the middle of the box on the way.
            return np.array([box[0], tip[1] - _AHEAD_M, _PUSH_TIP_M]), _PUSH_SPEED_M_S, True
        if self._phase is _Phase.LIFT:
            return self._lifted, _RETREAT_SPEED_M_S, True
        resting = bool(np.linalg.norm(tip - REST_TIP) < _ARRIVED_M)
        return np.array(REST_TIP), _RETREAT_SPEED_M_S, resting

    def _go_on(self, sight: Sight, tip: NDArray[np.float64]) -> None:
        """To the next phase of a push, where one is over."""
        box = np.array(sight.box)
        if self._phase is _Phase.APPROACH and _can_push(tip, box, 1.0):
            self._phase = _Phase.PUSH
        elif self._phase is _Phase.PUSH and sight.force_n > FELT_STOP_N:
            self._phase, self._speed_m_s = _Phase.LIFT, _RETREAT_SPEED_M_S
            self._lifted = tip + np.array([0.0, _CLEAR_M, _LIFT_M])
        elif self._phase is _Phase.PUSH and not _can_push(tip, box, 1.5):
            self._phase = _Phase.APPROACH
        elif self._phase is _Phase.LIFT and tip[2] > self._lifted[2] - 2 * _ARRIVED_M:
            self._phase = _Phase.REST

    def _step_toward(
        self, goal: NDArray[np.float64], tip: NDArray[np.float64], speed_m_s: float
    ) -> NDArray[np.float64]:
        """The next target of the fingertip: faster and slower only little by little."""
        way = goal - tip
        distance = float(np.linalg.norm(way))
        faster = self._speed_m_s + _START_M_S2 * self._tick_s
        self._speed_m_s = min(speed_m_s, faster, float(np.sqrt(2 * _BRAKE_M_S2 * distance)))
        step = self._pace * self._speed_m_s * (self._tick_s + _LAG_S)
        return goal if step >= distance else tip + way / distance * step

    def _is_interrupted(self, tip: NDArray[np.float64]) -> bool:
        """Whether the arm stalls or makes a detour; never at the start, nor lifting off the box."""
        if self._shake is None or self._phase is _Phase.LIFT or not self._held.any():
            return False
        if self._interrupted:
            self._interrupted -= 1
            return True
        shake, pushing = self._shake, self._phase is _Phase.PUSH
        if self._rng.random() < shake.stall_probability:
            self._detour, longest = None, shake.stall_ticks
        elif pushing and self._rng.random() < shake.detour_probability:
            self._detour, longest = tip + self._rng.uniform(*_DETOUR_M), shake.detour_ticks
        else:
            return False
        self._interrupted = int(self._rng.integers(longest))
        return True

    def _stepped(self, tip: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
        """The next target of the fingertip on a detour."""
        way = goal - tip
        step = _SPEED_M_S * (self._tick_s + _LAG_S)
        return tip + way * min(step / max(float(np.linalg.norm(way)), 1e-9), 1.0)

    def _shaken(self, steady: bool) -> NDArray[np.float64]:
        if self._shake is None:
            return np.zeros(4)
        shake = self._shake
        fresh = shake.noise_rad * np.sqrt(1 - shake.keep**2) * self._rng.standard_normal(4)
        kick = shake.kick_rad * np.clip(self._rng.standard_normal(4), -1.5, 1.5)
        kicked = self._rng.random() < shake.kick_probability
        self._noise = shake.keep * self._noise + fresh + (kick if kicked and not steady else 0.0)
        return self._noise * (shake.push_share if steady else 1.0)


def _over(goal: NDArray[np.float64], tip: NDArray[np.float64]) -> NDArray[np.float64]:
    """A goal that is come to from above: the higher, the further away from it."""
    away = float(np.hypot(*(goal - tip)[:2]))
    return _raised(goal, float(np.clip(1.2 * (away - 0.015), 0.0, _LIFT_M)))


def _raised(point: NDArray[np.float64], height_m: float) -> NDArray[np.float64]:
    raised: NDArray[np.float64] = point + np.array([0.0, 0.0, height_m])
    return raised


def _behind(box: NDArray[np.float64], gap_m: float) -> NDArray[np.float64]:
    """The fingertip's lowest point to the right of the box."""
    return np.array([box[0], box[1] + BOX_HALF_M + TIP_RADIUS_M + gap_m, _PUSH_TIP_M])


def _can_push(tip: NDArray[np.float64], box: NDArray[np.float64], tolerance: float) -> bool:
    """Whether going to the left from here meets the box well enough."""
    aside, high = abs(float(tip[0] - box[0])), float(tip[2]) - _PUSH_TIP_M
    gap = float(tip[1] - box[1]) - BOX_HALF_M - TIP_RADIUS_M
    near = np.array([aside, high, abs(gap)]) < tolerance * np.array(_PUSH_FROM_M)
    return bool(near.all())


def _joints_near(tip: NDArray[np.float64], joints: NDArray[np.float64]) -> NDArray[np.float64]:
    """Joints for a place of the fingertip; where it cannot be there, those it has."""
    try:
        return joints_for_tip(tip)
    except UnreachableError:
        return joints
