"""The topics of one camera: its images to `NewestViews`, its lens, and what is wrong with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vlm_nodes import messages
from vlm_nodes.cliport.views import KINDS, NewestViews
from vlm_nodes.geometry import Camera
from vlm_nodes.live.input_watch import InputWatch
from vlm_nodes.node import SubscriptionEventCallbacks, sensor_qos

_WARN_PERIOD_S: Final = 5.0
_QUEUE: Final = 5


class CameraTopics:
    """Subscribes to colour, depth and camera_info of a camera.

    Attributes:
        name: Of the camera; '' of an only one.
        camera: Its intrinsics, once they came.
        topics: By input.
        watch: What keeps images from coming.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        values: Mapping[str, Any],
        views: NewestViews,
        on_stamp: Callable[[str, int], None],
    ) -> None:
        self.name = name
        self.camera: Camera | None = None
        self._node, self._views, self._on_stamp = node, views, on_stamp
        compressed = {
            'rgb': values['rgb_transport'] == 'compressed',
            'depth': values['depth_transport'] == 'compressedDepth',
        }
        self.topics = {
            'rgb': self._resolve('rgb', '/compressed' if compressed['rgb'] else ''),
            'depth': self._resolve('depth', '/compressedDepth' if compressed['depth'] else ''),
            'camera_info': self._resolve('camera_info'),
        }
        self.watch = InputWatch(
            self.topics, paired=KINDS, slop_s=values['sync_slop_s'], since_s=time.monotonic()
        )
        qos = sensor_qos(values['sensor_reliability'], _QUEUE)
        for kind in KINDS:
            node.create_subscription(
                CompressedImage if compressed[kind] else Image,
                self.topics[kind],
                self._taking(kind),
                qos,
                event_callbacks=self._events(kind),
            )
        node.create_subscription(
            CameraInfo,
            self.topics['camera_info'],
            self._take_info,
            qos,
            event_callbacks=self._events('camera_info'),
        )

    def _resolve(self, topic: str, transport: str = '') -> str:
        # As image_transport does: remapping the base topic remaps its transports.
        base = f'{self.name}/{topic}' if self.name else topic
        return str(self._node.resolve_topic_name(base)) + transport

    def _taking(self, kind: str) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            stamp_ns = messages.stamp_ns(message.header.stamp)
            now_s = time.monotonic()
            self.watch.saw(kind, stamp_ns, now_s)
            self._on_stamp(self.topics[kind], stamp_ns)
            if self._views.put(self.name, kind, stamp_ns, message) and self.camera:
                self.watch.saw_pair(now_s)

        return take

    def _take_info(self, message: Any) -> None:
        stamp_ns = messages.stamp_ns(message.header.stamp)
        self.watch.saw('camera_info', stamp_ns, time.monotonic())
        try:
            camera = messages.camera_from_info(message)
        except messages.MessageError as error:
            self.watch.is_unusable('camera_info', str(error))
            self._node.get_logger().warning(
                f'{self.topics["camera_info"]}: {error}', throttle_duration_sec=_WARN_PERIOD_S
            )
            return
        self.watch.is_unusable('camera_info', '')
        # An equal camera is not replaced: the old one has its rays computed.
        if self.camera != camera:
            self.camera = camera

    def _events(self, key: str) -> SubscriptionEventCallbacks:
        def incompatible(event: Any) -> None:
            reason = (
                'its publisher offers best effort, this node asks for reliable: '
                'set sensor_reliability to best_effort'
            )
            self.watch.is_incompatible(key, reason)
            self._node.get_logger().warning(f'{self.topics[key]}: {reason}')

        return SubscriptionEventCallbacks(incompatible_qos=incompatible)
