import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from tf2_msgs.msg import TFMessage

from vlm_nodes.messages import camera_from_info, depth_from_image, rgb_from_image, stamp_ns
from vlm_nodes.node import LATCHED_QUEUE
from vlm_nodes.simulation.simulator import JOINTS, Simulator, SimulatorSettings
from vlm_nodes.simulation.vocabulary import TEST_SEEDS
from vlm_nodes.transforms import matrix_from_transform

SETTINGS = SimulatorSettings(seed=TEST_SEEDS[4], width=160, height=120, rate_hz=10.0)
TOPICS = {
    'rgb': Image,
    'depth': Image,
    'camera_info': CameraInfo,
    'joint_states': JointState,
    '/tf': TFMessage,
    '/clock': Clock,
    'sim_node/semantic_segmentation': Image,
}
PATIENCE_S = 90.0


@contextmanager
def sim_node(**changes):
    """A `sim_node` process with SETTINGS, changed; killed at the end if it still runs."""
    wanted = {name: getattr(SETTINGS, name) for name in ('seed', 'width', 'height', 'rate_hz')}
    words = [word for item in (wanted | changes).items() for word in ('-p', '{}:={}'.format(*item))]
    command = [sys.executable, '-m', 'vlm_nodes.simulation.node', '--ros-args', *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def graph(ros_domain):
    """A node of the test's own, on the test's own domain."""
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node = rclpy.create_node('listener', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield node
    executor.shutdown()
    node.destroy_node()
    context.shutdown()


def spin_until(node, done):
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, 'nothing came'
        node.executor.spin_once(timeout_sec=0.1)


def listen(node, topic, kind, qos=10):
    received = []
    node.create_subscription(kind, topic, received.append, qos)
    return received


def call(node, service):
    client = node.create_client(Trigger, service)
    assert client.wait_for_service(PATIENCE_S)
    future = client.call_async(Trigger.Request())
    spin_until(node, future.done)
    return future.result()


def stamp_of(message):
    if isinstance(message, Clock):
        return stamp_ns(message.clock)
    header = message.transforms[0].header if isinstance(message, TFMessage) else message.header
    return stamp_ns(header.stamp)


def by_stamp(messages):
    return {stamp_of(message): message for message in messages}


def test_all_topics_show_what_the_simulator_shows(graph):
    received = {topic: listen(graph, topic, kind) for topic, kind in TOPICS.items()}
    truths = listen(graph, 'sim_node/ground_truth', String, LATCHED_QUEUE)

    def common():
        return set.intersection(*(set(by_stamp(messages)) for messages in received.values()))

    with sim_node(publish_labels='true'):
        spin_until(graph, lambda: len(common()) >= 4 and truths)
        for topic in received:
            (info,) = graph.get_publishers_info_by_topic(topic)
            assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
            assert info.qos_profile.durability == DurabilityPolicy.VOLATILE
    frames = {topic: by_stamp(messages) for topic, messages in received.items()}
    with Simulator(SETTINGS) as simulator:
        assert json.loads(truths[-1].data) == json.loads(json.dumps(simulator.truth()))
        for stamp in sorted(common()):
            while simulator.stamp_ns < stamp:
                simulator.step()
            assert simulator.stamp_ns == stamp
            check_frame(simulator, {topic: frames[topic][stamp] for topic in frames})


def check_frame(simulator, frame):
    view = simulator.view()
    assert frame['rgb'].encoding == 'rgb8'
    assert frame['depth'].encoding == '32FC1'
    assert {frame[t].header.frame_id for t in ('rgb', 'depth', 'camera_info')} == {'sim_camera'}
    np.testing.assert_array_equal(rgb_from_image(frame['rgb']), view.rgb)
    finite = np.isfinite(view.depth_m)
    np.testing.assert_array_equal(depth_from_image(frame['depth'])[finite], view.depth_m[finite])
    camera = camera_from_info(frame['camera_info'])
    np.testing.assert_allclose(camera.matrix(), simulator.camera.matrix())
    assert (camera.width, camera.height) == (SETTINGS.width, SETTINGS.height)
    labels = frame['sim_node/semantic_segmentation']
    assert labels.encoding == '32SC1'
    ids = np.frombuffer(labels.data, np.int32).reshape(labels.height, labels.width)
    np.testing.assert_array_equal(ids, simulator.labels())
    base, head = frame['/tf'].transforms
    assert (base.header.frame_id, base.child_frame_id) == ('map', 'base_link')
    assert (head.header.frame_id, head.child_frame_id) == ('base_link', 'sim_camera')
    np.testing.assert_allclose(
        matrix_from_transform(base.transform) @ matrix_from_transform(head.transform),
        simulator.pose().map_from_camera(),
        atol=1e-9,
    )
    assert list(frame['joint_states'].name) == list(JOINTS)
    np.testing.assert_allclose(frame['joint_states'].position, simulator.joint_positions())


def test_objects_move_and_reset_turns_the_clock_back(graph):
    clocks = listen(graph, '/clock', Clock, 1000)
    truths = listen(graph, 'sim_node/ground_truth', String, LATCHED_QUEUE)
    with sim_node():
        spin_until(graph, lambda: len(clocks) >= 5 and truths)
        first = json.loads(truths[0].data)
        answer = call(graph, 'sim_node/move_objects')
        spin_until(graph, lambda: len(truths) >= 2)
        moved = json.loads(truths[1].data)
        assert answer.success
        changed = {
            now['name']
            for was, now in zip(first['objects'], moved['objects'], strict=True)
            if was['position'] != now['position']
        }
        assert changed == set(json.loads(answer.message))
        assert call(graph, 'sim_node/reset').success

        def times():
            return np.array([stamp_of(clock) for clock in clocks])

        spin_until(graph, lambda: len(truths) >= 3 and (np.diff(times()) < 0).any())
        assert json.loads(truths[2].data) == first
        stamps = times()
        back = np.flatnonzero(np.diff(stamps) < 0)
        assert len(back) == 1
        assert stamps[back[0] + 1] == 0


def test_wall_time_stamps_without_a_clock(graph):
    images = listen(graph, 'rgb', Image)
    before = time.time_ns()
    with sim_node(use_wall_time='true'):
        spin_until(graph, lambda: len(images) >= 2)
        assert graph.get_publishers_info_by_topic('/clock') == []
    assert all(before < stamp_of(image) < time.time_ns() for image in images)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_quietly(graph, number):
    images = listen(graph, 'rgb', Image)
    with sim_node(rate_hz=60.0) as process:
        spin_until(graph, lambda: images)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert stderr == ''


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'path': 'zigzag'}, "path is 'zigzag', not one of tour, still"),
        ({'seed': -3}, 'seed out of range'),
        ({'width': 640.5}, "'width'"),
    ],
)
def test_a_bad_parameter_ends_it_with_one_line(ros_domain, changes, message):
    with sim_node(**changes) as process:
        _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert message in stderr
    assert stderr.count('\n') == 1
    assert 'Traceback' not in stderr
