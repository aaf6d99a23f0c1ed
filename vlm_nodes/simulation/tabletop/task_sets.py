"""Sets of tasks to train one policy on, as published, by their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vlm_nodes.simulation.tabletop.registry import FAMILIES
from vlm_nodes.simulation.tabletop.task import check_mode

ALL_LANGUAGE: Final = 'multi-language-conditioned'
_ATTRIBUTE: Final = 'multi-attr-'


@dataclass(frozen=True)
class TaskSet:
    """Tasks of one mode.

    Attributes:
        name: of the set.
        tasks: full names.
        main_task: the task that half of the training samples are of; None where all count alike.
    """

    name: str
    tasks: tuple[str, ...]
    main_task: str | None = None


def task_set_names() -> tuple[str, ...]:
    """Names of all sets: all tasks, and for each task the rest with what may be seen of it."""
    return (ALL_LANGUAGE, *(f'{_ATTRIBUTE}{_held_out_name(family)}' for family in FAMILIES))


def task_set(name: str, mode: str) -> TaskSet:
    """The tasks of a set in a mode.

    'multi-language-conditioned' trains on what may be seen of every task, and validates and tests
    on every task, seen and unseen. 'multi-attr-TASK' trains on all colours and things of all other
    tasks, but on the seen ones of its own, and validates and tests on its unseen ones: does what
    was learned of a colour in other tasks help in this one?

    Raises:
        ValueError: there is no such set or mode.
    """
    check_mode(mode)
    if name == ALL_LANGUAGE:
        return TaskSet(name, _all_tasks(mode))
    for family in FAMILIES:
        if name == f'{_ATTRIBUTE}{_held_out_name(family)}':
            return _held_out(name, family, mode)
    raise ValueError(f'no set of tasks {name!r}; the sets are: {", ".join(task_set_names())}')


def _all_tasks(mode: str) -> tuple[str, ...]:
    if mode == 'train':
        return tuple(_held_out_name(family) for family in FAMILIES)
    return tuple(
        FAMILIES[family].full_names[split]
        for family in FAMILIES
        for split in _tested_splits(family)
    )


def _held_out(name: str, family: str, mode: str) -> TaskSet:
    if mode != 'train':
        return TaskSet(name, (_held_out_name(family),))
    others = tuple(_widest_name(other) for other in FAMILIES if other != family)
    if family in ('align-rope', 'packing-shapes'):
        return TaskSet(name, others)
    own = FAMILIES[family].full_names['seen']
    return TaskSet(name, (own, *others), own)


def _tested_splits(family: str) -> tuple[str, ...]:
    splits = FAMILIES[family].full_names
    if family == 'packing-shapes':
        return ('unseen',)
    return tuple(split for split in splits if split != 'full') or tuple(splits)


def _held_out_name(family: str) -> str:
    """The form whose training shows what is seen, and whose test what is not."""
    names = FAMILIES[family].full_names
    return names.get('unseen') or next(iter(names.values()))


def _widest_name(family: str) -> str:
    """The form that shows most; of the packing tasks, what is published."""
    names = FAMILIES[family].full_names
    if family == 'packing-shapes':
        return names['unseen']
    return names.get('full') or names['seen']
