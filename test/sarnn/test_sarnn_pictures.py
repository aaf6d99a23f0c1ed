from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from vlm_nodes.sarnn.overlay import EXPECTED, SEEN
from vlm_nodes.sarnn.pictures import (
    joint_picture,
    keypoint_frame,
    loss_picture,
    tiled,
    write_gif,
    write_mp4,
    write_png,
)
from vlm_nodes.sarnn.plots import CURVE_COLORS, Curve, plot


def places(picture: np.ndarray, color: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels of one colour."""
    return np.nonzero((np.abs(picture.astype(int) - color) < 12).all(axis=2))


def inked(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of what is neither grey nor white."""
    return np.nonzero(np.ptp(picture.astype(int), axis=2) > 60)


def test_a_keypoint_is_drawn_where_it_is_and_where_it_is_expected() -> None:
    grey = np.full((48, 64, 3), 100, np.uint8)
    points = np.array([[0.75, 0.25]], np.float32)
    ahead = np.array([[0.1, 0.9]], np.float32)
    frame = keypoint_frame(grey, grey, [points], [ahead], '')
    height, width = 5 * 48, 5 * 64
    recorded, predicted = frame[-height:, :width], frame[-height:, -width:]
    for panel, color, place in (
        (recorded, SEEN[0], points[0]),
        (recorded, EXPECTED[0], ahead[0]),
        (predicted, EXPECTED[0], ahead[0]),
    ):
        rows, columns = places(panel, color)
        assert np.mean(columns) == pytest.approx(place[0] * width, abs=2)
        assert np.mean(rows) == pytest.approx(place[1] * height, abs=2)
    assert len(places(predicted, SEEN[0])[0]) == 0


def test_the_predicted_image_stands_beside() -> None:
    black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    frame = keypoint_frame(black, white, [], [], 'reach')
    below = frame[-256:]
    assert below[:, :256].max() == 0
    assert below[:, -256:].min() == 255


def test_a_curve_goes_up_where_its_values_do() -> None:
    x = np.arange(20.0)
    picture = plot([Curve('', x, x**2, CURVE_COLORS[0])], title='')
    rows, columns = inked(picture)
    left, right = columns < 200, columns > 400
    assert rows[left].mean() > rows[right].mean() + 100


def test_a_straight_fall_on_a_logarithmic_axis_is_a_line() -> None:
    x = np.arange(100.0)
    picture = plot([Curve('', x, 10 ** (-x / 30), CURVE_COLORS[0])], title='', log=True)
    rows, columns = inked(picture)
    slope, offset = np.polyfit(columns, rows, 1)
    assert slope > 0.1
    assert np.abs(slope * columns + offset - rows).max() < 3


@pytest.mark.parametrize('log', [False, True])
@pytest.mark.parametrize(
    'values', [[1.0], [0.0, 0.0], [np.nan, 1.0], [np.nan], [5.0, 5.0, 5.0], [1e-12, 1e9]]
)
def test_any_values_can_be_plotted(values: list[float], log: bool) -> None:
    y = np.array(values)
    picture = plot([Curve('a', np.arange(len(y)) * 1.0, y, CURVE_COLORS[0])], title='', log=log)
    assert picture.shape == (300, 480, 3)


def test_losses_and_joints_have_a_panel_each() -> None:
    history = [
        {'epoch': n, 'train/loss': 1 / (n + 1), 'val/loss': 2 / (n + 1), 'val/joints': 0.5}
        for n in range(3)
    ]
    assert loss_picture(history).shape == (240, 800, 3)
    values = np.random.default_rng(0).normal(size=(9, 3))
    picture = joint_picture(['a', 'b', 'c'], values, values[1:], values[1:], 'reach')
    assert picture.shape == (400, 840, 3)


def test_films_can_be_read_back(tmp_path: Path) -> None:
    frames = [np.full((33, 41, 3), (200, 20 * n, 30), np.uint8) for n in range(5)]
    write_gif(tmp_path / 'a.gif', frames, 10.0)
    write_mp4(tmp_path / 'a.mp4', frames, 10.0)
    gif = PillowImage.open(tmp_path / 'a.gif')
    assert gif.n_frames == 5
    assert gif.info['duration'] == 100
    gif.seek(4)
    np.testing.assert_allclose(np.asarray(gif.convert('RGB'))[5, 5], (200, 80, 30), atol=8)
    film = cv2.VideoCapture(str(tmp_path / 'a.mp4'))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    good, image = film.read()
    assert good
    np.testing.assert_allclose(image[10, 10][::-1], (200, 0, 30), atol=12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.gif', 'a.mp4']


def test_a_png_is_rgb(tmp_path: Path) -> None:
    write_png(tmp_path / 'a.png', np.full((4, 4, 3), (250, 10, 20), np.uint8))
    assert PillowImage.open(tmp_path / 'a.png').getpixel((1, 1)) == (250, 10, 20)


def test_tiles_fill_up_with_paper() -> None:
    panels = [np.full((2, 3, 3), n, np.uint8) for n in range(3)]
    assert tiled(panels, 2).shape == (4, 6, 3)
    assert (tiled(panels, 2)[2:, 3:] == 255).all()
