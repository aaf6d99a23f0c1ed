import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bag_tools.transform_tree import (
    NotConnectedError,
    OutsideTimeError,
    TransformTree,
    UnknownFrameError,
)
from vlm_nodes.geometry.rigid import invert, is_rigid, matrix_from_quaternion

SECOND = 1_000_000_000
NONE = (0, 0, 0, 1)


def yaw(degrees: float) -> np.ndarray:
    return Rotation.from_euler('z', degrees, degrees=True).as_quat()


def driving() -> TransformTree:
    """map -> odom -> base -> camera; base drives 1 m/s along x and turns 90 degrees a second."""
    tree = TransformTree()
    tree.add_static('base', 'camera', matrix_from_quaternion(yaw(90), (0, 0, 1)))
    for t in (0, 2, 1):  # in any order
        tree.add(t * SECOND, 'map', 'odom', (0, 5, 0), NONE)
        tree.add(t * SECOND, 'odom', 'base', (t, 0, 0), yaw(90 * t))
    return tree


def test_chain_is_interpolated() -> None:
    pose = driving().lookup('map', 'camera', SECOND // 2)
    expected = matrix_from_quaternion(yaw(45), (0.5, 5, 0)) @ matrix_from_quaternion(
        yaw(90), (0, 0, 1)
    )
    np.testing.assert_allclose(pose, expected, atol=1e-12)


def test_recorded_stamps_are_exact_and_ends_included() -> None:
    tree = driving()
    for t in (0, 1, 2):
        pose = tree.lookup('odom', 'base', t * SECOND)
        np.testing.assert_allclose(pose, matrix_from_quaternion(yaw(90 * t), (t, 0, 0)), atol=1e-12)


def test_lookup_of_siblings_and_back() -> None:
    tree = driving()
    tree.add_static('base', 'gripper', matrix_from_quaternion(NONE, (0.3, 0, 0)))
    camera_from_gripper = tree.lookup('camera', 'gripper', 99 * SECOND)  # static: at any stamp
    np.testing.assert_allclose(
        camera_from_gripper, invert(tree.lookup('gripper', 'camera', 0)), atol=1e-12
    )
    np.testing.assert_allclose(camera_from_gripper[:3, 3], (0, -0.3, -1), atol=1e-12)


def test_ancestors_end_at_the_root() -> None:
    assert driving().ancestors('camera', 0) == ('camera', 'base', 'odom', 'map')


def test_leading_slashes_of_ros1_are_one_name() -> None:
    tree = TransformTree()
    tree.add(0, '/map', '/base', (1, 0, 0), NONE)
    assert tree.frames == ('base', 'map')
    np.testing.assert_allclose(tree.lookup('map', '/base', 0)[:3, 3], (1, 0, 0))


def test_shorter_way_of_a_turn_is_taken() -> None:
    tree = TransformTree()
    tree.add(0, 'map', 'base', (0, 0, 0), yaw(10))
    tree.add(SECOND, 'map', 'base', (0, 0, 0), -yaw(30))  # the same rotation, other sign
    turn = Rotation.from_matrix(tree.lookup('map', 'base', SECOND // 2)[:3, :3])
    assert turn.as_euler('zyx', degrees=True)[0] == pytest.approx(20)


def test_a_frame_that_changes_its_parent() -> None:
    tree = TransformTree()
    tree.add_static('world', 'table', np.eye(4))
    tree.add_static('world', 'gripper', matrix_from_quaternion(NONE, (0, 0, 9)))
    tree.add(0, 'table', 'cup', (1, 0, 0), NONE)
    tree.add(SECOND, 'gripper', 'cup', (0, 0, 0), NONE)
    np.testing.assert_allclose(tree.lookup('world', 'cup', SECOND // 2)[:3, 3], (1, 0, 0))
    np.testing.assert_allclose(tree.lookup('world', 'cup', SECOND)[:3, 3], (0, 0, 9))


def test_unknown_frame_is_named_with_those_known() -> None:
    with pytest.raises(UnknownFrameError, match=r"'lidar' was never published.*base, camera"):
        driving().lookup('map', 'lidar', 0)
    with pytest.raises(UnknownFrameError, match='known frames: none'):
        TransformTree().lookup('map', 'base', 0)


def test_two_trees_are_said_to_be_two() -> None:
    tree = driving()
    tree.add_static('other_root', 'other', np.eye(4))
    with pytest.raises(NotConnectedError, match='other hangs below other_root, camera below map'):
        tree.lookup('camera', 'other', 0)


def test_a_loop_is_named() -> None:
    tree = TransformTree()
    tree.add_static('a', 'b', np.eye(4))
    tree.add_static('b', 'a', np.eye(4))
    with pytest.raises(NotConnectedError, match='loop: a -> b -> a'):
        tree.lookup('a', 'b', 0)


@pytest.mark.parametrize(
    ('stamp_s', 'words'),
    [(2.5, r'base in odom.*0.500 s after the last.*to 2.000 s'), (-1, 'before the first')],
)
def test_outside_of_the_recorded_time(stamp_s: float, words: str) -> None:
    with pytest.raises(OutsideTimeError, match=words):
        driving().lookup('odom', 'base', int(stamp_s * SECOND))


def test_hold_lets_a_frame_stand_still_for_a_while() -> None:
    tree = TransformTree(hold_s=0.1)
    tree.add(0, 'map', 'base', (1, 0, 0), NONE)
    tree.add(SECOND, 'map', 'base', (2, 0, 0), NONE)
    assert tree.lookup('map', 'base', SECOND + SECOND // 20)[0, 3] == 2
    assert tree.lookup('map', 'base', -SECOND // 20)[0, 3] == 1
    with pytest.raises(OutsideTimeError):
        tree.lookup('map', 'base', SECOND + SECOND // 5)


def test_bad_transforms_are_refused() -> None:
    tree = TransformTree()
    with pytest.raises(ValueError, match='own parent'):
        tree.add(0, 'a', 'a', (0, 0, 0), NONE)
    with pytest.raises(ValueError, match='lacks a frame name'):
        tree.add(0, '', 'a', (0, 0, 0), NONE)
    with pytest.raises(ValueError, match='not a pose'):
        tree.add(0, 'b', 'a', (0, 0, 0), (0, 0, 0, 0))
    with pytest.raises(ValueError, match='hold_s = -1'):
        TransformTree(hold_s=-1)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=12), st.integers(0, 1000))
def test_lookup_is_rigid_between_neighbours_whatever_the_order(stamps: list[int], at: int) -> None:
    tree = TransformTree()
    for stamp in stamps:
        tree.add(stamp, 'map', 'base', (stamp, 0, 0), yaw(stamp))
    if not min(stamps) <= at <= max(stamps):
        with pytest.raises(OutsideTimeError):
            tree.lookup('map', 'base', at)
        return
    pose = tree.lookup('map', 'base', at)
    assert is_rigid(pose)
    assert pose[0, 3] == pytest.approx(at)
