"""Sending poses of frames that stay where they are."""

from __future__ import annotations

from collections.abc import Iterable

from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from .transform_broadcaster import listed


class StaticTransformBroadcaster:
    """Publishes on ``/tf_static``: every message holds all poses, and latecomers get the last one.

    Args:
        node: Who publishes.
        qos: Profile or history depth; transient-local with a depth of 1 by default.
    """

    def __init__(self, node: Node, qos: QoSProfile | int | None = None) -> None:
        if qos is None:
            qos = QoSProfile(
                depth=1,
                durability=DurabilityPolicy.TRANSIENT_LOCAL,
                history=HistoryPolicy.KEEP_LAST,
            )
        self.pub_tf = node.create_publisher(TFMessage, '/tf_static', qos)
        self.net_message = TFMessage()
        self._child_frame_ids: set[str] = set()

    def sendTransform(self, transform: TransformStamped | Iterable[TransformStamped]) -> None:
        """Add one or several poses and publish all. Of each child frame the first pose counts."""
        for pose in listed(transform):
            if pose.child_frame_id not in self._child_frame_ids:
                self._child_frame_ids.add(pose.child_frame_id)
                self.net_message.transforms.append(pose)
        self.pub_tf.publish(self.net_message)
