"""Broadcasters, listeners and the buffer's service on a real graph."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import rclpy
import yaml
from rclpy.action import ActionServer
from rclpy.context import Context
from rclpy.duration import Duration, Infinite
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from rclpy.time import Time
from rosgraph_msgs.msg import Clock
from tf2_msgs.action import LookupTransform
from tf2_msgs.msg import TF2Error, TFMessage
from tf2_msgs.srv import FrameGraph
from tf2_poses import at, only_stand_in, pose, xyz_of
from tf2_ros import (
    Buffer,
    BufferClient,
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    StaticTransformBroadcaster,
    TimeoutException,
    TransformBroadcaster,
    TransformException,
    TransformListener,
)

LATEST = Time()
PATIENCE = Duration(seconds=20)


class Graph:
    """Nodes of one context, spun together until a condition holds."""

    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.executor = SingleThreadedExecutor(context=self.context)

    def node(self, name: str, *, spun: bool = True, **options) -> Node:
        node = Node(name, context=self.context, **options)
        if spun:
            self.executor.add_node(node)
        return node

    def spin_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE.nanoseconds * 1e-9
        while not condition():
            assert time.monotonic() < deadline, 'it never came'
            self.executor.spin_once(timeout_sec=0.02)


@pytest.fixture
def graph(ros_domain: int) -> Iterator[Graph]:
    graph = Graph(ros_domain)
    yield graph
    graph.executor.shutdown()
    rclpy.try_shutdown(context=graph.context)


def test_a_listener_hears_moving_and_static_frames(graph):
    sender, receiver = graph.node('sender'), graph.node('receiver')
    buffer = Buffer(node=receiver)
    TransformListener(buffer, receiver)
    moving, static = TransformBroadcaster(sender), StaticTransformBroadcaster(sender)
    static.sendTransform([pose('base', 'camera', 5, (0, 0, 1)), pose('base', 'lidar', 5)])
    graph.spin_until(lambda: moving.pub_tf.get_subscription_count() > 0)
    moving.sendTransform(pose('map', 'base', 1))
    moving.sendTransform((pose('map', 'base', 2, (2, 0, 0)), pose('map', 'door', 2)))
    graph.spin_until(lambda: buffer.can_transform('map', 'camera', at(1.5)))
    assert xyz_of(buffer.lookup_transform('map', 'camera', at(1.5))) == [1, 0, 1]
    assert buffer.can_transform('door', 'lidar', at(2))
    broadcasters = {
        frame['broadcaster'] for frame in yaml.safe_load(buffer.all_frames_as_yaml()).values()
    }
    assert broadcasters == {'default_authority'}


def test_latecomers_get_every_static_frame(graph):
    static = StaticTransformBroadcaster(graph.node('sender'))
    static.sendTransform(pose('base', 'camera', 1, (1, 0, 0)))
    static.sendTransform(pose('base', 'lidar', 1, (2, 0, 0)))
    receiver = graph.node('receiver')
    buffer = Buffer()
    TransformListener(buffer, receiver)
    graph.spin_until(lambda: buffer.can_transform('camera', 'lidar', LATEST))
    assert xyz_of(buffer.lookup_transform('camera', 'lidar', LATEST)) == [1, 0, 0]


def test_profiles_are_taken_over(graph):
    node = graph.node('node')
    buffer = Buffer()
    listener = TransformListener(buffer, node, qos=7, static_qos=QoSProfile(depth=9))
    TransformBroadcaster(node, 3)
    StaticTransformBroadcaster(node, qos=QoSProfile(depth=4))
    assert listener.tf_sub.topic_name == '/tf'
    assert listener.tf_static_sub.qos_profile.depth == 9
    assert [endpoint.topic_type for endpoint in node.get_publishers_info_by_topic('/tf')] == [
        'tf2_msgs/msg/TFMessage'
    ]


def test_a_listener_without_subscriptions_hears_nothing(graph):
    node = graph.node('node')
    broadcaster = TransformBroadcaster(node)
    listener = TransformListener(Buffer(), node)
    graph.spin_until(lambda: broadcaster.pub_tf.get_subscription_count() == 1)
    listener.unregister()
    graph.spin_until(lambda: broadcaster.pub_tf.get_subscription_count() == 0)


@pytest.fixture
def default_context(ros_domain: int) -> Iterator[None]:
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.mark.usefixtures('default_context')
def test_a_listener_with_its_own_thread_needs_no_spinning():
    sender, receiver = rclpy.create_node('sender'), rclpy.create_node('receiver')
    buffer = Buffer()
    listener = TransformListener(buffer, receiver, spin_thread=True)
    StaticTransformBroadcaster(sender).sendTransform(pose('base', 'camera', 1, (1, 0, 0)))
    found = buffer.lookup_transform('base', 'camera', at(3), PATIENCE)
    assert xyz_of(found) == [1, 0, 0]
    rclpy.shutdown()
    listener.dedicated_listener_thread.join(timeout=10)
    assert not listener.dedicated_listener_thread.is_alive()


@only_stand_in
def test_a_listener_spins_in_the_context_of_its_node(graph):
    sender, receiver = graph.node('sender'), graph.node('receiver', spun=False)
    buffer = Buffer()
    TransformListener(buffer, receiver, spin_thread=True)
    StaticTransformBroadcaster(sender).sendTransform(pose('base', 'camera', 1, (1, 0, 0)))
    assert buffer.can_transform('base', 'camera', at(3), PATIENCE)


@only_stand_in
def test_a_wait_ends_when_its_node_is_shut_down(graph):
    buffer = Buffer(node=graph.node('node', spun=False))
    threading.Timer(0.05, rclpy.shutdown, kwargs={'context': graph.context}).start()
    assert not buffer.can_transform('map', 'base', LATEST, Infinite)


SPINNING_PROCESS = """
import sys
import rclpy
from tf2_ros import Buffer, TransformListener
rclpy.init()
node = rclpy.create_node('listener')
buffer = Buffer(node=node)
listener = TransformListener(buffer, node, spin_thread=True)
if sys.argv[1] == 'shutdown':
    rclpy.shutdown()
"""


@only_stand_in
@pytest.mark.parametrize('ending', ['shutdown', 'none'])
@pytest.mark.usefixtures('ros_domain')
def test_a_process_with_a_spinning_listener_ends_cleanly(ending):
    process = subprocess.run(
        [sys.executable, '-c', SPINNING_PROCESS, ending],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, '')


def test_the_tree_is_offered_as_a_service(graph):
    node = graph.node('node')
    buffer = Buffer(node=node)
    buffer.set_transform(pose('map', 'base', 1), 'odometry')
    client = node.create_client(FrameGraph, 'tf2_frames')
    graph.spin_until(client.service_is_ready)
    answer = client.call_async(FrameGraph.Request())
    graph.spin_until(answer.done)
    frames = yaml.safe_load(answer.result().frame_yaml)
    assert frames['base']['parent'] == 'map'
    assert frames['base']['broadcaster'] == 'odometry'


def test_a_clock_that_jumps_back_clears_the_buffer(graph):
    node = graph.node(
        'node', parameter_overrides=[Parameter('use_sim_time', Parameter.Type.BOOL, True)]
    )
    buffer = Buffer(node=node)
    clock = graph.node('clock').create_publisher(Clock, '/clock', 10)

    def set_clock(seconds: float) -> None:
        def reached() -> bool:
            clock.publish(Clock(clock=at(seconds).to_msg()))
            return node.get_clock().now().nanoseconds == at(seconds).nanoseconds

        graph.spin_until(reached)

    set_clock(100.0)
    buffer.set_transform(pose('map', 'base', 100), 'test')
    set_clock(101.0)
    set_clock(100.5)
    assert buffer.can_transform('map', 'base', at(100)), 'half a second is no restart'
    set_clock(3.0)
    assert not buffer.can_transform('map', 'base', at(100))


# --- The client of a buffer server ---------------------------------------------------------------

ERRORS = {
    TF2Error.LOOKUP_ERROR: LookupException,
    TF2Error.CONNECTIVITY_ERROR: ConnectivityException,
    TF2Error.EXTRAPOLATION_ERROR: ExtrapolationException,
    TF2Error.INVALID_ARGUMENT_ERROR: InvalidArgumentException,
    TF2Error.TIMEOUT_ERROR: TimeoutException,
    TF2Error.TRANSFORM_ERROR: TransformException,
}


class Served:
    """A buffer server: answers goals from a buffer of its own, errors by their number."""

    def __init__(self, graph: Graph) -> None:
        self.node = graph.node('server')
        self.buffer = Buffer()
        self.goals: list[LookupTransform.Goal] = []
        self.server = ActionServer(self.node, LookupTransform, 'tf2_buffer', self.answer)
        self.client_node = graph.node('client')
        self.client = BufferClient(
            self.client_node, 'tf2_buffer', timeout_padding=Duration(seconds=20)
        )
        self._ending = threading.Event()
        graph.spin_until(self.client.action_client.server_is_ready)
        self._thread = threading.Thread(target=self._spin, args=(graph.executor,))
        self._thread.start()

    def _spin(self, executor: SingleThreadedExecutor) -> None:
        while not self._ending.is_set():
            executor.spin_once(timeout_sec=0.02)

    def answer(self, handle) -> LookupTransform.Result:
        goal = handle.request
        self.goals.append(goal)
        result = LookupTransform.Result()
        frames = (goal.target_frame, goal.source_frame)
        try:
            if goal.advanced:
                result.transform = self.buffer.lookup_transform_full_core(
                    frames[0], goal.target_time, frames[1], goal.source_time, goal.fixed_frame
                )
            else:
                result.transform = self.buffer.lookup_transform_core(*frames, goal.source_time)
            handle.succeed()
        except TransformException as error:
            exact = [code for code, kind in ERRORS.items() if kind is type(error)]
            result.error = TF2Error(error=exact[0], error_string=str(error))
            handle.abort()
        return result

    def end(self) -> None:
        self._ending.set()
        self._thread.join()
        self.client.destroy()
        self.server.destroy()


@pytest.fixture
def served(graph: Graph) -> Iterator[Served]:
    served = Served(graph)
    yield served
    served.end()


def test_a_client_looks_up_what_the_server_knows(served):
    for seconds in (1, 2):
        served.buffer.set_transform(pose('map', 'base', seconds, (seconds, 0, 0)), 'test')
    client = served.client
    assert xyz_of(client.lookup_transform('map', 'base', at(1.5))) == [1.5, 0, 0]
    assert client.can_transform('base', 'map', at(2), Duration(seconds=1))
    assert served.goals[-1].timeout.sec == 1
    frames = ('base', at(2), 'base', at(1), 'map')
    assert xyz_of(client.lookup_transform_full(*frames)) == [-1, 0, 0]
    assert client.can_transform_full(*frames)
    assert not client.can_transform_full('base', at(2), 'base', at(9), 'map')


def test_a_client_raises_what_the_lookup_on_the_server_raised(served):
    served.buffer.set_transform(pose('map', 'base', 1), 'test')
    served.buffer.set_transform(pose('room', 'table', 1), 'test')
    client = served.client
    with pytest.raises(LookupException, match=r'"cup" passed to lookupTransform'):
        client.lookup_transform('map', 'cup', LATEST)
    with pytest.raises(ConnectivityException, match='not part of the same tree'):
        client.lookup_transform('map', 'table', LATEST)
    with pytest.raises(ExtrapolationException, match=r'only time 1\.000000'):
        client.lookup_transform('map', 'base', at(2))
    with pytest.raises(InvalidArgumentException, match='cannot be empty'):
        client.lookup_transform('map', '', LATEST)
    assert not client.can_transform('map', 'cup', LATEST)


def test_a_client_checks_its_times(served):
    served.buffer.set_transform(pose('map', 'base', 1), 'test')
    with pytest.raises(TypeError, match=r'Must pass a rclpy\.time\.Time object'):
        served.client.lookup_transform('map', 'base', 1.0)
    with pytest.warns(UserWarning, match='deprecated'):
        served.client.lookup_transform('map', 'base', at(1).to_msg())


def test_a_client_without_a_server_says_so(graph):
    client = BufferClient(graph.node('client'), 'nobody')
    with pytest.raises(TimeoutException, match='BufferServer is not ready'):
        client.lookup_transform('map', 'base', LATEST)


def test_a_server_that_does_not_answer_ends_in_a_timeout(graph):
    server = graph.node('server')
    action = ActionServer(server, LookupTransform, 'tf2_buffer', lambda _: None)
    client = BufferClient(graph.node('client'), 'tf2_buffer', timeout_padding=Duration())
    graph.spin_until(client.action_client.server_is_ready)
    # Nobody spins from here on, so that no answer can come.
    with pytest.raises(TimeoutException, match='did not come back in the specified time'):
        client.lookup_transform('map', 'base', LATEST, Duration(seconds=0.2))
    action.destroy()


def test_the_message_carries_any_number_of_frames():
    message = TFMessage(transforms=[pose('map', 'base'), pose('map', 'door')])
    assert [frame.child_frame_id for frame in message.transforms] == ['base', 'door']
