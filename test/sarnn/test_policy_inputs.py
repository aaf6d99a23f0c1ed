"""The newest inputs, and pictures of keypoints."""

import math
import threading

import numpy as np
import pytest

from vlm_nodes.sarnn.inputs import NO_STAMP, SECOND_NS, InputError, NewestInputs, Stream
from vlm_nodes.sarnn.overlay import EXPECTED, SEEN, draw_keypoints


def decode(value):
    if value == 'broken':
        raise ValueError('it is broken')
    return np.full((2, 2), value)


def inputs():
    streams = [Stream('color', '/rgb', decode), Stream('gelsight1', '/touch', decode)]
    return NewestInputs(streams, ('b', 'a'), '/joint_states')


def filled(stamp_ns=5 * SECOND_NS):
    made = inputs()
    made.put('color', stamp_ns, 1)
    made.put('gelsight1', stamp_ns, 2)
    made.put_joints(stamp_ns, {'a': 0.1, 'b': 0.2, 'wheel': 7.0})
    return made


def test_ages_are_by_topic_and_inf_where_nothing_came():
    made = inputs()
    assert made.ages_s(0) == dict.fromkeys(('/rgb', '/touch', '/joint_states'), math.inf)
    made = filled()
    made.put('color', 6 * SECOND_NS, 3)
    assert made.ages_s(7 * SECOND_NS) == {'/rgb': 1.0, '/touch': 2.0, '/joint_states': 2.0}
    made.clear()
    assert made.ages_s(7 * SECOND_NS)['/rgb'] == math.inf


def test_joints_are_as_old_as_the_oldest_which_is_named():
    made = filled()
    assert made.details(6 * SECOND_NS) == {}
    made.put_joints(6 * SECOND_NS, {'b': 0.3})
    assert made.ages_s(6 * SECOND_NS)['/joint_states'] == 1.0
    assert made.details(6 * SECOND_NS) == {'/joint_states': "joint 'a' is 1.00 s old"}
    np.testing.assert_array_equal(made.joints(), [0.3, 0.1])


def test_a_joint_in_the_future_is_not_hidden_by_one_of_now():
    made = filled()
    made.put_joints(9 * SECOND_NS, {'b': 0.3})
    assert made.ages_s(5 * SECOND_NS)['/joint_states'] == -4.0


def test_missing_joints_are_named_with_those_that_came():
    made = inputs()
    assert made.details(0) == {}
    made.put_joints(0, {'wheel': 0.0, 'b': 0.0})
    assert made.details(0) == {'/joint_states': "no joint 'a' among b, wheel"}
    assert np.isnan(made.joints()[1])


def test_messages_without_a_stamp_are_told_as_such():
    made = filled(stamp_ns=0)
    made.put('color', 5 * SECOND_NS, 1)
    assert made.details(5 * SECOND_NS) == {'/touch': NO_STAMP, '/joint_states': NO_STAMP}
    made.put('gelsight1', 5 * SECOND_NS, 1)
    made.put_joints(5 * SECOND_NS, {'a': 0.0, 'b': 0.0})
    assert made.details(5 * SECOND_NS) == {}


def test_images_without_a_stamp_are_told_also_where_joints_are_missing():
    made = inputs()
    made.put('color', 0, 1)
    made.put_joints(5, {'b': 0.0})
    assert made.details(5) == {'/rgb': NO_STAMP, '/joint_states': "no joint 'a' among b"}


def test_why_joints_are_of_no_use_is_said_until_they_are():
    made = filled()
    made.joints_are_unusable('they are nan')
    assert made.details(0) == {'/joint_states': 'they are nan'}
    made.put_joints(5 * SECOND_NS, {'a': 0.0})
    assert made.details(0) == {}


def test_a_snapshot_is_the_newest_of_all_and_as_old_as_the_oldest():
    made = filled()
    made.put('color', 6 * SECOND_NS, 3)
    snapshot = made.snapshot()
    assert snapshot.samples == {'color': 3, 'gelsight1': 2}
    assert snapshot.oldest_ns == 5 * SECOND_NS
    np.testing.assert_array_equal(snapshot.joints, [0.2, 0.1])


def test_a_snapshot_names_what_never_came():
    made = inputs()
    made.put('color', 0, 1)
    with pytest.raises(InputError, match='nothing came on /touch, /joint_states'):
        made.snapshot()


def test_an_image_that_is_broken_is_named_by_its_topic():
    with pytest.raises(InputError, match='/rgb cannot be used: it is broken'):
        inputs().streams['color'].image('broken')


def test_waiting_ends_when_the_last_input_came_or_in_time():
    made = filled()
    assert made.wait_until(5 * SECOND_NS, 0.0)
    assert not made.wait_until(6 * SECOND_NS, 0.01)
    made.put('color', 6 * SECOND_NS, 1)
    made.put('gelsight1', 6 * SECOND_NS, 1)
    thread = threading.Thread(target=made.put_joints, args=(6 * SECOND_NS, {'a': 0.0, 'b': 0.0}))
    thread.start()
    assert made.wait_until(6 * SECOND_NS, 20.0)
    thread.join()


# Pictures


def test_keypoints_are_where_they_should_be_and_the_image_is_not_changed():
    image = np.zeros((240, 320, 3), np.uint8)
    drawn = draw_keypoints(image, [[(0.9, 0.1)], [(0.1, 0.5)]], [[(0.5, 0.9)]])
    assert drawn.shape == image.shape
    assert not image.any()
    assert tuple(drawn[24, 288]) == SEEN[0]
    assert tuple(drawn[120, 32]) == SEEN[1]
    assert tuple(drawn[216, 160]) == EXPECTED[0]
    assert not drawn[216, 32].any()


def test_small_images_are_enlarged_and_stay_what_they_are():
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    drawn = draw_keypoints(image, [])
    assert drawn.shape == (240, 320, 3)
    np.testing.assert_array_equal(drawn[2::5, 2::5], image)


@pytest.mark.parametrize('place', [(np.nan, 0.5), (np.inf, -np.inf), (1e30, 0.0), (-0.2, 1.3)])
def test_keypoints_that_are_nowhere_are_not_drawn(place):
    image = np.zeros((240, 320, 3), np.uint8)
    assert not draw_keypoints(image, [[place]]).any()
