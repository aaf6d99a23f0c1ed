"""Three rings move from one end of a stand to the other, never a larger one on a smaller."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from vlm_nodes.simulation.room import Rgb
from vlm_nodes.simulation.tabletop.colors import BROWN, COLOR_RGB, DARK_BROWN, LIGHT_BROWN
from vlm_nodes.simulation.tabletop.goals import Goal, Item
from vlm_nodes.simulation.tabletop.layout import Layout
from vlm_nodes.simulation.tabletop.prisms import arc, prism
from vlm_nodes.simulation.tabletop.props import Piece, Pose, Prop
from vlm_nodes.simulation.tabletop.task import Setting, Variant

MAX_STEPS: Final = 14
STAND_M: Final = (0.12, 0.36, 0.01)
SIDES: Final = ('lighter brown side', 'middle of the stand', 'darker brown side')
_PITCH_M: Final = 0.12
_ROD_M: Final = (0.005, 0.05)
# Of the rings, the smallest first. The hole lets a ring lie off its rod by less than 1 cm.
_RADII_M: Final = (0.034, 0.044, 0.054)
_HOLE_M: Final = 0.013
_RING_M: Final = 0.015
_WEDGES: Final = 8


def moves(rings: int, start: int = 0, end: int = 2, spare: int = 1) -> Iterator[tuple[int, int]]:
    """The solution: (ring, rod) of each move, rings counted from the smallest."""
    if rings == 0:
        return
    yield from moves(rings - 1, start, spare, end)
    yield rings - 1, end
    yield from moves(rings - 1, spare, end, start)


def build(rng: np.random.Generator, variant: Variant) -> Setting:
    """A stand with three rods and three rings on the first of them."""
    layout = Layout(rng)
    stand = layout.find(STAND_M[:2])
    colors = [str(name) for name in rng.choice(variant.colors, len(_RADII_M), replace=False)]
    props = [_stand(stand)]
    for index, color in enumerate(colors):
        level = len(_RADII_M) - 1 - index
        z = STAND_M[2] + (level + 0.5) * _RING_M
        pose = stand.at((0.0, -_PITCH_M, z))
        props.append(_ring(f'ring_{index}', color, COLOR_RGB[color], _RADII_M[index], pose))
    plan = list(moves(len(_RADII_M)))
    goals = tuple(
        Goal(
            instruction=f'move the {colors[ring]} ring to the {SIDES[rod]}',
            items=(Item(f'ring_{ring}'),),
            targets=(stand.at((0.0, (rod - 1) * _PITCH_M, STAND_M[2] + _RING_M / 2)),),
            worth=1 / len(plan),
        )
        for ring, rod in plan
    )
    return Setting(tuple(props), goals, MAX_STEPS)


def _stand(pose: Pose) -> Prop:
    half = (STAND_M[0] / 2, _PITCH_M / 2, STAND_M[2] / 2)
    pieces = []
    for i, shade in enumerate((LIGHT_BROWN, BROWN, DARK_BROWN)):
        y = (i - 1) * _PITCH_M
        rod_z = STAND_M[2] + _ROD_M[1] / 2
        pieces.append(Piece('box', half, (0.0, y, half[2]), rgb=shade))
        pieces.append(Piece('cylinder', (_ROD_M[0], _ROD_M[1] / 2), (0.0, y, rod_z)))
    return Prop('stand', 'stand', BROWN, tuple(pieces), pose, is_fixed=True)


def _ring(name: str, color: str, rgb: Rgb, radius_m: float, pose: Pose) -> Prop:
    """A flat ring: a mesh to look at, a circle of boxes to touch."""
    mesh = prism(name, arc(radius_m, _HOLE_M, 0.0, 2 * np.pi, 24), _RING_M)
    middle, half_width = (radius_m + _HOLE_M) / 2, (radius_m - _HOLE_M) / 2
    half_length = middle * float(np.tan(np.pi / _WEDGES))
    wedges = tuple(
        Piece(
            'box',
            (half_width, half_length, _RING_M / 2),
            (middle * float(np.cos(turn)), middle * float(np.sin(turn)), 0.0),
            float(turn),
            is_visible=False,
        )
        for turn in np.arange(_WEDGES) * (2 * np.pi / _WEDGES)
    )
    look = Piece('mesh', mesh=mesh, is_solid=False)
    return Prop(name, f'{color} ring', rgb, (look, *wedges), pose)
