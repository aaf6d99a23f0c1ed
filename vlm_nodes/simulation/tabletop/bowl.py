"""A bowl: a turned solid to look at, a ring of slanted boxes on a disc to touch."""

from functools import cache
from typing import Final

import numpy as np

from vlm_nodes.simulation.room import Rgb
from vlm_nodes.simulation.shapes import Mesh, lathe
from vlm_nodes.simulation.tabletop.props import Piece, Pose, Prop

DIAMETER_M: Final = 0.12
HEIGHT_M: Final = 0.04
_RIM_M: Final = 0.058
_FOOT_M: Final = 0.040
_WALL_M: Final = 0.004
_FLOOR_M: Final = 0.004
_SIDES: Final = 16


def bowl(name: str, color: str, rgb: Rgb, pose: Pose, *, is_fixed: bool) -> Prop:
    """A bowl that stands on its origin."""
    return Prop(name, f'{color} bowl', rgb, _pieces(), pose, is_fixed)


@cache
def _pieces() -> tuple[Piece, ...]:
    look = Piece('mesh', mesh=_mesh(), is_solid=False)
    floor = Piece('cylinder', (_FOOT_M, _FLOOR_M / 2), (0, 0, _FLOOR_M / 2), is_visible=False)
    return (look, floor, *(_wall(2 * np.pi * k / _SIDES) for k in range(_SIDES)))


def _mesh() -> Mesh:
    profile = (
        (0.0, 0.0),
        (_FOOT_M, 0.0),
        (_RIM_M + _WALL_M / 2, HEIGHT_M),
        (_RIM_M - _WALL_M / 2, HEIGHT_M),
        (_FOOT_M - _WALL_M, _FLOOR_M),
        (0.0, _FLOOR_M),
    )
    return lathe('bowl', profile, segments=32)


def _wall(turn: float) -> Piece:
    """One upright side of the ring, half way between foot and rim."""
    radius = (_RIM_M + _FOOT_M) / 2
    half_width = radius * np.tan(np.pi / _SIDES)
    return Piece(
        'box',
        (_WALL_M / 2, float(half_width), HEIGHT_M / 2),
        (float(radius * np.cos(turn)), float(radius * np.sin(turn)), HEIGHT_M / 2),
        float(turn),
        is_visible=False,
    )
