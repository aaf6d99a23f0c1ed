"""Rooms from seeds: everything in them follows from the seed, which names a room for good."""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation import vocabulary
from vlm_nodes.simulation.looks import (
    TEST_HUES,
    TRAIN_HUES,
    Hues,
    jittered,
    random_lights,
    random_surface,
)
from vlm_nodes.simulation.paths import distance_to_tour
from vlm_nodes.simulation.room import Room, Table, Thing
from vlm_nodes.simulation.shapes import SIZE_RANGE_M

OBJECT_GAP_M: Final = 0.08
TOUR_GAP_M: Final = 0.35
TABLE_OVERHANG_M: Final = 0.02
PLACING_TRIES: Final = 200


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
        floor=random_surface(rng, hues, (0.25, 0.85)),
        walls=random_surface(rng, hues, (0.55, 0.98)),
        ambient=float(rng.uniform(0.30, 0.55)),
        tables=(),
        things=(),
        lights=random_lights(rng, half_extents),
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
        rgb=jittered(rng, vocabulary.COLOUR_RGB[colour]),
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
    hues: Hues,
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
    hues: Hues,
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
        surface=random_surface(rng, hues, (0.3, 0.8)),
    )


def _table_fits(table: Table, others: list[Table], half_extents: tuple[float, float]) -> bool:
    if distance_to_tour(half_extents, table.centre, table.half_extents) < TOUR_GAP_M:
        return False
    for other in others:
        gap = np.abs(np.array(table.centre) - other.centre)
        if np.all(gap < np.array(table.half_extents) + other.half_extents + 0.5):
            return False
    return True
