"""Where a policy's commands and pictures go: the topics of `policy_node`, and its clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from vlm_nodes import messages
from vlm_nodes.sarnn.command import JointLimits
from vlm_nodes.sarnn.config import CLIP_SUFFIX, SarnnConfig
from vlm_nodes.sarnn.inputs import Snapshot
from vlm_nodes.sarnn.overlay import draw_keypoints
from vlm_nodes.sarnn.parameters import COMMAND_TOPICS
from vlm_nodes.sarnn.policy import Sensed, Step
from vlm_nodes.sarnn.preprocess import Crop
from vlm_nodes.sarnn.safety import GuardState

_COMMANDS = {
    'joint_trajectory': JointTrajectory,
    'float64_multi_array': Float64MultiArray,
    'joint_state': JointState,
}


class RobotTopics:
    """What `pilot.Robot` asks for, on ROS."""

    def __init__(
        self,
        node: Node,
        values: Mapping[str, Any],
        limits: JointLimits,
        period_s: float,
        config: SarnnConfig,
        crops: Mapping[str, Crop],
    ) -> None:
        self._node = node
        self._kind = values['command_type']
        self._names = limits.names
        self._reach_s = values['trajectory_periods'] * period_s
        self._crops = crops
        self._incompatible: dict[str, str] = {}
        kind = _COMMANDS[self._kind]
        self._outputs = [node.create_publisher(kind, '~/command', 10)]
        if not values['shadow']:
            self._outputs.append(node.create_publisher(kind, COMMAND_TOPICS[self._kind], 10))
        self._pictures = {
            what: {
                camera: node.create_publisher(Image, f'~/{what}' + f'/{camera}' * (i > 0), 1)
                for i, camera in enumerate(config.cameras)
            }
            for what in ('keypoints', 'predicted_image')
        }

    @property
    def topic(self) -> str:
        """Where commands go."""
        return str(self._outputs[-1].topic_name)

    def now_ns(self) -> int:
        """Time on the node's clock, which use_sim_time makes the simulation's."""
        return int(self._node.get_clock().now().nanoseconds)

    def send(self, positions: NDArray[np.float64]) -> None:
        """Command the joints; in shadow mode on ~/command alone."""
        message = self._command(positions)
        for output in self._outputs:
            output.publish(message)

    def _command(self, positions: NDArray[np.float64]) -> Any:
        if self._kind == 'joint_trajectory':
            return messages.trajectory_message(self._names, positions, self._reach_s)
        if self._kind == 'float64_multi_array':
            return messages.float_array_message(positions)
        header = messages.header_message('', self.now_ns())
        return messages.joint_state_message(self._names, positions, (), header)

    def show(self, snapshot: Snapshot, sensed: Sensed, step: Step) -> None:
        """Publish keypoints while somebody looks, and the predicted images that there are."""
        for camera, publisher in self._pictures['keypoints'].items():
            if publisher.get_subscription_count():
                branches = [name for name in (camera, camera + CLIP_SUFFIX) if name in step.seen]
                picture = draw_keypoints(
                    self._cropped(camera, sensed.images[camera]),
                    [step.seen[name] for name in branches],
                    [step.expected[name] for name in branches],
                )
                header = snapshot.samples[camera].header
                publisher.publish(messages.image_message(picture, 'rgb8', header))
        for camera, image in step.images.items():
            header = snapshot.samples[camera].header
            message = messages.image_message(image, 'rgb8', header)
            self._pictures['predicted_image'][camera].publish(message)

    def _cropped(self, camera: str, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if camera not in self._crops:
            return image
        left, top, width, height = self._crops[camera]
        return image[top : top + height, left : left + width]

    def wants_images(self) -> bool:
        """Whether somebody looks at predicted images."""
        publishers = self._pictures['predicted_image'].values()
        return any(publisher.get_subscription_count() for publisher in publishers)

    def is_incompatible(self, topic: str, reason: str) -> None:
        """A publisher of an input cannot be heard."""
        self._incompatible[topic] = reason
        self._node.get_logger().warning(f'{topic}: {reason}')

    def why_silent(self, topic: str) -> str:
        """What keeps an input from coming."""
        if topic in self._incompatible:
            return self._incompatible[topic]
        count = self._node.count_publishers(topic)
        if count == 0:
            return 'nobody publishes it: check its name and remapping'
        return f'it has {count} publisher(s), but no message has come'

    def changed(self, state: GuardState, reason: str) -> None:
        """Say that the guard's state became another."""
        logger = self._node.get_logger()
        if state is GuardState.STOPPED:
            logger.error(f'stopped: {reason}; call ~/enable to go on')
        elif state is GuardState.HOLDING:
            logger.warning(f'holding: {reason}')
        else:
            logger.info(f'{state.value}: {reason}' if reason else state.value)
