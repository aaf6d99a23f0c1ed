"""Cars, trucks, people, trees and houses, each as the solids that it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from vlm_nodes.simulation.looks import jittered
from vlm_nodes.simulation.street.solids import Rgb, Solid
from vlm_nodes.simulation.vocabulary import COLOUR_RGB

KERB_M: Final = 0.15
"""Height of pavement and kerb above the road."""
GRASS_M: Final = 0.10
_STOREY_M: Final = 3.0

_DARK: Final[Rgb] = (0.07, 0.07, 0.08)
_GLASS: Final[Rgb] = (0.16, 0.20, 0.25)
_SKIN: Final[tuple[Rgb, ...]] = ((0.85, 0.65, 0.52), (0.55, 0.38, 0.27), (0.32, 0.21, 0.15))
_TRUNK: Final[Rgb] = (0.28, 0.19, 0.11)
_LEAVES: Final[tuple[Rgb, ...]] = ((0.13, 0.33, 0.09), (0.20, 0.42, 0.12), (0.32, 0.45, 0.12))
_WALLS: Final[tuple[Rgb, ...]] = (
    (0.55, 0.30, 0.22), (0.72, 0.62, 0.48), (0.58, 0.57, 0.55), (0.80, 0.77, 0.70),
    (0.42, 0.36, 0.32), (0.62, 0.52, 0.42),
)  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a thing stands.

    Attributes:
        x: metres along the street.
        y: metres to its left.
        z: metres above the road, of the thing's foot.
        yaw_rad: the way that it faces.
    """

    x: float
    y: float
    z: float = 0.0
    yaw_rad: float = 0.0


@dataclass(frozen=True)
class Thing:
    """Something that captions may speak of.

    Attributes:
        number: from 1, unique in a street; of its solids' `thing`.
        kind: one of `vocabulary.NAMED_KINDS`.
        colour: one of `simulation.vocabulary.COLOURS`.
    """

    number: int
    kind: str
    colour: str

    @property
    def text(self) -> str:
        """Such as 'a red car', 'an orange truck', 'a person in blue'."""
        if self.kind == 'person':
            return f'a person in {self.colour}'
        return f'{"an" if self.colour[0] in "aeiou" else "a"} {self.colour} {self.kind}'


def make_thing(thing: Thing, place: Place, rng: np.random.Generator) -> list[Solid]:
    """The solids of a car, a truck or a person.

    Raises:
        KeyError: the kind or the colour is not known.
    """
    rgb = jittered(rng, COLOUR_RGB[thing.colour])
    build = {'car': _car, 'truck': _truck, 'person': _person}[thing.kind]
    return build(_Builder(thing.kind, place, thing.number), rgb, rng)


class _Builder:
    """Boxes and cylinders of one thing, given in its own axes from its foot's middle."""

    def __init__(self, kind: str, place: Place, number: int = 0) -> None:
        self._kind, self._place, self._number = kind, place, number

    def box(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        z: tuple[float, float],
        rgb: Rgb,
    ) -> Solid:
        """Between lower and upper ends."""
        middle = [(low + high) / 2 for low, high in (x, y, z)]
        half = ((x[1] - x[0]) / 2, (y[1] - y[0]) / 2, (z[1] - z[0]) / 2)
        place = self._at(*middle)
        return Solid('box', self._kind, place, half, self._place.yaw_rad, rgb, self._number)

    def cylinder(self, radius: float, z: tuple[float, float], rgb: Rgb) -> Solid:
        """About the thing's own z axis."""
        half = (radius, radius, (z[1] - z[0]) / 2)
        place = self._at(0.0, 0.0, (z[0] + z[1]) / 2)
        return Solid('cylinder', self._kind, place, half, 0.0, rgb, self._number)

    def _at(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        cos, sin = np.cos(self._place.yaw_rad), np.sin(self._place.yaw_rad)
        place = self._place
        return float(place.x + cos * x - sin * y), float(place.y + sin * x + cos * y), place.z + z


def _wheels(builder: _Builder, half_length: float, half_width: float) -> list[Solid]:
    return [
        builder.box((x - 0.32, x + 0.32), (-half_width, half_width), (0.0, 0.35), _DARK)
        for x in (-0.62 * half_length, 0.62 * half_length)
    ]


def _car(builder: _Builder, rgb: Rgb, rng: np.random.Generator) -> list[Solid]:
    length, width = rng.uniform(1.95, 2.35), rng.uniform(0.85, 0.95)
    belt, top = rng.uniform(0.80, 0.95), rng.uniform(1.42, 1.70)
    front, back = rng.uniform(0.2, 0.45) * length, -rng.uniform(0.7, 0.9) * length
    return [
        builder.box((-length, length), (-width, width), (0.28, belt), rgb),
        builder.box((back, front), (-width + 0.08, width - 0.08), (belt, top - 0.06), _GLASS),
        builder.box((back, front), (-width + 0.08, width - 0.08), (top - 0.06, top), rgb),
        *_wheels(builder, length, width - 0.02),
    ]


def _truck(builder: _Builder, rgb: Rgb, rng: np.random.Generator) -> list[Solid]:
    length, width = rng.uniform(3.2, 4.4), rng.uniform(1.10, 1.25)
    top, cab = rng.uniform(2.9, 3.6), length - rng.uniform(1.5, 1.9)
    cab_top = rng.uniform(2.2, 2.7)
    return [
        builder.box((-length, cab - 0.15), (-width, width), (0.55, top), rgb),
        builder.box((cab, length), (-width + 0.05, width - 0.05), (0.45, 1.45), rgb),
        builder.box((cab, length - 0.1), (-width + 0.08, width - 0.08), (1.45, cab_top), _GLASS),
        *_wheels(builder, length, width - 0.05),
    ]


def _person(builder: _Builder, rgb: Rgb, rng: np.random.Generator) -> list[Solid]:
    height = rng.uniform(1.55, 1.90)
    legs, neck = 0.45 * height, 0.87 * height
    trousers = jittered(rng, (0.16, 0.16, 0.20))
    return [
        builder.box((-0.15, 0.15), (-0.19, 0.19), (0.0, legs), trousers),
        builder.box((-0.17, 0.17), (-0.28, 0.28), (legs, neck), rgb),
        builder.cylinder(0.12, (neck, height), _SKIN[rng.integers(len(_SKIN))]),
    ]


def make_tree(place: Place, rng: np.random.Generator) -> list[Solid]:
    """A trunk below a crown."""
    builder = _Builder('tree', place)
    trunk, radius = rng.uniform(1.6, 2.6), rng.uniform(0.9, 1.9)
    crown = (trunk, trunk + rng.uniform(1.8, 3.4))
    rgb = jittered(rng, _LEAVES[rng.integers(len(_LEAVES))])
    stem = builder.cylinder(rng.uniform(0.16, 0.26), (0.0, trunk), _TRUNK)
    if rng.random() < 0.5:
        return [stem, builder.cylinder(radius, crown, rgb)]
    side = (-0.85 * radius, 0.85 * radius)
    return [stem, builder.box(side, side, crown, rgb)]


def make_bush(place: Place, rng: np.random.Generator) -> list[Solid]:
    """A low hedge."""
    length, width, height = rng.uniform(0.6, 1.8), rng.uniform(0.35, 0.6), rng.uniform(0.6, 1.3)
    rgb = jittered(rng, _LEAVES[rng.integers(len(_LEAVES))])
    builder = _Builder('bush', place)
    return [builder.box((-length, length), (-width, width), (0.0, height), rgb)]


def make_building(
    place: Place, half_length: float, half_depth: float, rng: np.random.Generator
) -> list[Solid]:
    """A house with a band of windows around each storey."""
    rgb = jittered(rng, _WALLS[rng.integers(len(_WALLS))])
    storeys = int(rng.integers(1, 5))
    builder = _Builder('building', place)
    x, y = (-half_length, half_length), (-half_depth, half_depth)
    solids = [builder.box(x, y, (-0.3, _STOREY_M * storeys + 0.8), rgb)]
    out = (-0.02, 0.02)
    for storey in range(storeys):
        z = (_STOREY_M * storey + 1.1, _STOREY_M * storey + 2.4)
        band = ((x[0] + out[0], x[1] + out[1]), (y[0] + out[0], y[1] + out[1]), z)
        solids.append(builder.box(*band, _GLASS))
    return solids
