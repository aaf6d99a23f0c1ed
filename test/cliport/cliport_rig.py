"""cliport_node and a robot with cameras over a closed-form table, on a ROS graph of their own."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import asdict

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from fresh_diagnostics import fresh_status
from rclpy.action import ActionClient
from rclpy.context import Context
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image
from small_cliport import small_model
from tabletop_scenes import FRONT, LEFT, MIDDLE, RIGHT, Box, cast, published_camera
from tf2_ros import StaticTransformBroadcaster
from vlm_interfaces.action import PlanPickPlace as PlanPickPlaceAction
from vlm_interfaces.srv import PlanPickPlace

from vlm_nodes import messages
from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.checkpoint import save_checkpoint
from vlm_nodes.cliport.node import CliportNode
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.geometry.rigid import look_at
from vlm_nodes.graph.spinner import Spinner
from vlm_nodes.transforms import transform_message

PATIENCE_S = 60.0
QUICK_S = 0.5
PERIOD_S = 0.1
EYES = {'front': FRONT, 'left': LEFT, 'right': RIGHT}
WORKSPACE = Workspace(pixel_m=0.01)
BLOCK = Box((0.38, -0.22, 0.0), (0.42, -0.18, 0.04))
# A network that was not trained is sure of nothing.
UNSURE = {
    'least_pick_score': 0.0,
    'least_place_score': 0.0,
    'most_pick_entropy': 1.0,
    'most_place_entropy': 1.0,
    'least_word_match': 0.0,
}


def save_model(folder, **training):
    """A checkpoint of a small network, not trained, the same each time."""
    save_checkpoint(small_model(FrozenClip.load('tiny'), seed=5), folder, training=training)
    return folder


class QuickNode(CliportNode):
    patience_s = QUICK_S
    watch_period_s = 0.1


def views(*boxes):
    camera = published_camera(160, 120)
    return {name: cast(camera, look_at(eye, MIDDLE), boxes) for name, eye in EYES.items()}


class Rig:
    """The node under test, and cameras that publish until told otherwise.

    Attributes:
        views: What each camera shows, by name; may be changed at any time.
        silent: Topics that nothing is published on, such as 'front/depth'.
        stamp_ns: Of all images; None for that of now.
    """

    def __init__(
        self, context, checkpoint, *, seen=None, without_tf=(), prepare=None, **parameters
    ):
        self.views = dict(seen or views(BLOCK))
        self.silent = set()
        self.stamp_ns = None
        parameters = {
            'checkpoint': str(checkpoint),
            'cameras': list(self.views),
            'pixel_m': WORKSPACE.pixel_m,
            'sensor_reliability': 'reliable',
            # A busy machine delivers late: only tests that say so give up what does not come.
            'image_timeout_s': PATIENCE_S,
            'tf_timeout_s': PATIENCE_S,
        } | parameters
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = QuickNode(context=context, parameter_overrides=overrides)
        self.context = context
        self.robot = rclpy.create_node('robot', context=context)
        self.diagnostics = []
        self.listen(DiagnosticArray, '/diagnostics', self.diagnostics, 1000)
        self.client = self.robot.create_client(PlanPickPlace, 'plan_pick_place')
        self.action = ActionClient(self.robot, PlanPickPlaceAction, 'plan_pick_place')
        self.publishers = {
            f'{name}/{topic}': self.robot.create_publisher(kind, f'{name}/{topic}', 10)
            for name in self.views
            for topic, kind in (('rgb', Image), ('depth', Image), ('camera_info', CameraInfo))
        }
        self.broadcaster = StaticTransformBroadcaster(self.robot)
        self.send_tf(*(name for name in self.views if name not in without_tf))
        self.robot.create_timer(PERIOD_S, self.shoot)
        if prepare:
            prepare(self)  # before the first image
        self._spinners = [Spinner(node, threads=4) for node in (self.node, self.robot)]

    def end(self):
        self.node._worker.stop(1.0)  # which callbacks may wait for
        for spinner in self._spinners:
            spinner.end(PATIENCE_S)
        self.action.destroy()
        self.node.destroy_node()
        self.robot.destroy_node()
        self.context.try_shutdown()

    def now(self):
        return self.robot.get_clock().now().to_msg()

    def shoot(self):
        """All cameras take an image, of now or of `stamp_ns`."""
        now = self.stamp_ns or self.robot.get_clock().now().nanoseconds
        for name, view in list(self.views.items()):
            header = messages.header_message(f'{name}_lens', now)
            made = {
                'rgb': messages.image_message(view.rgb, 'rgb8', header),
                'depth': messages.image_message(view.depth_m, '32FC1', header),
                'camera_info': messages.camera_info_message(view.camera, header),
            }
            for topic, message in made.items():
                if f'{name}/{topic}' not in self.silent:
                    self.publishers[f'{name}/{topic}'].publish(message)

    def send_tf(self, *names):
        """Where cameras are."""
        self.broadcaster.sendTransform(
            [
                transform_message(
                    'table', f'{name}_lens', self.views[name].table_from_camera, stamp(0)
                )
                for name in names
            ]
        )

    # Watching

    def until(self, done, what):
        deadline = time.monotonic() + PATIENCE_S
        while not (found := done()):
            assert time.monotonic() < deadline, f'never came: {what}'
            time.sleep(0.005)
        return found

    def listen(self, kind, topic, received, qos=10):
        return self.robot.create_subscription(kind, topic, received.append, qos)

    def values(self):
        """Diagnostics made from now on: the message, and values by key."""
        status = fresh_status(self.node, self.diagnostics, self.until)
        return messages.diagnostics_values(status)

    def complains(self, *words):
        """Wait for diagnostics whose message has all of these."""

        def newest():
            message = self.diagnostics[-1].status[0].message if self.diagnostics else ''
            return message if all(word in message for word in words) else None

        return self.until(newest, words)

    @contextmanager
    def giving_up(self, *names):
        """Meanwhile these timeouts of the node are short."""
        patient = {name: self.node._values[name] for name in names}
        self.node._values.update(dict.fromkeys(names, QUICK_S))
        yield
        self.node._values.update(patient)

    # Asking

    def ask(self, instruction, count=0):
        self.until(self.client.service_is_ready, 'the service')
        request = PlanPickPlace.Request(instruction=instruction, max_candidates=count)
        return self.wait(self.client.call_async(request))

    def refused(self, instruction, said):
        """Ask until it is refused so: what is on its way may give other answers first."""

        def answer():
            answer = self.ask(instruction)
            return answer if said in answer.message else None

        refusal = self.until(answer, said)
        assert not refusal.success
        return refusal

    def wait(self, future):
        self.until(future.done, 'an answer')
        return future.result()

    def send_goal(self, instruction, count=0):
        """An accepted goal, and the stages that it tells of."""
        stages = []
        self.until(self.action.server_is_ready, 'the action')
        goal = self.wait(
            self.action.send_goal_async(
                PlanPickPlaceAction.Goal(instruction=instruction, max_candidates=count),
                feedback_callback=lambda message: stages.append(message.feedback.stage),
            )
        )
        assert goal.accepted
        return goal, stages


def stamp(nanoseconds):
    return messages.stamp_message(nanoseconds)


@contextmanager
def cliport_rig(domain, checkpoint, **options):
    context = Context()
    rclpy.init(context=context, domain_id=domain)
    rig = Rig(context, checkpoint, **options)
    try:
        yield rig
    finally:
        rig.end()


def workspace_page(**changes):
    return asdict(WORKSPACE) | changes
