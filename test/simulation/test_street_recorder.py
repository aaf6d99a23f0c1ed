from dataclasses import replace

import numpy as np
import pytest

from vlm_nodes.geometry.rigid import invert, transform_points
from vlm_nodes.simulation.street.captions import MIN_SHARE, describe_scene, sightings
from vlm_nodes.simulation.street.recorder import Recorder, Settings, make_scene
from vlm_nodes.simulation.street.rig import MOUNTS
from vlm_nodes.simulation.street.solids import first_hits
from vlm_nodes.simulation.street.things import Thing
from vlm_nodes.simulation.street.vocabulary import class_number
from vlm_nodes.surround.occupancy import CLASSES, FREE

SMALL = Settings(width=80, height=48, keyframes=4, lidar_steps=120)


@pytest.fixture(scope='module')
def recorded():
    """A scene and two of its keyframes."""
    scene = make_scene(1, SMALL)
    with Recorder(SMALL) as recorder:
        return scene, recorder.keyframe(scene, 0), recorder.keyframe(scene, 1)


def map_points(view):
    rays = np.dstack([view.camera.rays(), np.ones_like(view.depth_m)])
    hit = np.isfinite(view.depth_m)
    points = rays[hit] * view.depth_m[hit, None]
    return transform_points(view.map_from_ego @ view.ego_from_camera, points), hit


def test_depth_and_class_are_what_rays_hit(recorded):
    scene, first, _ = recorded
    street_from_map = invert(scene.drive.map_from_street)
    for view in first.views.values():
        pose = street_from_map @ view.map_from_ego @ view.ego_from_camera
        rays = np.dstack([view.camera.rays(), np.ones_like(view.depth_m)]).reshape(-1, 3)
        lengths = np.linalg.norm(rays, axis=1)
        directions = rays / lengths[:, None] @ pose[:3, :3].T
        distance, hit = first_hits(scene.street.solids, pose[:3, 3], directions)
        depth = view.depth_m.ravel()
        near = distance < 100
        error = np.abs(depth[near] - (distance / lengths)[near])
        # Pixels at edges may fall to either side.
        assert np.mean(error < 0.01 + 1e-3 * depth[near]) > 0.985
        classes = np.array([class_number(s.kind) for s in scene.street.solids] + [FREE])
        assert np.mean(view.semantics.ravel() == classes[hit]) > 0.98
        assert np.isinf(depth[view.semantics.ravel() == FREE]).all()


def test_cameras_look_where_nuscenes_has_them(recorded):
    _, first, _ = recorded
    ahead = {name: view.ego_from_camera[:2, 2] for name, view in first.views.items()}
    assert ahead['CAM_FRONT'] == pytest.approx((1, 0))
    assert ahead['CAM_BACK'] == pytest.approx((-1, 0))
    for name, way in ahead.items():
        if name.endswith(('LEFT', 'RIGHT')):
            assert (way[1] > 0) == name.endswith('LEFT')
            assert (way[0] > 0) == name.startswith('CAM_FRONT')
    angles = [2 * np.arctan(v.camera.width / 2 / v.camera.fx) for v in first.views.values()]
    assert np.degrees(sum(angles)) > 400


def test_poses_carry_points_from_one_keyframe_to_the_next(recorded):
    _, first, second = recorded
    points, _ = map_points(first.views['CAM_FRONT'])
    later = second.views['CAM_FRONT']
    local = transform_points(invert(later.map_from_ego @ later.ego_from_camera), points)
    pixels = later.camera.project(local)
    inside = np.isfinite(pixels).all(axis=1)
    inside[inside] &= (
        (pixels[inside] > 0) & (pixels[inside] < (SMALL.width - 1, SMALL.height - 1))
    ).all(axis=1)
    u, v = np.round(pixels[inside]).astype(int).T
    ratio = local[inside, 2] / later.depth_m[v, u]
    assert inside.sum() > 500
    assert np.median(np.abs(ratio - 1)) < 0.02
    moved = np.linalg.norm((invert(first.map_from_ego) @ second.map_from_ego)[:3, 3])
    assert SMALL.speed_m_s[0] / 2 <= moved <= SMALL.speed_m_s[1] / 2 * 1.01


def test_each_camera_is_triggered_at_its_own_time(recorded):
    scene, first, _ = recorded
    for name, view in first.views.items():
        assert view.stamp_ns - first.stamp_ns == MOUNTS[name].offset_ns
        step = (invert(first.map_from_ego) @ view.map_from_ego)[0, 3]
        expected = MOUNTS[name].offset_ns * 1e-9 * scene.drive.speed_m_s
        assert step == pytest.approx(expected, rel=0.02)


def test_lidar_points_lie_on_what_cameras_see(recorded):
    _, first, _ = recorded
    view = first.views['CAM_FRONT']
    points = transform_points(first.map_from_ego @ first.sweep.ego_from_lidar,
                              first.sweep.points[:, :3])  # fmt: skip
    local = transform_points(invert(view.map_from_ego @ view.ego_from_camera), points)
    pixels = view.camera.project(local)
    inside = np.isfinite(pixels).all(axis=1)
    inside[inside] &= (
        (pixels[inside] > 0) & (pixels[inside] < (SMALL.width - 1, SMALL.height - 1))
    ).all(axis=1)
    u, v = np.round(pixels[inside]).astype(int).T
    same = view.semantics[v, u] == first.sweep.semantics[inside]
    close = np.abs(view.depth_m[v, u] / local[inside, 2] - 1) < 0.1
    assert inside.sum() > 200
    assert same.mean() > 0.9
    assert close.mean() > 0.85


def test_what_is_seen_is_labelled(recorded):
    scene, first, _ = recorded
    grid, labels = SMALL.grid, first.occupancy
    for view in first.views.values():
        points, hit = map_points(view)
        away = points - (view.map_from_ego @ view.ego_from_camera)[:3, 3]
        points += away / np.linalg.norm(away, axis=1, keepdims=True) * 0.01
        voxels, inside = grid.voxel_of(transform_points(invert(first.map_from_ego), points))
        i, j, k = voxels[inside].T
        assert labels.mask_camera[i, j, k].mean() > 0.999
        assert (labels.semantics[i, j, k] != FREE).mean() > 0.98
        assert (labels.semantics[i, j, k] == view.semantics[hit][inside]).mean() > 0.9
    street = scene.street
    assert 0.05 < labels.mask_camera.mean() < 0.5
    assert 0.01 < labels.mask_lidar.mean() < 0.3
    # Nothing is seen within a house, below the road, or where no ray goes.
    assert not labels.mask_camera[..., 0].any()
    inner = [
        replace(s, half=(s.half[0] - 1.5, s.half[1] - 1.5, s.half[2]))
        for s in street.solids
        if s.kind == 'building' and min(s.half[:2]) > 2 and s.half[2] > 1
    ]
    pose = scene.drive.street_from_ego(first.stamp_ns)
    centres = transform_points(pose, grid.centres()[:, :, 5])
    within = np.any([s.covers(centres[..., 0], centres[..., 1]) for s in inner], axis=0)
    assert within.sum() > 100
    assert not labels.mask_camera[:, :, 5][within].any()


def test_recording_again_gives_the_same(recorded):
    _, first, _ = recorded
    with Recorder(SMALL) as recorder:
        again = recorder.keyframe(make_scene(1, SMALL), 0)
    for name, view in first.views.items():
        for array in ('rgb', 'depth_m', 'semantics', 'things', 'map_from_ego'):
            np.testing.assert_array_equal(getattr(view, array), getattr(again.views[name], array))
    np.testing.assert_array_equal(first.sweep.points, again.sweep.points)
    np.testing.assert_array_equal(first.occupancy.mask_camera, again.occupancy.mask_camera)
    np.testing.assert_array_equal(first.occupancy.semantics, again.occupancy.semantics)


def test_colours_are_those_that_captions_name(recorded):
    scene, first, second = recorded
    hues = {'red': 0, 'green': 1, 'blue': 2}
    compared = 0
    for view in (*first.views.values(), *second.views.values()):
        for thing in scene.street.things:
            shown = view.things == thing.number
            if thing.colour in hues and shown.sum() > 60:
                painted = view.rgb[shown].astype(float)
                strongest = np.argmax(painted, axis=1)[np.ptp(painted, axis=1) > 60]
                if len(strongest) > 20:
                    assert np.mean(strongest == hues[thing.colour]) > 0.7
                    compared += 1
    assert compared >= 2


def test_sightings_are_the_things_with_enough_pixels():
    things = [Thing(1, 'car', 'red'), Thing(2, 'person', 'blue'), Thing(3, 'truck', 'white')]
    numbers = np.zeros((50, 100), np.uint16)
    numbers[:10, :10] = 3
    numbers[20:22, :10] = 2
    numbers[30, :19] = 1
    seen = sightings(numbers, things)
    assert [s.thing.number for s in seen] == [3, 2]
    assert [s.share for s in seen] == pytest.approx([0.02, 0.004])
    assert MIN_SHARE > 19 / 5000
    text = describe_scene({'CAM_FRONT': seen, 'CAM_BACK_LEFT': []})
    assert text == (
        'The front view shows a white truck and a person in blue. '
        'The back left view shows an empty street.'
    )
    # What looks the same is said once.
    twice = [seen[0], seen[0], seen[1]]
    assert 'a white truck and a person in blue' in describe_scene({'CAM_FRONT': twice})


def test_settings_that_make_no_sense():
    for change, message in (
        ({'width': 0}, 'width'),
        ({'cameras': ('CAM_TOP',)}, 'CAM_TOP'),
        ({'cameras': ()}, 'none'),
        ({'speed_m_s': (5.0, 2.0)}, 'speed'),
    ):
        with pytest.raises(ValueError, match=message):
            Settings(**change)


def test_a_drive_that_is_too_long_is_refused():
    assert make_scene(0, replace(SMALL, keyframes=40)).world.model.ngeom > 300
    with pytest.raises(ValueError, match='make the drive shorter'):
        make_scene(0, replace(SMALL, keyframes=200))


def test_pedestrians_and_cars_are_seen_in_most_streets():
    settings = replace(SMALL, keyframes=1, samples=0)
    found = np.zeros(len(CLASSES), int)
    with Recorder(settings) as recorder:
        for seed in range(4):
            labels = recorder.keyframe(make_scene(seed, settings), 0).occupancy
            found += np.isin(np.arange(18), labels.semantics[labels.mask_camera])
    for name in ('car', 'driveable_surface', 'sidewalk', 'manmade', 'vegetation', 'terrain'):
        assert found[CLASSES.index(name)] == 4
    assert found[CLASSES.index('pedestrian')] >= 2
