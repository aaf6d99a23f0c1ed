"""Flat shapes with upright sides, as meshes: cut out of a board, as toys and cookies are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlm_nodes.simulation.shapes import Mesh

Polygon = NDArray[np.float64]

CIRCLE_SIDES: Final = 28


def rectangle(x0: float, y0: float, x1: float, y1: float) -> Polygon:
    """(4, 2) between two corners."""
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def regular(
    sides: int, radius: float, turn_rad: float = 0.0, middle: tuple[float, float] = (0.0, 0.0)
) -> Polygon:
    """(sides, 2), its first corner at an angle of `turn_rad` from x."""
    angle = turn_rad + np.arange(sides) * (2 * np.pi / sides)
    return np.column_stack([np.cos(angle), np.sin(angle)]) * radius + middle


def circle(radius: float, middle: tuple[float, float] = (0.0, 0.0)) -> Polygon:
    """A circle, nearly."""
    return regular(CIRCLE_SIDES, radius, 0.0, middle)


def stroke(start: ArrayLike, end: ArrayLike, width: float) -> Polygon:
    """(4, 2) a straight line as wide as said, without caps."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    along = (b - a) / np.linalg.norm(b - a)
    side = np.array([-along[1], along[0]]) * width / 2
    return np.array([a - side, b - side, b + side, a + side])


def arc(
    outer: float, inner: float, start_rad: float, end_rad: float, pieces: int
) -> tuple[Polygon, ...]:
    """Part of a flat ring round the origin, as convex pieces."""
    angle = np.linspace(start_rad, end_rad, pieces + 1)
    rim = np.column_stack([np.cos(angle), np.sin(angle)])
    return tuple(
        np.array([rim[i] * inner, rim[i] * outer, rim[i + 1] * outer, rim[i + 1] * inner])
        for i in range(pieces)
    )


def prism(name: str, polygons: Sequence[Polygon], height_m: float) -> Mesh:
    """A board cut along convex polygons, which may overlap; its middle height is z = 0.

    Args:
        name: of the mesh.
        polygons: (N, 2) metres each, convex, anticlockwise.
        height_m: thickness.
    """
    vertices: list[NDArray[np.float64]] = []
    faces: list[tuple[int, int, int]] = []
    first = 0
    for polygon in polygons:
        n = len(polygon)
        for z in (-height_m / 2, height_m / 2):
            vertices.append(np.column_stack([polygon, np.full(n, z)]))
        bottom, top = first, first + n
        for i in range(1, n - 1):
            faces.append((bottom, bottom + i + 1, bottom + i))
            faces.append((top, top + i, top + i + 1))
        for i in range(n):
            j = (i + 1) % n
            faces.append((bottom + i, bottom + j, top + j))
            faces.append((bottom + i, top + j, top + i))
        first += 2 * n
    return Mesh(name, np.vstack(vertices), np.array(faces, np.int32))
