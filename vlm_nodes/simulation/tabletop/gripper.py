"""What the tools do with two poses: carry by suction, or push with a blade.

Time is counted in steps of the simulation, so that what happens does not depend on the machine.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlm_nodes.simulation.tabletop.world import HOME, STEP_S, TableWorld

TRAVEL_M: Final = 0.30
CARRY_M_S: Final = 1.0
LOWER_M_S: Final = 0.4
TURN_RAD_S: Final = 6.0
CUP_RADIUS_M: Final = 0.004
PUSH_M_S: Final = 0.2
# Where the blade begins before the first point of a push, and stops before the second.
BEHIND_M: Final = 0.02
SHORT_M: Final = 0.05
_LEAST_PUSH_M: Final = 1e-3
_BLADE_M: Final = 0.001
_BLADE_FROM_M: Final = 0.02
SETTLE_STEPS: Final = (30, 500)
# Farther than this the arm does not reach.
_REACH_M: Final = 1.5
# Least and greatest x and y of pushes: the table and a little more.
_PUSH_REACH_M: Final = ((0.15, -0.6), (0.85, 0.6))
_CUP: Final = np.vstack(
    [
        np.zeros((1, 2)),
        *(CUP_RADIUS_M * np.array([[np.cos(a), np.sin(a)]]) for a in np.arange(6) * (np.pi / 3)),
    ]
)


def position_and_yaw(table_from_tool: ArrayLike) -> tuple[NDArray[np.float64], float]:
    """Where a (4, 4) pose is, and how it is turned about z; a tool's z may point up or down.

    Raises:
        ValueError: if the pose is not a (4, 4) matrix of finite numbers.
    """
    matrix = np.asarray(table_from_tool, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
        raise ValueError(f'a tool pose is a finite (4, 4) matrix, this is {matrix.tolist()}')
    return matrix[:3, 3].copy(), float(np.arctan2(matrix[1, 0], matrix[0, 0]))


def pick_and_place(
    world: TableWorld,
    pick: ArrayLike,
    place: ArrayLike,
    lift_m: float = TRAVEL_M,
    speed_m_s: float = CARRY_M_S,
) -> str | None:
    """Comes down at the pick, carries what sticks to the cup, and lets go where it touches.

    Both heights come from contact, as published: z of the poses is not looked at.

    Args:
        world: is changed.
        pick: (4, 4) table_from_tool.
        place: (4, 4) table_from_tool; what is held turns by the difference of both yaws.
        lift_m: how far the cup is lifted.
        speed_m_s: of what is carried.

    Returns:
        What was picked; None if the cup met the table, something fixed, or nothing.

    Raises:
        ValueError: if a pose is not finite.
    """
    (start, start_yaw), (end, end_yaw) = position_and_yaw(pick), position_and_yaw(place)
    z, name = world.highest(start[:2] + _CUP)
    if name is None or not world.is_movable(name):
        return None
    tool = _Tool(world, np.array([start[0], start[1], z]), start_yaw, speed_m_s)
    world.hold(name)
    tool.move(np.array([start[0], start[1], z + lift_m]), start_yaw)
    turn = (end_yaw - start_yaw + np.pi) % (2 * np.pi) - np.pi
    goal = np.clip(end[:2], -_REACH_M, _REACH_M)
    tool.move(np.array([*goal, z + lift_m]), start_yaw + turn)
    tool.lower(name)
    world.release(name)
    world.move_tool('suction', np.array(HOME['suction']), 0.0)
    world.settle(*SETTLE_STEPS)
    return name


class _Tool:
    """The suction cup under way."""

    def __init__(
        self,
        world: TableWorld,
        position: NDArray[np.float64],
        yaw_rad: float,
        speed_m_s: float,
    ) -> None:
        self._speed_m_s = speed_m_s
        self._world, self._position, self._yaw_rad = world, position, yaw_rad
        world.move_tool('suction', position, yaw_rad)

    def move(self, position: NDArray[np.float64], yaw_rad: float) -> None:
        """Goes straight there, gently at both ends, and waits a moment."""
        start, start_yaw = self._position, self._yaw_rad
        duration_s = max(
            float(np.linalg.norm(position - start)) / self._speed_m_s,
            abs(yaw_rad - start_yaw) / TURN_RAD_S,
        )
        steps = max(1, int(np.ceil(duration_s / STEP_S)))
        for step in range(1, steps + 1):
            t = step / steps
            share = t * t * (3 - 2 * t)
            self._go(start + share * (position - start), start_yaw + share * (yaw_rad - start_yaw))
        for _ in range(20):
            self._world.step()

    def lower(self, held: str) -> None:
        """Goes down until what is held touches anything, or the cup is on the table."""
        while self._position[2] > 0 and not self._world.touches(held):
            self._go(self._position - (0, 0, LOWER_M_S * STEP_S), self._yaw_rad)

    def _go(self, position: NDArray[np.float64], yaw_rad: float) -> None:
        self._position, self._yaw_rad = position, yaw_rad
        self._world.move_tool('suction', position, yaw_rad)
        self._world.step()


def push(world: TableWorld, start: ArrayLike, end: ArrayLike) -> str | None:
    """Sets the blade down behind a point and pushes what is there towards another.

    As published, the blade begins 2 cm before the first point and stops 5 cm before the second, so
    that what it pushes ends up there. Nothing happens where both points are one.

    Args:
        world: is changed.
        start: (4, 4) pose, of which x and y count.
        end: (4, 4) pose, of which x and y count.

    Returns:
        None: nothing is picked.

    Raises:
        ValueError: if a pose is not finite.
    """
    a = np.clip(position_and_yaw(start)[0][:2], *_PUSH_REACH_M)
    b = np.clip(position_and_yaw(end)[0][:2], *_PUSH_REACH_M)
    length = float(np.linalg.norm(b - a))
    if length < _LEAST_PUSH_M:
        return None
    along = (b - a) / length
    yaw = float(np.arctan2(along[1], along[0]))
    first, last = a - along * BEHIND_M, b - along * SHORT_M
    for z in np.arange(_BLADE_FROM_M, _BLADE_M, -PUSH_M_S * STEP_S):
        world.move_tool('blade', np.array([*first, z]), yaw)
        world.step()
    way = float((last - first) @ along)
    steps = max(0, int(np.ceil(way / (PUSH_M_S * STEP_S))))
    for step in range(1, steps + 1):
        world.move_tool('blade', np.array([*(first + along * way * step / steps), _BLADE_M]), yaw)
        world.step()
    world.move_tool('blade', np.array(HOME['blade']), 0.0)
    world.settle(*SETTLE_STEPS)
    return None
