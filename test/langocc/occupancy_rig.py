"""occupancy_node and a vehicle with cameras, on a ROS graph of their own."""

import time
from contextlib import contextmanager

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from fresh_diagnostics import fresh_status
from nav_msgs.msg import OccupancyGrid
from rclpy.context import Context
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_ros import StaticTransformBroadcaster, TransformBroadcaster
from vlm_interfaces.srv import QueryOccupancy

from vlm_nodes import messages
from vlm_nodes.graph.spinner import Spinner
from vlm_nodes.langocc.node import OccupancyNode
from vlm_nodes.live.image_sets import SECOND_NS
from vlm_nodes.node import LATCHED
from vlm_nodes.simulation.street.rig import MOUNTS
from vlm_nodes.surround import CAMERAS
from vlm_nodes.transforms import transform_message

PATIENCE_S = 60.0
PERIOD_S = 0.1
SIZE = (64, 32)
# A busy machine delivers late: only tests that say so give up what does not come.
PATIENT = {'tf_timeout_s': 30.0, 'set_wait_s': 10.0, 'camera_alive_s': 60.0}


class QuickNode(OccupancyNode):
    patience_s = 0.6
    watch_period_s = 0.1


def pictures(seed=0):
    """A picture a camera, (32, 64, 3) uint8."""
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8) for name in CAMERAS}


class Rig:
    """The node under test, and cameras that publish until told otherwise.

    Attributes:
        pictures: What each camera shows; may be changed at any time.
        infos: Camera of each; None sends one that is not calibrated.
        damaged: Cameras whose compressed pictures are cut short.
        silent: Topics that nothing is published on, such as 'CAM_BACK/image_raw'.
        late_ns: What is added to stamps, by camera.
        shift_ns: What is added to all of them.
        shot_ns: The newest stamp, without what is added.
        pose: (4, 4) odom_from_base, published at every stamp; None: not at all.

    Args:
        prepare: Called with the rig before anything is published: what is changed later may come
            after the first pictures.
    """

    def __init__(
        self,
        context,
        checkpoint,
        *,
        without_tf=(),
        best_effort=False,
        compressed=False,
        prepare=lambda rig: None,
        **parameters,
    ):
        self.pictures = pictures()
        self.infos = {name: MOUNTS[name].camera(*SIZE) for name in CAMERAS}
        self.silent, self.late_ns, self.shift_ns, self.pose = set(), {}, 0, None
        self.shot_ns = 0
        self.frames = {name: name for name in CAMERAS}
        self.damaged = set()
        self.image = 'image_raw/compressed' if compressed else 'image_raw'
        parameters = {
            'checkpoint': str(checkpoint),
            'sensor_reliability': 'reliable',
            **PATIENT,
        } | parameters
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = QuickNode(context=context, parameter_overrides=overrides)
        self.context = context
        self.robot = rclpy.create_node('robot', context=context)
        self.diagnostics, self.clouds, self.grids = [], [], []
        self.listen(DiagnosticArray, '/diagnostics', self.diagnostics, 1000)
        self.listen(PointCloud2, 'occupancy_node/occupancy', self.clouds, LATCHED)
        self.listen(OccupancyGrid, 'occupancy_node/occupancy_grid', self.grids, LATCHED)
        self.client = self.robot.create_client(QueryOccupancy, 'occupancy_node/query')
        qos = QoSProfile(depth=10)
        if best_effort:
            qos.reliability = ReliabilityPolicy.BEST_EFFORT
        self.publishers = {
            f'{name}/{topic}': self.robot.create_publisher(kind, f'{name}/{topic}', qos)
            for name in CAMERAS
            for topic, kind in (
                (self.image, CompressedImage if compressed else Image),
                ('camera_info', CameraInfo),
            )
        }
        self.broadcaster = TransformBroadcaster(self.robot)
        self.static = StaticTransformBroadcaster(self.robot)
        self.mount(*(name for name in CAMERAS if name not in without_tf))
        prepare(self)
        self._spinners = [Spinner(node, threads=4) for node in (self.node, self.robot)]
        if not best_effort:  # which the node does not hear
            self.until(self.is_heard, 'who listens')
        self.robot.create_timer(PERIOD_S, self.shoot)

    def end(self):
        self.node._worker.stop(1.0)  # which callbacks may wait for
        for spinner in self._spinners:
            spinner.end(PATIENCE_S)
        self.node.destroy_node()
        self.robot.destroy_node()
        self.context.try_shutdown()

    def is_heard(self):
        """Whether the node and all publishers know of each other."""
        made = [*self.publishers.values(), self.broadcaster.pub_tf, self.static.pub_tf]
        topics = {publisher.topic_name for publisher in made}
        takers = [s for s in self.node.subscriptions if s.topic_name in topics]
        return all(publisher.get_subscription_count() for publisher in made) and all(
            subscription.get_publisher_count() for subscription in takers
        )

    def mount(self, *names, moved=None):
        """Where cameras are on the vehicle."""
        if moved is not None:  # of each frame a broadcaster keeps to the first pose
            self.static = StaticTransformBroadcaster(self.robot)
        self.static.sendTransform(
            [
                transform_message(
                    'base_link',
                    name,
                    MOUNTS[name].ego_from_camera if moved is None else moved,
                    messages.stamp_message(1),
                )
                for name in names
            ]
        )

    def shoot(self):
        """All cameras take a picture, of now."""
        # A timer that was late once is early next; stamps are not.
        now_ns = self.robot.get_clock().now().nanoseconds
        self.shot_ns = max(now_ns, self.shot_ns + round(PERIOD_S * SECOND_NS))
        now_ns = self.shot_ns + self.shift_ns
        for name, picture in list(self.pictures.items()):
            stamp_ns = now_ns + self.late_ns.get(name, 0)
            header = messages.header_message(self.frames[name], stamp_ns)
            if self.pose is not None:
                pose = transform_message('odom', 'base_link', self.pose(stamp_ns), header.stamp)
                self.broadcaster.sendTransform(pose)
            info = CameraInfo(header=header, width=SIZE[0], height=SIZE[1])
            if self.infos[name] is not None:
                info = messages.camera_info_message(self.infos[name], header)
            made = {'camera_info': info, self.image: self.message(name, picture, header)}
            for topic, message in made.items():
                if f'{name}/{topic}' not in self.silent:
                    self.publishers[f'{name}/{topic}'].publish(message)

    def message(self, name, picture, header):
        if self.image == 'image_raw':
            encoding = 'rgb8' if picture.dtype == np.uint8 else '32FC3'
            return messages.image_message(picture, encoding, header)
        message = messages.jpeg_message(picture, header)
        if name in self.damaged:
            message.data = message.data[:40]
        return message

    # Watching

    def until(self, done, what):
        deadline = time.monotonic() + PATIENCE_S
        while not (found := done()):
            assert time.monotonic() < deadline, f'never came: {what}; {self.problem()}'
            time.sleep(0.005)
        return found

    def listen(self, kind, topic, received, qos=10):
        return self.robot.create_subscription(kind, topic, received.append, qos)

    def problem(self):
        return self.diagnostics[-1].status[0].message if self.diagnostics else ''

    def values(self):
        """Diagnostics made from now on, by key."""
        status = fresh_status(self.node, self.diagnostics, self.until)
        return messages.diagnostics_values(status)[1]

    def count(self, what):
        return int(self.values().get(what, 0))

    def complains(self, *words):
        """Wait for diagnostics whose message has all of these; returns it."""

        def newest():
            problem = self.problem()
            return problem if all(word in problem for word in words) else ''

        return self.until(newest, words)

    def uses(self, *names):
        """Wait until pictures of just these cameras are used."""
        wanted = ' '.join(name for name in CAMERAS if name in names)
        self.until(lambda: self.values()['cameras used'] == wanted, f'{wanted} used')

    def next_of(self, heard):
        """A message about pictures that are taken from now on."""
        from_ns = self.shot_ns + self.shift_ns
        return self.until(
            lambda: [m for m in list(heard) if messages.stamp_ns(m.header.stamp) > from_ns],
            'what is seen now',
        )[0]

    def next_cloud(self):
        """A cloud of pictures that are taken from now on."""
        return self.next_of(self.clouds)

    def ask(self, *texts, threshold=0.0):
        self.until(self.client.service_is_ready, 'the service')
        future = self.client.call_async(
            QueryOccupancy.Request(texts=list(texts), threshold=threshold)
        )
        self.until(future.done, 'an answer')
        return future.result()


@contextmanager
def occupancy_rig(domain, checkpoint, **options):
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    rig = Rig(context, checkpoint, **options)
    try:
        yield rig
    finally:
        rig.end()
