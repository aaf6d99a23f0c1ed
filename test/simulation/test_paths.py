import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_nodes.geometry.rigid import is_rigid
from vlm_nodes.simulation.paths import MastPose, Tour, look_at, optical_pose
from vlm_nodes.simulation.viewpoints import ViewRange, random_view
from vlm_nodes.simulation.worlds import make_room


def test_optical_axes_are_right_down_forward():
    pose = optical_pose((0, 0, 1), 0.0, 0.0)
    np.testing.assert_allclose(pose[:3, :3] @ (0, 0, 1), (1, 0, 0), atol=1e-12)
    np.testing.assert_allclose(pose[:3, :3] @ (1, 0, 0), (0, -1, 0), atol=1e-12)
    np.testing.assert_allclose(pose[:3, :3] @ (0, 1, 0), (0, 0, -1), atol=1e-12)


def test_positive_tilt_looks_up_and_positive_yaw_left():
    assert optical_pose((0, 0, 1), 0.0, 0.3)[2, 2] == pytest.approx(np.sin(0.3))
    assert optical_pose((0, 0, 1), 0.3, 0.0)[1, 2] == pytest.approx(np.sin(0.3))


points = st.tuples(*[st.floats(-5, 5)] * 3)


@given(points, points)
def test_look_at_sees_the_target_straight_ahead(position, target):
    distance = np.linalg.norm(np.subtract(target, position))
    if distance < 1e-3:
        return
    pose = look_at(position, target)
    assert is_rigid(pose)
    np.testing.assert_allclose(pose @ (0, 0, distance, 1), (*target, 1), atol=1e-6)


def test_look_at_refuses_its_own_place():
    with pytest.raises(ValueError, match='same point'):
        look_at((1, 2, 3), (1, 2, 3))


def test_base_and_camera_poses_compose():
    pose = MastPose(x=1, y=2, yaw_rad=0.5, lift_m=1.2, pan_rad=0.4, tilt_rad=-0.3)
    np.testing.assert_allclose(pose.map_from_camera(), optical_pose((1, 2, 1.2), 0.9, -0.3))
    np.testing.assert_allclose(
        pose.map_from_base() @ pose.base_from_camera(), pose.map_from_camera()
    )


@given(st.floats(0, 100))
def test_tour_is_periodic_smooth_and_inside(time_s):
    room = make_room(0)
    tour = Tour(room.half_extents, duration_s=40.0)
    here, later, again = (
        tour.at(t).map_from_camera() for t in (time_s, time_s + 0.05, time_s + 40)
    )
    assert is_rigid(here)
    np.testing.assert_allclose(here, again, atol=1e-6)
    assert np.linalg.norm(later[:3, 3] - here[:3, 3]) < 0.05
    turned = np.arccos(np.clip((np.trace(here[:3, :3].T @ later[:3, :3]) - 1) / 2, -1, 1))
    assert turned < np.radians(5)
    assert 1.0 <= here[2, 3] <= 1.6
    assert np.all(np.abs(here[:2, 3]) < np.array(room.half_extents) / 2)


def test_tour_refuses_bad_values():
    with pytest.raises(ValueError, match=r'duration_s .* -1'):
        Tour((2, 2), duration_s=-1)
    with pytest.raises(ValueError, match=r'laps .* 0'):
        Tour((2, 2), laps=0)


@given(st.integers(0, 200), st.integers(0, 10))
def test_random_views_stay_in_the_room_and_out_of_things(seed, draw):
    room = make_room(seed)
    camera, pose = random_view(room, np.random.default_rng(draw), ViewRange(size=64))
    assert (camera.width, camera.height) == (64, 64)
    assert is_rigid(pose)
    position = pose[:3, 3]
    assert np.all(np.abs(position[:2]) < room.half_extents)
    assert 0 < position[2] < room.height_m
    for thing in room.things:
        low, high = thing.box()
        assert np.any((position < low) | (position > high))


def test_view_range_names_the_bad_value():
    with pytest.raises(ValueError, match=r'fovy_deg .*\(70, 35\)'):
        ViewRange(fovy_deg=(70, 35))
