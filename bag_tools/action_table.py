"""Tables (CSV) of what was asked for, picked and placed in a recording, one action a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bag_tools.table_rows import WHENS, Instant, TableError, instant, number, read_rows
from vlm_nodes.geometry.rigid import matrix_from_quaternion

Matrix = NDArray[np.float64]

_POSITION = ('x', 'y', 'z')
_QUATERNION = ('qx', 'qy', 'qz', 'qw')
_POSE_COLUMNS = (*_POSITION, 'yaw_deg', *_QUATERNION, *WHENS)
COLUMNS = (
    'episode',
    'instruction',
    *WHENS,
    *(f'pick_{name}' for name in _POSE_COLUMNS),
    *(f'place_{name}' for name in _POSE_COLUMNS),
    'reward',
    'end_stamp',
    'end_time_s',
)


@dataclass(frozen=True, eq=False)
class Action:
    """One row: a sentence, what the table looked like, and what the tool did.

    Attributes:
        line: Where the table says so, its header being line 1.
        episode: Which episode it belongs to; rows of one follow each other.
        instruction: What was asked for.
        seen: When the table is looked at, before the tool is in the way.
        pick: (4, 4) table_from_tool, or when the tool was there.
        place: (4, 4) table_from_tool, or when the tool was there.
        reward: What it gained; None where the table does not say.
        end: When the table is looked at after the episode's last action.
    """

    line: int
    episode: str
    instruction: str
    seen: Instant
    pick: Matrix | Instant
    place: Matrix | Instant
    reward: float | None
    end: Instant | None


def read_actions(path: Path) -> list[list[Action]]:
    """The actions of each episode, in the order of the table.

    Raises:
        TableError: A column is unknown or lacking, a value is no number, or rows contradict.
        OSError: The file cannot be read.
    """
    rows = read_rows(path, COLUMNS, 'instruction')
    actions = [_action(row.where, row.line, row.values) for row in rows]
    if not actions:
        raise TableError(f'{path} holds no action')
    return _episodes(path, actions)


def _episodes(path: Path, actions: list[Action]) -> list[list[Action]]:
    groups: dict[str, list[Action]] = {}
    for place, action in enumerate(actions):
        # Without a name every row is an episode of its own.
        group = groups.setdefault(action.episode or f'row {place}', [])
        if group and group[-1] is not actions[place - 1]:
            raise TableError(
                f'{path}, line {action.line}: episode {action.episode!r} goes on after another '
                'began: keep the rows of an episode together'
            )
        group.append(action)
    for group in groups.values():
        _check_group(path, group)
    return list(groups.values())


def _check_group(path: Path, group: list[Action]) -> None:
    last = group[-1]
    if last.end is None:
        raise TableError(
            f'{path}, line {last.line}: the last action of an episode needs end_stamp or '
            'end_time_s, when to look at what became of the table'
        )
    if len({action.reward is None for action in group}) > 1:
        raise TableError(
            f'{path}, line {group[0].line}: rewards have to be given for all actions of an '
            'episode, or for none'
        )


def _action(where: str, line: int, values: Mapping[str, str]) -> Action:
    if 'instruction' not in values:
        raise TableError(f'{where}: the instruction is empty')
    seen = instant(where, values)
    if seen is None:
        raise TableError(f'{where}: no stamp or time_s, when to look at the table')
    return Action(
        line,
        values.get('episode', ''),
        values['instruction'],
        seen,
        _pose(where, values, 'pick_'),
        _pose(where, values, 'place_'),
        float(number(where, values, 'reward')) if 'reward' in values else None,
        instant(where, values, 'end_'),
    )


def _pose(where: str, values: Mapping[str, str], prefix: str) -> Matrix | Instant:
    """A pose, or the moment at which the tool has it."""
    moment = instant(where, values, prefix)
    numbers = [prefix + name for name in (*_POSITION, 'yaw_deg', *_QUATERNION)]
    given = [name for name in numbers if name in values]
    if moment is not None:
        if given:
            raise TableError(f'{where}: both {", ".join(given)} and a {prefix}stamp')
        return moment
    position = [float(number(where, values, prefix + name)) for name in _POSITION]
    if any(prefix + name in values for name in _QUATERNION):
        if prefix + 'yaw_deg' in values:
            raise TableError(f'{where}: both {prefix}yaw_deg and a quaternion')
        turn = [float(number(where, values, prefix + name)) for name in _QUATERNION]
    else:
        yaw = values.get(prefix + 'yaw_deg', '0')
        half = np.deg2rad(float(number(where, {'yaw_deg': yaw}, 'yaw_deg'))) / 2
        turn = [0.0, 0.0, float(np.sin(half)), float(np.cos(half))]
    try:
        return matrix_from_quaternion(turn, position)
    except ValueError as error:
        raise TableError(f'{where}: {prefix}pose: {error}') from error
