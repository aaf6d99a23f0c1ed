"""The brown box that things are packed into."""

from __future__ import annotations

from typing import Final

import numpy as np

from vlm_nodes.simulation.tabletop.colors import BROWN
from vlm_nodes.simulation.tabletop.layout import Layout
from vlm_nodes.simulation.tabletop.props import Piece, Pose, Prop

HEIGHT_M: Final = 0.05
WALL_M: Final = 0.002


def container(size_m: tuple[float, float], pose: Pose) -> Prop:
    """An open box; its origin is its middle."""
    x, y, z, t = size_m[0] / 2, size_m[1] / 2, HEIGHT_M / 2, WALL_M / 2
    pieces = (
        Piece('box', (x, y, t), (0.0, 0.0, -z + t)),
        *(Piece('box', (x, t, z), (0.0, side * y, 0.0)) for side in (-1, 1)),
        *(Piece('box', (t, y, z), (side * x, 0.0, 0.0)) for side in (-1, 1)),
    )
    return Prop('container', 'brown box', BROWN, pieces, pose, is_fixed=True)


def place_container(
    rng: np.random.Generator, layout: Layout, least_m: float, most_m: float
) -> tuple[Prop, tuple[float, float]]:
    """A container of random length and width somewhere on the table, and its size."""
    length, width = (float(side) for side in rng.uniform(least_m, most_m, 2))
    return container((length, width), layout.find((length, width), HEIGHT_M / 2)), (length, width)
