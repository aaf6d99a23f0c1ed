"""A pile of small cubes is pushed onto one of two coloured squares."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation.tabletop.colors import COLOR_RGB
from vlm_nodes.simulation.tabletop.goals import Goal, Item, Zone, box_points
from vlm_nodes.simulation.tabletop.layout import X_RANGE_M, Y_RANGE_M, Layout
from vlm_nodes.simulation.tabletop.props import Piece, Pose, Prop
from vlm_nodes.simulation.tabletop.task import Setting, Variant

MAX_STEPS: Final = 20
CUBES: Final = 50
CUBE_M: Final = 0.01
SQUARE_M: Final = (0.15, 0.15)
_APART_M: Final = 0.2
# Where the pile lies: this far in from the table's edge, and a square of this side.
_PILE_FROM_M: Final = (X_RANGE_M[0] + 0.15, Y_RANGE_M[0] + 0.4)
_PILE_M: Final = 0.2
# Cubes do not begin inside each other.
_SPACING_M: Final = CUBE_M * 1.45
_TOP_M: Final = 0.3
_CUBE_KG: Final = 0.001


def build(rng: np.random.Generator, variant: Variant) -> Setting:
    """Two squares and a pile, in three colours."""
    layout = Layout(rng)
    colors = [str(name) for name in rng.choice(variant.colors, 3, replace=False)]
    squares = _places(layout)
    chosen = int(rng.integers(2))
    props = [_square(f'square_{i}', colors[i], pose, i) for i, pose in enumerate(squares)]
    items = []
    for index, (x, y) in enumerate(_scatter(rng)):
        pose = Pose(float(x), float(y), CUBE_M / 2, float(rng.uniform(0, 2 * np.pi)))
        props.append(_cube(f'cube_{index}', colors[2], pose))
        items.append(Item(f'cube_{index}'))
    target = squares[chosen]
    goal = Goal(
        instruction=f'push the pile of {colors[2]} blocks into the {colors[chosen]} square',
        items=tuple(items),
        targets=(target,),
        zone=Zone(target, SQUARE_M, _TOP_M, (box_points((CUBE_M,) * 3),) * CUBES),
        one_each=False,
        turns=False,
    )
    return Setting(tuple(props), (goal,), MAX_STEPS, primitive='push')


def _places(layout: Layout) -> tuple[Pose, Pose]:
    """Of both squares; their middles lie apart."""
    first = layout.find(SQUARE_M)
    while True:
        second = layout.find(SQUARE_M)
        if np.hypot(first.x - second.x, first.y - second.y) >= _APART_M:
            return first, second


def _scatter(rng: np.random.Generator) -> NDArray[np.float64]:
    """(CUBES, 2) points, none nearer to another than two cubes are that touch corner to corner."""
    points = np.empty((0, 2))
    while len(points) < CUBES:
        point = np.array(_PILE_FROM_M) + rng.random(2) * _PILE_M
        if (np.linalg.norm(points - point, axis=1) >= _SPACING_M).all():
            points = np.vstack([points, point])
    return points


def _square(name: str, color: str, pose: Pose, level: int) -> Prop:
    """A flat sheet; each a little above the last, so that none flickers through another."""
    half_height = 0.0003
    piece = Piece(
        'box',
        (SQUARE_M[0] / 2, SQUARE_M[1] / 2, half_height),
        (0.0, 0.0, half_height * (1 + level)),
        is_solid=False,
    )
    return Prop(name, f'{color} square', COLOR_RGB[color], (piece,), pose, is_fixed=True)


def _cube(name: str, color: str, pose: Pose) -> Prop:
    half = CUBE_M / 2
    return Prop(
        name,
        f'{color} block',
        COLOR_RGB[color],
        (Piece('box', (half, half, half)),),
        pose,
        mass_kg=_CUBE_KG,
        friction=0.5,
    )
