import numpy as np
import pytest

from vlm_nodes.simulation.arm.command import CommandInbox
from vlm_nodes.simulation.arm.kinematics import JOINTS, UPPER_RAD

START = np.array([0.1, 1.2, -1.5, 0.3])


@pytest.fixture
def inbox():
    box = CommandInbox()
    box.clear(START, begin_ns=1000)
    return box


def test_joints_that_are_not_named_keep_their_targets(inbox):
    np.testing.assert_array_equal(inbox.take(), START)
    assert inbox.put({'wrist': 0.5, 'base_yaw': -0.2}) == ''
    np.testing.assert_array_equal(inbox.take(), [-0.2, 1.2, -1.5, 0.5])


def test_what_is_beyond_the_limits_is_kept_within_and_told(inbox):
    assert inbox.put({'base_yaw': 7.0}) == 'base_yaw kept within the limits'
    assert inbox.take()[0] == UPPER_RAD[0]


@pytest.mark.parametrize(
    ('positions', 'stamp_ns', 'message'),
    [
        ({}, 0, 'no position of any joint'),
        ({'wrist': 0.0, 'knee': 1.0}, 0, "no joint 'knee': the joints are base_yaw, shoulder"),
        ({'wrist': np.nan}, 0, 'the position of wrist is nan'),
        ({'wrist': 0.0}, 999, 'before this episode began'),
    ],
)
def test_a_bad_command_changes_nothing(inbox, positions, stamp_ns, message):
    with pytest.raises(ValueError, match=message):
        inbox.put(positions, stamp_ns)
    np.testing.assert_array_equal(inbox.take(), START)
    assert not inbox.answers(1000)


def test_a_command_answers_its_own_tick_once(inbox):
    command = dict.fromkeys(JOINTS, 0.5)
    inbox.put(command, 1000)
    assert inbox.answers(1000)
    assert not inbox.answers(1100)
    inbox.take()
    assert not inbox.answers(1000)


def test_a_command_without_a_stamp_answers_any_tick(inbox):
    inbox.put({'wrist': 0.0})
    assert inbox.answers(1_000_000)
