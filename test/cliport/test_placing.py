from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vlm_nodes.cliport.heightmap import Heightmap
from vlm_nodes.cliport.placing import (
    PlacingConfig,
    UnseenError,
    held_object,
    pick_height,
    place_height,
)
from vlm_nodes.cliport.workspace import Workspace

WORKSPACE = Workspace((0.0, 0.3), (0.0, 0.4), (-0.02, 0.28), 0.0025)  # 160 rows, 120 columns


def table(*boxes: tuple[slice, slice, float]) -> Heightmap:
    """A table at 0 with boxes of a height over rows and columns."""
    height = np.zeros(WORKSPACE.shape, np.float32)
    for rows, cols, top in boxes:
        height[rows, cols] = top
    return Heightmap(
        np.zeros((*WORKSPACE.shape, 3), np.uint8),
        height,
        np.ones(WORKSPACE.shape, bool),
        WORKSPACE,
    )


def with_holes(heightmap: Heightmap, rows: slice, cols: slice) -> Heightmap:
    seen, height = heightmap.seen.copy(), heightmap.height_m.copy()
    seen[rows, cols], height[rows, cols] = False, 0
    return dataclasses.replace(heightmap, seen=seen, height_m=height)


# 10 rows by 20 columns: 2.5 cm along y, 5 cm along x, and 4 cm high.
BLOCK = (slice(40, 50), slice(30, 50), 0.04)
PICK = (45, 40)


def test_the_pick_is_the_top_of_the_block() -> None:
    assert pick_height(table(BLOCK), *PICK) == pytest.approx(0.04)


def test_the_pick_near_an_edge_is_still_the_top() -> None:
    assert pick_height(table(BLOCK), 41, 40) == pytest.approx(0.04)


def test_one_reading_that_sticks_out_is_passed_over() -> None:
    spiky = table(BLOCK, (slice(45, 46), slice(40, 41), 0.2))
    assert pick_height(spiky, *PICK) == pytest.approx(0.04)


def test_a_hole_at_the_pixel_itself_does_not_matter() -> None:
    assert pick_height(with_holes(table(BLOCK), slice(45, 46), slice(40, 41)), *PICK) == (
        pytest.approx(0.04)
    )


def test_holes_around_the_pick_refuse_and_name_the_share() -> None:
    blind = with_holes(table(BLOCK), slice(40, 50), slice(30, 50))
    with pytest.raises(UnseenError, match='only 0% of the 16 mm around the pick') as caught:
        pick_height(blind, *PICK)
    assert caught.value.share == 0
    assert caught.value.needed == 0.5
    half = with_holes(table(BLOCK), slice(40, 50), slice(40, 50))
    with pytest.raises(UnseenError) as caught:
        pick_height(half, *PICK, PlacingConfig(least_seen=0.8))
    assert 0.3 < caught.value.share < 0.6


def test_a_pick_outside_the_map_is_refused() -> None:
    with pytest.raises(ValueError, match=r'pixel \(160, 0\) is outside'):
        pick_height(table(), 160, 0)


def test_the_held_object_is_the_block() -> None:
    held = held_object(table(BLOCK), *PICK)
    assert held.height_m == pytest.approx(0.04)
    expected = np.argwhere(table(BLOCK).height_m > 0)
    np.testing.assert_array_equal(held.footprint, expected)


def test_a_block_on_a_plate_is_as_high_as_it_rises_above_it() -> None:
    plate = (slice(20, 70), slice(10, 70), 0.03)
    held = held_object(table(plate, (*BLOCK[:2], 0.07)), *PICK)
    assert held.height_m == pytest.approx(0.04)


def test_another_object_near_by_is_not_held() -> None:
    held = held_object(table(BLOCK, (slice(54, 60), slice(35, 45), 0.05)), *PICK)
    assert held.footprint[:, 0].max() == 49


def test_nothing_there_has_no_height() -> None:
    held = held_object(table(), *PICK)
    assert held.height_m == 0
    assert len(held.footprint) > 1
    assert place_height(table(), 100, 60, 0.0, held) == pytest.approx(0.0)


def test_a_place_on_the_table_is_as_high_as_the_pick() -> None:
    scene = table(BLOCK)
    held = held_object(scene, *PICK)
    assert place_height(scene, 120, 80, 0.3, held) == pytest.approx(0.04)


def test_a_place_on_another_block_is_higher_by_it() -> None:
    scene = table(BLOCK, (slice(100, 130), slice(60, 100), 0.05))
    held = held_object(scene, *PICK)
    config = PlacingConfig(clearance_m=0.002)
    assert place_height(scene, 115, 80, 0.0, held, config) == pytest.approx(0.092)


def test_what_the_turned_footprint_touches_supports_it() -> None:
    wall = (slice(100, 104), slice(40, 120), 0.1)
    scene = table(BLOCK, wall)
    held = held_object(scene, *PICK)
    # 7 rows from the wall: 5 rows reach as the block lies, 10 rows reach once it is turned.
    assert place_height(scene, 111, 80, 0.0, held) == pytest.approx(0.04)
    assert place_height(scene, 111, 80, np.pi / 2, held) == pytest.approx(0.14)


def test_a_place_over_where_it_stood_does_not_stand_on_itself() -> None:
    scene = table(BLOCK)
    held = held_object(scene, *PICK)
    assert place_height(scene, PICK[0] + 3, PICK[1] + 2, 0.0, held) == pytest.approx(0.04)


def test_a_place_in_a_bowl_is_on_its_bottom() -> None:
    rows, cols = np.indices(WORKSPACE.shape)
    away = np.hypot(rows - 110, cols - 70)
    scene = table(BLOCK)
    height = scene.height_m.copy()
    height[(away < 30) & (away > 26)] = 0.06
    height[away <= 26] = 0.005
    scene = dataclasses.replace(scene, height_m=height)
    assert place_height(scene, 110, 70, 0.5, held_object(scene, *PICK)) == pytest.approx(0.045)


def test_a_place_that_was_not_seen_refuses() -> None:
    scene = with_holes(table(BLOCK), slice(100, 130), slice(60, 100))
    held = held_object(scene, *PICK)
    with pytest.raises(UnseenError, match=r'only 0% of what would lie under .* \(115, 80\)'):
        place_height(scene, 115, 80, 0.0, held)


def test_a_footprint_half_off_the_map_refuses() -> None:
    scene = table(BLOCK)
    with pytest.raises(UnseenError, match=r'5[05]%'):
        place_height(scene, 100, 0, 0.0, held_object(scene, *PICK), PlacingConfig(least_seen=0.9))


@pytest.mark.parametrize(
    'changes',
    [
        {'patch_radius_m': 0.0},
        {'surround_radius_m': float('nan')},
        {'surround_radius_m': 0.005},
        {'pick_percentile': 101.0},
        {'least_seen': 0.0},
        {'clearance_m': -0.1},
    ],
)
def test_bad_values_are_named(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        PlacingConfig(**changes)
