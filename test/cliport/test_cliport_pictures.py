from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vlm_nodes.cliport.heightmap import Heightmap
from vlm_nodes.cliport.pictures import (
    PICK_COLOR,
    PLACE_COLOR,
    action_picture,
    affordance_picture,
    height_picture,
    scene_picture,
    titled,
)
from vlm_nodes.cliport.poses import PixelPose
from vlm_nodes.cliport.workspace import Workspace

WORKSPACE = Workspace((0.0, 0.5), (0.0, 1.0), (-0.02, 0.28), 0.01)  # 100 rows, 50 columns


def gray_table() -> Heightmap:
    return Heightmap(
        np.full((100, 50, 3), 90, np.uint8),
        np.zeros((100, 50), np.float32),
        np.ones((100, 50), bool),
        WORKSPACE,
    )


def test_x_runs_down_and_y_to_the_right() -> None:
    heightmap = gray_table()
    heightmap.color[80, 5] = (250, 0, 0)
    picture = scene_picture(heightmap, 2)
    assert picture.shape == (100, 200, 3)
    red = np.argwhere((picture == (250, 0, 0)).all(axis=-1))
    assert red.tolist() == [[10, 160], [10, 161], [11, 160], [11, 161]]


def test_holes_are_not_black_as_dark_things_are() -> None:
    heightmap = gray_table()
    heightmap.color[3, 4] = 0
    seen = heightmap.seen.copy()
    seen[10, 20] = False
    heightmap = dataclasses.replace(heightmap, seen=seen)
    for draw in (scene_picture, height_picture):
        picture = draw(heightmap, 1)
        assert tuple(picture[20, 10]) == (24, 28, 70)
    assert tuple(scene_picture(heightmap, 1)[4, 3]) == (0, 0, 0)


def test_what_is_higher_is_brighter() -> None:
    heightmap = gray_table()
    heightmap.height_m[:, 25:] = 0.1
    picture = height_picture(heightmap, 1).astype(int).sum(axis=-1)
    assert (picture[30:] > picture[:20].max()).all()
    unseen = dataclasses.replace(heightmap, seen=np.zeros_like(heightmap.seen))
    assert (height_picture(unseen, 1) == (24, 28, 70)).all()


@pytest.mark.parametrize('angles', [None, 4])
def test_affordances_glow_where_they_are(angles: int | None) -> None:
    p = np.full((100, 50), 1e-9)
    p[70, 10] = 1.0
    if angles:
        p = np.stack([np.zeros_like(p)] * (angles - 1) + [p])
    picture = affordance_picture(gray_table(), p, 1).astype(int).sum(axis=-1)
    assert np.unravel_index(picture.argmax(), picture.shape) == (10, 70)
    assert picture[10, 70] > 2 * picture[40, 20]


def test_affordances_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r'\(50, 100\), the heightmap \(100, 50\)'):
        affordance_picture(gray_table(), np.zeros((50, 100)))


def middle_of(picture: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return np.argwhere((picture == color).all(axis=-1)).mean(axis=0)


def test_squares_lie_on_pick_and_place() -> None:
    pick, place = PixelPose(20, 10), PixelPose(80, 35, np.pi)
    picture = action_picture(gray_table(), pick, place, scale=4)
    # The line to where x points pulls the mean of a square's outline that way: down for the
    # pick, up once the place is turned around.
    v, u = middle_of(picture, PICK_COLOR)
    assert (u, v) == (pytest.approx(82, abs=2), pytest.approx(42, abs=6))
    assert v > 42
    v, u = middle_of(picture, PLACE_COLOR)
    assert (u, v) == (pytest.approx(322, abs=2), pytest.approx(142, abs=6))
    assert v < 142


def test_a_quarter_turn_points_along_y() -> None:
    pick, place = PixelPose(50, 25, np.pi / 2), PixelPose(80, 10)
    v, u = middle_of(action_picture(gray_table(), pick, place, scale=4), PICK_COLOR)
    assert v == pytest.approx(102, abs=1)
    assert u > 202


def test_drawing_on_a_picture_leaves_it_as_it_was() -> None:
    base = scene_picture(gray_table(), 3)
    before = base.copy()
    drawn = action_picture(gray_table(), PixelPose(5, 5), PixelPose(9, 9), picture=base)
    np.testing.assert_array_equal(base, before)
    assert (drawn != base).any()


def test_a_title_stands_above_and_takes_any_letter() -> None:
    base = scene_picture(gray_table(), 3)
    picture = titled(base, 'put the red block in the grün bowl')
    assert picture.shape == (base.shape[0] + 26, base.shape[1], 3)
    np.testing.assert_array_equal(picture[26:], base)
    assert picture[:26].max() > 200
