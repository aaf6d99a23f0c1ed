from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from tabletop_scenes import FRONT, GRAY, LEFT, MIDDLE, RIGHT, Box, cast, published_camera

from vlm_nodes.cliport.heightmap import EmptyHeightmapError, View, fuse, fuse_each
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import look_at

BOX = Box((0.45, 0.1, 0.0), (0.55, 0.2, 0.06))


def three_views(boxes: tuple[Box, ...] = (), table_z: float = 0.0) -> list[View]:
    camera = published_camera()
    return [cast(camera, look_at(eye, MIDDLE), boxes, table_z) for eye in (FRONT, LEFT, RIGHT)]


@pytest.mark.parametrize('table_z', [-0.015, 0.0, 0.1])
def test_planes_lie_at_their_height(table_z: float) -> None:
    heightmap = fuse(three_views(table_z=table_z), Workspace())
    assert heightmap.coverage > 0.97
    np.testing.assert_allclose(heightmap.height_m[heightmap.seen], table_z, atol=1e-5)
    assert (heightmap.color[heightmap.seen] == GRAY).all()
    assert (heightmap.color[~heightmap.seen] == 0).all()
    assert (heightmap.height_m[~heightmap.seen] == 0).all()


def test_a_table_with_noise_of_depth_keeps_its_points_below_zero() -> None:
    rng = np.random.default_rng(0)
    views = [
        dataclasses.replace(
            v, depth_m=(v.depth_m + rng.normal(0, 0.002, v.depth_m.shape)).astype(np.float32)
        )
        for v in three_views()
    ]
    heightmap = fuse(views, Workspace())
    assert heightmap.coverage > 0.97
    assert (heightmap.height_m < 0).any()


def test_a_box_stands_where_it_is_and_hides_no_pixel_of_its_own() -> None:
    workspace = Workspace()
    heightmap = fuse(three_views((BOX,)), workspace)
    rows, cols = np.indices(workspace.shape)
    x, y = (workspace.points(rows.ravel(), cols.ravel())[:, i].reshape(rows.shape) for i in (0, 1))
    inset = workspace.pixel_m
    on_top = (abs(x - 0.5) < 0.05 - inset) & (abs(y - 0.15) < 0.05 - inset)
    off = (abs(x - 0.5) > 0.05 + inset) | (abs(y - 0.15) > 0.05 + inset)
    top = on_top & heightmap.seen
    assert top.sum() > 0.97 * on_top.sum()
    np.testing.assert_allclose(heightmap.height_m[top], 0.06, atol=1e-5)
    assert (heightmap.color[top] == BOX.color).all()
    np.testing.assert_allclose(heightmap.height_m[off & heightmap.seen], 0.0, atol=1e-5)


def test_a_tilted_camera_from_any_side_gives_the_same_heights() -> None:
    camera = Camera(640, 480, 450.0, 450.0, 300.0, 250.0)
    for eye in ((0.5, 0.0, 0.9), (1.2, 0.4, 0.5), (-0.1, -0.6, 0.8)):
        pose = look_at(eye, (0.45, 0.05, 0.0))
        pose[:3, :3] = pose[:3, :3] @ Rotation.from_euler('z', 0.7).as_matrix()
        heightmap = fuse([cast(camera, pose, (BOX,))], Workspace())
        ((row, col),) = np.floor(Workspace().pixels([[0.5, 0.15]])).astype(int)
        patch = (slice(row - 5, row + 6), slice(col - 5, col + 6))
        assert heightmap.seen[patch].mean() > 0.5
        np.testing.assert_allclose(
            heightmap.height_m[patch][heightmap.seen[patch]], 0.06, atol=1e-5
        )


def test_a_lens_that_bends_rays_changes_nothing() -> None:
    bent = Camera(
        640, 480, 450.0, 450.0, 320.0, 240.0, 'plumb_bob', (-0.2, 0.05, 0.001, -0.001, 0.0)
    )
    heightmap = fuse([cast(bent, look_at(FRONT, MIDDLE), (BOX,))], Workspace())
    ((row, col),) = np.floor(Workspace().pixels([[0.5, 0.15]])).astype(int)
    assert heightmap.height_m[row, col] == pytest.approx(0.06, abs=1e-5)


@pytest.mark.parametrize('quarters', [1, 2, 3])
def test_a_scene_turned_by_quarters_gives_the_turned_map(quarters: int) -> None:
    workspace = Workspace((-0.25, 0.25), (-0.25, 0.25), (-0.02, 0.28), 0.0025)
    camera = published_camera()
    pose = look_at((0.5, 0.1, 0.6), (0.0, 0.0, 0.0))
    boxes = (Box((0.02, 0.05, 0.0), (0.1, 0.15, 0.05)),)
    view = cast(camera, pose, boxes)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler('z', quarters * np.pi / 2).as_matrix()
    turned = fuse([dataclasses.replace(view, table_from_camera=turn @ pose)], workspace)
    plain = fuse([view], workspace)
    # x to y is columns to rows, the way opposite to np.rot90's in rows that run downwards.
    same = np.isclose(turned.height_m, np.rot90(plain.height_m, -quarters), atol=1e-5)
    assert same.mean() > 0.995  # points within a rounding of a pixel's edge may go either way
    assert (turned.color == np.rot90(plain.color, -quarters)).all(axis=-1).mean() > 0.995


def small_view(depth_m: float, color: tuple[int, int, int], size: int = 40) -> View:
    """A camera 1 m above the table that looks straight down."""
    camera = Camera.from_fov(size, size, 0.3)
    pose = look_at((0.5, 0.0, 1.0), (0.5, 0.0, 0.0))
    rgb = np.full((size, size, 3), color, dtype=np.uint8)
    return View(rgb, np.full((size, size), depth_m, np.float32), camera, pose)


GRID = Workspace((0.4, 0.6), (-0.1, 0.1), (-0.02, 0.28), 0.02)


def test_color_is_the_mean_of_views_that_see_one_surface() -> None:
    heightmap = fuse([small_view(0.9, (100, 0, 9)), small_view(0.9, (201, 0, 9))], GRID)
    assert heightmap.coverage == 1.0
    assert (heightmap.color == (150, 0, 9)).all()


def test_a_view_of_something_underneath_gives_no_color() -> None:
    upper, lower = small_view(0.8, (10, 20, 30)), small_view(0.95, (200, 0, 0))
    for views in ([upper, lower], [lower, upper]):
        heightmap = fuse(views, GRID)
        assert (heightmap.color == (10, 20, 30)).all()
        np.testing.assert_allclose(heightmap.height_m, 0.2, atol=1e-6)


def test_within_one_view_the_highest_point_gives_the_color() -> None:
    view = small_view(0.95, (200, 0, 0))
    depth, rgb = view.depth_m.copy(), view.rgb.copy()
    depth[::2], rgb[::2] = 0.85, (0, 0, 200)
    heightmap = fuse([dataclasses.replace(view, depth_m=depth, rgb=rgb)], GRID)
    assert (heightmap.color[3:7, 3:7] == (0, 0, 200)).all()
    np.testing.assert_allclose(heightmap.height_m[3:7, 3:7], 0.15, atol=1e-6)


@pytest.mark.parametrize('nothing', [0.0, -1.0, np.nan, np.inf, -np.inf])
def test_what_is_no_reading_is_a_hole(nothing: float) -> None:
    view = small_view(0.9, (50, 60, 70))
    depth = view.depth_m.copy()
    depth[:, :20] = nothing
    heightmap = fuse([dataclasses.replace(view, depth_m=depth)], GRID)
    assert 0.3 < heightmap.coverage < 0.7
    assert (heightmap.height_m[~heightmap.seen] == 0).all()


def test_points_outside_the_bounds_are_not_seen() -> None:
    for depth_m in (0.5, 1.03):  # above and below
        with pytest.raises(EmptyHeightmapError, match='no depth within the workspace'):
            fuse([small_view(depth_m, (1, 2, 3))], GRID)


def test_an_empty_map_says_what_each_view_saw() -> None:
    blind = small_view(np.nan, (0, 0, 0))
    with pytest.raises(EmptyHeightmapError, match=r'view 0 has no reading.*view 1 saw.*z -1\.00'):
        fuse([blind, small_view(2.0, (0, 0, 0))], GRID)


def test_no_view_is_refused() -> None:
    with pytest.raises(ValueError, match='one view at least'):
        fuse([], GRID)


def test_each_view_alone() -> None:
    left, right = fuse_each([small_view(0.9, (1, 1, 1)), small_view(0.8, (2, 2, 2))], GRID)
    np.testing.assert_allclose(left.height_m, 0.1, atol=1e-6)
    np.testing.assert_allclose(right.height_m, 0.2, atol=1e-6)
    assert (left.color == 1).all()


def test_views_of_different_sizes_fuse() -> None:
    heightmap = fuse([small_view(0.9, (10, 10, 10)), small_view(0.9, (30, 30, 30), 60)], GRID)
    assert (heightmap.color == 20).all()


def test_a_view_that_does_not_fit_its_camera_is_refused() -> None:
    view = small_view(0.9, (1, 1, 1))
    with pytest.raises(ValueError, match='registered'):
        dataclasses.replace(view, depth_m=view.depth_m[:20])
    with pytest.raises(ValueError, match='colour image is'):
        dataclasses.replace(view, rgb=view.rgb[:20])
    with pytest.raises(ValueError, match='float32'):
        dataclasses.replace(view, depth_m=view.depth_m.astype(np.float64))
    singular = view.table_from_camera.copy()
    singular[:3, 2] = 0
    with pytest.raises(ValueError, match='not a rigid transform'):
        dataclasses.replace(view, table_from_camera=singular)


def test_a_heightmap_that_does_not_fit_its_workspace_is_refused() -> None:
    heightmap = fuse([small_view(0.9, (1, 1, 1))], GRID)
    with pytest.raises(ValueError, match='height_m is'):
        dataclasses.replace(heightmap, height_m=heightmap.height_m[:3])
    with pytest.raises(ValueError, match='seen is'):
        dataclasses.replace(heightmap, seen=heightmap.seen.astype(np.uint8))
