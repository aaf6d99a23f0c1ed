"""An episode on the table: see, ask the expert, act, be rewarded."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlm_nodes.simulation.tabletop import expert
from vlm_nodes.simulation.tabletop.cameras import Cameras, TableView
from vlm_nodes.simulation.tabletop.goals import Progress
from vlm_nodes.simulation.tabletop.gripper import SETTLE_STEPS, pick_and_place, push
from vlm_nodes.simulation.tabletop.layout import NoRoomError
from vlm_nodes.simulation.tabletop.task import Setting, Task
from vlm_nodes.simulation.tabletop.world import TableWorld

Matrix = NDArray[np.float64]

DONE_INSTRUCTION: Final = 'done'
_LAYOUT_TRIES: Final = 200


@dataclass(frozen=True)
class StepInfo:
    """What came of an action.

    Attributes:
        picked: name of the body that was picked; None if nothing was.
        instruction: what is asked for next; `DONE_INSTRUCTION` when nothing is.
        total: reward of the episode so far.
        steps: actions so far.
        is_success: whether all that was asked for is done.
    """

    picked: str | None
    instruction: str
    total: float
    steps: int
    is_success: bool


@dataclass(frozen=True, eq=False)
class BodyTruth:
    """Where a body is.

    Attributes:
        name: of the body.
        label: what it is, such as 'red block'.
        table_from_body: (4, 4).
        is_fixed: whether nothing moves it.
    """

    name: str
    label: str
    table_from_body: Matrix
    is_fixed: bool


class Tabletop:
    """One seeded table of a task.

    Everything follows from task and seed, but for the pixels' last bit on another machine.

    Args:
        task: from `make_task`.
        seed: of the table. Demonstrations use even ones to train, odd ones to validate, and odd
            ones from 10001 to test.
        cameras: to render with, shared with other tables of the same thread; they stay open. Own
            ones are made where None.
    """

    def __init__(self, task: Task, seed: int, cameras: Cameras | None = None) -> None:
        if seed < 0:
            raise ValueError(f'a seed is not negative, this is {seed}')
        self.task, self.seed = task, seed
        self._own = Cameras() if cameras is None else None
        self._cameras = cameras or self._own
        self._setting: Setting | None = None

    def __enter__(self) -> Tabletop:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the cameras, if they are this table's own."""
        if self._own is not None:
            self._own.close()

    def reset(self) -> None:
        """Sets the table as at the beginning of the episode."""
        self._rng = np.random.default_rng([self.seed, zlib.crc32(self.task.family.encode())])
        self._setting = self._draw()
        self.world = TableWorld(self._setting.props, self._setting.joints)
        self.world.settle(*SETTLE_STEPS)
        self._progress = Progress(list(self._setting.goals))
        self._steps = 0

    def observe(self) -> list[TableView]:
        """What the three cameras see."""
        self._check()
        assert self._cameras is not None
        return self._cameras.views(self.world)

    @property
    def instruction(self) -> str:
        """What is asked for now; `DONE_INSTRUCTION` when nothing is."""
        self._check()
        goals = self._progress.goals
        return goals[0].instruction if goals else DONE_INSTRUCTION

    @property
    def is_done(self) -> bool:
        """Whether the episode is over."""
        return self._progress.is_done or self._steps >= self._checked().max_steps

    def oracle(self) -> tuple[Matrix, Matrix, str]:
        """What the scripted expert would do now.

        Returns:
            Pick and place poses, (4, 4) table_from_tool, and the instruction.

        Raises:
            NothingVisibleError: if nothing that is to be moved can be seen.
            RuntimeError: if the task is done.
        """
        self._check()
        if not self._progress.goals:
            raise RuntimeError(f'{self.task.name}, seed {self.seed}: nothing is left to do')
        goal = self._progress.goals[0]
        if self._checked().primitive == 'push':
            return *expert.sweep(goal, self.world.pose), goal.instruction
        assert self._cameras is not None
        numbers = self._cameras.bodies_from_above(self.world)
        index = {prop.name: i + 1 for i, prop in enumerate(self.world.props)}
        for i, j in expert.candidates(goal, self.world.pose):
            mask = numbers == index[goal.items[i].name]
            if not mask.any():
                continue
            x, y = expert.pick_point(mask, self._rng)
            z, _ = self.world.highest(np.array([[x, y]]))
            body, target = self.world.pose(goal.items[i].name), goal.targets[j]
            turn = expert.turn_for(goal, i, body, target)
            return *expert.carry((x, y, z), body, target, turn), goal.instruction
        raise expert.NothingVisibleError(
            f'{self.task.name}, seed {self.seed}: nothing of {goal.instruction!r} can be seen'
        )

    def step(self, pick: ArrayLike, place: ArrayLike) -> tuple[float, bool, StepInfo]:
        """Acts.

        Args:
            pick: (4, 4) table_from_tool; anywhere. Where nothing can be picked, nothing happens.
            place: (4, 4) table_from_tool.

        Returns:
            The reward gained, whether the episode is over, and what came of it.

        Raises:
            ValueError: if a pose is not a (4, 4) matrix of finite numbers.
            RuntimeError: if the episode is over.
        """
        setting = self._checked()
        if self.is_done:
            raise RuntimeError(f'{self.task.name}, seed {self.seed}: the episode is over')
        if setting.primitive == 'push':
            picked = push(self.world, pick, place)
        else:
            picked = pick_and_place(self.world, pick, place, setting.lift_m, setting.speed_m_s)
        self._steps += 1
        reward = self._progress.update(self.world.pose)
        info = StepInfo(
            picked, self.instruction, self._progress.total, self._steps, self._progress.is_done
        )
        return reward, self.is_done, info

    def truth(self) -> list[BodyTruth]:
        """Where everything is."""
        self._check()
        return [
            BodyTruth(prop.name, prop.label, self.world.pose(prop.name), prop.is_fixed)
            for prop in self.world.props
        ]

    def _draw(self) -> Setting:
        for _ in range(_LAYOUT_TRIES):
            try:
                return self.task.setting(self._rng)
            except NoRoomError:
                continue
        raise NoRoomError(f'{self.task.name}, seed {self.seed}: no table of it has room for all')

    def _check(self) -> None:
        self._checked()

    def _checked(self) -> Setting:
        if self._setting is None:
            raise RuntimeError('the table is not set: call reset() first')
        return self._setting
