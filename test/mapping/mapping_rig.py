"""A mapping node and a robot that drives it, on a ROS graph of their own."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from fresh_diagnostics import fresh_status
from ray_cast_rooms import cast, poses
from rcl_interfaces.msg import Log
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import SetBool, Trigger
from tf2_msgs.msg import TFMessage
from vlm_interfaces.srv import LabelMap, LoadMap, QueryMap, SaveMap

from vlm_nodes import messages
from vlm_nodes.geometry import Camera
from vlm_nodes.graph.domain import free_domain
from vlm_nodes.graph.spinner import Spinner
from vlm_nodes.mapping.node import MappingNode
from vlm_nodes.node import LATCHED_QUEUE
from vlm_nodes.transforms import transform_message

PATIENCE_S = 60.0
QUICK_S = 0.3
MS_NS = 1_000_000
SECOND_NS = 1_000_000_000
CAMERA = Camera(64, 48, 56.0, 56.0, 31.5, 23.5)
POSES = poses(8)
VIEWS = [cast(CAMERA, pose) for pose in POSES]
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
SERVICES = {
    'query_map': QueryMap,
    'label_map': LabelMap,
    'mapping_node/save_map': SaveMap,
    'mapping_node/load_map': LoadMap,
    'mapping_node/reset': Trigger,
    'mapping_node/pause': SetBool,
}

_taken = itertools.count()


class QuickNode(MappingNode):
    patience_s = QUICK_S
    watch_period_s = 0.05


class Rig:
    """The node under test, and a robot's side with a publisher for each of its inputs."""

    def __init__(self, context, *, encoder=None, remaps=(), **parameters):
        parameters = {
            'publish_period_s': 0.1,
            'sync_slop_s': 0.01,
        } | parameters
        parameters = {'model': 'none'} | parameters
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.context = context
        self.domain = context.get_domain_id()
        self.robot = rclpy.create_node('robot', context=context)
        self.logs = []
        self.diagnostics = []
        self.listen(Log, '/rosout', into=self.logs, qos=LATCHED_QUEUE)
        self.listen(DiagnosticArray, '/diagnostics', into=self.diagnostics, qos=1000)
        self.node = QuickNode(
            encoder=encoder,
            context=context,
            parameter_overrides=overrides,
            cli_args=['--ros-args', *(w for remap in remaps for w in ('-r', remap))],
        )
        # A busy machine delivers late: only tests that say so give up what does not come.
        self.node._values['tf_timeout_s'] = PATIENCE_S
        self.publishers = {}
        self._clients = {
            name: self.robot.create_client(kind, name) for name, kind in SERVICES.items()
        }
        self._spinners = [Spinner(self.node, threads=4), Spinner(self.robot)]
        self.until(lambda: self.diagnostics, 'diagnostics')

    def end(self):
        for spinner in self._spinners:
            spinner.end(PATIENCE_S)
        self.node.destroy_node()
        self.robot.destroy_node()
        self.context.try_shutdown()

    # Watching

    def until(self, done, what):
        deadline = time.monotonic() + PATIENCE_S
        while not (found := done()):
            assert time.monotonic() < deadline, f'never came: {what}; said: {self.texts()[-5:]}'
            time.sleep(0.005)
        return found

    def listen(self, kind, topic, *, into=None, qos=10):
        received = [] if into is None else into
        self.robot.create_subscription(kind, topic, received.append, qos)
        return received

    def texts(self):
        return [log.msg for log in self.logs]

    def hears(self, *parts):
        """Wait for a log line with all these parts."""
        return self.until(
            lambda: [t for t in self.texts() if all(part in t for part in parts)], parts
        )[0]

    def problem(self, *parts):
        """Wait for a diagnostic status whose message has all these parts."""

        def newest():
            message = self.diagnostics[-1].status[0].message
            return message if all(part in message for part in parts) else None

        return self.until(newest, parts)

    def healthy(self):
        self.until(lambda: self.diagnostics[-1].status[0].message == 'OK', 'a healthy node')

    def values(self):
        return {entry.key: entry.value for entry in self.diagnostics[-1].status[0].values}

    def count(self, what):
        return int(self.values().get(what, 0))

    @contextmanager
    def counting(self, what, times=1):
        """Wait at the end for a count to have risen by so much."""
        before = self.node._statistics.get(what)
        yield
        self.until(lambda: self.node._statistics.get(what) >= before + times, f'{times} {what}')

    @contextmanager
    def giving_up(self):
        """Meanwhile the node waits for tf and camera infos briefly only."""
        self.node._values['tf_timeout_s'] = QUICK_S
        yield
        self.node._values['tf_timeout_s'] = PATIENCE_S

    def fresh(self):
        """Wait for diagnostics that were made from now on; returns their values."""
        fresh_status(self.node, self.diagnostics, self.until)
        return self.values()

    # Driving

    def publisher(self, kind, topic, qos=10):
        """A publisher that the node listens to, and each knows of the other."""
        if topic not in self.publishers:
            made = self.robot.create_publisher(kind, topic, qos)
            self.until(made.get_subscription_count, f'listeners of {topic}')
            takers = [s for s in self.node.subscriptions if s.topic_name == made.topic_name]
            self.until(lambda: all(s.get_publisher_count() for s in takers), f'takers of {topic}')
            self.publishers[topic] = made
        return self.publishers[topic]

    def ready(self):
        """Make all publishers of the one camera."""
        return self.ready_for('')

    def ready_for(self, prefix):
        """Make all publishers of a camera."""
        for topic, kind in {'rgb': Image, 'depth': Image, 'camera_info': CameraInfo}.items():
            self.publisher(kind, prefix + topic)
        self.publisher(TFMessage, '/tf')
        return self

    def send_tf(self, stamp_ns, pose, child='camera', parent='map'):
        stamp = messages.stamp_message(stamp_ns)
        message = transform_message(parent, child, pose, stamp)
        self.publisher(TFMessage, '/tf').publish(TFMessage(transforms=[message]))

    def send_info(self, stamp_ns, topic='camera_info', camera=CAMERA, frame='camera'):
        header = messages.header_message(frame, stamp_ns)
        self.publisher(CameraInfo, topic).publish(messages.camera_info_message(camera, header))

    def send_images(self, stamp_ns, view, prefix='', frame='camera', **changes):
        rgb, depth_m = VIEWS[view]
        header = messages.header_message(frame, stamp_ns)
        images = {
            'rgb': messages.image_message(rgb, 'rgb8', header),
            'depth': messages.image_message(depth_m, '32FC1', header),
        }
        for topic, image in (images | changes).items():
            self.publisher(type(image), prefix + topic).publish(image)

    def send(self, stamp_ns, view=0, **changes):
        """One frame with all that belongs to it."""
        self.send_info(stamp_ns)
        self.send_tf(stamp_ns, POSES[view])
        self.send_images(stamp_ns, view, **changes)

    def fuse(self, stamp_ns, view=0):
        """One frame, waited for until it is on the map."""
        with self.counting('frames fused'):
            self.send(stamp_ns, view)

    def call(self, name, **request):
        client = self._clients[name]
        self.until(client.service_is_ready, name)
        done = threading.Event()
        future = client.call_async(client.srv_type.Request(**request))
        future.add_done_callback(lambda _: done.set())
        assert done.wait(PATIENCE_S), f'no answer from {name}'
        return future.result()


@contextmanager
def mapping_rig(**options):
    context = Context()
    rclpy.init(context=context, domain_id=free_domain(after=next(_taken)))
    rig = Rig(context, **options)
    try:
        yield rig
    finally:
        rig.end()


def distance_to_room(points, boxes, room):
    """How far points are from the nearest face of the room or of a box in it, metres."""
    to_walls = np.minimum(np.abs(points - room[0]), np.abs(points - room[1])).min(axis=1)
    gaps = [to_walls]
    for low, high in boxes:
        outside = np.linalg.norm(np.maximum(0, np.maximum(low - points, points - high)), axis=1)
        inside = np.minimum(points - low, high - points).min(axis=1)
        gaps.append(np.where(outside > 0, outside, np.maximum(inside, 0)))
    return np.min(gaps, axis=0)
