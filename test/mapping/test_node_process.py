"""mapping_node as a process: how it ends, and how it refuses to start."""

import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import rclpy
from color_oracle import ColorOracle
from mapping_rig import CAMERA, POSES, SECOND_NS, VIEWS
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage
from vlm_interfaces.srv import QueryMap, SaveMap

from vlm_nodes import messages
from vlm_nodes.mapping.node import MappingNode
from vlm_nodes.node import LONGEST_END_S, StartError
from vlm_nodes.transforms import transform_message

EXECUTABLE = ['-c', 'from vlm_nodes.executables import mapping_node; mapping_node()']
# Says when Python itself has started, whose own way with signals leaves a traceback.
MINDING = [
    '-c',
    'from vlm_nodes import executables; executables._end_on_signals(); '
    "print('minds'); executables.mapping_node()",
]
SLOW = [str(Path(__file__).with_name('slow_mapping_node.py'))]
REPOSITORY = Path(__file__).resolve().parents[2]
NUMBERS = [signal.SIGINT, signal.SIGTERM]
PATIENCE_S = 60.0


@contextmanager
def process(program, *words, **parameters):
    """A node's process; killed at the end if it still runs."""
    parameters = {'model': 'none'} | parameters
    given = [word for item in parameters.items() for word in ('-p', '{}:={}'.format(*item))]
    command = [sys.executable, '-u', *program, *words, '--ros-args', *given]
    pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True}
    with subprocess.Popen(command, cwd=REPOSITORY, **pipes) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.fixture
def robot(ros_domain):
    """A node of the test's own, on the test's own domain."""
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node = rclpy.create_node('robot', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield node
    executor.shutdown()
    node.destroy_node()
    context.shutdown()


def client(node, kind, name):
    made = node.create_client(kind, name)
    assert made.wait_for_service(PATIENCE_S)
    return made


def quiet_end(process, number):
    """Send a signal; the process ends by itself, at once and without a trace."""
    process.send_signal(number)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert 'Traceback' not in stderr
    assert 'Error' not in stderr
    return process.returncode


def test_the_longest_end_is_within_two_seconds():
    assert LONGEST_END_S < 2


@pytest.mark.parametrize('number', NUMBERS)
def test_signals_end_it_while_it_waits(robot, number):
    with process(EXECUTABLE) as started:
        client(robot, Trigger, 'mapping_node/reset')
        assert quiet_end(started, number) == 0


@pytest.mark.parametrize('number', NUMBERS)
@pytest.mark.parametrize('after_s', [0.4, 0.8, 1.2])
def test_signals_end_it_while_it_starts(ros_domain, number, after_s):
    """Wherever it may be by then: a signal before the node minds it just ends the process."""
    with process(MINDING) as started:
        assert started.stdout.readline() == 'minds\n'
        time.sleep(after_s)
        assert quiet_end(started, number) in (0, -number)


@pytest.mark.parametrize('number', NUMBERS)
def test_a_start_that_swallows_the_signal_ends_all_the_same(ros_domain, number):
    with process(SLOW, 'start') as started:
        assert started.stdout.readline() == 'start\n'
        assert quiet_end(started, number) == 0


@pytest.mark.parametrize('number', NUMBERS)
def test_signals_end_it_while_it_computes_answers_and_saves(robot, tmp_path, number):
    path = tmp_path / 'room.npz'
    with process(SLOW) as started:
        save = client(robot, SaveMap, 'mapping_node/save_map')
        save.call_async(SaveMap.Request(path=str(path)))
        assert started.stdout.readline() == 'save\n'
        client(robot, QueryMap, 'query_map').call_async(QueryMap.Request(text='slowly'))
        assert started.stdout.readline() == 'query\n'
        with frames_of(robot):
            assert started.stdout.readline() == 'fusion\n'
        assert quiet_end(started, number) == 0
    assert not path.exists()


@contextmanager
def frames_of(robot):
    """Meanwhile the robot sends one frame again and again.

    Once would not do: sensor data are sent best effort, and the publishers may know of the node
    before it knows of them.
    """
    stamp = messages.stamp_message(SECOND_NS)
    header = messages.header_message('camera', stamp)
    rgb, depth_m = VIEWS[0]
    sent = {
        'camera_info': messages.camera_info_message(CAMERA, header),
        '/tf': TFMessage(transforms=[transform_message('map', 'camera', POSES[0], stamp)]),
        'rgb': messages.image_message(rgb, 'rgb8', header),
        'depth': messages.image_message(depth_m, '32FC1', header),
    }
    kinds = {'camera_info': CameraInfo, '/tf': TFMessage, 'rgb': Image, 'depth': Image}
    publishers = {t: robot.create_publisher(kind, t, 10) for t, kind in kinds.items()}
    enough = threading.Event()

    def send():
        while not enough.wait(0.1):
            for topic, message in sent.items():
                publishers[topic].publish(message)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        enough.set()
        sender.join()


# Refusing to start


@pytest.mark.parametrize(
    ('parameters', 'words'),
    [
        ({'voxel_size_m': 'thick'}, "'voxel_size_m'"),
        ({'min_depth_m': 7.0}, 'max_depth_m = 6.0 is not above min_depth_m = 7.0'),
    ],
)
def test_a_bad_parameter_ends_it_with_one_line(ros_domain, parameters, words):
    with process(EXECUTABLE, **parameters) as started:
        _, stderr = started.communicate(timeout=PATIENCE_S)
    assert started.returncode == 1
    assert words in stderr
    assert stderr.count('\n') == 1


def test_bad_ros_arguments_end_it_with_a_line_of_its_own(ros_domain):
    with process(EXECUTABLE, '--ros-args', '--params-file', '/nowhere.yaml', '--') as started:
        _, stderr = started.communicate(timeout=PATIENCE_S)
    assert started.returncode == 1
    assert 'bad ROS arguments' in stderr.splitlines()[-1]
    assert '/nowhere.yaml' in stderr.splitlines()[-1]
    assert 'Traceback' not in stderr


@pytest.fixture(scope='module')
def context():
    made = Context()
    rclpy.init(context=made, domain_id=0)
    yield made
    made.shutdown()


@pytest.mark.parametrize(
    ('parameters', 'words'),
    [
        ({'sync_queue': 0}, 'sync_queue out of range'),
        ({'voxel_size_m': 1}, 'DOUBLE'),
        ({'voxel_size_m': float('nan')}, 'voxel_size_m'),
        ({'rgb_transport': 'theora'}, "rgb_transport is 'theora', not one of raw, compressed"),
        ({'map_frame': ''}, 'map_frame is empty'),
        ({'cameras': ['left', 'the right']}, "'the right' cannot begin the name of a topic"),
        ({'autosave_period_s': 1.0}, 'map_file is not'),
        ({'load_at_start': True, 'map_file': '/nowhere/room.npz'}, '/nowhere/room.npz'),
        ({'obstacle_names': 'table'}, 'obstacle_names'),
    ],
)
def test_every_bad_parameter_is_named_in_one_line(context, parameters, words):
    overrides = [Parameter(name, value=value) for name, value in parameters.items()]
    with pytest.raises(StartError) as error:
        MappingNode(encoder=ColorOracle(), context=context, parameter_overrides=overrides)
    assert words in str(error.value)
    assert '\n' not in str(error.value)


def test_missing_weights_are_named_in_one_line(context):
    missing = {'model': 'tiny', 'pretrained': '/nowhere/tiny.safetensors'}
    overrides = [Parameter(name, value=value) for name, value in missing.items()]
    with pytest.raises(StartError) as error:
        MappingNode(context=context, parameter_overrides=overrides)
    assert 'no file tiny.safetensors in /nowhere' in str(error.value)
    assert 'ros2 run vlm_nodes fetch_weights' in str(error.value)
    assert '\n' not in str(error.value)
