"""`policy_node`: what a robot sees, feels and is told in, commands out, guarded."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_srvs.srv import SetBool, Trigger
from vlm_interfaces.srv import SetTask

from vlm_nodes import messages
from vlm_nodes.live.statistics import Statistics, resident_megabytes
from vlm_nodes.node import (
    STEADY,
    StartError,
    SubscriptionEventCallbacks,
    declare_parameters,
    sensor_qos,
)
from vlm_nodes.node import main as run_node
from vlm_nodes.sarnn.checkpoint import CheckpointError, load_policy
from vlm_nodes.sarnn.command import JointLimits
from vlm_nodes.sarnn.config import SarnnConfig
from vlm_nodes.sarnn.encoder_of import load_encoder_of
from vlm_nodes.sarnn.inputs import NewestInputs, Stream
from vlm_nodes.sarnn.outputs import RobotTopics
from vlm_nodes.sarnn.parameters import (
    PARAMETERS,
    crop_parameters,
    guard_config,
    joint_limits,
    joint_parameters,
)
from vlm_nodes.sarnn.pilot import Pilot
from vlm_nodes.sarnn.policy import Policy, check_device
from vlm_nodes.sarnn.preprocess import Crop
from vlm_nodes.sarnn.safety import MOVING, GuardState

WARN_PERIOD_S = 5.0


class PolicyNode(Node):
    """Runs a trained policy at a fixed rate and commands the robot's joints. Starts disabled.

    Attributes:
        watch_period_s: How often it publishes diagnostics.
    """

    watch_period_s = 1.0

    def __init__(self, **options: Any) -> None:
        """Declare, load, listen.

        Args:
            options: For rclpy's Node, such as its context and parameter overrides.

        Raises:
            StartError: A parameter is wrong, or what it names cannot be loaded.
        """
        super().__init__('policy_node', **options)
        self._values = values = declare_parameters(self, PARAMETERS)
        self._statistics = Statistics()
        self._misses_told = 0
        self._crops: dict[str, Crop] = {}
        self._policy = policy = self._load()
        rate_hz = self._rate_hz(policy.config)
        limits = self._limits(policy.config)
        self._robot = RobotTopics(self, values, limits, 1 / rate_hz, policy.config, self._crops)
        self._inputs, listen = self._make_inputs(policy.config)
        self._pilot = self._make_pilot(limits, rate_hz)
        listen()
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._make_services()
        self._make_timers(rate_hz)
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
            ),
            post_callback=lambda jump: self._restart(),
        )
        where = 'on ~/command alone (shadow)' if values['shadow'] else f'on {self._robot.topic}'
        self.get_logger().info(f'disabled; {", ".join(limits.names)} {where} at {rate_hz:g} Hz')

    def destroy_node(self) -> None:
        """Send nothing more, then end everything else."""
        self._pilot.end(timeout_s=1.0)
        super().destroy_node()

    # Setting up ---------------------------------------------------------------------------------

    def _load(self) -> Policy:
        values = self._values
        if not values['checkpoint']:
            raise StartError('parameter checkpoint is empty: name the file of a trained policy')
        torch.set_num_threads(values['torch_threads'])
        try:
            check_device(values['device'])
            model = load_policy(Path(values['checkpoint']).expanduser(), values['device'])
            weights_dir = values['weights_dir']
            encoder = load_encoder_of(
                model.config,
                model=values['model'] or None,
                pretrained=values['pretrained'] or None,
                weights_dir=Path(weights_dir).expanduser() if weights_dir else None,
                device=values['device'],
                num_threads=values['torch_threads'],
            )
            self._crops = self._read_crops(model.config)
            policy = Policy(model, encoder=encoder, crops=self._crops, measured=values['measured'])
            policy.warm_up()
            if values['task'] and (warning := policy.set_task(values['task'])):
                self.get_logger().warning(warning)
        except (CheckpointError, ValueError) as error:
            raise StartError(str(error)) from error
        return policy

    def _read_crops(self, config: SarnnConfig) -> dict[str, Crop]:
        depth = [config.depth.stream] if config.depth else []
        crops = {}
        for parameter in crop_parameters((*config.cameras, *depth, *config.tactile)):
            declare_parameters(self, [parameter])
            # declare_parameters leaves zeros out of lists.
            crop = tuple(self.get_parameter(parameter.name).value)
            if any(crop):
                if len(crop) != 4 or min(crop[:2]) < 0 or min(crop[2:]) < 1:
                    raise StartError(
                        f'parameter {parameter.name} is {list(crop)}, not left, top, width, height'
                    )
                crops[parameter.name.removeprefix('crop.')] = crop
        return crops

    def _rate_hz(self, config: SarnnConfig) -> float:
        rate_hz = float(self._values['rate_hz']) or config.rate_hz
        if not math.isclose(rate_hz, config.rate_hz, rel_tol=0.01):
            self.get_logger().warning(
                f'rate_hz is {rate_hz:g}, but the policy was trained at {config.rate_hz:g}: all '
                f'that it learnt goes {rate_hz / config.rate_hz:.2f} times as fast'
            )
        return rate_hz

    def _limits(self, config: SarnnConfig) -> JointLimits:
        joints = self._values['command_joints'] or config.joint_names
        if strangers := [joint for joint in joints if joint not in config.joint_names]:
            raise StartError(
                f'parameter command_joints: the policy has no joint {strangers[0]!r}; it has '
                f'{", ".join(config.joint_names)}'
            )
        values = self._values | declare_parameters(self, joint_parameters(config.joint_names))
        bounds = dict(zip(config.joint_names, zip(*config.joint_bounds, strict=True), strict=True))
        try:
            return joint_limits(values, joints, bounds)
        except ValueError as error:
            raise StartError(str(error)) from error

    def _make_pilot(self, limits: JointLimits, rate_hz: float) -> Pilot:
        values = self._values
        try:
            guard = guard_config(values, limits, rate_hz)
        except ValueError as error:
            raise StartError(str(error)) from error
        return Pilot(
            self._policy,
            self._inputs,
            guard,
            self._robot,
            self._statistics,
            keep_touch=values['tactile_reference'] == 'reset',
            wait_periods=values['wait_periods'],
        )

    def _make_inputs(self, config: SarnnConfig) -> tuple[NewestInputs, Callable[[], None]]:
        """The inputs, and what subscribes to them once there is somebody to take them."""
        streams, kinds = [], []

        def add(name: str, topic: str, transport: str, decode: Callable[[Any], Any]) -> None:
            # As image_transport does: remapping the base topic remaps its transports.
            suffix = '' if transport == 'raw' else f'/{transport}'
            streams.append(Stream(name, self.resolve_topic_name(topic) + suffix, decode))
            kinds.append(Image if transport == 'raw' else CompressedImage)

        values = self._values
        for i, camera in enumerate(config.cameras):
            topic = camera if i else 'rgb'
            add(camera, topic, values['rgb_transport'], messages.rgb_from_image)
        for sensor in config.tactile:
            add(sensor, sensor, values['tactile_transport'], messages.rgb_from_image)
        if config.depth:
            transport = values['depth_transport']
            add(config.depth.stream, 'depth', transport, messages.depth_from_image)
        joints_topic = self.resolve_topic_name('joint_states')

        def listen() -> None:
            for stream, kind in zip(streams, kinds, strict=True):
                self._subscribe(kind, stream.topic, self._taking(stream.name))
            self._subscribe(JointState, joints_topic, self._take_joints)

        return NewestInputs(streams, config.joint_names, joints_topic), listen

    def _subscribe(self, kind: Any, topic: str, callback: Callable[[Any], None]) -> None:
        def incompatible(event: Any) -> None:
            self._robot.is_incompatible(
                topic,
                'its publisher offers best effort, this node asks for reliable: set '
                'sensor_reliability to best_effort',
            )

        # Joints that come in several messages must not push each other out.
        depth = 10 if kind is JointState else 1
        qos = sensor_qos(self._values['sensor_reliability'], depth)
        events = SubscriptionEventCallbacks(incompatible_qos=incompatible)
        self.create_subscription(kind, topic, callback, qos, event_callbacks=events)

    def _make_services(self) -> None:
        group = ReentrantCallbackGroup()

        def serve(kind: Any, name: str, answer: Callable[[Any], str]) -> None:
            self.create_service(kind, name, self._answering(answer), callback_group=group)

        serve(SetBool, '~/enable', self._enable)
        serve(SetTask, '~/set_task', self._set_task)
        serve(Trigger, '~/reset', self._reset)

    def _make_timers(self, rate_hz: float) -> None:
        self.create_timer(
            1 / rate_hz, self._pilot.tick, callback_group=MutuallyExclusiveCallbackGroup()
        )
        self.create_timer(
            self.watch_period_s,
            self._watch,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=STEADY,
        )

    # Input --------------------------------------------------------------------------------------

    def _taking(self, name: str) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            self._inputs.put(name, messages.stamp_ns(message.header.stamp), message)

        return take

    def _take_joints(self, message: JointState) -> None:
        try:
            positions = messages.joint_positions(message, self._policy.joint_names)
        except messages.MessageError as error:
            self._inputs.joints_are_unusable(str(error))
            self.get_logger().warning(f'joint_states: {error}', throttle_duration_sec=WARN_PERIOD_S)
            return
        if positions:
            self._inputs.put_joints(messages.stamp_ns(message.header.stamp), positions)

    def _restart(self) -> None:
        self.get_logger().warning('time jumped back: inputs forgotten, nothing more is sent')
        self._statistics.count('restarts of time')
        self._pilot.restart('time jumped back')

    # Services: each returns its message; what it raises becomes success = false -----------------

    def _enable(self, request: Any) -> str:
        if not request.data:
            self._pilot.disable('somebody disabled it')
            return 'disabled'
        if self._clock_stands_still():
            raise ValueError('use_sim_time is set, but nobody publishes /clock')
        return self._pilot.enable()

    def _set_task(self, request: Any) -> str:
        warning = self._policy.set_task(request.text)
        self._pilot.begin_task()
        if warning:
            self.get_logger().warning(warning)
        return warning or f'the task is {self._policy.task!r}'

    def _reset(self, request: Any) -> str:
        self._pilot.reset()
        return 'the policy begins anew'

    def _answering(self, answer: Callable[[Any], str]) -> Callable[[Any, Any], Any]:
        def callback(request: Any, response: Any) -> Any:
            try:
                response.message = answer(request)
                response.success = True
            except Exception as error:  # a request must never end the node
                response.success = False
                response.message = str(error)
                if not isinstance(error, ValueError):
                    response.message = f'{type(error).__name__}: {error}'
                self.get_logger().error(f'service refused: {response.message}')
            return response

        return callback

    # Output -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        state = self._pilot.state
        ages = {topic: f'{age:.3f}' for topic, age in self._pilot.ages_s().items()}
        values = {
            'state': state.value,
            'reason': self._pilot.reason,
            'task': self._policy.task,
            'shadow': str(self._values['shadow']),
            **{f'age s {topic}': age for topic, age in ages.items()},
            **self._statistics.values(),
            'process megabytes': f'{resident_megabytes():.1f}',
        }
        for count in ('commands sent', 'commands held', 'deadline misses', 'ticks late'):
            values.setdefault(count, '0')
        status = messages.diagnostics_message(
            self.get_name(),
            self._problem(state) or None,
            values,
            self.get_clock().now().to_msg(),
            failed=state is GuardState.STOPPED,
        )
        self._diagnostics.publish(status)

    def _problem(self, state: GuardState) -> str:
        if self._clock_stands_still():
            return 'use_sim_time is set, but nobody publishes /clock'
        if state is GuardState.DISABLED:
            return self._pilot.obstacle()
        if state not in MOVING:
            return f'{state.value}: {self._pilot.reason}'
        misses = self._statistics.get('deadline misses')
        new, self._misses_told = misses - self._misses_told, misses
        if not new:
            return ''
        return f'{new} deadline(s) missed: the model is not done when the next tick is due'

    def _clock_stands_still(self) -> bool:
        return bool(
            self.get_parameter('use_sim_time').value and self.get_clock().now().nanoseconds == 0
        )


def main() -> None:
    """Run the node."""
    run_node(PolicyNode)


if __name__ == '__main__':
    main()
