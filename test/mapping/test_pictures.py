from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_nodes.mapping.pictures import (
    MARK_COLORS,
    TopDownView,
    depth_picture,
    error_picture,
    framed,
    heat_map,
    mark_matches,
    panels,
    top_down_color,
    write_picture,
)

CORNERS = np.array([[0.05, 0.05, 0], [1.95, 0.95, 0]])


@dataclass(frozen=True)
class Found:
    label: str
    score: float
    centroid: tuple[float, float, float]
    size: tuple[float, float, float]


def view_of_two_by_one() -> TopDownView:
    return TopDownView.around(CORNERS, cell_m=0.1, picture_px=400)


def test_view_covers_the_points_in_whole_cells() -> None:
    view = view_of_two_by_one()
    assert (view.columns, view.rows, view.cell_px) == (20, 10, 20)
    assert (view.width_px, view.height_px) == (400, 200)
    assert (view.x_min, view.y_max) == pytest.approx((0, 1))


def test_x_points_right_and_y_up() -> None:
    view = view_of_two_by_one()
    assert view.pixel(0, 1) == (0, 0)
    assert view.pixel(2, 0) == (400, 200)
    colors = np.array([[255, 0, 0], [0, 255, 0]])
    picture = top_down_color(CORNERS, colors, view)
    assert tuple(picture[190, 10]) == (255, 0, 0)  # low x and y: left and bottom
    assert tuple(picture[10, 390]) == (0, 255, 0)


@given(
    st.lists(
        st.tuples(st.floats(-50, 50), st.floats(-50, 50), st.floats(-5, 5)), min_size=1, max_size=20
    ),
    st.floats(0.02, 0.5),
)
def test_cells_and_pixels_agree(points: list[tuple[float, float, float]], cell_m: float) -> None:
    view = TopDownView.around(points, cell_m, picture_px=600)
    rows, columns = view.cells(points)
    for (x, y, _), row, column in zip(points, rows, columns, strict=True):
        u, v = view.pixel(x, y)
        assert abs(u - (column + 0.5) * view.cell_px) <= view.cell_px / 2 + 1
        assert abs(v - (row + 0.5) * view.cell_px) <= view.cell_px / 2 + 1


def test_the_highest_voxel_shows() -> None:
    points = np.array([[0.05, 0.05, 1.0], [0.05, 0.05, 3.0], [0.05, 0.05, 2.0]])
    colors = np.array([[1, 1, 1], [9, 9, 9], [5, 5, 5]])
    view = TopDownView.around(points, 0.1)
    assert (top_down_color(points, colors, view) == 9).all()


def test_an_empty_map_has_a_picture() -> None:
    empty = np.empty((0, 3))
    view = TopDownView.around(empty, 0.1)
    picture = heat_map(empty, np.empty(0), view, top_down_color(empty, empty, view))
    assert framed(picture, view, 'nothing').shape[2] == 3


def test_heat_is_brightest_where_the_score_is() -> None:
    points = np.array([[0.05, 0.05, 0], [0.05, 0.05, 1], [1.95, 0.95, 0]])
    view = TopDownView.around(points, 0.1, picture_px=400)
    background = top_down_color(points, np.full((3, 3), 60), view)
    picture = heat_map(points, np.array([0.1, 0.8, 0.2]), view, background).astype(int)
    hot, cold, nothing = picture[190, 10].sum(), picture[10, 390].sum(), picture[100, 200].sum()
    assert hot > 2 * cold > nothing


def test_matches_are_boxed_where_they_are() -> None:
    view = view_of_two_by_one()
    blank = np.zeros((view.height_px, view.width_px, 3), np.uint8)
    found = [Found('mug', 0.9, (1.0, 0.5, 0), (0.4, 0.2, 0.1))]
    marked = mark_matches(blank, view, found)
    assert not blank.any()  # drawn on a copy
    assert tuple(marked[100, 160]) == MARK_COLORS[0]  # left edge of the box: x = 0.8
    assert tuple(marked[80, 200]) == MARK_COLORS[0]  # top edge: y = 0.6
    assert tuple(marked[100, 200]) == MARK_COLORS[0]  # centre


def test_labels_do_not_cover_each_other() -> None:
    view = TopDownView.around([[0, 0, 0], [4, 4, 0]], 0.05, picture_px=800)
    blank = np.zeros((view.height_px, view.width_px, 3), np.uint8)
    found = [Found(name, 0.5, (2, 2, 0), (0.2, 0.2, 0.1)) for name in ('mug', 'cup', 'pot', 'pan')]
    marked = mark_matches(blank, view, found)
    for color in MARK_COLORS[:4]:
        # Each label's frame and letters are there, not painted over by the next.
        assert (marked == color).all(axis=-1).sum() > 150


def test_labels_at_the_edge_stay_inside() -> None:
    view = view_of_two_by_one()
    blank = np.zeros((view.height_px, view.width_px, 3), np.uint8)
    found = [Found('a rather long name', 0.5, (2.0, 1.0, 0), (0.1, 0.1, 0.1))]
    marked = mark_matches(blank, view, found)
    assert marked.shape == blank.shape
    assert (marked[:, 150:] == MARK_COLORS[0]).all(axis=-1).sum() > 150


def test_frame_has_a_scale_bar_of_its_length() -> None:
    view = view_of_two_by_one()
    picture = framed(np.zeros((200, 400, 3), np.uint8), view, 'a room')
    # 0.3 of the view's 2 m, rounded down to 0.5 m, is 100 pixels long.
    bright = (picture[-44:].min(axis=2) > 200)[22]
    run = np.flatnonzero(bright[:130])
    assert run[-1] - run[0] == pytest.approx(100, abs=2)


def test_text_beyond_ascii_is_drawn() -> None:
    view = view_of_two_by_one()
    blank = np.zeros((view.height_px, view.width_px, 3), np.uint8)
    marked = mark_matches(blank, view, [Found('café ☕', 0.5, (1, 0.5, 0), (0.1, 0.1, 0.1))])
    assert marked.any()
    assert framed(blank, view, 'word ' * 60).shape[1] >= 400


def test_depth_and_errors_leave_unknown_black() -> None:
    depth = np.array([[np.nan, 1.0, 3.0]])
    near_far = depth_picture(depth, 1.0, 3.0)
    assert not near_far[0, 0].any()
    assert (near_far[0, 1] != near_far[0, 2]).any()
    errors = error_picture(np.array([[np.nan, 0.0, -0.2]]), 0.2).astype(int)
    assert errors[0, 0].sum() == 0
    assert errors[0, 2].sum() > errors[0, 1].sum()


def test_panels_stand_in_rows() -> None:
    picture = np.full((30, 40, 3), 200, np.uint8)
    sheet = panels([(str(i), picture) for i in range(5)], columns=3, height_px=60)
    assert sheet.shape[1] == 3 * (80 + 6)
    assert sheet.shape[0] > 2 * 60


def test_pictures_are_rgb_and_appear_whole(tmp_path: Path) -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    path = tmp_path / 'new' / 'red.png'
    write_picture(path, red)
    assert tuple(cv2.imread(str(path))[0, 0]) == (0, 0, 255)
    assert [p.name for p in path.parent.iterdir()] == ['red.png']


def test_bad_pictures_are_named(tmp_path: Path) -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match=r"'\.xyz' is no image format"):
        write_picture(tmp_path / 'a.xyz', picture)
    (tmp_path / 'file').touch()
    with pytest.raises(OSError, match='file'):
        write_picture(tmp_path / 'file' / 'a.png', picture)
    with pytest.raises(ValueError, match='cell_m = 0'):
        TopDownView.around([[0, 0, 0]], 0)
