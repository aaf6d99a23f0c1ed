import dataclasses
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_nodes.simulation.paths import TOUR_RADIUS
from vlm_nodes.simulation.vocabulary import TEST_SEEDS, TRAIN_SEEDS, held_out, pairs
from vlm_nodes.simulation.worlds import find_place, make_room

any_seed = st.one_of(
    st.integers(TRAIN_SEEDS.start, TRAIN_SEEDS.stop - 1),
    st.integers(TEST_SEEDS.start, TEST_SEEDS.stop - 1),
)


def test_a_seed_names_one_room():
    assert make_room(3) == make_room(3)
    assert make_room(3) != make_room(4)


@given(st.integers(TRAIN_SEEDS.start, TRAIN_SEEDS.stop - 1))
@settings(max_examples=60, deadline=None)
def test_training_rooms_never_hold_an_unseen_pair(seed):
    assert not any(held_out(thing.colour, thing.kind) for thing in make_room(seed).things)


def test_test_rooms_hold_every_pair_seen_and_unseen():
    things = [thing for seed in TEST_SEEDS[:150] for thing in make_room(seed).things]
    assert {(thing.colour, thing.kind) for thing in things} == set(pairs())
    unseen = np.mean([held_out(thing.colour, thing.kind) for thing in things])
    assert 0.3 < unseen < 0.5


def test_training_rooms_show_every_seen_pair():
    shown = {(t.colour, t.kind) for seed in TRAIN_SEEDS[:150] for t in make_room(seed).things}
    assert shown == set(pairs(unseen=False))


@given(any_seed)
@settings(max_examples=60, deadline=None)
def test_things_are_inside_apart_and_on_something(seed):
    room = make_room(seed)
    assert 4 <= len(room.things) <= 10
    assert len({thing.label for thing in room.things}) == len(room.things)
    heights = {'floor': 0.0} | {table.name: table.height_m for table in room.tables}
    for thing in room.things:
        low, high = thing.box()
        assert np.all(np.abs([low[:2], high[:2]]) <= room.half_extents)
        assert high[2] < room.height_m
        assert thing.position[2] == heights[thing.support]
    for one, other in combinations(room.things, 2):
        gap = np.hypot(*np.subtract(one.position, other.position)[:2])
        assert gap > one.radius_m() + other.radius_m()


@given(any_seed)
@settings(max_examples=60, deadline=None)
def test_tables_stand_clear_of_the_tour_the_walls_and_things_on_the_floor(seed):
    room = make_room(seed)
    angle = np.linspace(0, 2 * np.pi, 200)
    tour = TOUR_RADIUS * np.column_stack([np.cos(angle), np.sin(angle)]) * room.half_extents
    assert 1 <= len(room.tables) <= 3
    for table in room.tables:
        assert np.all(np.abs(table.centre) + table.half_extents <= np.add(room.half_extents, 1e-9))
        outside = np.maximum(np.abs(tour - table.centre) - table.half_extents, 0)
        assert np.hypot(*outside.T).min() > 0.3
        for thing in room.things:
            if thing.support == 'floor':
                outside = np.abs(np.subtract(thing.position[:2], table.centre)) - table.half_extents
                assert np.hypot(*np.maximum(outside, 0)) > thing.radius_m()


def test_things_are_moved_to_free_places():
    room = make_room(TEST_SEEDS[0])
    thing = room.things[0]
    place = find_place(room, thing, np.random.default_rng(0))
    assert place is not None
    assert place.position != thing.position
    assert (
        dataclasses.replace(
            place, position=thing.position, yaw_rad=thing.yaw_rad, support=thing.support
        )
        == thing
    )
    for other in room.with_thing(place).things:
        if other.name != place.name:
            gap = np.hypot(*np.subtract(place.position, other.position)[:2])
            assert gap > place.radius_m() + other.radius_m()


@pytest.mark.parametrize('seed', [-1, TEST_SEEDS.stop])
def test_a_seed_out_of_range_is_named(seed):
    with pytest.raises(ValueError, match=f'seed {seed} is neither'):
        make_room(seed)


def test_an_unknown_name_is_answered_with_the_names_there_are():
    room = make_room(0)
    with pytest.raises(KeyError, match=room.things[0].name):
        room.thing('pink_elephant')


def test_a_room_refuses_things_on_a_missing_table():
    room = make_room(0)
    floating = dataclasses.replace(room.things[0], support='table_9')
    with pytest.raises(ValueError, match='table_9'):
        room.with_thing(floating)
