"""playback_node as a process, with a real mapping_node or an onlooker that listens."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from mapping_rig import PATIENCE_S, distance_to_room, mapping_rig
from ray_cast_rooms import BOXES, DEPTH_CAMERA, ROOM, record_room, write_vlmaps
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image

from vlm_nodes import messages
from vlm_nodes.mapping.dataset_options import open_recording

EXECUTABLE = [sys.executable, '-c', 'from vlm_nodes.executables import playback_node as p; p()']
REPOSITORY = Path(__file__).resolve().parents[2]
FRAMES = 5
DEEP = QoSProfile(depth=100)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_vlmaps(tmp_path_factory.mktemp('data') / 'room', record_room(FRAMES))


@contextmanager
def playback(domain, *words):
    """A playback's process; killed at the end if it still runs."""
    environment = os.environ | {'ROS_DOMAIN_ID': str(domain)}
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
    command = [*EXECUTABLE, *map(str, words)]
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_folder_played_is_a_map_of_its_room(folder):
    # What is best effort may be lost before both sides know of each other.
    options = {'sensor_reliability': 'reliable', 'depth_registered': False, 'frames_waiting': 50}
    with mapping_rig(**options) as rig, playback(rig.domain, folder, '--rate', 20) as process:
        _, said = process.communicate(timeout=3 * PATIENCE_S)
        assert process.returncode == 0, said
        assert f'the end, after {FRAMES} frames' in said
        rig.until(lambda: rig.count('frames fused') == FRAMES, f'{FRAMES} frames')
        points = rig.node._mapper.map.exact_points()
    assert len(points) > 1000
    assert np.percentile(distance_to_room(points, BOXES, ROOM), 95) < 0.05


def test_the_recorded_stamps_go_out_on_the_clock_as_well(folder):
    recorded = open_recording(folder)
    # On topics of their own, and images last: the playback begins once these have a listener.
    remaps = ('--ros-args', '-r', 'rgb:=seen/rgb', '-r', 'depth:=seen/depth')
    with mapping_rig(use_sim_time=True) as rig:
        clocks = rig.listen(Clock, '/clock', qos=DEEP)
        infos = rig.listen(CameraInfo, 'camera_info', qos=DEEP)
        images = rig.listen(Image, 'seen/rgb', qos=DEEP)
        depths = rig.listen(Image, 'seen/depth', qos=DEEP)
        with playback(rig.domain, folder, '--rate', 20, '--clock', *remaps) as process:
            process.communicate(timeout=3 * PATIENCE_S)
            assert process.returncode == 0
        everything = (clocks, images, depths, infos)
        rig.until(lambda: all(len(kind) == FRAMES for kind in everything), 'all frames')
    for frame, clock, image, depth, info in zip(recorded, *everything, strict=True):
        assert messages.stamp_ns(clock.clock) == frame.stamp_ns
        for message in (image, depth, info):
            assert messages.stamp_ns(message.header.stamp) == frame.stamp_ns
        np.testing.assert_array_equal(messages.rgb_from_image(image), frame.rgb)
        np.testing.assert_array_equal(messages.depth_from_image(depth), frame.depth_m)
        camera = messages.camera_from_info(info)
        np.testing.assert_allclose(camera.matrix(), DEPTH_CAMERA.matrix())


def test_a_signal_ends_the_wait_for_listeners(folder, ros_domain):
    with playback(ros_domain, folder) as process:
        assert 'waiting for listeners' in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=3 * PATIENCE_S)
    assert 'Traceback' not in said


@pytest.mark.parametrize(
    ('words', 'reason'),
    [(('/nowhere',), '/nowhere'), (('--rate', '0'), '--rate 0.0 is not positive')],
)
def test_what_cannot_be_played_is_said_in_one_line(folder, ros_domain, words, reason):
    with playback(ros_domain, *(words if len(words) == 1 else (folder, *words))) as process:
        _, said = process.communicate(timeout=3 * PATIENCE_S)
    assert process.returncode == 2
    assert reason in said
    assert said.count('\n') == 1
