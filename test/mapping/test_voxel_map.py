import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree
from voxel_scenes import (
    CAMERA,
    MUG,
    ROOM,
    SMALL,
    TABLE,
    OracleEncoder,
    direct_points,
    make_frame,
    names,
    render,
)

from vlm_nodes.geometry import Camera, RgbdFrame
from vlm_nodes.geometry.rigid import look_at
from vlm_nodes.mapping import VoxelMap, VoxelMapConfig

SCENE = [ROOM, TABLE, MUG]
ORACLE = OracleEncoder()
PLAIN = VoxelMapConfig(feature_dim=0, clear_after=0)
# Runs share one process: the first example of each test compiles.
PROPERTY = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=False
)


def flat_frame(depth, *, pose=None, camera=SMALL, rgb=None, stamp_ns=1):
    pose = np.eye(4) if pose is None else pose
    rgb = np.full((camera.height, camera.width, 3), 100, np.uint8) if rgb is None else rgb
    return RgbdFrame(stamp_ns, rgb, depth.astype(np.float32), camera, camera, pose, pose)


def by_voxel(voxel_map):
    """Contents sorted by voxel, whatever the rows' order."""
    cells = np.floor(voxel_map.exact_points() / voxel_map.config.voxel_size_m + 1e-9).astype(int)
    order = np.lexsort(cells.T)
    return (
        voxel_map.exact_points()[order],
        voxel_map.features[order],
        voxel_map.colors[order].astype(int),
        voxel_map.counts[order],
        voxel_map.first_seen_ns[order],
        voxel_map.last_seen_ns[order],
    )


def assert_same(left, right):
    assert len(left) == len(right)
    a, b = by_voxel(left), by_voxel(right)
    np.testing.assert_allclose(a[0], b[0], atol=2e-5)
    np.testing.assert_allclose(a[1], b[1], atol=2e-4)
    assert np.abs(a[2] - b[2]).max(initial=0) <= 1
    for x, y in zip(a[3:], b[3:], strict=True):
        np.testing.assert_array_equal(x, y)


# Geometry ----------------------------------------------------------------------------------------


def test_every_valid_pixel_counts():
    depth = np.full((18, 24), 2.0)
    depth[0, 0], depth[1, 1], depth[2, 2], depth[3, 3] = np.nan, 0.05, 7.0, 0.0
    voxel_map = VoxelMap(PLAIN)
    report = voxel_map.integrate(flat_frame(depth))
    assert report.points == 18 * 24 - 4
    assert voxel_map.counts.sum() == 18 * 24 - 4
    assert report.touched == report.new == report.voxels == len(voxel_map)


def test_all_nan_depth_adds_nothing():
    voxel_map = VoxelMap(PLAIN)
    report = voxel_map.integrate(flat_frame(np.full((18, 24), np.nan)))
    assert (report.points, len(voxel_map)) == (0, 0)
    assert voxel_map.points.shape == (0, 3)
    assert np.isnan(voxel_map.bounds).all()


def test_voxels_are_floored_not_truncated():
    """Cells beside zero are as wide as others: truncation toward zero would double them."""
    camera = Camera(41, 1, 40.0, 40.0, 20.0, 0.0)
    depth = np.full((1, 41), 4.0)  # x from -2 to 2 in steps of 0.1
    voxel_map = VoxelMap(replace(PLAIN, voxel_size_m=0.5))
    pose = np.eye(4)
    pose[0, 3] = 0.05
    voxel_map.integrate(flat_frame(depth, camera=camera, pose=pose))
    assert sorted(voxel_map.counts.tolist()) == [1, *[5] * 8]
    assert voxel_map.bounds[0, 0] == -2.0


def test_points_are_where_direct_back_projection_puts_them():
    voxel_map = VoxelMap(PLAIN)
    for eye in ((-1.5, 0.1, 1.3), (-1.2, 0.6, 1.2), (-1.4, -0.5, 1.5)):
        voxel_map.integrate(make_frame(SCENE, eye)[0])
    held_out = direct_points(make_frame(SCENE, (-1.3, 0.2, 1.4))[0])
    distances, _ = cKDTree(held_out).query(voxel_map.points)
    assert np.median(distances) < 0.02


def test_position_and_colour_are_weighted_means():
    """Two pixels at two depths in one voxel: compared with the formula by hand."""
    camera = Camera(2, 1, 1000.0, 1000.0, 0.5, 0.0)
    depth = np.array([[1.0, 1.04]])
    rgb = np.array([[[0, 100, 200], [100, 0, 250]]], dtype=np.uint8)
    config = replace(PLAIN, voxel_size_m=1.0, edge_jump=0.0, weight_distance_m=0.5)
    voxel_map = VoxelMap(config)
    pose = np.eye(4)
    pose[:3, 3] = 0.3
    voxel_map.integrate(flat_frame(depth, camera=camera, rgb=rgb, pose=pose))
    weights = 1 / (1 + (depth[0] / 0.5) ** 2)
    assert len(voxel_map) == 1
    assert voxel_map.points[0, 2] == pytest.approx(np.average(depth[0], weights=weights) + 0.3)
    np.testing.assert_allclose(
        voxel_map.colors[0], np.rint(np.average(rgb[0], axis=0, weights=weights)), atol=0
    )


def test_depth_edges_weigh_less_and_slopes_do_not():
    depth = np.full((18, 24), 1.0)
    depth[:, 12:] = 2.0
    slope = 1 / np.linspace(0.4, 1.0, 24)[None, :].repeat(18, axis=0)
    for image, expected in ((depth, True), (slope, False)):
        sharp, plain = VoxelMap(PLAIN), VoxelMap(replace(PLAIN, edge_jump=0.0))
        features = np.ones((1, 1, 4), np.float32)
        for voxel_map in (sharp, plain):
            voxel_map.integrate(flat_frame(image), features)
        lost = 1 - by_weight(sharp) / by_weight(plain)
        assert (lost.max() > 0.5) == expected
        assert lost.min() < 1e-3


def by_weight(voxel_map):
    return voxel_map.weights[np.lexsort(voxel_map.points.round(4).T)]


def test_weight_never_vanishes_far_away():
    voxel_map = VoxelMap(replace(PLAIN, max_depth_m=900.0, voxel_size_m=1.0))
    voxel_map.integrate(flat_frame(np.full((18, 24), 800.0)), np.ones((1, 1, 4), np.float32))
    assert (voxel_map.weights > 0).all()
    assert np.isfinite(voxel_map.features).all()


def test_a_map_frame_millions_of_metres_from_its_origin():
    near, far = VoxelMap(PLAIN), VoxelMap(PLAIN)
    shift = np.array([500_000.0, 4_500_000.0, 100.0])
    frame, _ = make_frame(SCENE)
    pose = frame.map_from_color.copy()
    pose[:3, 3] += shift
    near.integrate(frame)
    far.integrate(replace(frame, map_from_color=pose, map_from_depth=pose))
    assert len(near) == pytest.approx(len(far), rel=1e-3)
    distances, _ = cKDTree(near.exact_points()).query(far.exact_points() - shift)
    assert np.median(distances) < 1e-4


def test_a_camera_beyond_the_map_s_reach_is_refused():
    voxel_map = VoxelMap(PLAIN)
    voxel_map.integrate(make_frame(SCENE)[0])
    before = len(voxel_map)
    frame, _ = make_frame(SCENE)
    pose = frame.map_from_color.copy()
    pose[0, 3] = 60_000.0
    with pytest.raises(ValueError, match='60000'):
        voxel_map.integrate(replace(frame, map_from_color=pose, map_from_depth=pose))
    assert len(voxel_map) == before


# Features ----------------------------------------------------------------------------------------


def test_features_are_bilinear_between_patch_centres():
    """One pixel a voxel: its feature must be the textbook interpolation of unit patches."""
    camera = Camera(16, 12, 16.0, 16.0, 7.5, 5.5)
    patches = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)
    unit = patches / np.linalg.norm(patches, axis=-1, keepdims=True)
    voxel_map = VoxelMap(replace(PLAIN, voxel_size_m=0.02, edge_jump=0.0))
    pose = np.eye(4)
    pose[:3, 3] = 0.01
    voxel_map.integrate(flat_frame(np.full((12, 16), 1.0), camera=camera, pose=pose), patches)
    pixels = np.rint(camera.project(voxel_map.points - 0.01)).astype(int)
    for (u, v), feature in zip(pixels, voxel_map.features, strict=True):
        y, x = np.clip((v + 0.5) / 4 - 0.5, 0, 2), np.clip((u + 0.5) / 4 - 0.5, 0, 3)
        i, j = min(int(y), 1), min(int(x), 2)
        b, a = y - i, x - j
        expected = (1 - b) * ((1 - a) * unit[i, j] + a * unit[i, j + 1])
        expected += b * ((1 - a) * unit[i + 1, j] + a * unit[i + 1, j + 1])
        np.testing.assert_allclose(feature, expected, atol=1e-5)


def test_scaled_features_count_the_same():
    frame, labels = make_frame(SCENE)
    features = ORACLE.patches(labels, names(SCENE))
    a, b = VoxelMap(PLAIN), VoxelMap(PLAIN)
    a.integrate(frame, features)
    b.integrate(frame, features * np.float32(7.0))
    assert_same(a, b)


@pytest.mark.parametrize('grid', [(1, 1), (1, 5), (4, 1)])
def test_grids_of_one_row_or_column(grid):
    features = np.zeros((*grid, 3), np.float32)
    features[..., 1] = 1
    voxel_map = VoxelMap(PLAIN)
    voxel_map.integrate(flat_frame(np.full((18, 24), 1.5)), features)
    np.testing.assert_allclose(voxel_map.features, [[0, 1, 0]] * len(voxel_map), atol=1e-6)


def test_bad_features_are_refused_and_nothing_is_lost():
    voxel_map = VoxelMap(PLAIN)
    frame, labels = make_frame(SCENE)
    voxel_map.integrate(frame, ORACLE.patches(labels, names(SCENE)))
    before = voxel_map.features
    bad = np.full((2, 2, 64), np.nan, np.float32)
    for features, message in (
        (bad, 'not finite'),
        (np.ones((2, 2, 3), np.float32), '3 numbers'),
        (np.ones((2, 2), np.float32), r'\(2, 2\)'),
    ):
        with pytest.raises(ValueError, match=message):
            voxel_map.integrate(frame, features)
    np.testing.assert_array_equal(voxel_map.features, before)


def test_geometry_first_features_later():
    voxel_map = VoxelMap(PLAIN, encoder=ORACLE)
    frame, labels = make_frame(SCENE)
    voxel_map.integrate(frame)
    assert (voxel_map.weights == 0).all()
    assert voxel_map.query('red mug') == []
    voxel_map.integrate(frame, ORACLE.patches(labels, names(SCENE)))
    assert (voxel_map.weights > 0).all()
    assert voxel_map.query('red mug')


def test_weight_cap_follows_a_scene_that_changes():
    first, second = (np.zeros((1, 1, 2), np.float32) for _ in range(2))
    first[..., 0], second[..., 1] = 1, 1
    depth = np.full((18, 24), 1.0)
    capped, plain = VoxelMap(replace(PLAIN, max_weight=3.0)), VoxelMap(PLAIN)
    for voxel_map in (capped, plain):
        for _ in range(30):
            voxel_map.integrate(flat_frame(depth), first)
        for _ in range(30):
            voxel_map.integrate(flat_frame(depth), second)
    assert capped.weights.max() <= 3.0
    assert np.median(capped.features[:, 1]) > 0.9
    assert np.median(plain.features[:, 1]) == pytest.approx(0.5, abs=0.01)


# Invariants --------------------------------------------------------------------------------------

FRAMES = [
    (frame, ORACLE.patches(labels, names(SCENE), 6, 0.3, seed))
    for seed, (frame, labels) in enumerate(
        make_frame(SCENE, eye, camera=SMALL, stamp_ns=stamp)
        for eye, stamp in (
            ((-1.5, 0.1, 1.3), 30),
            ((-1.2, 0.6, 1.2), 10),
            ((-1.4, -0.5, 1.5), 20),
            ((0.0, 1.5, 1.5), 15),
        )
    )
]


def fused(frames, config=PLAIN):
    voxel_map = VoxelMap(config)
    for frame, features in frames:
        voxel_map.integrate(frame, features)
    return voxel_map


@PROPERTY
@given(st.permutations(FRAMES))
def test_the_order_of_frames_does_not_matter(frames):
    assert_same(fused(frames), fused(FRAMES))


@PROPERTY
@given(st.integers(0, 2**32 - 1), st.integers(2, 5))
def test_a_frame_may_be_split_in_any_way(seed, parts):
    """Each part keeps some of the pixels and hides the rest."""
    config = replace(PLAIN, edge_jump=0.0)  # hiding a neighbour hides an edge
    frame, features = FRAMES[0]
    owner = np.random.default_rng(seed).integers(parts, size=frame.depth_m.shape)
    split = [
        (replace(frame, depth_m=np.where(owner == part, frame.depth_m, np.nan)), features)
        for part in range(parts)
    ]
    assert_same(fused(split, config), fused([(frame, features)], config))


@pytest.mark.parametrize('threads', [1, 2, 3])
def test_threads_do_not_change_the_map(threads):
    assert_same(fused(FRAMES, replace(PLAIN, threads=threads)), fused(FRAMES))


@PROPERTY
@given(
    st.lists(st.integers(-2000, 2000), min_size=3, max_size=3),
    st.integers(0, 3),
    st.permutations([0, 1, 2]),
)
def test_moving_the_scene_by_whole_voxels_and_right_angles_moves_the_map(steps, turns, axes):
    rotation = np.linalg.matrix_power(np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]]), turns)
    rotation = rotation[axes]
    rotation *= np.linalg.det(rotation)  # an inversion keeps voxels as well; keep it proper
    motion = np.eye(4)
    motion[:3, :3] = rotation
    motion[:3, 3] = np.array(steps) * PLAIN.voxel_size_m
    moved = [
        (
            replace(
                frame,
                map_from_color=motion @ frame.map_from_color,
                map_from_depth=motion @ frame.map_from_depth,
            ),
            features,
        )
        for frame, features in FRAMES[:2]
    ]
    here, there = fused(FRAMES[:2]), fused(moved)
    # Points within rounding of a voxel's face may change sides.
    assert len(there) == pytest.approx(len(here), rel=0.01)
    expected = here.exact_points() @ rotation.T + motion[:3, 3]
    distances, nearest = cKDTree(expected).query(there.exact_points())
    assert np.quantile(distances, 0.98) < 1e-4
    close = distances < 1e-6
    assert np.abs(there.features[close] - here.features[nearest[close]]).max() < 1e-3


@PROPERTY
@given(st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=4))
def test_stamps_out_of_order_keep_first_and_last(stamps):
    voxel_map = VoxelMap(PLAIN)
    for stamp in stamps:
        voxel_map.integrate(flat_frame(np.full((18, 24), 1.0), stamp_ns=stamp))
    assert set(voxel_map.first_seen_ns) == {min(stamps)}
    assert set(voxel_map.last_seen_ns) == {max(stamps)}


# Two cameras -------------------------------------------------------------------------------------


def two_camera_frame(color_camera, depth_camera, baseline_m, boxes=SCENE):
    depth_pose = look_at((-1.5, 0.1, 1.3), (1.0, 0.0, 0.6))
    shift = np.eye(4)
    shift[0, 3] = baseline_m
    color_pose = depth_pose @ shift
    depth, _ = render(depth_camera, depth_pose, boxes)
    _, color_labels = render(color_camera, color_pose, boxes)
    colors = np.array([box.color for box in boxes], dtype=np.uint8)
    return RgbdFrame(
        1, colors[color_labels], depth, color_camera, depth_camera, color_pose, depth_pose
    )


@pytest.mark.parametrize(
    'color_camera',
    [
        Camera(200, 150, 150.0, 155.0, 98.0, 77.0),
        Camera(200, 150, 150.0, 155.0, 98.0, 77.0, 'plumb_bob', (-0.25, 0.07, 0.001, -0.002, 0.0)),
    ],
    ids=['pinhole', 'distorted'],
)
def test_unregistered_depth_takes_colours_from_where_they_are(color_camera):
    frame = two_camera_frame(color_camera, CAMERA, baseline_m=0.06)
    voxel_map = VoxelMap(replace(PLAIN, voxel_size_m=0.02))
    voxel_map.integrate(frame)
    points, colors = voxel_map.points, voxel_map.colors
    front = (np.abs(points[:, 0] - MUG.low[0]) < 0.015) & (points[:, 2] > MUG.low[2] + 0.03)
    front &= (points[:, 1] > MUG.low[1] + 0.03) & (points[:, 1] < MUG.high[1] - 0.03)
    assert front.sum() > 20
    assert (np.abs(colors[front].astype(int) - MUG.color).max(axis=1) < 40).mean() > 0.9
    wall = points[:, 0] > 2.4
    seen = wall & (colors.max(axis=1) > 0)
    assert (np.abs(colors[seen].astype(int) - ROOM.color).max(axis=1) < 10).mean() > 0.97


def test_what_the_colour_camera_cannot_see_gets_no_colour():
    """With a wide baseline the mug hides wall from the colour camera that depth still sees."""
    frame = two_camera_frame(CAMERA, CAMERA, baseline_m=0.4)
    voxel_map = VoxelMap(replace(PLAIN, voxel_size_m=0.02, edge_jump=0.0))
    voxel_map.integrate(frame, np.ones((3, 4, 5), np.float32))
    wall = voxel_map.points[:, 0] > 2.4
    red = voxel_map.colors[wall].astype(int)
    assert ((red[:, 0] > 150) & (red[:, 1] < 90)).mean() < 0.01
    hidden = wall & (voxel_map.weights == 0)
    assert hidden.sum() > 50  # geometry without colour or feature
    assert voxel_map.counts[hidden].min() >= 1


def test_zero_readings_hide_nothing_from_the_colour_camera():
    frame = two_camera_frame(CAMERA, CAMERA, baseline_m=0.4)
    holes = np.random.default_rng(0).random(frame.depth_m.shape) < 0.3
    maps = []
    for missing in (0.0, np.nan):
        depth = np.where(holes, np.float32(missing), frame.depth_m)
        maps.append(VoxelMap(replace(PLAIN, edge_jump=0.0)))
        maps[-1].integrate(replace(frame, depth_m=depth), np.ones((3, 4, 5), np.float32))
    assert_same(*maps)


def test_registered_frames_agree_with_the_general_path():
    frame, labels = make_frame(SCENE)
    features = ORACLE.patches(labels, names(SCENE))
    # A copy that equals the depth camera except for a name of no effect takes the general path.
    other = replace(frame, color_camera=replace(CAMERA, distortion_model=''))
    a, b = VoxelMap(PLAIN), VoxelMap(PLAIN)
    a.integrate(frame, features)
    b.integrate(other, features)
    assert_same(a, b)


# Clearing ----------------------------------------------------------------------------------------

CLEARING = VoxelMapConfig(feature_dim=0, clear_after=4)


def inside(points, box, margin=0.02):
    return ((points > np.array(box.low) - margin) & (points < np.array(box.high) + margin)).all(
        axis=1
    )


def test_a_box_that_leaves_is_forgotten_and_the_rest_stays():
    voxel_map = VoxelMap(CLEARING)
    for stamp in range(5):
        voxel_map.integrate(make_frame(SCENE, stamp_ns=stamp)[0])
    top = replace(MUG, low=(*MUG.low[:2], MUG.low[2] + 0.1))
    assert inside(voxel_map.points, top).sum() > 10
    elsewhere = ~inside(voxel_map.points, MUG, 0.06)
    kept = voxel_map.points[elsewhere]
    for stamp in range(5, 9):
        report = voxel_map.integrate(make_frame([ROOM, TABLE], stamp_ns=stamp)[0])
    assert report.cleared > 0
    assert inside(voxel_map.points, top).sum() == 0
    distances, _ = cKDTree(voxel_map.points).query(kept)
    assert (distances < 0.05).mean() > 0.999


def test_a_map_of_a_moved_box_equals_the_map_of_the_new_place_alone():
    moved = replace(MUG, low=(0.82, -0.42, 0.61), high=(1.02, -0.22, 0.86))
    voxel_map, fresh = VoxelMap(CLEARING), VoxelMap(CLEARING)
    for stamp in range(3):
        voxel_map.integrate(make_frame(SCENE, stamp_ns=stamp)[0])
    for stamp in range(6):
        for other in (voxel_map, fresh):
            other.integrate(make_frame([ROOM, TABLE, moved], stamp_ns=10 + stamp)[0])
    distances, _ = cKDTree(fresh.points).query(voxel_map.points[voxel_map.points[:, 2] > 0.75])
    gone = inside(voxel_map.points, replace(MUG, low=(*MUG.low[:2], 0.71)))
    assert gone.sum() == 0
    assert np.quantile(distances, 0.9) < 0.05


def test_static_walls_do_not_erode_at_grazing_angles():
    """200 noisy frames along a wall and over a floor, a Kinect's noise, a jittering pose."""
    rng = np.random.default_rng(3)
    voxel_map = VoxelMap(CLEARING)
    camera = Camera(80, 60, 65.0, 65.0, 39.5, 29.5)
    seen = set()
    for stamp in range(200):
        eye = (-2.2 + 0.004 * stamp, -1.75, 0.5)
        frame, _ = make_frame(SCENE, eye, (2.4, -1.9, 0.2), camera=camera, stamp_ns=stamp)
        sigma = 1.425e-3 * frame.depth_m**2
        noisy = frame.depth_m + sigma * rng.normal(size=frame.depth_m.shape).astype(np.float32)
        pose = frame.map_from_color.copy()
        pose[:3, 3] += rng.normal(scale=0.003, size=3)
        voxel_map.integrate(replace(frame, depth_m=noisy, map_from_color=pose, map_from_depth=pose))
        if stamp == 40:
            seen = voxel_map.points[voxel_map.counts > 20]
    distances, _ = cKDTree(voxel_map.points).query(seen)
    assert len(seen) > 300
    assert (distances < 0.05).mean() > 0.995


def test_what_is_hidden_or_out_of_view_is_kept():
    voxel_map = VoxelMap(CLEARING)
    for stamp in range(3):
        voxel_map.integrate(make_frame([ROOM], stamp_ns=stamp)[0])
    points = voxel_map.points
    screen = replace(TABLE, low=(-0.5, -1.9, 0.0), high=(-0.4, 1.9, 2.0))
    for stamp in range(10):
        voxel_map.integrate(make_frame([ROOM, screen], stamp_ns=10 + stamp)[0])
        voxel_map.integrate(make_frame([ROOM], (-1.5, 0, 1.2), (-2.4, 0, 1.2))[0])
    distances, _ = cKDTree(voxel_map.points).query(points)
    assert distances.max() < 0.06


def test_holes_in_depth_show_nothing():
    voxel_map = VoxelMap(CLEARING)
    frame, _ = make_frame(SCENE)
    voxel_map.integrate(frame)
    before = len(voxel_map)
    blind = replace(frame, depth_m=np.full_like(frame.depth_m, np.nan))
    for _ in range(10):
        assert voxel_map.integrate(blind).cleared == 0
    assert len(voxel_map) == before


def test_zero_clear_after_never_forgets():
    voxel_map = VoxelMap(replace(CLEARING, clear_after=0))
    voxel_map.integrate(make_frame(SCENE)[0])
    for _ in range(8):
        assert voxel_map.integrate(make_frame([ROOM])[0]).cleared == 0


# Threads, reset, parameters ----------------------------------------------------------------------


def test_readers_never_see_half_a_frame():
    """Each frame gives every voxel the same stamp; a reader must find one stamp only."""
    voxel_map = VoxelMap(PLAIN, encoder=OracleEncoder(dim=8))
    depth, features = np.full((120, 160), 2.0), np.ones((6, 8, 8), np.float32)
    voxel_map.integrate(flat_frame(depth, camera=CAMERA, stamp_ns=0), features)
    stop, bad, reads = threading.Event(), [], [0]

    def read():
        while not stop.is_set():
            with voxel_map.frozen():
                stamps, counts = voxel_map.last_seen_ns, voxel_map.counts
            frames = stamps[0] + 1
            if len(set(stamps.tolist())) != 1 or (counts % frames).any():
                bad.append(stamps)
            assert np.isfinite(voxel_map.scores('thing one')).all()
            reads[0] += 1

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for stamp in range(1, 120):
        voxel_map.integrate(flat_frame(depth, camera=CAMERA, stamp_ns=stamp), features)
    stop.set()
    for reader in readers:
        reader.join()
    assert reads[0] > 3
    assert not bad


def test_clear_forgets_everything():
    voxel_map = fused(FRAMES)
    voxel_map.clear()
    assert len(voxel_map) == 0
    voxel_map.integrate(FRAMES[0][0], np.ones((2, 2, 7), np.float32))  # another encoder's size
    assert voxel_map.features.shape[1] == 7


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('voxel_size_m', 0.0),
        ('voxel_size_m', float('nan')),
        ('max_depth_m', 0.05),
        ('feature_dim', -1),
        ('feature_dim', 2.5),
        ('clear_after', 256),
        ('edge_jump', -0.1),
        ('threads', -1),
        ('projection_frames', 0),
        ('clear_margin_m', float('inf')),
    ],
)
def test_parameters_name_the_bad_value(name, value):
    with pytest.raises(ValueError, match=f'{name} = {value}'):
        VoxelMapConfig(**{name: value})
