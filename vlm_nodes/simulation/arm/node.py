"""`sim_arm_node`: the arm, its camera and its fingertip's, on topics; joint commands move it."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger
from tf2_ros import TransformBroadcaster
from trajectory_msgs.msg import JointTrajectory

from vlm_nodes.live.throttle import Throttle
from vlm_nodes.messages import (
    camera_info_message,
    header_message,
    image_message,
    joint_positions,
    joint_state_message,
    stamp_message,
    stamp_ns,
    trajectory_positions,
)
from vlm_nodes.node import LATCHED, STEADY, Parameter, StartError, declare_parameters
from vlm_nodes.node import main as run_node
from vlm_nodes.simulation.arm.command import CommandInbox
from vlm_nodes.simulation.arm.kinematics import JOINTS
from vlm_nodes.simulation.arm.simulator import (
    BASE_FROM_CAMERA,
    SECOND_NS,
    ArmObservation,
    ArmSettings,
    ArmSimulator,
)
from vlm_nodes.simulation.arm.tasks import LARGEST_SEED, TASKS, check_task
from vlm_nodes.simulation.gl import RenderingUnavailableError
from vlm_nodes.transforms import transform_message

BASE_FRAME = 'base_link'
CAMERA_FRAME = 'sim_camera'
TIP_FRAME = 'fingertip'

# The QoS of the Isaac Sim bridge's publishers: reliable, volatile, the last 10.
_BRIDGE_QOS = QoSProfile(depth=10)
_SAY_PERIOD_S = 2.0
# A tick that waits for its command is shown again, to those who came too late to see it.
_REPEAT_S = 1.0

_WORLD = ArmSettings()
PARAMETERS = (
    Parameter(
        'seed',
        0,
        'Scene of the next episode: even ones below 1000000 are for training, odd ones from '
        '1000001 on for tests.',
        0,
        LARGEST_SEED,
        changeable=True,
    ),
    Parameter('task', TASKS[0], f'Task of the next episode: {", ".join(TASKS)}.', changeable=True),
    Parameter('width', _WORLD.width, 'Image width in pixels.', 16, 4096),
    Parameter('height', _WORLD.height, 'Image height in pixels.', 16, 4096),
    Parameter('fovy_deg', _WORLD.fovy_deg, 'Vertical field of view in degrees.', 1, 150),
    Parameter('rate_hz', _WORLD.rate_hz, 'Control ticks per simulated second.', 1, 50),
    Parameter('look_seed', _WORLD.look_seed, 'Look of the table and the floor.', 0, 2**31 - 1),
    Parameter('samples', _WORLD.samples, 'Samples a pixel for smooth edges; 0 is fastest.', 0, 16),
    Parameter('use_wall_time', False, 'Stamp with the wall clock and publish no /clock.'),
    Parameter(
        'realtime_factor',
        1.0,
        'Simulated seconds a second, where rendering keeps up.',
        0.01,
        100,
    ),
    Parameter(
        'wait_for_command_s',
        0.0,
        'Longest real time that a tick waits for its joint command; 0 does not wait.',
        0,
        3600,
    ),
)


class SimArmNode(Node):
    """Publishes an arm on a table; all that it shows comes from `ArmSimulator`.

    Publishes, each tick, `rgb` (rgb8), `depth` (32FC1), `camera_info`, `joint_states`,
    `gelsight1/image_raw` (rgb8), `/tf` (base_link -> sim_camera, fingertip), `/clock`,
    `~/outcome` and `~/ground_truth` (JSON, transient local). Takes `joint_command` (JointState) and
    `joint_trajectory` (its first point). Serves `~/reset`.

    Raises:
        StartError: A parameter is wrong or GL cannot start.
    """

    def __init__(self) -> None:
        super().__init__('sim_arm_node')
        values = declare_parameters(self, PARAMETERS)
        self._wall_time: bool = values['use_wall_time']
        self._patience_s: float = values['wait_for_command_s']
        self._simulator = _make_simulator(values)
        self._inbox = CommandInbox()
        self._throttle = Throttle(_SAY_PERIOD_S)
        self._episode = 0
        # Time goes on from episode to episode, and none of its stamps is 0.
        self._period_ns = round(SECOND_NS / values['rate_hz'])
        self._stamp_ns = 0
        self._published_s: float | None = None
        self._repeats = 0
        self._make_publishers()
        self._begin(values['seed'], values['task'])
        self.create_subscription(JointState, 'joint_command', self._on_joint_command, 10)
        self.create_subscription(JointTrajectory, 'joint_trajectory', self._on_trajectory, 10)
        self.create_service(Trigger, '~/reset', self._on_reset)
        # Simulated time must not wait for itself, whatever use_sim_time says.
        period_s = 1.0 / (values['rate_hz'] * values['realtime_factor'])
        self.create_timer(period_s, self._on_timer, clock=STEADY)

    def _make_publishers(self) -> None:
        self._rgb_publisher = self.create_publisher(Image, 'rgb', _BRIDGE_QOS)
        self._depth_publisher = self.create_publisher(Image, 'depth', _BRIDGE_QOS)
        self._camera_info_publisher = self.create_publisher(CameraInfo, 'camera_info', _BRIDGE_QOS)
        self._joint_states_publisher = self.create_publisher(
            JointState, 'joint_states', _BRIDGE_QOS
        )
        self._tactile_publisher = self.create_publisher(Image, 'gelsight1/image_raw', _BRIDGE_QOS)
        self._truth_publisher = self.create_publisher(String, '~/ground_truth', LATCHED)
        self._outcome_publisher = self.create_publisher(String, '~/outcome', LATCHED)
        self._broadcaster = TransformBroadcaster(self)
        if not self._wall_time:
            self._clock_publisher = self.create_publisher(Clock, '/clock', _BRIDGE_QOS)

    def _begin(self, seed: int, task: str) -> None:
        """Begin an episode, which is published at the next turn of the timer.

        Raises:
            ValueError: There is no such task.
        """
        self._simulator.reset(seed, task)
        now_ns = int(self.get_clock().now().nanoseconds)
        self._begin_ns = now_ns if self._wall_time else self._stamp_ns + self._period_ns
        self._inbox.clear(self._simulator.world.joint_positions(), self._begin_ns)
        self._episode += 1
        self._published_s = None

    def _on_timer(self) -> None:
        if self._published_s is not None:
            if not self._may_go_on():
                return
            self._simulator.step(self._inbox.take())
        self._stamp_ns = self._now_ns()
        self._publish(self._simulator.observe())
        self._published_s, self._repeats = time.monotonic(), 0

    def _may_go_on(self) -> bool:
        """Whether the tick that was published has its command, or waited long enough for it."""
        if self._patience_s == 0 or self._inbox.answers(self._stamp_ns):
            return True
        assert self._published_s is not None
        waited_s = time.monotonic() - self._published_s
        if waited_s >= self._patience_s:
            self._say('wait', f'no joint command within {self._patience_s:g} s: going on without')
            return True
        if waited_s >= (self._repeats + 1) * _REPEAT_S:
            self._repeats += 1
            self._publish(self._simulator.observe())
        return False

    def _now_ns(self) -> int:
        if self._wall_time:
            return int(self.get_clock().now().nanoseconds)
        return self._begin_ns + self._simulator.stamp_ns

    def _publish(self, seen: ArmObservation) -> None:
        stamp = stamp_message(self._stamp_ns)
        if not self._wall_time:
            self._clock_publisher.publish(Clock(clock=stamp))
        self._publish_story()
        self._publish_motion(seen, stamp)
        header = header_message(CAMERA_FRAME, stamp)
        self._camera_info_publisher.publish(camera_info_message(self._simulator.camera, header))
        self._rgb_publisher.publish(image_message(seen.rgb, 'rgb8', header))
        self._depth_publisher.publish(image_message(seen.depth_m, '32FC1', header))
        touch = header_message(TIP_FRAME, stamp)
        self._tactile_publisher.publish(image_message(seen.tactile, 'rgb8', touch))

    def _publish_motion(self, seen: ArmObservation, stamp: Time) -> None:
        base_from_tip = np.eye(4)
        base_from_tip[:3, 3] = self._simulator.world.moment().tip
        self._broadcaster.sendTransform(
            [
                transform_message(BASE_FRAME, CAMERA_FRAME, BASE_FROM_CAMERA, stamp),
                transform_message(BASE_FRAME, TIP_FRAME, base_from_tip, stamp),
            ]
        )
        header: Header = header_message('', stamp)
        self._joint_states_publisher.publish(
            joint_state_message(JOINTS, seen.joint_positions, seen.joint_velocities, header)
        )

    def _publish_story(self) -> None:
        """What is so and how it goes; each says of which tick of which episode."""
        truth = self._simulator.truth()
        story = {key: truth[key] for key in ('seed', 'task', 'tick')}
        story['episode'] = self._episode
        story |= {'begin_ns': self._begin_ns, 'stamp_ns': self._stamp_ns}
        outcome = asdict(self._simulator.outcome())
        self._outcome_publisher.publish(String(data=json.dumps(story | outcome)))
        self._truth_publisher.publish(String(data=json.dumps(story | truth)))

    def _on_joint_command(self, message: JointState) -> None:
        stamp = stamp_ns(message.header.stamp)
        self._take('joint_command', lambda: joint_positions(message), stamp)

    def _on_trajectory(self, message: JointTrajectory) -> None:
        self._take('joint_trajectory', lambda: trajectory_positions(message), 0)

    def _take(self, topic: str, read: Callable[[], dict[str, float]], stamp: int) -> None:
        try:
            if note := self._inbox.put(read(), stamp):
                self._say(f'{topic} limits', f'{topic}: {note}')
        except ValueError as error:
            self._say(topic, f'{topic} is not taken: {error}')

    def _say(self, kind: str, text: str) -> None:
        if self._throttle.due(kind, time.monotonic()):
            self.get_logger().warning(text)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        seed, task = (self.get_parameter(name).value for name in ('seed', 'task'))
        try:
            self._begin(int(seed), str(task))
        except ValueError as error:
            response.success, response.message = False, str(error)
            return response
        response.success = True
        response.message = json.dumps({'episode': self._episode, 'seed': seed, 'task': task})
        return response


def _make_simulator(values: Mapping[str, Any]) -> ArmSimulator:
    try:
        check_task(values['task'])
        return ArmSimulator(
            ArmSettings(**{field.name: values[field.name] for field in fields(ArmSettings)})
        )
    except (ValueError, RenderingUnavailableError) as error:
        raise StartError(f'sim_arm_node: {error}') from error


def main() -> None:
    """Entry point of `sim_arm_node`."""
    run_node(SimArmNode, threads=1)  # one thread owns the GL context


if __name__ == '__main__':
    main()
