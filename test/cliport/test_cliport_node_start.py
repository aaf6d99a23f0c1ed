"""How cliport_node starts, how it does not, and how it ends."""

import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import rclpy
from cliport_rig import PATIENCE_S, UNSURE, WORKSPACE, cliport_rig, save_model
from rcl_interfaces.msg import Log
from rclpy.context import Context
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from small_cliport import SENTENCE

from vlm_nodes.cliport.checkpoint import CONFIG_NAME, WEIGHTS_NAME
from vlm_nodes.cliport.node import CliportNode
from vlm_nodes.messages import SECOND_NS
from vlm_nodes.node import LATCHED_QUEUE, StartError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def refused(ros_domain):
    """What the node says that does not start."""
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)

    def start(**parameters):
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        with pytest.raises(StartError) as error:
            CliportNode(context=context, parameter_overrides=overrides)
        return str(error.value)

    yield start
    context.try_shutdown()


def test_a_checkpoint_has_to_be_named_and_whole(refused, tmp_path):
    assert 'parameter checkpoint is empty' in refused()
    assert 'cannot read a CLIPort checkpoint' in refused(checkpoint=str(tmp_path))
    folder = save_model(tmp_path / 'model')
    weights = (folder / WEIGHTS_NAME).read_bytes()
    (folder / WEIGHTS_NAME).write_bytes(weights[:-100])
    assert 'it is damaged' in refused(checkpoint=str(folder))
    (folder / WEIGHTS_NAME).unlink()
    assert f'no file {WEIGHTS_NAME}' in refused(checkpoint=str(folder))
    (folder / CONFIG_NAME).write_text('{}')
    assert 'is no page of a CLIPort checkpoint' in refused(checkpoint=str(folder))


def test_parameters_that_do_not_fit_are_named(refused, tmp_path):
    checkpoint = str(save_model(tmp_path))
    assert 'whole number' in refused(checkpoint=checkpoint, x_max_m=0.7501)
    assert 'device' in refused(checkpoint=checkpoint, device='warp')
    assert 'precision' in refused(checkpoint=checkpoint, precision='int4')
    assert 'twice' in refused(checkpoint=checkpoint, cameras=['front', 'front'])
    assert 'cannot begin the name' in refused(checkpoint=checkpoint, cameras=['0 left'])
    assert 'depth_scale.left' in refused(
        checkpoint=checkpoint, cameras=['left'], **{'depth_scale.left': 50.0}
    )


def test_a_checkpoint_of_other_pixels_is_refused(refused, tmp_path):
    checkpoint = str(save_model(tmp_path, workspace=asdict(WORKSPACE)))
    said = refused(checkpoint=checkpoint)
    assert 'cannot work on this workspace' in said
    assert 'pixel_m is 0.003125, in training it was 0.01' in said


def test_a_checkpoint_of_other_bounds_works_and_is_warned_of(ros_domain, tmp_path):
    checkpoint = save_model(tmp_path, workspace=asdict(WORKSPACE))
    with cliport_rig(ros_domain, checkpoint, x_max_m=0.85, **UNSURE) as rig:
        logs = []
        rig.listen(Log, '/rosout', logs, LATCHED_QUEUE)
        said = 'the workspace is another than in training: x_range_m is (0.25, 0.85)'
        rig.until(lambda: any(said in log.msg for log in logs), said)
        assert rig.ask(SENTENCE).success


def test_the_process_ends_in_order(ros_domain, tmp_path):
    words = [sys.executable, '-m', 'vlm_nodes.cliport.node', '--ros-args', '-p']
    process = subprocess.Popen(
        [*words, f'checkpoint:={save_model(tmp_path)}'],
        cwd=REPOSITORY,
        env=os.environ | {'ROS_DOMAIN_ID': str(ros_domain), 'PYTHONUNBUFFERED': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert any('planning in' in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert 'Traceback' not in rest


def test_simulated_time_that_stands_still_is_told(ros_domain, tmp_path):
    checkpoint = save_model(tmp_path)
    options = {'use_sim_time': True, 'image_timeout_s': 0.3} | UNSURE
    with cliport_rig(ros_domain, checkpoint, **options) as rig:
        answer = rig.ask(SENTENCE)
        assert (answer.success, answer.message) == (
            False,
            'use_sim_time is set, but nobody publishes /clock',
        )


def test_simulated_time_may_come_a_little_later(ros_domain, tmp_path):
    with cliport_rig(ros_domain, save_model(tmp_path), use_sim_time=True, **UNSURE) as rig:
        clock = rig.robot.create_publisher(Clock, '/clock', 10)
        goal, stages = rig.send_goal(SENTENCE)
        rig.until(lambda: stages, 'the first stage')
        rig.robot.create_timer(0.05, lambda: clock.publish(Clock(clock=rig.now())))
        assert rig.wait(goal.get_result_async()).result.success


def test_time_that_jumps_back_forgets_images(ros_domain, tmp_path):
    def play(rig):
        rig.stamp_ns = 500 * SECOND_NS  # of a recording

    options = {'max_age_s': -1.0, 'prepare': play, **UNSURE}
    with cliport_rig(ros_domain, save_model(tmp_path), **options) as rig:
        assert rig.ask(SENTENCE).success
        rig.stamp_ns = 20 * SECOND_NS  # the recording begins anew
        # Images of before that were on their way may make it begin once more.
        rig.until(lambda: int(rig.values()[1].get('restarts of time', 0)) >= 1, 'the restart')

        def answer_of_now():
            answer = rig.ask(SENTENCE)
            return answer if answer.header.stamp.sec == 20 else None

        answer = rig.until(answer_of_now, 'an answer of the new time')
        assert answer.success, answer.message
