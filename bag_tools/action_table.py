"""Tables (CSV) of what was asked for, picked and placed in a recording, one action a row."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry.rigid import matrix_from_quaternion

Matrix = NDArray[np.float64]

_POSITION = ('x', 'y', 'z')
_QUATERNION = ('qx', 'qy', 'qz', 'qw')
_WHENS = ('stamp', 'time_s')
_POSE_COLUMNS = (*_POSITION, 'yaw_deg', *_QUATERNION, *_WHENS)
COLUMNS = (
    'episode',
    'instruction',
    *_WHENS,
    *(f'pick_{name}' for name in _POSE_COLUMNS),
    *(f'place_{name}' for name in _POSE_COLUMNS),
    'reward',
    'end_stamp',
    'end_time_s',
)


class ActionTableError(ValueError):
    """A table cannot be used; the text names the line and the column."""


@dataclass(frozen=True)
class Instant:
    """A moment of a recording.

    Attributes:
        nanoseconds: Since the epoch of the stamps, or since the recording's first image.
        from_start: Whether it is the latter.
    """

    nanoseconds: int
    from_start: bool = False

    def stamp_ns(self, start_ns: int) -> int:
        """The stamp, where the first image's is `start_ns`."""
        return self.nanoseconds + (start_ns if self.from_start else 0)


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
        ActionTableError: A column is unknown or lacking, a value is no number, or rows contradict.
        OSError: The file cannot be read.
    """
    with path.open(newline='', encoding='utf-8-sig') as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        names = tuple(reader.fieldnames or ())
        unknown = [name for name in names if name not in COLUMNS]
        if unknown or 'instruction' not in names:
            what = f'unknown columns {unknown}' if unknown else "no column 'instruction'"
            raise ActionTableError(f'{path}: {what}; known are {", ".join(COLUMNS)}')
        actions = []
        for row in reader:
            values = {k: v.strip() for k, v in row.items() if isinstance(v, str) and v.strip()}
            if values:
                actions.append(_action(f'{path}, line {reader.line_num}', reader.line_num, values))
    if not actions:
        raise ActionTableError(f'{path} holds no action')
    return _episodes(path, actions)


def _episodes(path: Path, actions: list[Action]) -> list[list[Action]]:
    groups: dict[str, list[Action]] = {}
    for number, action in enumerate(actions):
        # Without a name every row is an episode of its own.
        group = groups.setdefault(action.episode or f'row {number}', [])
        if group and group[-1] is not actions[number - 1]:
            raise ActionTableError(
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
        raise ActionTableError(
            f'{path}, line {last.line}: the last action of an episode needs end_stamp or '
            'end_time_s, when to look at what became of the table'
        )
    if len({action.reward is None for action in group}) > 1:
        raise ActionTableError(
            f'{path}, line {group[0].line}: rewards have to be given for all actions of an '
            'episode, or for none'
        )


def _action(where: str, line: int, values: Mapping[str, str]) -> Action:
    if 'instruction' not in values:
        raise ActionTableError(f'{where}: the instruction is empty')
    seen = _instant(where, values, '')
    if seen is None:
        raise ActionTableError(f'{where}: no stamp or time_s, when to look at the table')
    return Action(
        line,
        values.get('episode', ''),
        values['instruction'],
        seen,
        _pose(where, values, 'pick_'),
        _pose(where, values, 'place_'),
        float(_number(where, values, 'reward')) if 'reward' in values else None,
        _instant(where, values, 'end_'),
    )


def _pose(where: str, values: Mapping[str, str], prefix: str) -> Matrix | Instant:
    """A pose, or the moment at which the tool has it."""
    instant = _instant(where, values, prefix)
    numbers = [prefix + name for name in (*_POSITION, 'yaw_deg', *_QUATERNION)]
    given = [name for name in numbers if name in values]
    if instant is not None:
        if given:
            raise ActionTableError(f'{where}: both {", ".join(given)} and a {prefix}stamp')
        return instant
    position = [float(_number(where, values, prefix + name)) for name in _POSITION]
    if any(prefix + name in values for name in _QUATERNION):
        if prefix + 'yaw_deg' in values:
            raise ActionTableError(f'{where}: both {prefix}yaw_deg and a quaternion')
        turn = [float(_number(where, values, prefix + name)) for name in _QUATERNION]
    else:
        yaw = values.get(prefix + 'yaw_deg', '0')
        half = np.deg2rad(float(_number(where, {'yaw_deg': yaw}, 'yaw_deg'))) / 2
        turn = [0.0, 0.0, float(np.sin(half)), float(np.cos(half))]
    try:
        return matrix_from_quaternion(turn, position)
    except ValueError as error:
        raise ActionTableError(f'{where}: {prefix}pose: {error}') from error


def _instant(where: str, values: Mapping[str, str], prefix: str) -> Instant | None:
    names = [prefix + name for name in _WHENS if prefix + name in values]
    if len(names) > 1:
        raise ActionTableError(f'{where}: both {" and ".join(names)}')
    if not names:
        return None
    # As decimals: a float of seconds since 1970 is off by a tenth of a microsecond.
    seconds = _number(where, values, names[0])
    return Instant(round(seconds * 10**9), from_start=names[0].endswith('time_s'))


def _number(where: str, values: Mapping[str, str], name: str) -> Decimal:
    if name not in values:
        raise ActionTableError(f'{where}: no {name}')
    try:
        number = Decimal(values[name])
    except InvalidOperation:
        number = Decimal('nan')
    if not number.is_finite():
        raise ActionTableError(f'{where}: {name} = {values[name]!r} is no number')
    return number
