"""The guard: each rule trips when it should, says so, and lets go when it should."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_nodes.sarnn.command import JointLimits
from vlm_nodes.sarnn.safety import CommandGuard, GuardConfig, GuardState

NAMES = ('shoulder', 'elbow')
SPEED = (1.0, 2.0)
CONFIG = GuardConfig(
    JointLimits(NAMES, (-1.0, -1.0), (1.0, 1.0), SPEED, (math.inf, 0.5)),
    period_s=0.1,
    ramp_s=1.0,
    hold_after_s=0.3,
    stop_after_s=2.0,
)
FRESH = {'rgb': 0.05, 'joint_states': 0.01}
HOME = np.array([0.2, -0.2])
FAR = np.array([1.0, 1.0])


def enabled(now_s=10.0):
    guard = CommandGuard(CONFIG)
    guard.enable(HOME, now_s)
    return guard


def follow(guard, now_s, target=FAR, measured=None):
    """One tick of a robot that follows at once."""
    last = guard.command(target, guard._last if measured is None else measured, now_s)
    return None if last is None else last.positions


def run(guard, start_s, seconds):
    commands = [follow(guard, start_s + 0.1 * i) for i in range(round(seconds / 0.1))]
    return np.array(commands)


def test_it_starts_disabled_and_sends_nothing():
    guard = CommandGuard(CONFIG)
    assert guard.state is GuardState.DISABLED
    assert guard.reason == 'not enabled yet'
    assert guard.check(FRESH, 1.0) is None
    assert guard.command(HOME, HOME, 1.0) is None


def test_speed_rises_from_the_measured_pose():
    guard = enabled()
    commands = run(guard, 10.0, 2.0)
    np.testing.assert_array_equal(commands[0], HOME)
    steps = np.diff(commands[:, 0])
    expected = np.minimum(0.1 * np.arange(1, 20) / 10, 0.1)
    until = np.flatnonzero(commands[:, 0] == 1.0)[0] - 1
    np.testing.assert_allclose(steps[:until], expected[:until], atol=1e-9)
    assert guard.state is GuardState.RUNNING
    assert guard.reason == ''


def test_a_ramp_of_no_time_runs_at_once():
    guard = CommandGuard(GuardConfig(CONFIG.limits, ramp_s=0.0))
    guard.enable(HOME, 0.0)
    guard.command(FAR, HOME, 0.1)
    assert guard.state is GuardState.RUNNING


def test_a_late_command_moves_no_farther_than_one_in_time():
    guard = enabled()
    run(guard, 10.0, 1.2)
    before = guard._last.copy()
    late = follow(guard, 10.0 + 1.1 + 1.5, target=-FAR)
    assert guard.state is GuardState.RUNNING
    np.testing.assert_allclose(before - late, [0.1, 0.2])


@pytest.mark.parametrize('late', ['rgb', 'joint_states'])
def test_an_old_input_holds_and_then_a_new_ramp_begins_at_what_was_held(late):
    guard = enabled()
    run(guard, 10.0, 1.2)
    held = guard._last.copy()
    again = guard.check(FRESH | {late: 0.31}, 11.3)
    np.testing.assert_array_equal(again, held)
    assert guard.state is GuardState.HOLDING
    assert guard.reason == f'{late} is 0.31 s old; holds after 0.3 s'
    assert guard.command(FAR, held, 11.3) is None
    np.testing.assert_array_equal(guard.check(FRESH | {late: 1.9}, 12.8), held)
    assert guard.check(FRESH, 12.9) is None
    assert (guard.state, guard.reason) == (GuardState.RAMPING, '')
    np.testing.assert_array_equal(follow(guard, 12.9, target=-FAR), held)
    slow = held - follow(guard, 13.0, target=-FAR)
    np.testing.assert_allclose(slow, [0.01, 0.02], atol=1e-9)


def test_an_input_that_stays_away_stops_and_only_enabling_gets_out():
    guard = enabled()
    guard.check(FRESH | {'rgb': 1.0}, 11.0)
    assert guard.check(FRESH | {'rgb': 2.1}, 12.1) is None
    assert guard.state is GuardState.STOPPED
    assert guard.reason == 'rgb is 2.10 s old; stops after 2 s'
    assert guard.check(FRESH, 12.2) is None
    assert guard.command(HOME, HOME, 12.2) is None
    assert guard.state is GuardState.STOPPED
    guard.enable(HOME, 13.0)
    assert guard.state is GuardState.RAMPING
    np.testing.assert_array_equal(follow(guard, 13.0), HOME)


@pytest.mark.parametrize(
    ('age_s', 'state', 'said'),
    [
        (math.inf, GuardState.STOPPED, 'rgb never came'),
        (math.nan, GuardState.STOPPED, 'rgb'),
        (-0.5, GuardState.HOLDING, 'rgb is stamped 0.50 s in the future'),
        (1.7e9, GuardState.STOPPED, '1700000000 s in the past: by another clock? use_sim_time'),
        (-1.7e9, GuardState.STOPPED, '1700000000 s in the future: by another clock?'),
    ],
)
def test_stamps_that_cannot_be(age_s, state, said):
    guard = enabled()
    guard.check(FRESH | {'rgb': age_s}, 10.1)
    assert guard.state is state
    assert said in guard.reason


def test_what_is_known_about_a_late_input_is_said():
    guard = enabled()
    guard.check(FRESH | {'policy': 0.5}, 10.1, {'policy': 'the model takes 0.5 s'})
    assert guard.reason == 'policy: the model takes 0.5 s; holds after 0.3 s'


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_a_target_that_is_not_finite_stops(value):
    guard = enabled()
    assert guard.command(np.array([0.0, value]), HOME, 10.1) is None
    assert guard.state is GuardState.STOPPED
    assert guard.reason == f"the policy wants joint 'elbow' at {value}"


def test_a_pose_that_is_not_finite_is_no_beginning():
    guard = CommandGuard(CONFIG)
    with pytest.raises(ValueError, match="joint 'shoulder' at nan: cannot begin"):
        guard.enable(np.array([math.nan, 0.0]), 0.0)
    assert guard.state is GuardState.DISABLED


def test_a_joint_that_does_not_follow_stops():
    guard = enabled()
    moved = run(guard, 10.0, 1.5)[-1]
    stuck = np.array([HOME[0], moved[1] - 0.51])
    assert guard.command(FAR, stuck, 11.5) is None
    assert guard.state is GuardState.STOPPED
    assert guard.reason.startswith("joint 'elbow' is 0.51 from its last command, more than max_lag")


def test_disabling_sends_nothing_more():
    guard = enabled()
    guard.disable('somebody asked')
    assert guard.command(HOME, HOME, 10.1) is None
    assert guard.check(FRESH | {'rgb': 5.0}, 10.1) is None
    assert (guard.state, guard.reason) == (GuardState.DISABLED, 'somebody asked')


ticks = st.tuples(
    st.floats(0.0, 0.3),  # seconds since the last
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.floats(0.0, 0.6),  # age of the camera
)


@settings(max_examples=200)
@given(st.lists(ticks, max_size=40))
def test_whatever_happens_what_is_sent_stays_within_the_limits(events):
    """Speed against the command before, over the time that really passed."""
    guard = enabled(0.0)
    now_s, before_s, before = 0.0, 0.0, HOME
    for elapsed_s, first, second, age_s in events:
        now_s += elapsed_s
        sent = guard.check(FRESH | {'rgb': age_s}, now_s)
        if sent is None:
            sent = follow(guard, now_s, np.array([first, second]))
        assert guard.state is not GuardState.STOPPED
        assert (sent is not None) == (guard.state is not GuardState.STOPPED)
        assert (np.abs(sent) <= 1.0).all()
        moved = np.abs(sent - before)
        assert (moved <= np.array(SPEED) * (now_s - before_s) + 1e-9).all()
        assert (moved <= np.array(SPEED) * CONFIG.period_s + 1e-9).all()
        before_s, before = now_s, sent


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'period_s': 0.0}, 'period_s = 0.0'),
        ({'ramp_s': -1.0}, 'ramp_s = -1.0'),
        ({'hold_after_s': 0.0}, 'hold_after_s = 0.0'),
        ({'hold_after_s': 3.0}, 'stop_after_s = 2.0'),
    ],
)
def test_rules_that_are_none_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        GuardConfig(CONFIG.limits, **change)
