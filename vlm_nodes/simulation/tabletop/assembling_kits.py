"""Flat shapes go to their prints on a board, one instruction at a time."""

from __future__ import annotations

from typing import Final

import numpy as np

from vlm_nodes.simulation.tabletop.colors import BROWN, DARK
from vlm_nodes.simulation.tabletop.goals import Goal, Item
from vlm_nodes.simulation.tabletop.layout import Layout
from vlm_nodes.simulation.tabletop.outlines import OUTLINES, pieces_of
from vlm_nodes.simulation.tabletop.packing_shapes import (
    HEIGHT_M,
    PLACE_M,
    SHAPES,
    SIDE_M,
    outlines_of,
    shape,
)
from vlm_nodes.simulation.tabletop.prisms import prism
from vlm_nodes.simulation.tabletop.props import Piece, Pose, Prop
from vlm_nodes.simulation.tabletop.task import Setting, Variant

BOARD_M: Final = (0.28, 0.20, 0.005)
_SITES: Final = ((-0.09, 0.045), (0.0, 0.045), (0.09, 0.045), (-0.045, -0.045), (0.045, -0.045))
_PRINT_M: Final = 0.0006


def build(rng: np.random.Generator, variant: Variant) -> Setting:
    """A board with five prints and the five shapes that belong on them, each of its own colour."""
    layout = Layout(rng)
    board = layout.find(BOARD_M[:2])
    chosen = [int(i) for i in rng.choice(outlines_of(variant), SHAPES)]
    colors = [str(name) for name in rng.permutation(variant.colors)[:SHAPES]]
    turns = [float(turn) for turn in rng.uniform(0, 2 * np.pi, SHAPES)]
    z = BOARD_M[2] + HEIGHT_M / 2
    targets = [board.at((x, y, z), turn) for (x, y), turn in zip(_SITES, turns, strict=True)]
    props = [_board(board, chosen, turns)]
    for number, (index, color) in enumerate(zip(chosen, colors, strict=True)):
        props.append(shape(f'shape_{number}', index, color, layout.find(PLACE_M, HEIGHT_M / 2)))
    words = where_words(chosen, targets)
    goals = []
    for number in (int(i) for i in rng.permutation(SHAPES)):
        outline = OUTLINES[chosen[number]]
        name = outline.name
        goals.append(
            Goal(
                instruction=f'put the {colors[number]} {name} in the {words[number]}{name} hole',
                items=(Item(f'shape_{number}', outline.symmetry_rad),),
                targets=(targets[number],),
                worth=1 / SHAPES,
            )
        )
    return Setting(tuple(props), tuple(goals), max_steps=SHAPES)


def where_words(chosen: list[int], targets: list[Pose]) -> list[str]:
    """Tells prints of one shape apart, as seen from above with x down: 'left ', or ''."""
    words = []
    for number, here in enumerate(targets):
        twins = [
            other for i, other in enumerate(targets) if i != number and chosen[i] == chosen[number]
        ]
        words.append(_where_word(here, twins) if twins else '')
    return words


def _where_word(here: Pose, twins: list[Pose]) -> str:
    if all(abs(here.x - twin.x) > abs(here.y - twin.y) for twin in twins):
        if all(here.x < twin.x for twin in twins):
            return 'top '
        if all(here.x > twin.x for twin in twins):
            return 'bottom '
    if all(here.y < twin.y for twin in twins):
        return 'left '
    if all(here.y > twin.y for twin in twins):
        return 'right '
    return 'middle '


def _board(pose: Pose, chosen: list[int], turns: list[float]) -> Prop:
    half = (BOARD_M[0] / 2, BOARD_M[1] / 2, BOARD_M[2] / 2)
    prints = tuple(
        Piece(
            'mesh',
            position=(x, y, BOARD_M[2]),
            yaw_rad=turn,
            rgb=DARK,
            is_solid=False,
            mesh=prism(f'print_{index}', pieces_of(index, SIDE_M), _PRINT_M),
        )
        for (x, y), turn, index in zip(_SITES, turns, chosen, strict=True)
    )
    return Prop('board', 'board', BROWN, (Piece('box', half, (0, 0, half[2])), *prints), pose, True)
