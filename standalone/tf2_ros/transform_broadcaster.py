"""Sending poses of frames that move."""

from __future__ import annotations

from collections.abc import Iterable

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile
from tf2_msgs.msg import TFMessage


def listed(transform: TransformStamped | Iterable[TransformStamped]) -> list[TransformStamped]:
    """Give one transform, or several, as a list."""
    return list(transform) if hasattr(transform, '__iter__') else [transform]


class TransformBroadcaster:
    """Publishes on ``/tf``.

    Args:
        node: Who publishes.
        qos: Profile or history depth; reliable and volatile with a depth of 100 by default.
    """

    def __init__(self, node: Node, qos: QoSProfile | int | None = None) -> None:
        self.pub_tf = node.create_publisher(
            TFMessage, '/tf', QoSProfile(depth=100) if qos is None else qos
        )

    def sendTransform(self, transform: TransformStamped | Iterable[TransformStamped]) -> None:
        """Publish one or several poses of child frames in their parents, in one message."""
        self.pub_tf.publish(TFMessage(transforms=listed(transform)))
