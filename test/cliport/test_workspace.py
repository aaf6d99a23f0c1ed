from __future__ import annotations

import numpy as np
import pytest

from vlm_nodes.cliport.workspace import Workspace


def test_default_is_the_published_grid() -> None:
    assert Workspace().shape == (320, 160)


def test_pixel_centres() -> None:
    workspace = Workspace()
    np.testing.assert_allclose(
        workspace.points([0, 319], [0, 159]),
        [[0.25 + 0.0015625, -0.5 + 0.0015625], [0.75 - 0.0015625, 0.5 - 0.0015625]],
    )
    np.testing.assert_allclose(workspace.pixels(workspace.points([7], [3])), [[7.5, 3.5]])


def test_points_to_pixels_and_back_miss_by_half_a_pixel_at_most() -> None:
    workspace = Workspace()
    rng = np.random.default_rng(3)
    xyz = rng.uniform((0.25, -0.5, 0.0), (0.75, 0.5, 0.3), (5000, 3))
    pixels = np.floor(workspace.pixels(xyz))
    assert workspace.contains(pixels[:, 0], pixels[:, 1]).all()
    error_px = np.abs(workspace.points(pixels[:, 0], pixels[:, 1]) - xyz[:, :2]) / workspace.pixel_m
    assert error_px.max() <= 0.5 + 1e-9


def test_rows_run_along_y_and_columns_along_x() -> None:
    workspace = Workspace((0.0, 1.0), (0.0, 2.0), (0.0, 1.0), 0.5)
    assert workspace.shape == (4, 2)
    np.testing.assert_array_equal(np.floor(workspace.pixels([[0.6, 1.1]])), [[2, 1]])


def test_contains() -> None:
    workspace = Workspace()
    rows, cols = [0.0, 319.9, 320.0, -0.1, 5.0], [0.0, 159.9, 5.0, 5.0, 160.0]
    assert workspace.contains(rows, cols).tolist() == [True, True, False, False, False]


def test_lists_of_a_parameter_file_give_an_equal_workspace() -> None:
    assert Workspace(x_range_m=[0.25, 0.75]) == Workspace()  # type: ignore[arg-type]
    assert hash(Workspace(x_range_m=[0.25, 0.75])) == hash(Workspace())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'pixel_m': 0.0}, 'pixel_m = 0.0'),
        ({'pixel_m': float('nan')}, 'pixel_m = nan'),
        ({'x_range_m': (0.75, 0.25)}, r'x_range_m = \(0.75, 0.25\)'),
        ({'z_range_m': (0.0, float('inf'))}, 'z_range_m'),
        ({'y_range_m': (0.0, 1.0, 2.0)}, 'y_range_m'),
        ({'y_range_m': (-0.5, 0.501)}, 'spans 320.32 pixels'),
        ({'x_range_m': (0.0, 0.001)}, 'spans 0.32 pixels'),
    ],
)
def test_bad_values_are_named(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Workspace(**changes)  # type: ignore[arg-type]


def test_points_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r'\(3,\)'):
        Workspace().pixels([0.5, 0.0, 0.1])
