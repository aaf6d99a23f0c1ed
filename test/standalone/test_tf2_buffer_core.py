"""The tf2 buffer without a node: the facts of tf2's own tests, in numbers of our own."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import tf2_py
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.duration import Duration
from rclpy.time import Time
from scipy.spatial.transform import Rotation
from tf2_poses import at, matrix, pose, seconds_of, xyz_of, xyzw_of, yaw
from tf2_py import (
    BufferCore,
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    TransformException,
)

LATEST = Time()


def filled(*messages, static=()) -> BufferCore:
    core = BufferCore()
    for message in messages:
        core.set_transform(message, 'test')
    for message in static:
        core.set_transform_static(message, 'test')
    return core


def reason(core: BufferCore, target: str, source: str, time: Time) -> str:
    possible, error = core.can_transform_core(target, source, time)
    assert not possible
    return error


# --- Composition ---------------------------------------------------------------------------------


def test_a_chain_is_the_product_of_its_links():
    links = [
        pose('map', 'odom', 1, (1, 2, 3), yaw(30)),
        pose('odom', 'base', 1, (0, -1, 0.5), Rotation.from_rotvec([0.3, -0.2, 0.9]).as_quat()),
        pose('base', 'camera', 1, (0.1, 0, 1.2), Rotation.from_rotvec([-1.2, 0.4, 2.0]).as_quat()),
    ]
    core = filled(*links)
    expected = matrix(links[0]) @ matrix(links[1]) @ matrix(links[2])
    forth = core.lookup_transform_core('map', 'camera', at(1))
    back = core.lookup_transform_core('camera', 'map', at(1))
    np.testing.assert_allclose(matrix(forth), expected, atol=1e-12)
    np.testing.assert_allclose(matrix(back), np.linalg.inv(expected), atol=1e-12)
    assert (forth.header.frame_id, forth.child_frame_id) == ('map', 'camera')


def test_siblings_meet_at_their_parent():
    left, right = pose('base', 'left', 1, (0, 1, 0), yaw(90)), pose('base', 'right', 1, (0, -1, 0))
    found = filled(left, right).lookup_transform_core('left', 'right', at(1))
    np.testing.assert_allclose(
        matrix(found), np.linalg.inv(matrix(left)) @ matrix(right), atol=1e-12
    )


def test_what_was_put_in_comes_out_unchanged():
    message = pose('map', 'base', 1.5, (1, 2, 3), (1, 0, 0, 0))
    assert filled(message).lookup_transform_core('map', 'base', LATEST) == message


@pytest.mark.parametrize('scale', [2.0, 0.5, -1.0])
def test_rotations_come_out_of_unit_length_and_with_positive_w(scale):
    core = filled(pose('map', 'base', 1, xyzw=[scale * q for q in yaw(40)]))
    found = core.lookup_transform_core('map', 'base', at(1))
    np.testing.assert_allclose(xyzw_of(found), yaw(40), atol=1e-12)


@st.composite
def trees(draw):
    """Poses of frames f1, f2... each under an earlier one, static or moving."""
    size = draw(st.integers(2, 8))
    coordinate = st.floats(-10, 10)
    messages = []
    for child in range(1, size):
        parent = draw(st.integers(0, child - 1))
        turn = draw(st.tuples(*[st.floats(-3, 3)] * 3))
        xyz = draw(st.tuples(*[coordinate] * 3))
        quaternion = Rotation.from_rotvec(turn).as_quat()
        message = pose(f'f{parent}', f'f{child}', 1, xyz, quaternion)
        messages.append((message, draw(st.booleans())))
    frame = st.integers(0, size - 1).map('f{}'.format)
    return messages, draw(frame), draw(frame), draw(frame)


@settings(max_examples=100, deadline=None)
@given(trees())
def test_any_two_lookups_compose_to_the_third(tree):
    messages, a, b, c = tree
    core = BufferCore()
    for message, static in messages:
        (core.set_transform_static if static else core.set_transform)(message, 'test')
    lookup = core.lookup_transform_core
    a_from_b, b_from_c = matrix(lookup(a, b, at(1))), matrix(lookup(b, c, at(1)))
    np.testing.assert_allclose(a_from_b @ b_from_c, matrix(lookup(a, c, at(1))), atol=1e-9)
    full = core.lookup_transform_full_core(a, at(1), c, at(1), b)
    np.testing.assert_allclose(matrix(full), a_from_b @ b_from_c, atol=1e-9)


@settings(max_examples=100, deadline=None)
@given(trees())
def test_lookups_match_matrices(tree):
    messages, a, b, _ = tree
    world_from = {'f0': np.eye(4)}
    for message, _ in messages:
        parent = world_from[message.header.frame_id]
        world_from[message.child_frame_id] = parent @ matrix(message)
    found = filled(*(message for message, _ in messages)).lookup_transform_core(a, b, at(1))
    expected = np.linalg.inv(world_from[a]) @ world_from[b]
    np.testing.assert_allclose(matrix(found), expected, atol=1e-9)


# --- Time ----------------------------------------------------------------------------------------


def test_between_stamps_positions_are_linear_and_turns_uniform():
    core = filled(
        pose('map', 'base', 1, (0, 0, 0), yaw(10)), pose('map', 'base', 3, (4, -2, 8), yaw(90))
    )
    for share in (0.0, 0.25, 0.5, 0.9, 1.0):
        found = core.lookup_transform_core('map', 'base', at(1 + 2 * share))
        np.testing.assert_allclose(xyz_of(found), np.array([4, -2, 8]) * share, atol=1e-9)
        np.testing.assert_allclose(xyzw_of(found), yaw(10 + 80 * share), atol=1e-9)
        assert seconds_of(found) == pytest.approx(1 + 2 * share, abs=1e-9)


def test_a_turn_takes_the_shorter_way():
    core = filled(pose('map', 'base', 1, xyzw=yaw(170)), pose('map', 'base', 2, xyzw=yaw(-170)))
    found = core.lookup_transform_core('map', 'base', at(1.5))
    np.testing.assert_allclose(np.abs(xyzw_of(found)), [0, 0, 1, 0], atol=1e-9)


def test_equal_rotations_interpolate_to_themselves():
    q = Rotation.from_rotvec([0.1, 0.7, -0.4]).as_quat()
    core = filled(pose('map', 'base', 1, xyzw=q), pose('map', 'base', 2, xyzw=q))
    found = core.lookup_transform_core('map', 'base', at(1.3))
    np.testing.assert_allclose(xyzw_of(found), q, atol=1e-12)


def test_a_change_of_parent_is_not_interpolated():
    core = filled(
        pose('map', 'odom', 1),
        pose('map', 'odom', 2),
        pose('map', 'base', 1, (1, 0, 0)),
        pose('odom', 'base', 2, (5, 0, 0)),
    )
    assert xyz_of(core.lookup_transform_core('map', 'base', at(1.9))) == [1, 0, 0]
    assert xyz_of(core.lookup_transform_core('map', 'base', at(2))) == [5, 0, 0]


def test_zero_means_the_latest_time_that_all_links_have():
    core = filled(
        pose('map', 'odom', 1, (1, 0, 0)),
        pose('map', 'odom', 4, (4, 0, 0)),
        pose('odom', 'base', 2),
        pose('odom', 'base', 3),
        static=[pose('base', 'camera', 9)],
    )
    found = core.lookup_transform_core('map', 'camera', LATEST)
    assert seconds_of(found) == 3
    np.testing.assert_allclose(xyz_of(found), [3, 0, 0])
    assert core.get_latest_common_time('map', 'camera') == at(3)
    assert core.get_latest_common_time('camera', 'base') == Time()


def test_out_of_order_stamps_are_sorted():
    core = filled(*(pose('map', 'base', s, (s, 0, 0)) for s in (3, 1, 2, 5, 4)))
    for seconds in (1, 2, 3, 4, 5, 2.5):
        found = core.lookup_transform_core('map', 'base', at(seconds))
        assert xyz_of(found)[0] == pytest.approx(seconds)


def test_of_two_poses_with_one_stamp_the_later_counts():
    core = filled(pose('map', 'base', 1, (1, 0, 0)), pose('map', 'base', 1, (2, 0, 0)))
    assert xyz_of(core.lookup_transform_core('map', 'base', at(1))) == [2, 0, 0]


def test_poses_expire_behind_the_newest():
    core = BufferCore(Duration(seconds=2))
    for seconds in (1, 2, 3, 4, 5):
        core.set_transform(pose('map', 'base', seconds), 'test')
    # What is too old goes when the next pose comes.
    assert core.can_transform_core('map', 'base', at(2))[0]
    core.set_transform(pose('map', 'base', 5.5), 'test')
    assert 'the earliest data is at time 3.000000' in reason(core, 'map', 'base', at(2))
    core.set_transform(pose('map', 'base', 0.5), 'test')
    assert not core.can_transform_core('map', 'base', at(0.5))[0]


def test_ten_seconds_are_kept_by_default():
    core = filled(*(pose('map', 'base', s) for s in range(1, 30)))
    entry = yaml.safe_load(core.all_frames_as_yaml())['base']
    assert entry['most_recent_transform'] - entry['oldest_transform'] == 11
    core.set_transform(pose('map', 'base', 29), 'test')
    entry = yaml.safe_load(core.all_frames_as_yaml())['base']
    assert entry['buffer_length'] == 10


def test_static_poses_hold_at_any_time_and_can_be_replaced():
    core = filled(static=[pose('base', 'camera', 5, (1, 0, 0))])
    for seconds in (0, 0.001, 5, 1e6):
        found = core.lookup_transform_core('base', 'camera', at(seconds))
        assert xyz_of(found) == [1, 0, 0]
        assert seconds_of(found) == seconds
    core.set_transform_static(pose('base', 'camera', 6, (2, 0, 0)), 'test')
    assert xyz_of(core.lookup_transform_core('base', 'camera', at(5))) == [2, 0, 0]


def test_a_frame_can_turn_static_and_back():
    core = filled(pose('map', 'base', 1))
    core.set_transform_static(pose('map', 'base', 1, (7, 0, 0)), 'test')
    assert xyz_of(core.lookup_transform_core('map', 'base', at(99))) == [7, 0, 0]
    core.set_transform(pose('map', 'base', 2), 'test')
    assert not core.can_transform_core('map', 'base', at(99))[0]


def test_a_fixed_frame_links_two_times():
    core = filled(*(pose('map', 'base', s, (s, 0, 0)) for s in (1, 2, 3)))
    found = core.lookup_transform_full_core('base', at(3), 'base', at(1), 'map')
    assert xyz_of(found) == [-2, 0, 0]
    assert seconds_of(found) == 3
    assert core.can_transform_full_core('base', at(3), 'base', at(1), 'map') == (True, '')
    possible, error = core.can_transform_full_core('base', at(3), 'base', at(9), 'map')
    assert not possible
    assert 'extrapolation into the future' in error


def test_a_gap_above_the_meeting_point_does_not_matter():
    core = filled(
        *(pose('base', side, s) for side in ('left', 'right') for s in (1, 2)),
        pose('map', 'base', 8),
        pose('map', 'base', 9),
    )
    core.lookup_transform_core('left', 'right', at(1.5))
    with pytest.raises(ExtrapolationException):
        core.lookup_transform_core('map', 'right', at(1.5))


# --- Errors --------------------------------------------------------------------------------------


def test_extrapolation_says_how_far_there_is_data():
    core = filled(pose('map', 'base', 1), pose('map', 'base', 2))
    future = (
        'Lookup would require extrapolation into the future.  Requested time 3.500000 but the '
        'latest data is at time 2.000000, when looking up transform from frame [base] to frame '
        '[map]'
    )
    past = (
        'Lookup would require extrapolation into the past.  Requested time 0.500000 but the '
        'earliest data is at time 1.000000, when looking up transform from frame [map] to frame '
        '[base]'
    )
    assert reason(core, 'map', 'base', at(3.5)) == future
    assert reason(core, 'base', 'map', at(0.5)) == past
    with pytest.raises(ExtrapolationException) as caught:
        core.lookup_transform_core('map', 'base', at(3.5))
    assert str(caught.value) == future


def test_one_pose_is_good_for_its_stamp_only():
    core = filled(pose('map', 'base', 2))
    assert core.can_transform_core('map', 'base', at(2)) == (True, '')
    assert reason(core, 'map', 'base', at(1)) == (
        'Lookup would require extrapolation at time 1.000000, but only time 2.000000 is in the '
        'buffer, when looking up transform from frame [base] to frame [map]'
    )


def test_unknown_frames_are_named():
    core = filled(pose('map', 'base'))
    with pytest.raises(LookupException) as caught:
        core.lookup_transform_core('map', 'cam', LATEST)
    assert (
        str(caught.value)
        == '"cam" passed to lookupTransform argument source_frame does not exist. '
    )
    assert reason(core, 'cam', 'base', LATEST) == (
        'Invalid frame ID "cam" passed to canTransform argument target_frame - frame does not exist'
    )
    with pytest.raises(LookupException, match='"x" passed to get_latest_common_time does not'):
        core.get_latest_common_time('x', 'map')


@pytest.mark.parametrize('time', [LATEST, at(1)])
def test_separate_trees_are_told_so(time):
    core = filled(pose('map', 'base'), pose('room', 'table'))
    with pytest.raises(ConnectivityException) as caught:
        core.lookup_transform_core('map', 'table', time)
    assert str(caught.value) == (
        "Could not find a connection between 'map' and 'table' because they are not part of the "
        'same tree.Tf has two or more unconnected trees.'
    )
    assert reason(core, 'map', 'table', time) == str(caught.value)


@pytest.mark.parametrize(
    ('name', 'fault'), [('', 'cannot be empty'), ('/base', "cannot start with a '/'")]
)
def test_names_that_cannot_be_are_refused(name, fault):
    core = filled(pose('map', 'base'))
    with pytest.raises(InvalidArgumentException) as caught:
        core.lookup_transform_core('map', name, LATEST)
    assert str(caught.value) == (
        f'Invalid argument "{name}" passed to lookupTransform argument source_frame - '
        f'in tf2 frame_ids {fault}'
    )
    assert fault in reason(core, name, 'base', LATEST)
    with pytest.raises(InvalidArgumentException):
        core.lookup_transform_full_core('map', LATEST, 'base', LATEST, name)


def test_a_loop_is_found_and_told():
    core = filled(
        pose('a', 'b', 1), pose('b', 'c', 1), pose('c', 'a', 1), pose('elsewhere', 'd', 1)
    )
    with pytest.raises(LookupException, match=r'contains a loop.\nFrame b exists with parent a'):
        core.lookup_transform_core('d', 'a', at(1))
    with pytest.raises(LookupException, match='contains a loop'):
        core.lookup_transform_core('d', 'a', LATEST)


def test_a_frame_in_itself_is_always_known():
    core = filled(pose('map', 'base', 3))
    assert core.can_transform_core('nowhere', 'nowhere', at(7)) == (True, '')
    assert seconds_of(core.lookup_transform_core('nowhere', 'nowhere', at(7))) == 7
    found = core.lookup_transform_core('base', 'base', LATEST)
    assert seconds_of(found) == 3
    np.testing.assert_array_equal(matrix(found), np.eye(4))


def test_all_errors_are_transform_exceptions():
    for name in ('Connectivity', 'Extrapolation', 'InvalidArgument', 'Lookup', 'Timeout'):
        assert issubclass(getattr(tf2_py, f'{name}Exception'), TransformException)


@pytest.mark.parametrize(
    ('message', 'logged'),
    [
        (pose('map', 'map'), 'TF_SELF_TRANSFORM'),
        (pose('map', ''), 'TF_NO_CHILD_FRAME_ID'),
        (pose('', 'base'), 'TF_NO_FRAME_ID'),
        (pose('map', 'base', xyz=(math.nan, 0, 0)), 'TF_NAN_INPUT'),
        (pose('map', 'base', xyzw=(0, 0, math.nan, 1)), 'TF_NAN_INPUT'),
        (pose('map', 'base', xyzw=(0, 0, 0, 0)), 'TF_DENORMALIZED_QUATERNION'),
    ],
)
def test_poses_that_cannot_be_are_left_out_and_logged(message, logged, capfd):
    core = filled(message)
    assert core._getFrameStrings() == []
    assert logged in capfd.readouterr().err


def test_poses_from_the_past_are_left_out_and_logged(capfd):
    filled(pose('map', 'base', 100), pose('map', 'base', 1))
    logged = capfd.readouterr().err
    assert 'TF_OLD_DATA ignoring data from the past for frame base at time 1.000000' in logged


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda core: core.lookup_transform_core('a', 'b', 3.0), 'time must have sec and nanosec'),
        (lambda core: core.can_transform_core('a', 4, LATEST), 'must be str'),
        (lambda _: BufferCore(5.0), 'duration must have sec and nanosec'),
    ],
)
def test_arguments_of_another_type_are_refused(call, message):
    with pytest.raises(TypeError, match=message):
        call(BufferCore())


# --- The rest ------------------------------------------------------------------------------------


def test_clearing_forgets_what_moved_but_not_what_stands():
    core = filled(pose('map', 'base'), static=[pose('base', 'camera')])
    core.clear()
    assert not core.can_transform_core('map', 'base', LATEST)[0]
    assert core.can_transform_core('base', 'camera', LATEST)[0]
    assert core._frameExists('map')
    core.set_transform(pose('map', 'base'), 'test')
    assert core.can_transform_core('map', 'camera', at(1))[0]


def test_slashes_in_front_are_dropped_when_set():
    core = filled(pose('/map', '/base'))
    assert core._getFrameStrings() == ['base', 'map']
    assert core._frameExists('base')
    assert not core._frameExists('/base')


def test_rclpy_and_message_times_mean_the_same():
    core = filled(pose('map', 'base', 1, (1, 0, 0)), pose('map', 'base', 2, (2, 0, 0)))
    by_object = core.lookup_transform_core('map', 'base', at(1.25))
    assert core.lookup_transform_core('map', 'base', at(1.25).to_msg()) == by_object


def test_reports_name_parent_broadcaster_and_span():
    core = BufferCore()
    assert core.all_frames_as_yaml() == '[]'
    for seconds in (1, 2, 3):
        core.set_transform(pose('map', 'base', seconds), 'odometry')
    assert yaml.safe_load(core.all_frames_as_yaml()) == {
        'base': {
            'parent': 'map',
            'broadcaster': 'odometry',
            'rate': 1.5,
            'most_recent_transform': 3.0,
            'oldest_transform': 1.0,
            'buffer_length': 2.0,
        }
    }
    assert core.all_frames_as_string() == 'Frame base exists with parent map.\n'
    assert '"map" -> "base"' in core._allFramesAsDot()


def test_the_chain_goes_from_the_source_to_the_target():
    core = filled(*(pose(parent, child) for parent, child in ('ab', 'bc', 'cd', 'be')))
    assert core._chain('b', at(1), 'd', at(1), 'b') == ['d', 'c', 'b']


def test_velocity_along_a_line_and_around_an_axis():
    core = BufferCore()
    for tick in range(21):
        seconds = 1 + 0.1 * tick
        core.set_transform(pose('map', 'cart', seconds, (3 * seconds, 0, 0)), 'test')
        core.set_transform(pose('map', 'table', seconds, xyzw=yaw(20 * seconds)), 'test')
    linear, angular = core.lookupVelocityCore('cart', 'map', at(2), Duration(seconds=0.2))
    np.testing.assert_allclose(linear, [3, 0, 0], atol=1e-6)
    np.testing.assert_allclose(angular, [0, 0, 0], atol=1e-6)
    linear, angular = core.lookupVelocityCore('table', 'map', at(2), Duration(seconds=0.2))
    np.testing.assert_allclose(linear, [0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(angular, [0, 0, math.radians(20)], atol=1e-6)


def test_threads_write_and_read_at_once():
    core = filled(pose('map', 'base', 1), pose('base', 'camera', 1))
    failures = []
    writing = threading.Event()

    def write():
        writing.set()
        for tick in range(2000):
            core.set_transform(pose('map', 'base', 1 + tick * 0.01, (tick, 0, 0)), 'test')

    def read():
        writing.wait()
        for _ in range(2000):
            try:
                core.lookup_transform_core('map', 'base', LATEST)
                core.all_frames_as_yaml()
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=target) for target in (write, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert xyz_of(core.lookup_transform_core('map', 'base', LATEST)) == [1999, 0, 0]
