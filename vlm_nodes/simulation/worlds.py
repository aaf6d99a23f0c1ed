"""Rooms from seeds: what stands where, in which colour and light. Plain data, no renderer.

The map frame of a room has its origin in the middle of the floor, z up, metres. Everything
follows from the seed, so that a seed names a room for good.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation import vocabulary
from vlm_nodes.simulation.paths import distance_to_tour
from vlm_nodes.simulation.shapes import SIZE_RANGE_M, bounds

Rgb = tuple[float, float, float]
Point = tuple[float, float, float]

OBJECT_GAP_M: Final = 0.08
TOUR_GAP_M: Final = 0.35
TABLE_OVERHANG_M: Final = 0.02
PLACING_TRIES: Final = 200

# Hues of floors, walls and tables. Those of the training rooms and of the test rooms do not meet.
TRAIN_HUES: Final = ((0.02, 0.11), (0.28, 0.36), (0.50, 0.58))
TEST_HUES: Final = ((0.12, 0.18), (0.40, 0.48), (0.62, 0.72))


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

    def with_thing(self, thing: Thing) -> 'Room':
        """The room with the object of the same name replaced."""
        self.thing(thing.name)
        things = tuple(thing if t.name == thing.name else t for t in self.things)
        return replace(self, things=things)


def make_room(seed: int) -> Room:
    """The room of a seed.

    Rooms of `vocabulary.TRAIN_SEEDS` hold only pairs that are not held out. Rooms of
    `vocabulary.TEST_SEEDS` hold both, and take their floors and walls from other hues.

    Raises:
        ValueError: if the seed is in neither range.
    """
    is_test = seed in vocabulary.TEST_SEEDS
    if not is_test and seed not in vocabulary.TRAIN_SEEDS:
        raise ValueError(
            f'seed {seed} is neither a training seed {vocabulary.TRAIN_SEEDS} '
            f'nor a test seed {vocabulary.TEST_SEEDS}'
        )
    rng = np.random.default_rng([seed, 20])
    hues = TEST_HUES if is_test else TRAIN_HUES
    half_extents = (float(rng.uniform(2.0, 3.0)), float(rng.uniform(2.0, 3.0)))
    empty = Room(
        seed=seed,
        half_extents=half_extents,
        height_m=float(rng.uniform(2.3, 2.9)),
        floor=_surface(rng, hues, (0.25, 0.85)),
        walls=_surface(rng, hues, (0.55, 0.98)),
        ambient=float(rng.uniform(0.30, 0.55)),
        tables=(),
        things=(),
        lights=_lights(rng, half_extents),
    )
    room = replace(empty, tables=_tables(rng, half_extents, hues))
    return _furnish(room, rng, unseen_share=0.4 if is_test else 0.0)


def find_place(room: Room, thing: Thing, rng: np.random.Generator) -> Thing | None:
    """The thing at a random free place on the floor or on a table; None if none was found.

    Things of the same name already in the room are not in the way, so that this moves them as well.
    """
    others = [other for other in room.things if other.name != thing.name]
    for _ in range(PLACING_TRIES):
        moved = _random_place(room, thing, rng)
        if moved is not None and _is_free(room, moved, others):
            return moved
    return None


def _furnish(room: Room, rng: np.random.Generator, unseen_share: float) -> Room:
    seen, unseen = vocabulary.pairs(unseen=False), vocabulary.pairs(unseen=True)
    count = int(rng.integers(6, 11))
    unseen_count = int(rng.binomial(count, unseen_share))
    chosen = [
        *(seen[i] for i in rng.choice(len(seen), count - unseen_count, replace=False)),
        *(unseen[i] for i in rng.choice(len(unseen), unseen_count, replace=False)),
    ]
    for colour, kind in chosen:
        placed = find_place(room, _thing(rng, colour, kind), rng)
        if placed is not None:
            room = replace(room, things=(*room.things, placed))
    return room


def _thing(rng: np.random.Generator, colour: str, kind: str) -> Thing:
    return Thing(
        name=f'{colour}_{kind}',
        colour=colour,
        kind=kind,
        position=(0.0, 0.0, 0.0),
        yaw_rad=float(rng.uniform(-np.pi, np.pi)),
        scale_m=float(rng.uniform(*SIZE_RANGE_M[kind])),
        rgb=_jittered(rng, vocabulary.COLOUR_RGB[colour]),
        shininess=float(rng.uniform(0.0, 0.6)),
        support='floor',
    )


def _random_place(room: Room, thing: Thing, rng: np.random.Generator) -> Thing | None:
    """The thing on a random support with a random yaw; None if it is too large for the support."""
    table = room.tables[rng.integers(len(room.tables))] if rng.random() < 0.4 else None
    margin = thing.radius_m() + OBJECT_GAP_M / 2
    high = np.array(room.half_extents) - margin
    low = -high
    if table is not None:
        # What is wider than the table may hang over its edges, but not into a wall.
        reach = np.array(table.half_extents) - min(thing.radius_m(), 0.30) - TABLE_OVERHANG_M
        low = np.maximum(low, table.centre - reach)
        high = np.minimum(high, table.centre + reach)
    if np.any(high <= low):
        return None
    x, y = rng.uniform(low, high)
    return replace(
        thing,
        position=(float(x), float(y), table.height_m if table else 0.0),
        yaw_rad=float(rng.uniform(-np.pi, np.pi)),
        support=table.name if table else 'floor',
    )


def _is_free(room: Room, thing: Thing, others: list[Thing]) -> bool:
    centre, radius = np.array(thing.position[:2]), thing.radius_m()
    for other in others:
        gap = np.hypot(*(centre - other.position[:2])) - radius - other.radius_m()
        if gap < OBJECT_GAP_M:
            return False
    if thing.support != 'floor':
        return True
    return all(_distance_to_table(centre, table) > radius for table in room.tables)


def _distance_to_table(point: NDArray[np.float64], table: Table) -> float:
    outside = np.abs(point - table.centre) - table.half_extents
    return float(np.hypot(*np.maximum(outside, 0.0)))


def _tables(
    rng: np.random.Generator,
    half_extents: tuple[float, float],
    hues: tuple[tuple[float, float], ...],
) -> tuple[Table, ...]:
    """One to three tables in the middle or along the walls, clear of a mapping camera's tour."""
    wanted, tables = int(rng.integers(1, 4)), list[Table]()
    for _ in range(PLACING_TRIES):
        if len(tables) == wanted:
            break
        table = _table(rng, half_extents, hues, f'table_{len(tables)}')
        if _table_fits(table, tables, half_extents):
            tables.append(table)
    return tuple(tables)


def _table(
    rng: np.random.Generator,
    half_extents: tuple[float, float],
    hues: tuple[tuple[float, float], ...],
    name: str,
) -> Table:
    half = np.array([rng.uniform(0.40, 0.75), rng.uniform(0.30, 0.42)])
    if rng.random() < 0.5:
        half = half[::-1]
    room_for = np.array(half_extents) - half
    centre = rng.uniform(-0.15, 0.15, 2)
    if rng.random() < 0.75:
        # Against a wall: one coordinate at its end, the other anywhere.
        centre = rng.uniform(-room_for, room_for)
        along = int(rng.integers(2))
        centre[along] = np.sign(centre[along]) * room_for[along]
    return Table(
        name=name,
        centre=(float(centre[0]), float(centre[1])),
        half_extents=(float(half[0]), float(half[1])),
        height_m=float(rng.uniform(0.42, 0.72)),
        surface=_surface(rng, hues, (0.3, 0.8)),
    )


def _table_fits(table: Table, others: list[Table], half_extents: tuple[float, float]) -> bool:
    if distance_to_tour(half_extents, table.centre, table.half_extents) < TOUR_GAP_M:
        return False
    for other in others:
        gap = np.abs(np.array(table.centre) - other.centre)
        if np.all(gap < np.array(table.half_extents) + other.half_extents + 0.5):
            return False
    return True


def _lights(rng: np.random.Generator, half_extents: tuple[float, float]) -> tuple[Light, ...]:
    """One lamp that casts shadows, and weak ones opposite that give form to what is in them."""
    azimuth, total = rng.uniform(-np.pi, np.pi), rng.uniform(0.55, 0.85)
    share = rng.uniform(0.2, 0.4)
    lights = [_light(rng, half_extents, azimuth, total * (1 - share), casts_shadow=True)]
    for _ in range(fills := int(rng.integers(1, 3))):
        side = azimuth + np.pi + rng.uniform(-1.2, 1.2)
        lights.append(_light(rng, half_extents, side, total * share / fills, casts_shadow=False))
    return tuple(lights)


def _light(
    rng: np.random.Generator,
    half_extents: tuple[float, float],
    azimuth_rad: float,
    strength: float,
    casts_shadow: bool,
) -> Light:
    reach = rng.uniform(0.3, 1.0) if casts_shadow else rng.uniform(1.0, 1.6)
    x = half_extents[0] * reach * np.cos(azimuth_rad)
    y = half_extents[1] * reach * np.sin(azimuth_rad)
    warmth = rng.uniform(-0.06, 0.06)
    rgb = strength * np.array([1 + warmth, 1.0, 1 - warmth])
    return Light(
        position=(float(x), float(y), 4.0),
        direction=(float(-x), float(-y), -4.0 if casts_shadow else -2.5),
        strength=(float(rgb[0]), float(rgb[1]), float(rgb[2])),
        casts_shadow=casts_shadow,
    )


def _surface(
    rng: np.random.Generator,
    hues: tuple[tuple[float, float], ...],
    brightness: tuple[float, float],
) -> Surface:
    patterns: tuple[Literal['plain', 'tiles', 'planks', 'speckle'], ...] = (
        'plain', 'tiles', 'planks', 'speckle',
    )  # fmt: skip
    hue = rng.uniform(*hues[rng.integers(len(hues))])
    saturation, value = rng.uniform(0.0, 0.30), rng.uniform(*brightness)
    contrast = rng.uniform(0.75, 0.95)
    first = _rgb_from_hsv(hue, saturation, value)
    second = _rgb_from_hsv(hue, min(1.0, saturation * rng.uniform(0.7, 1.3)), value * contrast)
    return Surface(
        pattern=patterns[rng.integers(len(patterns))],
        first=first,
        second=second,
        repeat_per_m=float(rng.uniform(0.6, 2.0)),
        seed=int(rng.integers(2**31)),
    )


def _jittered(rng: np.random.Generator, rgb: Rgb) -> Rgb:
    brightness = rng.uniform(0.85, 1.12)
    shifted = np.clip(np.array(rgb) * brightness + rng.normal(0.0, 0.018, 3), 0.0, 1.0)
    return float(shifted[0]), float(shifted[1]), float(shifted[2])


def _rgb_from_hsv(hue: float, saturation: float, value: float) -> Rgb:
    channel = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    rgb = value - value * saturation * np.clip(np.minimum(channel, 4 - channel), 0, 1)
    return float(rgb[0]), float(rgb[1]), float(rgb[2])
