"""policy_node on a real graph: each safety rule trips, says so, and lets go when it should."""

import threading

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from policy_rig import HOME, NAMES, PERIOD_NS, START_NS, drifting, policy_rig, wilful

from vlm_nodes import messages

INPUTS = ('rgb', 'depth', 'gelsight1', 'joint_states')
FREE = {'ramp_s': 0.0, 'max_velocity': 100.0}


@pytest.mark.parametrize('late', INPUTS)
def test_an_input_that_is_late_holds_and_goes_on_when_it_is_back(tmp_path, late):
    with policy_rig(drifting(), tmp_path, ramp_s=0.5) as rig:
        rig.started(8)
        assert rig.state == 'running'
        rig.tick(3, without=(late,))
        assert rig.state == 'running'  # 0.3 s old, and no more
        held = rig.positions()[-1]
        sent = len(rig.commands)
        rig.tick(4, without=(late,))
        assert rig.state == 'holding'
        assert len(rig.commands) == sent + 4
        np.testing.assert_array_equal(rig.positions()[sent:], [held] * 4)
        rig.hears('holding: ', f'/{late}', '0.40 s old; holds after 0.3 s')
        status = rig.status()
        assert status.level == DiagnosticStatus.WARN
        assert f'holding: /{late}' in status.message
        rig.tick(3)
        assert rig.state == 'ramping'
        moved = np.diff(rig.positions()[-4:], axis=0)[:, 0]
        assert np.abs(moved).max() < 0.05  # slowly again: 0.1 at full speed
        rig.tick(5)
        assert rig.state == 'running'
        assert rig.status().message == 'OK'


def test_an_input_that_stays_away_stops_and_only_enabling_goes_on(tmp_path):
    with policy_rig(drifting(), tmp_path, stop_after_s=0.6) as rig:
        rig.started()
        rig.tick(7, without=('gelsight1',))
        assert rig.state == 'stopped'
        rig.hears('stopped: /gelsight1 is 0.70 s old; stops after 0.6 s', 'call ~/enable')
        sent = len(rig.commands)
        rig.tick(5)
        assert rig.state == 'stopped'
        assert len(rig.commands) == sent
        status = rig.status()
        assert status.level == DiagnosticStatus.ERROR
        assert 'stopped: /gelsight1 is 0.70 s old' in status.message
        rig.enable()
        rig.tick(2)
        assert rig.state == 'ramping'
        assert len(rig.commands) == sent + 2


def test_one_joint_that_is_no_longer_published_holds_and_is_named(tmp_path):
    with policy_rig(drifting(), tmp_path) as rig:
        rig.started()
        for _ in range(4):
            header = messages.header_message('', rig.now_ns + PERIOD_NS)
            some = messages.joint_state_message(NAMES[:2], HOME[:2], (), header)
            rig.tick(joint_states=some)
        assert rig.state == 'holding'
        assert rig.reason == "/joint_states: joint 'slide' is 0.40 s old; holds after 0.3 s"


def test_a_position_that_is_no_number_counts_as_none(tmp_path):
    with policy_rig(drifting(), tmp_path) as rig:
        rig.started()
        for _ in range(4):
            header = messages.header_message('', rig.now_ns + PERIOD_NS)
            bad = messages.joint_state_message(NAMES, (0.0, np.nan, 0.0), (), header)
            rig.tick(joint_states=bad)
        assert rig.state == 'holding'
        assert "the position of joint 'elbow' is nan" in rig.reason
        assert np.isfinite(rig.positions()).all()
        rig.tick(2)
        assert rig.state == 'ramping'


def test_stamps_of_another_clock_are_recognised(tmp_path):
    with policy_rig(drifting(), tmp_path) as rig:
        rig.tick(2, rgb=rig.inputs(1_700_000_000 * 10**9)['rgb'])
        assert 'in the future: by another clock? use_sim_time must fit' in rig.refused()


def test_joints_without_a_stamp_are_told_as_such(tmp_path):
    with policy_rig(drifting(), tmp_path) as rig:
        rig.tick(2, joint_states=rig.inputs(0)['joint_states'])
        assert rig.refused() == (
            '/joint_states: its messages have no stamp: its driver must fill in header.stamp'
        )
        rig.tick()
        rig.enable()


def test_images_that_become_smaller_than_their_crop_hold_and_are_named(tmp_path):
    with policy_rig(drifting(), tmp_path, **{'crop.color': [8, 0, 24, 24]}) as rig:
        rig.started()
        for _ in range(5):
            header = messages.header_message('', rig.now_ns + PERIOD_NS)
            small = np.zeros((12, 16, 3), np.uint8)
            rig.tick(rgb=messages.image_message(small, 'rgb8', header))
        assert rig.state == 'holding'
        assert 'policy: color: crop (8, 0, 24, 24) does not lie in an image of 16x12' in rig.reason
        rig.tick(3)
        assert rig.state == 'ramping'


def test_images_of_no_use_hold_and_say_why(tmp_path):
    with policy_rig(drifting(), tmp_path) as rig:
        rig.started()
        for _ in range(6):
            header = messages.header_message('', rig.now_ns + PERIOD_NS)
            depth = np.ones((12, 16), np.uint16)
            rig.tick(rgb=messages.image_message(depth, '16UC1', header))
        assert rig.state == 'holding'
        assert rig.reason.startswith("policy: /rgb cannot be used: encoding '16UC1'")
        assert rig.count('ticks failed') == 6
        rig.tick(3)
        assert rig.state == 'ramping'


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_wish_that_is_not_finite_stops_and_enabling_begins_anew(tmp_path, value):
    with policy_rig(drifting(), tmp_path) as rig:
        rig.started()
        sent = len(rig.commands)
        bias = rig.node._policy._model.to_outputs.bias
        before = bias[1].item()
        with torch.no_grad():
            bias[1] = value
        rig.tick(3)
        assert rig.state == 'stopped'
        rig.hears(f"stopped: the policy wants joint 'elbow' at {value}; call ~/enable to go on")
        assert len(rig.commands) == sent
        with torch.no_grad():
            bias[1] = before
        rig.tick(2)
        assert rig.state == 'stopped'
        rig.enable()
        rig.tick()
        assert len(rig.commands) == sent + 1
        assert np.isfinite(rig.positions()).all()


def test_deadlines_are_counted_and_a_model_that_hangs_holds(tmp_path):
    with policy_rig(drifting(), tmp_path) as rig:
        rig.started()
        sent = len(rig.commands)
        finish = threading.Event()
        step = rig.node._policy.step

        def slow(*arguments, **options):
            finish.wait()
            return step(*arguments, **options)

        rig.node._policy.step = slow
        rig.tick(3, wait=False)
        assert rig.count('deadline misses') == 2  # the first went to the model
        assert rig.state == 'ramping'
        rig.until(
            lambda: any('deadline(s) missed' in d.status[0].message for d in rig.diagnostics),
            'the complaint',
        )
        rig.tick(2, wait=False)
        assert rig.state == 'holding'
        assert rig.reason.startswith('policy: no result for 0.40 s: is the model too large')
        finish.set()
        rig.until(rig.node._pilot._worker.idle, 'the model')
        rig.tick(2)
        assert rig.state == 'ramping'
        rig.until(lambda: len(rig.commands) > sent, 'commands')
        assert rig.values()['deadline misses'] == str(rig.count('deadline misses'))


def test_a_model_that_hangs_too_long_stops(tmp_path):
    with policy_rig(drifting(), tmp_path, stop_after_s=0.5) as rig:
        rig.started()
        finish = threading.Event()
        step = rig.node._policy.step
        rig.node._policy.step = lambda *a, **k: finish.wait() and step(*a, **k)
        rig.tick(8, wait=False)
        assert rig.state == 'stopped'
        rig.until(lambda: len(rig.commands) == rig.sent(), 'the last command')
        sent = len(rig.commands)
        finish.set()
        rig.until(rig.node._pilot._worker.idle, 'the model')
        rig.tick(2)
        assert len(rig.commands) == sent


def test_a_joint_that_does_not_follow_stops(tmp_path):
    options = {'ramp_s': 0.0, 'joint_limits.elbow.max_lag': 0.15}
    with policy_rig(drifting((0.5, 0.5, 0.5)), tmp_path, **options) as rig:
        rig.follow = False
        rig.started(5)
        assert rig.state == 'stopped'
        rig.hears("joint 'elbow' is 0.2 from its last command, more than max_lag = 0.15")


def test_limits_of_single_joints_go_before_those_of_training(tmp_path):
    options = {'joint_limits.shoulder.max_position': 0.25, 'joint_limits.elbow.max_velocity': 0.1}
    with policy_rig(drifting(), tmp_path, ramp_s=0.0, **options) as rig:
        rig.started(10)
        assert rig.positions()[:, 0].max() == 0.25
        np.testing.assert_allclose(np.diff(rig.positions()[:, 1]), 0.01)


def test_time_that_jumps_back_disables(tmp_path):
    with policy_rig(drifting(), tmp_path) as rig:
        rig.started()
        sent = len(rig.commands)
        rig.now_ns = START_NS // 2
        rig.set_clock()
        rig.hears('time jumped back: inputs forgotten, nothing more is sent')
        rig.hears('disabled: time jumped back: enable again')
        assert rig.state == 'disabled'
        message = rig.refused()
        said = 'it has 1 publisher(s), but no message has come'
        assert all(f'/{name}: {said}' in message for name in INPUTS)
        rig.tick(3)
        assert len(rig.commands) == sent
        rig.enable()
        rig.tick(2)
        assert rig.state == 'ramping'
        assert len(rig.commands) == sent + 2


# What is remembered


def wishes(rig, ticks=3):
    """What the policy wants with equal inputs, tick by tick."""
    sent = len(rig.commands)
    rig.tick(ticks)
    return rig.positions()[sent:]


def test_enabling_and_resetting_begin_anew(tmp_path):
    with policy_rig(wilful(), tmp_path, **FREE) as rig:
        rig.follow = False
        rig.tick()
        rig.enable()
        first, later = wishes(rig), wishes(rig)
        assert np.abs(first - later).max() > 1e-3  # it remembers
        rig.call('enable', data=False)
        rig.enable()
        np.testing.assert_array_equal(wishes(rig), first)
        assert rig.call('reset').success
        np.testing.assert_array_equal(wishes(rig), first)


def test_resetting_and_a_new_task_slow_a_moving_robot_down(tmp_path):
    with policy_rig(drifting(), tmp_path, ramp_s=0.5) as rig:
        rig.started(7)
        assert rig.state == 'running'
        rig.call('reset')
        assert rig.state == 'ramping'


def touched(rig, level):
    header = messages.header_message('', rig.now_ns + PERIOD_NS)
    return messages.image_message(np.full((8, 8, 3), level, np.uint8), 'rgb8', header)


@pytest.mark.parametrize(('when', 'level'), [('enable', 200), ('reset', 90)])
def test_the_image_without_contact_is_the_first(tmp_path, when, level):
    """Enabled again while something is touched."""
    with policy_rig(drifting(), tmp_path, tactile_reference=when) as rig:
        rig.started(2)
        rig.tick(gelsight1=touched(rig, 140))
        assert rig.node._policy._references['gelsight1'].max() == 90
        rig.call('enable', data=False)
        rig.tick(gelsight1=touched(rig, 200))
        rig.enable()
        rig.tick(gelsight1=touched(rig, 200))
        assert rig.node._policy._references['gelsight1'].max() == level
        rig.call('reset')
        rig.tick(gelsight1=touched(rig, 77))
        assert rig.node._policy._references['gelsight1'].max() == 77


def test_nothing_is_sent_once_disabling_was_answered(tmp_path):
    """Even what the model was at work on."""
    with policy_rig(drifting(), tmp_path) as rig:
        rig.started()
        finish = threading.Event()
        step = rig.node._policy.step
        rig.node._policy.step = lambda *a, **k: finish.wait() and step(*a, **k)
        rig.tick(wait=False)
        rig.call('enable', data=False)
        sent = rig.count('commands sent')
        finish.set()
        rig.until(rig.node._pilot._worker.idle, 'the model')
        assert rig.count('commands sent') == sent


def test_what_the_model_was_at_work_on_is_not_sent_after_enabling_anew(tmp_path):
    with policy_rig(drifting(), tmp_path) as rig:
        rig.started()
        finish = threading.Event()
        step = rig.node._policy.step
        rig.node._policy.step = lambda *a, **k: finish.wait() and step(*a, **k)
        rig.tick(wait=False)
        rig.call('enable', data=False)
        rig.enable()
        sent = rig.count('commands sent')
        finish.set()
        rig.until(rig.node._pilot._worker.idle, 'the model')
        assert rig.count('commands sent') == sent
        rig.tick()
        assert rig.count('commands sent') == sent + 1
