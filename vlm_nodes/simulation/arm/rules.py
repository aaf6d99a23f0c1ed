"""When a task is done, and when it is spoilt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation.arm.kinematics import TIP_RADIUS_M
from vlm_nodes.simulation.arm.placement import BALL_RADIUS_M, BOX_HALF_M, ArmScene
from vlm_nodes.simulation.arm.tasks import BALL_OF_TASK, BALLS, GREEN_BOX, check_task

REACH_M: Final = 0.03
"""From the fingertip's lowest point to the top of the ball."""
STAY_S: Final = 0.5
STOP_TOLERANCE_M: Final = 0.008
FORCE_LIMIT_N: Final = 7.0
FORCE_LIMIT_S: Final = 0.1
CLEAR_M: Final = 0.015
"""Between the fingertip and the box."""
CLEAR_S: Final = 0.3


@dataclass(frozen=True)
class Moment:
    """What a task is judged by, at one moment.

    Attributes:
        tip: (3,) lowest point of the fingertip, metres in `base_link`.
        pushed_m: how far the box has gone to the left.
        force_n: on the fingertip.
    """

    tip: NDArray[np.float64]
    pushed_m: float
    force_n: float


@dataclass(frozen=True)
class Outcome:
    """How a task stands.

    Attributes:
        success: it is done, now.
        failed: it is spoilt for good.
        reason: in words.
        peak_force_n: the largest force on the fingertip so far.
    """

    success: bool
    failed: bool
    reason: str
    peak_force_n: float


class Judge:
    """Watches one episode.

    Args:
        scene: what is where at the start.
        task: one of `TASKS`.

    Raises:
        ValueError: there is no such task.
    """

    def __init__(self, scene: ArmScene, task: str) -> None:
        self._scene, self._task = scene, check_task(task)
        self._stayed_s = dict.fromkeys(BALLS, 0.0)
        self._clear_s = self._pressed_s = self._peak_n = 0.0
        self._spoilt = ''
        self._moment: Moment | None = None

    def watch(self, moment: Moment, duration_s: float) -> None:
        """Take note of how things were for a while."""
        self._moment = moment
        self._peak_n = max(self._peak_n, moment.force_n)
        for label, distance in ball_distances(self._scene.balls, moment.tip).items():
            self._stayed_s[label] = self._stayed_s[label] + duration_s if distance <= REACH_M else 0
        clear = self._gap_m(moment) >= CLEAR_M and moment.force_n == 0
        self._clear_s = self._clear_s + duration_s if clear else 0.0
        pressed = moment.force_n > FORCE_LIMIT_N
        self._pressed_s = self._pressed_s + duration_s if pressed else 0.0
        self._spoilt = self._spoilt or self._what_spoils()

    def outcome(self) -> Outcome:
        """How the task stands now."""
        if self._spoilt:
            return Outcome(False, True, self._spoilt, self._peak_n)
        success, reason = self._reached() if self._task in BALL_OF_TASK else self._pushed()
        return Outcome(success, False, reason, self._peak_n)

    def _what_spoils(self) -> str:
        wanted = BALL_OF_TASK.get(self._task)
        if wanted is None:
            if self._pressed_s < FORCE_LIMIT_S:
                return ''
            return f'pressed with more than {FORCE_LIMIT_N:g} N for {FORCE_LIMIT_S:g} s'
        wrong = [ball for ball in BALLS if ball != wanted and self._stayed_s[ball] >= STAY_S]
        return f'went to the {wrong[0]}' if wrong else ''

    def _reached(self) -> tuple[bool, str]:
        wanted = BALL_OF_TASK[self._task]
        if self._stayed_s[wanted] >= STAY_S:
            return True, f'at the {wanted}'
        if self._moment is None:
            return False, 'has not begun'
        distance = ball_distances(self._scene.balls, self._moment.tip)[wanted]
        if distance <= REACH_M:
            return False, f'at the {wanted} for {self._stayed_s[wanted]:.1f} s'
        return False, f'{distance * 100:.1f} cm from the {wanted}'

    def _pushed(self) -> tuple[bool, str]:
        if self._moment is None:
            return False, 'has not begun'
        short_m = self._scene.stop_m - self._moment.pushed_m
        if short_m > STOP_TOLERANCE_M:
            return False, f'the {GREEN_BOX} is {short_m * 100:.1f} cm short of its stop'
        if self._clear_s < CLEAR_S:
            return False, f'the {GREEN_BOX} is at its stop, the finger still on it'
        return True, f'the {GREEN_BOX} is at its stop, the finger clear of it'

    def _gap_m(self, moment: Moment) -> float:
        """Between the fingertip's surface and the box."""
        box = np.array(self._scene.box) - (0.0, moment.pushed_m, 0.0)
        centre = moment.tip + np.array([0.0, 0.0, TIP_RADIUS_M])
        outside = np.maximum(np.abs(centre - box) - BOX_HALF_M, 0.0)
        return float(np.linalg.norm(outside)) - TIP_RADIUS_M


def ball_distances(
    balls: Mapping[str, tuple[float, float, float]], tip: NDArray[np.float64]
) -> dict[str, float]:
    """From the fingertip's lowest point to the top of each ball, metres."""
    return {
        label: float(np.linalg.norm(tip - np.array(centre) - (0.0, 0.0, BALL_RADIUS_M)))
        for label, centre in balls.items()
    }
