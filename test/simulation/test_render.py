import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from vlm_nodes.geometry import Camera
from vlm_nodes.simulation.paths import Tour, look_at
from vlm_nodes.simulation.render import Renderer
from vlm_nodes.simulation.scene import World
from vlm_nodes.simulation.vocabulary import LABEL_IDS, ROOM_LABELS, TEST_SEEDS
from vlm_nodes.simulation.worlds import make_room

CAMERA = Camera.from_fov(320, 240, np.radians(60))
ROOM = make_room(TEST_SEEDS[1])
TIMES_S = (0.0, 7.0, 13.0, 28.0)


@pytest.fixture(scope='module')
def world():
    return World(ROOM)


@pytest.fixture(scope='module')
def renderer():
    with Renderer(CAMERA.width, CAMERA.height, samples=0) as renderer:
        yield renderer


def points_of(camera, depth_m, map_from_camera):
    """(H, W, 3) map coordinates of every pixel."""
    rays = np.dstack([camera.rays(), np.ones(depth_m.shape)])
    return rays * depth_m[..., None] @ map_from_camera[:3, :3].T + map_from_camera[:3, 3]


@pytest.mark.parametrize('time_s', TIMES_S)
def test_back_projected_depth_lies_on_the_surface_of_its_label(renderer, world, time_s):
    pose = Tour(ROOM.half_extents).at(time_s).map_from_camera()
    view = renderer.render(world, CAMERA, pose)
    labels = renderer.render_labels(world, CAMERA, pose)
    points = points_of(CAMERA, view.depth_m, pose)
    assert view.rgb.shape == (240, 320, 3)
    assert (view.depth_m.dtype, labels.dtype) == (np.float32, np.uint16)
    np.testing.assert_allclose(points[labels == LABEL_IDS['floor']][:, 2], 0, atol=1e-3)
    walls = np.abs(np.abs(points[labels == LABEL_IDS['wall']][:, :2]) - ROOM.half_extents)
    assert np.all(walls.min(axis=1) < 1e-3)
    for thing in ROOM.things:
        low, high = thing.box()
        on_thing = points[labels == LABEL_IDS[thing.label]]
        assert np.all((on_thing > low - 1e-3) & (on_thing < high + 1e-3))


def test_depth_is_along_z_and_not_along_the_ray(renderer, world):
    hx, _ = ROOM.half_extents
    pose = look_at((0, 0, 2.2), (hx, 0, 2.2))
    depth = renderer.render(world, CAMERA, pose).depth_m
    labels = renderer.render_labels(world, CAMERA, pose)
    facing = labels[110:130] == LABEL_IDS['wall']
    # Up to where the side walls begin.
    facing &= np.abs(CAMERA.rays()[110:130, :, 0] * hx) < 0.9 * ROOM.half_extents[1]
    assert facing.sum() > 1000
    np.testing.assert_allclose(depth[110:130][facing], hx, atol=1e-3)


def test_boxes_have_the_faces_they_should_have(renderer):
    """A box alone is seen from its front: its face is a rectangle at known depth and place."""
    thing = replace(
        next(t for t in make_room(0).things), kind='box', colour='red', name='red_box',
        position=(0.5, 0.2, 0.0), yaw_rad=0.0, scale_m=0.5, support='floor',
    )  # fmt: skip
    world = World(replace(ROOM, tables=(), things=(thing,)))
    pose = look_at((-1.0, 0.2, 0.175), (0.5, 0.2, 0.175))
    view = renderer.render(world, CAMERA, pose)
    labels = renderer.render_labels(world, CAMERA, pose)
    middle = view.depth_m[120, 160]
    assert middle == pytest.approx(1.5 - 0.46 * 0.5, abs=1e-3)
    points = points_of(CAMERA, view.depth_m, pose)
    body = points[(labels == LABEL_IDS['red box']) & (np.abs(view.depth_m - middle) < 1e-3)]
    low = body.min(axis=0)
    high = body.max(axis=0)
    pixel_m = 2 * middle / CAMERA.fx
    np.testing.assert_allclose(low[1:], (0.2 - 0.4 * 0.5, 0.0), atol=pixel_m)
    np.testing.assert_allclose(high[1:], (0.2 + 0.4 * 0.5, 0.62 * 0.5), atol=pixel_m)


def test_principal_point_and_unequal_focal_lengths_are_honoured(renderer, world):
    odd = Camera(300, 200, 280.0, 240.0, 120.0, 130.0)
    pose = Tour(ROOM.half_extents).at(9.0).map_from_camera()
    labels = renderer.render_labels(world, odd, pose)
    points = points_of(odd, renderer.render(world, odd, pose).depth_m, pose)
    floor = points[labels == LABEL_IDS['floor']]
    assert len(floor) > 1000
    np.testing.assert_allclose(floor[:, 2], 0, atol=1e-3)
    other = points_of(CAMERA, renderer.render(world, CAMERA, pose).depth_m, pose)
    uv = np.rint(CAMERA.project((points - pose[:3, 3]).reshape(-1, 3) @ pose[:3, :3])).astype(int)
    inside = np.all((uv >= 0) & (uv < (CAMERA.width, CAMERA.height)), axis=1)
    seen = other[uv[inside, 1], uv[inside, 0]]
    gaps = np.linalg.norm(seen - points.reshape(-1, 3)[inside], axis=1)
    assert np.median(gaps) < 0.01


def test_objects_have_the_colour_of_their_label(renderer, world):
    dominant = {'red': 0, 'blue': 2}
    found = 0
    for seed in TEST_SEEDS[:4]:
        world = World(make_room(seed))
        for thing in world.room.things:
            if thing.colour not in dominant:
                continue
            low, high = thing.box()
            centre = (low + high) / 2
            pose = look_at(np.add(centre, (-0.6, 0.1, 0.8)), centre)
            labels = renderer.render_labels(world, CAMERA, pose)
            rgb = renderer.render(world, CAMERA, pose).rgb[labels == LABEL_IDS[thing.label]]
            if len(rgb) > 500:
                assert np.argmax(np.median(rgb, axis=0)) == dominant[thing.colour]
                found += 1
    assert found >= 3


def test_what_is_beyond_the_walls_is_infinitely_far_and_unlabelled(renderer, world):
    pose = look_at((0, 0, 1.5), (0.5, 0, 4.0))
    depth = renderer.render(world, CAMERA, pose).depth_m
    labels = renderer.render_labels(world, CAMERA, pose)
    assert np.isinf(depth).mean() > 0.3
    np.testing.assert_array_equal(np.isinf(depth), labels == 0)


def test_moved_objects_are_seen_where_they_went(renderer):
    world = World(ROOM)
    thing = ROOM.things[0]
    pose = look_at((0.0, 0.0, 1.4), (0.9, 0.1, 0.0))
    world.place(replace(thing, position=(0.9, 0.1, 0.0), yaw_rad=0.3))
    labels = renderer.render_labels(world, CAMERA, pose) == LABEL_IDS[thing.label]
    points = points_of(CAMERA, renderer.render(world, CAMERA, pose).depth_m, pose)[labels]
    assert len(points) > 300
    low, high = world.room.thing(thing.name).box()
    np.testing.assert_allclose((low + high)[:2] / 2, (0.9, 0.1), atol=0.3)
    assert np.all((points > low - 1e-3) & (points < high + 1e-3))


def test_pictures_of_a_seed_are_the_same_again(renderer):
    pose = Tour(ROOM.half_extents).at(3.0).map_from_camera()
    first = renderer.render(World(ROOM), CAMERA, pose)
    second = renderer.render(World(make_room(ROOM.seed)), CAMERA, pose)
    np.testing.assert_array_equal(first.rgb, second.rgb)
    np.testing.assert_array_equal(first.depth_m, second.depth_m)


def test_smooth_edges_change_neither_labels_nor_surfaces(renderer, world):
    pose = Tour(ROOM.half_extents).at(7.0).map_from_camera()
    exact = renderer.render(world, CAMERA, pose)
    labels = renderer.render_labels(world, CAMERA, pose)
    with Renderer(CAMERA.width, CAMERA.height, samples=4) as smooth:
        view = smooth.render(world, CAMERA, pose)
        np.testing.assert_array_equal(smooth.render_labels(world, CAMERA, pose), labels)
    gap = np.abs(view.depth_m - exact.depth_m)
    assert np.median(gap) < 0.005
    assert np.mean(gap > 0.03) < 0.02


def test_what_cannot_be_rendered_is_refused(renderer, world):
    pose = np.eye(4)
    with pytest.raises(ValueError, match='640x480'):
        renderer.render(world, Camera.from_fov(640, 480, 1.0), pose)
    with pytest.raises(ValueError, match='distorted'):
        renderer.render(world, replace(CAMERA, distortion=(0.1, 0.0, 0.0, 0.0)), pose)
    with pytest.raises(ValueError, match='0x10'):
        Renderer(0, 10)
    closed = Renderer(16, 16)
    closed.close()
    closed.close()
    with pytest.raises(RuntimeError, match='closed'):
        closed.render(world, Camera.from_fov(16, 16, 1.0), pose)


def test_every_geom_has_a_label(world):
    assert world.label_of_geom.min() >= 1
    assert set(world.label_of_geom) == {
        *(LABEL_IDS[label] for label in ROOM_LABELS),
        *(LABEL_IDS[thing.label] for thing in ROOM.things),
    }


def test_threads_and_renderers_take_turns(renderer, world):
    pose = Tour(ROOM.half_extents).at(3.0).map_from_camera()
    expected = renderer.render(world, CAMERA, pose).rgb
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as two:
        with Renderer(64, 48) as other:
            other.render(world, Camera.from_fov(64, 48, 1.0), pose)
            for pool in (one, two, one):
                again = pool.submit(renderer.render, world, CAMERA, pose).result()
                np.testing.assert_array_equal(again.rgb, expected)
        np.testing.assert_array_equal(renderer.render(world, CAMERA, pose).rgb, expected)


def test_missing_gl_is_named_with_the_packages_it_needs():
    """No driver may be found: libglvnd is given an empty list of them."""
    program = 'from vlm_nodes.simulation.render import Renderer; Renderer(16, 16)'
    run = subprocess.run(
        [sys.executable, '-c', program],
        env={**os.environ, 'MUJOCO_GL': 'egl', '__EGL_VENDOR_LIBRARY_FILENAMES': os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode != 0
    assert 'RenderingUnavailableError' in run.stderr
    assert 'libegl1' in run.stderr
