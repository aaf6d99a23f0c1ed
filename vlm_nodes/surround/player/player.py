"""Moments of a drive to topics: pictures, intrinsics, mountings and the vehicle's pose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage
from tf2_ros import TransformBroadcaster

from vlm_nodes import messages
from vlm_nodes.node import LATCHED, STEADY, Audience, Parameter
from vlm_nodes.surround.keyframe import CAMERAS, Matrix
from vlm_nodes.surround.player.shots import DriveMoment
from vlm_nodes.transforms import transform_message

_DEPTH: Final = 10

PLAYER_PARAMETERS: Final = (
    Parameter(
        'cameras',
        list(CAMERAS),
        'Cameras to publish, each with its topics under NAME/.',
    ),
    Parameter('rate_hz', 2.0, 'Moments a second of real time.', 0.01, 100.0),
    Parameter('image_topic', 'image_raw', 'Pictures are on NAME/image_topic.'),
    Parameter('info_topic', 'camera_info', 'Intrinsics are on NAME/info_topic.'),
    Parameter(
        'transport',
        'raw',
        'raw: sensor_msgs/Image (rgb8); compressed: JPEG on NAME/image_topic/compressed; or both.',
        choices=('raw', 'compressed', 'both'),
    ),
    Parameter('map_frame', 'map', 'Frame that the vehicle moves in.'),
    Parameter(
        'base_frame',
        'base_link',
        "The vehicle's frame: x ahead, y left, z up, on the ground below the rear axle.",
    ),
    Parameter(
        'clock',
        False,
        'Keep the recorded stamps and publish them as /clock; otherwise stamps are of now.',
    ),
    Parameter('wait_for_listeners', True, 'Play nothing until somebody listens to a picture.'),
)


class Player:
    """Publishes a moment a period; after the last one it ends the node's run.

    Of each camera: `NAME/image_raw`, `NAME/camera_info`, frame NAME (optical axes). On tf the
    vehicle's pose at every stamp, and on `/tf_static` where cameras are mounted. Pictures of one
    moment keep the offsets of their stamps.

    Attributes:
        played: Moments so far.
    """

    def __init__(
        self,
        node: Node,
        cameras: Sequence[str],
        moments: Iterator[DriveMoment],
        values: Mapping[str, Any],
    ) -> None:
        """Wait for listeners, then play.

        Args:
            node: To publish with.
            cameras: Names.
            moments: Taken one at a time, in the executor's thread.
            values: Of `PLAYER_PARAMETERS`.
        """
        self.played = 0
        self._node, self._moments, self._values = node, moments, values
        qos = QoSProfile(depth=_DEPTH)
        transport = values['transport']
        self._raw: dict[str, Any] = {}
        self._compressed: dict[str, Any] = {}
        self._infos: dict[str, Any] = {}
        for name in cameras:
            # As image_transport does: remapping the base topic remaps its transports.
            topic = node.resolve_topic_name(f'{name}/{values["image_topic"]}')
            if transport in ('raw', 'both'):
                self._raw[name] = node.create_publisher(Image, topic, qos)
            if transport in ('compressed', 'both'):
                self._compressed[name] = node.create_publisher(
                    CompressedImage, f'{topic}/compressed', qos
                )
            self._infos[name] = node.create_publisher(
                CameraInfo, f'{name}/{values["info_topic"]}', qos
            )
        self._clock = (
            node.create_publisher(ClockMessage, '/clock', qos) if values['clock'] else None
        )
        self._broadcaster = TransformBroadcaster(node)
        # No broadcaster, which keeps to the first pose of each frame.
        self._static = node.create_publisher(TFMessage, '/tf_static', LATCHED)
        self._mountings: dict[str, Matrix] = {}
        self._pictures = [*self._raw.values(), *self._compressed.values()]
        others = [*self._infos.values(), self._broadcaster.pub_tf, self._static]
        self._audience = Audience(node, [*self._pictures, *others])
        node.create_timer(1.0 / values['rate_hz'], self._play, clock=STEADY)

    def _play(self) -> None:
        if not self.played and not (self._is_listened_to() and self._audience.has_settled()):
            return
        moment = next(self._moments, None)
        if moment is None:
            self._node.get_logger().info(f'the end, after {self.played} moments')
            self._audience.wait_until_taken()
            self._node.context.try_shutdown()  # which ends the executor's spin
            return
        self._publish(moment)
        self.played += 1

    def _is_listened_to(self) -> bool:
        """Whether somebody found a picture, or nobody is waited for."""
        return not self._values['wait_for_listeners'] or any(
            publisher.get_subscription_count() for publisher in self._pictures
        )

    def _publish(self, moment: DriveMoment) -> None:
        shift_ns = 0
        if self._clock is None:
            shift_ns = self._node.get_clock().now().nanoseconds - moment.last_stamp_ns()
        else:
            stamp = messages.stamp_message(moment.last_stamp_ns())
            self._clock.publish(ClockMessage(clock=stamp))
        self._send_poses(moment, shift_ns)
        for name, shot in moment.shots.items():
            header = messages.header_message(name, shot.stamp_ns + shift_ns)
            self._infos[name].publish(messages.camera_info_message(shot.camera, header))
            if name in self._raw:
                self._raw[name].publish(messages.image_message(shot.rgb, 'rgb8', header))
            if name in self._compressed:
                self._compressed[name].publish(messages.jpeg_message(shot.rgb, header))

    def _send_poses(self, moment: DriveMoment, shift_ns: int) -> None:
        values = self._values
        moved = {
            name: shot.ego_from_camera
            for name, shot in moment.shots.items()
            if name not in self._mountings or (self._mountings[name] != shot.ego_from_camera).any()
        }
        stamp = messages.stamp_message(moment.first_stamp_ns() + shift_ns)
        if moved:  # the first time, and where another vehicle's drive begins
            self._mountings |= moved
            mountings = [
                transform_message(values['base_frame'], name, mounting, stamp)
                for name, mounting in self._mountings.items()
            ]
            self._static.publish(TFMessage(transforms=mountings))
        self._broadcaster.sendTransform(
            [
                transform_message(
                    values['map_frame'],
                    values['base_frame'],
                    pose,
                    messages.stamp_message(stamp_ns + shift_ns),
                )
                for stamp_ns, pose in moment.poses().items()
            ]
        )
