"""What the arm is told to do, and which seeds are for training."""

from __future__ import annotations

from typing import Final

from vlm_nodes.simulation.vocabulary import label_of

RED_BALL: Final = label_of('red', 'ball')
BLUE_BALL: Final = label_of('blue', 'ball')
GREEN_BOX: Final = label_of('green', 'box')
BALLS: Final = (RED_BALL, BLUE_BALL)

REACH_RED: Final = f'reach the {RED_BALL}'
REACH_BLUE: Final = f'reach the {BLUE_BALL}'
PUSH: Final = f'push the {GREEN_BOX} to the left'
TASKS: Final = (REACH_RED, REACH_BLUE, PUSH)

BALL_OF_TASK: Final = {REACH_RED: RED_BALL, REACH_BLUE: BLUE_BALL}

FIRST_HELD_OUT_SEED: Final = 1_000_001
LARGEST_SEED: Final = 1_999_999


def check_task(task: str) -> str:
    """The task itself.

    Raises:
        ValueError: It is none of `TASKS`.
    """
    if task not in TASKS:
        raise ValueError(f'task is {task!r}, not one of {", ".join(map(repr, TASKS))}')
    return task


def training_seed(number: int) -> int:
    """Seed of the training scene of that number: 0, 2, 4, ... below 1000000.

    Raises:
        ValueError: There are no so many.
    """
    return _seed(2 * number, number, FIRST_HELD_OUT_SEED - 1)


def held_out_seed(number: int) -> int:
    """Seed of the held-out scene of that number: 1000001, 1000003, ...

    Raises:
        ValueError: There are no so many.
    """
    return _seed(FIRST_HELD_OUT_SEED + 2 * number, number, LARGEST_SEED + 1)


def _seed(seed: int, number: int, end: int) -> int:
    if number < 0 or seed >= end:
        raise ValueError(f'there is no scene number {number}: the last seed is {end - 1}')
    return seed
