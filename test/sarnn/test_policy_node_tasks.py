"""policy_node with policies that are told what to do, and its start."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rclpy
from policy_rig import drifting, policy_rig, wilful
from rclpy.context import Context
from rclpy.parameter import Parameter

from vlm_nodes.clip.encoder import Encoder
from vlm_nodes.node import StartError
from vlm_nodes.sarnn import ClipBranchConfig, TextConfig, save_policy
from vlm_nodes.sarnn.node import PolicyNode

REPOSITORY = Path(__file__).resolve().parents[2]
RED, BLUE = 'reach the red ball', 'reach the blue ball'
FREE = {'ramp_s': 0.0, 'max_velocity': 100.0}


@pytest.fixture(scope='module')
def encoder():
    return Encoder.load('tiny', num_threads=1)


def spoken(encoder, **changes):
    text = TextConfig('tiny', None, encoder.identity.rpartition('/')[0])
    told = {'tasks': (RED, BLUE), 'text_dim': encoder.dim, 'text': text}
    return wilful(**(told | changes))


def branch(encoder, **changes):
    values = {
        'model': 'tiny',
        'pretrained': None,
        'method': 'naclip',
        'identity': encoder.identity,
        'dim': encoder.dim,
        'grid': (4, 4),
        'image_size': None,
        'source_size': (24, 32),
        'k_dim': 2,
    }
    return ClipBranchConfig(**(values | changes))


def wishes(rig, ticks=2):
    sent = len(rig.commands)
    rig.tick(ticks)
    return rig.positions()[sent:]


def test_a_task_is_needed_heard_and_changes_what_it_does(tmp_path, encoder):
    with policy_rig(spoken(encoder), tmp_path, **FREE) as rig:
        rig.follow = False
        rig.tick()
        assert rig.refused() == 'this policy needs a task: call set_task first'
        assert 'needs a task' in rig.status().message
        empty = rig.call('set_task', text='  ')
        assert (empty.success, empty.message) == (
            False,
            'the task is empty: say in words what to do',
        )
        answer = rig.call('set_task', text=RED)
        assert (answer.success, answer.message) == (True, f'the task is {RED!r}')
        rig.enable()
        red = wishes(rig)
        assert rig.call('set_task', text=f' {BLUE} ').success
        blue = wishes(rig)
        assert np.abs(red - blue).max() > 1e-3
        rig.call('set_task', text=RED)
        np.testing.assert_array_equal(wishes(rig), red)  # it began anew
        assert rig.values()['task'] == RED


def test_a_task_that_was_not_trained_on_is_accepted_with_a_warning(tmp_path, encoder):
    with policy_rig(spoken(encoder), tmp_path, task=RED) as rig:
        rig.tick()
        rig.enable()
        answer = rig.call('set_task', text='dance')
        assert answer.success
        assert answer.message == (
            f"'dance' is none of the tasks trained on ({RED!r}, {BLUE!r}): watch what it does"
        )
        rig.hears("'dance' is none of the tasks trained on")
        assert rig.values()['task'] == 'dance'


def test_a_task_given_at_the_start_slows_nothing_down_and_a_new_one_does(tmp_path, encoder):
    with policy_rig(spoken(encoder), tmp_path, task=RED, ramp_s=0.3) as rig:
        rig.started(5)
        assert rig.state == 'running'
        rig.call('set_task', text=BLUE)
        assert rig.state == 'ramping'


def test_a_policy_without_language_cannot_be_told_a_task(tmp_path):
    with policy_rig(drifting(), tmp_path) as rig:
        answer = rig.call('set_task', text=RED)
        assert not answer.success
        assert 'trained without language' in answer.message


def test_patch_features_of_the_encoder_of_training_are_seen(tmp_path, encoder):
    model = spoken(encoder, clip=branch(encoder), text=None)
    with policy_rig(model, tmp_path, task=RED, measured=0.5, **FREE) as rig:
        rig.follow = False
        rig.started(3)
        assert rig.state == 'running'
        assert len(rig.commands) == 3
        assert np.isfinite(rig.positions()).all()


# Starting


def started(ros_domain, **parameters):
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    try:
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        PolicyNode(context=context, parameter_overrides=overrides).destroy_node()
    finally:
        context.shutdown()


@pytest.mark.parametrize(
    ('parameters', 'said'),
    [
        ({}, 'parameter checkpoint is empty: name the file of a trained policy'),
        ({'checkpoint': '/nowhere/policy'}, '/nowhere/policy: there is no such file'),
        ({'task': RED}, 'trained without language'),
        ({'device': 'abacus'}, "'abacus'"),
        ({'command_type': 'carrier pigeon'}, 'command_type'),
        ({'command_joints': ['wing']}, "no joint 'wing'; it has shoulder, elbow, slide"),
        ({'hold_after_s': 3.0}, 'hold_after_s = 3.0'),
        ({'joint_limits.elbow.max_velocity': 0.0}, "joint 'elbow': max_velocity = 0.0"),
        ({'crop.color': [0, 0, 0, 5]}, 'parameter crop.color is [0, 0, 0, 5]'),
        ({'rate_hz': -1.0}, 'rate_hz'),
    ],
)
def test_a_start_that_cannot_be_says_why(tmp_path, ros_domain, parameters, said):
    path = tmp_path / 'policy.safetensors'
    save_policy(path, drifting())
    checkpoint = {'checkpoint': str(path)} if parameters else {}
    with pytest.raises(StartError) as caught:
        started(ros_domain, **(checkpoint | parameters))
    assert said in str(caught.value)
    assert '\n' not in str(caught.value)


def test_another_encoder_than_in_training_is_refused(tmp_path, ros_domain, encoder):
    path = tmp_path / 'policy.safetensors'
    other = branch(encoder, identity='other/0123/naclip')
    save_policy(path, spoken(encoder, clip=other, text=None))
    with pytest.raises(StartError, match='trained with the encoder other/0123/naclip'):
        started(ros_domain, checkpoint=str(path))


def test_another_encoder_of_tasks_than_in_training_is_refused(tmp_path, ros_domain, encoder):
    path = tmp_path / 'policy.safetensors'
    save_policy(path, spoken(encoder, text=TextConfig('tiny', None, 'tiny/0123')))
    with pytest.raises(StartError, match=r'embedded by the encoder tiny/0123, but .* tiny/'):
        started(ros_domain, checkpoint=str(path))


def test_an_encoder_that_is_not_there_is_named_with_the_policys(tmp_path, ros_domain, encoder):
    path = tmp_path / 'policy.safetensors'
    save_policy(path, spoken(encoder, text=TextConfig('ViT-B-99', None, 'ViT-B-99/0123')))
    with pytest.raises(StartError, match=r'encoder of this policy \(ViT-B-99/0123\)'):
        started(ros_domain, checkpoint=str(path))
    # Named where it is now, it is another one still.
    with pytest.raises(StartError, match='embedded by the encoder ViT-B-99/0123'):
        started(ros_domain, checkpoint=str(path), model='tiny')


def test_the_process_says_one_line_and_ends_with_status_1(tmp_path, ros_domain):
    path = tmp_path / 'policy.safetensors'
    path.write_bytes(b'no weights at all')
    command = [sys.executable, '-m', 'vlm_nodes.sarnn.node', '--ros-args']
    ended = subprocess.run(
        [*command, '-p', f'checkpoint:={path}'],
        cwd=REPOSITORY,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f'{path}: no policy, or damaged')
