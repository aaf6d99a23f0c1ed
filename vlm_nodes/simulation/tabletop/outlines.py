"""Twenty shapes with names, as convex pieces in a square of side 1, and their symmetries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from vlm_nodes.simulation.tabletop.prisms import (
    Polygon,
    arc,
    circle,
    rectangle,
    regular,
    stroke,
)

_TURN: Final = 2 * np.pi
# Of the letters' strokes.
_BAR: Final = 0.22


@dataclass(frozen=True)
class Outline:
    """A flat shape.

    Attributes:
        name: in instructions.
        is_seen: whether training shows it.
        symmetry_rad: the turn after which it looks the same; 0 if every turn does.
        draw: its convex pieces, each (N, 2), within a square of side 1 round the origin.
    """

    name: str
    is_seen: bool
    symmetry_rad: float
    draw: Callable[[], tuple[Polygon, ...]]


def _letter_r() -> tuple[Polygon, ...]:
    return (
        rectangle(-0.36, -0.5, -0.36 + _BAR, 0.5),
        rectangle(-0.36, 0.5 - _BAR, 0.30, 0.5),
        rectangle(-0.36, -0.08, 0.30, -0.08 + _BAR),
        rectangle(0.36 - _BAR, 0.0, 0.36, 0.44),
        stroke((-0.08, 0.0), (0.28, -0.5), _BAR * 1.05),
    )


def _letter_a() -> tuple[Polygon, ...]:
    return (
        stroke((-0.36, -0.5), (0.0, 0.5), _BAR),
        stroke((0.0, 0.5), (0.36, -0.5), _BAR),
        rectangle(-0.25, -0.25, 0.25, -0.25 + _BAR * 0.8),
    )


def _triangle() -> tuple[Polygon, ...]:
    return (regular(3, 0.55, np.pi / 2),)


def _square() -> tuple[Polygon, ...]:
    return (rectangle(-0.4, -0.4, 0.4, 0.4),)


def _plus() -> tuple[Polygon, ...]:
    return rectangle(-0.5, -0.16, 0.5, 0.16), rectangle(-0.16, -0.5, 0.16, 0.5)


def _letter_t() -> tuple[Polygon, ...]:
    return rectangle(-0.42, 0.5 - _BAR, 0.42, 0.5), rectangle(-_BAR / 2, -0.5, _BAR / 2, 0.5)


def _diamond() -> tuple[Polygon, ...]:
    return (np.array([[0.32, 0.0], [0.0, 0.5], [-0.32, 0.0], [0.0, -0.5]]),)


def _pentagon() -> tuple[Polygon, ...]:
    return (regular(5, 0.48, np.pi / 2),)


def _rectangle() -> tuple[Polygon, ...]:
    return (rectangle(-0.26, -0.5, 0.26, 0.5),)


def _flower() -> tuple[Polygon, ...]:
    petals = (circle(0.22, (0.28 * np.cos(a), 0.28 * np.sin(a))) for a in np.arange(4) * np.pi / 2)
    return (circle(0.22), *petals)


def _star() -> tuple[Polygon, ...]:
    outer = regular(5, 0.52, np.pi / 2)
    inner = regular(5, 0.22, np.pi / 2 + np.pi / 5)
    points = (np.array([outer[i], inner[i], inner[i - 1]]) for i in range(5))
    return (inner, *points)


def _circle() -> tuple[Polygon, ...]:
    return (circle(0.45),)


def _letter_g() -> tuple[Polygon, ...]:
    return (
        *arc(0.5, 0.5 - _BAR, np.pi / 4, _TURN, 14),
        rectangle(0.05, -0.11, 0.5, 0.09),
    )


def _letter_v() -> tuple[Polygon, ...]:
    return stroke((-0.37, 0.5), (0.0, -0.45), _BAR), stroke((0.0, -0.45), (0.37, 0.5), _BAR)


def _letter_e() -> tuple[Polygon, ...]:
    bars = (rectangle(-0.34, y, 0.34, y + _BAR * 0.9) for y in (-0.5, -0.1, 0.3))
    return (rectangle(-0.34, -0.5, -0.34 + _BAR, 0.5), *bars)


def _letter_l() -> tuple[Polygon, ...]:
    return rectangle(-0.3, -0.5, -0.3 + _BAR, 0.5), rectangle(-0.3, -0.5, 0.34, -0.5 + _BAR)


def _ring() -> tuple[Polygon, ...]:
    return arc(0.48, 0.24, 0.0, _TURN, 24)


def _hexagon() -> tuple[Polygon, ...]:
    return (regular(6, 0.48),)


def _heart() -> tuple[Polygon, ...]:
    tip = np.array([[0.0, -0.5], [0.44, 0.06], [0.0, 0.2], [-0.44, 0.06]])
    return circle(0.25, (-0.23, 0.2)), circle(0.25, (0.23, 0.2)), tip


def _letter_m() -> tuple[Polygon, ...]:
    return (
        rectangle(-0.48, -0.48, -0.48 + 0.18, 0.48),
        rectangle(0.48 - 0.18, -0.48, 0.48, 0.48),
        stroke((-0.40, 0.42), (0.0, -0.12), 0.19),
        stroke((0.0, -0.12), (0.40, 0.42), 0.19),
    )


OUTLINES: Final = (
    Outline('letter R shape', True, _TURN, _letter_r),
    Outline('letter A shape', True, _TURN, _letter_a),
    Outline('triangle', True, _TURN / 3, _triangle),
    Outline('square', True, _TURN / 4, _square),
    Outline('plus', True, _TURN / 4, _plus),
    Outline('letter T shape', True, _TURN, _letter_t),
    Outline('diamond', True, _TURN / 2, _diamond),
    Outline('pentagon', True, _TURN / 5, _pentagon),
    Outline('rectangle', True, _TURN / 2, _rectangle),
    Outline('flower', True, _TURN / 4, _flower),
    Outline('star', True, _TURN / 5, _star),
    Outline('circle', True, 0.0, _circle),
    Outline('letter G shape', True, _TURN, _letter_g),
    Outline('letter V shape', True, _TURN, _letter_v),
    Outline('letter E shape', False, _TURN, _letter_e),
    Outline('letter L shape', False, _TURN, _letter_l),
    Outline('ring', False, 0.0, _ring),
    Outline('hexagon', False, _TURN / 6, _hexagon),
    Outline('heart', False, _TURN, _heart),
    Outline('letter M shape', False, _TURN, _letter_m),
)
"""The published names; the first fourteen are shown in training."""


@cache
def pieces_of(index: int, side_m: float) -> tuple[Polygon, ...]:
    """Convex pieces of `OUTLINES[index]` in a square of some side; the box round them is centred.

    Returns:
        (N, 2) metres each.
    """
    polygons = OUTLINES[index].draw()
    if OUTLINES[index].symmetry_rad in (0.0, _TURN / 3, _TURN / 5):
        # Its middle is what it turns about.
        return tuple(polygon * side_m for polygon in polygons)
    corners = np.vstack(polygons)
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    return tuple((polygon - middle) * side_m for polygon in polygons)
