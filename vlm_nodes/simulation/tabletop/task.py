"""The tasks by name, each with its splits and modes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from vlm_nodes.simulation.tabletop.colors import MODES, SPLITS, colors_of
from vlm_nodes.simulation.tabletop.goals import Goal
from vlm_nodes.simulation.tabletop.gripper import CARRY_M_S, TRAVEL_M
from vlm_nodes.simulation.tabletop.props import Joint, Prop


@dataclass(frozen=True)
class Variant:
    """Which form of a task.

    Attributes:
        split: 'seen', 'unseen' or 'full'.
        mode: 'train', 'val' or 'test'.
        object_dir: folder of meshes for the tasks that pack objects; None takes our own.
    """

    split: str
    mode: str
    object_dir: Path | None = None

    @property
    def colors(self) -> tuple[str, ...]:
        """Names of colours that instructions may name."""
        return colors_of(self.split, self.mode)


@dataclass(frozen=True)
class Setting:
    """One episode's table and what is asked for.

    Attributes:
        props: what stands on the table.
        goals: in order; their worth sums to 1.
        max_steps: actions before the episode ends.
        joints: that hold bodies together.
        primitive: what an action does: carry by suction, or push with a blade.
        lift_m: how far things are lifted.
        speed_m_s: at which things are carried.
    """

    props: tuple[Prop, ...]
    goals: tuple[Goal, ...]
    max_steps: int
    joints: tuple[Joint, ...] = ()
    primitive: Literal['carry', 'push'] = 'carry'
    lift_m: float = TRAVEL_M
    speed_m_s: float = CARRY_M_S


Builder = Callable[[np.random.Generator, Variant], Setting]


@dataclass(frozen=True)
class Family:
    """All splits of a task.

    Attributes:
        build: draws a table.
        full_names: of each split that there is.
    """

    build: Builder
    full_names: dict[str, str]


@dataclass(frozen=True)
class Task:
    """A task in one split and mode.

    Attributes:
        family: its name without the split.
        name: its full name, such as 'put-block-in-bowl-seen-colors'.
        variant: which form of it.
        build: draws a table from a random generator.
    """

    family: str
    name: str
    variant: Variant
    build: Builder

    def setting(self, rng: np.random.Generator) -> Setting:
        """A random table of this task.

        Raises:
            NoRoomError: if the things drawn did not fit on it; draw again.
        """
        return self.build(rng, self.variant)


def with_colors(family: str) -> dict[str, str]:
    """Full names of a task whose splits differ in colours."""
    names: Final = {split: f'{family}-{split}-colors' for split in SPLITS}
    return names | {'full': f'{family}-full'}


def check_mode(mode: str) -> None:
    """Raises ValueError if there is no such mode."""
    if mode not in MODES:
        raise ValueError(f'mode {mode!r} is not known; the modes are: {", ".join(MODES)}')
