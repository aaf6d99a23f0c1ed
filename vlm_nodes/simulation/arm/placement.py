"""Where things lie on the table, drawn by a seed.

The scene of a seed is the same for every task: what to do is in the words alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation.arm.kinematics import REST_TIP
from vlm_nodes.simulation.arm.tasks import BALLS, LARGEST_SEED

BALL_RADIUS_M: Final = 0.03
BOX_HALF_M: Final = 0.025

STOP_RANGE_M: Final = (0.04, 0.14)
"""How far the box can be pushed, by seed."""

# Lower and upper corners.
_BALL_AREA: Final = ((0.28, -0.17), (0.54, 0.17))
# Wide along the rail: where the box lies must not tell whether it has been pushed already.
_BOX_AREA: Final = ((0.30, -0.06), (0.52, 0.12))
_BALL_DISTANCE_M: Final = 0.10
_CORRIDOR_HALF_M: Final = 0.08
_BEHIND_BOX_M: Final = 0.11
_START_SPREAD_M: Final = (0.03, 0.06, 0.025)
_TRIES: Final = 10_000

Point = tuple[float, float, float]


@dataclass(frozen=True)
class ArmScene:
    """Where things are at the start; metres in `base_link`, the table top at z = 0.

    Attributes:
        balls: centre of each ball, by label.
        box: centre of the green box.
        stop_m: how far the box can go to the left (-y) before it meets its hidden stop.
        start_tip: lowest point of the fingertip.

    Raises:
        ValueError: a number is not finite, or the stop is not ahead of the box.
    """

    balls: Mapping[str, Point]
    box: Point
    stop_m: float
    start_tip: Point = REST_TIP

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        if set(self.balls) != set(BALLS):
            raise ValueError(f'balls must be {BALLS}, are {tuple(self.balls)}')
        for name, point in (*self.balls.items(), ('box', self.box), ('start_tip', self.start_tip)):
            if len(point) != 3 or not np.isfinite(point).all():
                raise ValueError(f'{name} must be three finite numbers, is {point}')
        if not (np.isfinite(self.stop_m) and self.stop_m > 0):
            raise ValueError(f'stop_m must be positive, is {self.stop_m}')


def make_scene(seed: int) -> ArmScene:
    """The scene of a seed.

    The balls lie beside the longest way that the box may go, so that their places tell nothing of
    its stop.

    Raises:
        ValueError: the seed is negative or above 1999999.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f'seed must be from 0 to {LARGEST_SEED}, is {seed}')
    rng = np.random.default_rng([seed, 41])
    box = rng.uniform(*_BOX_AREA)
    balls = _place_balls(rng, box)
    start = np.array(REST_TIP) + rng.uniform(-1, 1, 3) * _START_SPREAD_M
    return ArmScene(
        balls={
            label: _point(ball[0], ball[1], BALL_RADIUS_M)
            for label, ball in zip(BALLS, balls, strict=True)
        },
        box=_point(box[0], box[1], BOX_HALF_M),
        stop_m=float(rng.uniform(*STOP_RANGE_M)),
        start_tip=_point(start[0], start[1], start[2]),
    )


def _place_balls(
    rng: np.random.Generator, box: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres (2,) of two balls clear of each other and of the box's way."""
    for _ in range(_TRIES):
        red, blue = rng.uniform(*_BALL_AREA, size=(2, 2))
        apart = np.hypot(*(red - blue)) >= _BALL_DISTANCE_M
        if apart and not _in_way(red, box) and not _in_way(blue, box):
            return red, blue
    raise AssertionError(f'no place for two balls beside a box at {box}')


def _in_way(ball: NDArray[np.float64], box: NDArray[np.float64]) -> bool:
    """Whether a ball is where the box may go, or where the finger comes down behind it."""
    far_end = box[1] - STOP_RANGE_M[1] - _CORRIDOR_HALF_M
    beside = abs(ball[0] - box[0]) >= _CORRIDOR_HALF_M
    return not beside and far_end < ball[1] < box[1] + _BEHIND_BOX_M


def _point(x: float, y: float, z: float) -> Point:
    return float(x), float(y), float(z)
