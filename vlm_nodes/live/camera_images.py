"""The topics of one of several cameras: pictures, intrinsics, and what is wrong with them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from vlm_nodes import messages
from vlm_nodes.geometry import Camera
from vlm_nodes.live.input_watch import InputWatch
from vlm_nodes.node import SubscriptionEventCallbacks, sensor_qos

_WARN_PERIOD_S: Final = 5.0
_QUEUE: Final = 5
IMAGE: Final = 'image'
INFO: Final = 'camera_info'


@dataclass(frozen=True)
class CameraTopicNames:
    """Where a camera's messages are.

    Attributes:
        image: Pictures are on NAME/image.
        info: Intrinsics are on NAME/info; '' where they are not needed.
        compressed: Pictures are compressed ones, on NAME/image/compressed.
        reliability: `best_effort` hears everyone; `reliable` loses nothing of who offers it.
        slop_s: How far apart stamps of different cameras may be, for what is said of them.
    """

    image: str = 'image_raw'
    info: str = 'camera_info'
    compressed: bool = False
    reliability: str = 'best_effort'
    slop_s: float = 0.1


class CameraImages:
    """Subscribes to a camera's pictures and intrinsics.

    Attributes:
        name: Of the camera.
        camera: Its intrinsics, once they came.
        topics: Resolved, by input.
        watch: What keeps pictures from being used.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        names: CameraTopicNames,
        on_image: Callable[[str, int, Any], None],
    ) -> None:
        """Listen.

        Args:
            node: To subscribe with.
            name: Of the camera, which its topics begin with.
            names: The rest of the topics' names.
            on_image: Told of each picture: the camera's name, its stamp in nanoseconds, the
                message.
        """
        self.name = name
        self.camera: Camera | None = None
        self._node, self._on_image = node, on_image
        # As image_transport does: remapping the base topic remaps its transports.
        end = '/compressed' if names.compressed else ''
        self.topics = {IMAGE: node.resolve_topic_name(f'{name}/{names.image}') + end}
        if names.info:
            self.topics[INFO] = node.resolve_topic_name(f'{name}/{names.info}')
        self.watch = InputWatch(
            self.topics, paired=(IMAGE,), slop_s=names.slop_s, since_s=time.monotonic()
        )
        qos = sensor_qos(names.reliability, _QUEUE)
        node.create_subscription(
            CompressedImage if names.compressed else Image,
            self.topics[IMAGE],
            self._take_image,
            qos,
            event_callbacks=self._events(IMAGE),
        )
        if names.info:
            node.create_subscription(
                CameraInfo,
                self.topics[INFO],
                self._take_info,
                qos,
                event_callbacks=self._events(INFO),
            )

    def _take_image(self, message: Any) -> None:
        stamp_ns = messages.stamp_ns(message.header.stamp)
        self.watch.saw(IMAGE, stamp_ns, time.monotonic())
        self._on_image(self.name, stamp_ns, message)

    def _take_info(self, message: Any) -> None:
        self.watch.saw(INFO, messages.stamp_ns(message.header.stamp), time.monotonic())
        try:
            camera = messages.camera_from_info(message)
        except messages.MessageError as error:
            self.watch.is_unusable(INFO, str(error))
            self._node.get_logger().warning(
                f'{self.topics[INFO]}: {error}', throttle_duration_sec=_WARN_PERIOD_S
            )
            return
        self.watch.is_unusable(INFO, '')
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
