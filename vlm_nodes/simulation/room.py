"""What a room holds, as plain data.

The map frame of a room has its origin in the middle of the floor, z up, metres.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation import vocabulary
from vlm_nodes.simulation.shapes import bounds

Rgb = tuple[float, float, float]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Surface:
    """The look of the floor, of the walls or of a table top.

    Attributes:
        pattern: 'plain', 'tiles', 'planks' or 'speckle'.
        first: main colour, RGB in [0, 1].
        second: colour of joints, of every other tile, or of the speckles.
        repeat_per_m: how often the pattern repeats in a metre.
        seed: of the random grain.
    """

    pattern: Literal['plain', 'tiles', 'planks', 'speckle']
    first: Rgb
    second: Rgb
    repeat_per_m: float
    seed: int


@dataclass(frozen=True)
class Light:
    """A lamp above the room.

    Attributes:
        position: metres, map frame.
        direction: where it shines.
        strength: diffuse RGB in [0, 1].
        casts_shadow: whether it does.
    """

    position: Point
    direction: Point
    strength: Rgb
    casts_shadow: bool


@dataclass(frozen=True)
class Table:
    """A table with its sides parallel to the walls.

    Attributes:
        name: unique in the room.
        centre: (x, y) in metres, map frame.
        half_extents: of the top in metres.
        height_m: of the top's upper face above the floor.
        surface: how the top looks.
    """

    name: str
    centre: tuple[float, float]
    half_extents: tuple[float, float]
    height_m: float
    surface: Surface


@dataclass(frozen=True)
class Thing:
    """An object of the vocabulary.

    Attributes:
        name: unique in the room, the label with an underscore ('red_mug').
        colour: one of `vocabulary.COLOURS`.
        kind: one of `vocabulary.KINDS`.
        position: middle of the object's foot, metres, map frame.
        yaw_rad: rotation about z.
        scale_m: metres per unit of the kind's shape.
        rgb: the colour of this very object.
        shininess: of its surface, in [0, 1].
        support: 'floor' or the name of a table.
    """

    name: str
    colour: str
    kind: str
    position: Point
    yaw_rad: float
    scale_m: float
    rgb: Rgb
    shininess: float
    support: str

    @property
    def label(self) -> str:
        """Its label text, such as 'red mug'."""
        return vocabulary.label_of(self.colour, self.kind)

    def box(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper corner, each (3,) metres in the map frame, of the box around it."""
        low, high = bounds(self.kind)
        middle, half = (low + high) / 2 * self.scale_m, (high - low) / 2 * self.scale_m
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        centre = np.array(self.position) + R @ middle
        return centre - np.abs(R) @ half, centre + np.abs(R) @ half

    def radius_m(self) -> float:
        """Radius of the circle around `position` that holds its footprint at any yaw."""
        low, high = bounds(self.kind)
        return float(np.hypot(*np.maximum(-low[:2], high[:2]))) * self.scale_m


@dataclass(frozen=True)
class Room:
    """A room with everything in it.

    Attributes:
        seed: what it came from.
        half_extents: (x, y) from the middle to the walls in metres.
        height_m: of the walls.
        floor: look of the floor.
        walls: look of the walls.
        ambient: light from everywhere, grey level in [0, 1].
        tables: the tables.
        things: the objects; no two have the same label.
        lights: the lamps.
    """

    seed: int
    half_extents: tuple[float, float]
    height_m: float
    floor: Surface
    walls: Surface
    ambient: float
    tables: tuple[Table, ...]
    things: tuple[Thing, ...]
    lights: tuple[Light, ...]

    def __post_init__(self) -> None:
        """Check that names are unique and supports exist."""
        names = [thing.name for thing in self.things]
        if len(set(names)) != len(names):
            raise ValueError(f'two things of one name in room {self.seed}: {sorted(names)}')
        supports = {'floor', *(table.name for table in self.tables)}
        for thing in self.things:
            if thing.support not in supports:
                raise ValueError(f'{thing.name} stands on {thing.support!r}, there is {supports}')

    def thing(self, name: str) -> Thing:
        """The object of that name.

        Raises:
            KeyError: if there is none; the message lists the names.
        """
        for thing in self.things:
            if thing.name == name:
                return thing
        raise KeyError(f'no object {name!r}; there are: {", ".join(t.name for t in self.things)}')

    def with_thing(self, thing: Thing) -> Room:
        """The room with the object of the same name replaced."""
        self.thing(thing.name)
        things = tuple(thing if t.name == thing.name else t for t in self.things)
        return replace(self, things=things)
