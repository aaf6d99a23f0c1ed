"""Several cameras as nodes subscribe to them: pictures of one moment, and what is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from rclpy.node import Node

from vlm_nodes.live.camera_images import IMAGE, INFO, CameraImages, CameraTopicNames
from vlm_nodes.live.image_sets import ImageSet, ImageSets
from vlm_nodes.live.stamps import StampWatch
from vlm_nodes.node import STEADY, Parameter

_LOOK_S: Final = 0.02

SET_PARAMETERS: Final = (
    Parameter('image_topic', 'image_raw', 'Pictures are on NAME/image_topic.'),
    Parameter(
        'image_transport',
        'raw',
        'raw: sensor_msgs/Image. compressed: CompressedImage on NAME/image_topic/compressed.',
        choices=('raw', 'compressed'),
    ),
    Parameter(
        'sensor_reliability',
        'best_effort',
        'best_effort hears every publisher; reliable loses no image of publishers that are.',
        choices=('best_effort', 'reliable'),
    ),
    Parameter(
        'set_slop_s',
        0.1,
        'How far apart the stamps of pictures of one moment may be, in seconds.',
        low=0.0,
        high=10.0,
    ),
    Parameter(
        'set_wait_s',
        0.15,
        'How long a moment waits for pictures of its last cameras, in seconds.',
        low=0.0,
        high=10.0,
    ),
    Parameter(
        'camera_alive_s',
        2.0,
        'A camera that is silent for so long is not waited for, in seconds.',
        low=0.1,
        high=3600.0,
    ),
)


class CameraSets:
    """Subscribes to pictures, maybe to intrinsics, and hands over pictures of one moment.

    Attributes:
        cameras: By name.
    """

    def __init__(
        self,
        node: Node,
        names: Sequence[str],
        values: Mapping[str, Any],
        on_set: Callable[[ImageSet], None],
        on_restart: Callable[[str], None],
        *,
        info: str = '',
    ) -> None:
        """Listen.

        Args:
            node: To subscribe with.
            names: Of the cameras, which their topics begin with.
            values: Of `SET_PARAMETERS`.
            on_set: Told of pictures that belong together.
            on_restart: Told where time began anew, after images were forgotten.
            info: Intrinsics are on NAME/info, and a camera without them is of no use; '' where
                they are not needed.
        """
        self._node, self._on_set, self._on_restart = node, on_set, on_restart
        self._stamps = StampWatch()
        self._sets = ImageSets(
            names,
            slop_s=values['set_slop_s'],
            wait_s=values['set_wait_s'],
            alive_s=values['camera_alive_s'],
            now_s=time.monotonic(),
        )
        topics = CameraTopicNames(
            image=values['image_topic'],
            info=info,
            compressed=values['image_transport'] == 'compressed',
            reliability=values['sensor_reliability'],
            slop_s=values['set_slop_s'],
        )
        self.cameras: Mapping[str, CameraImages] = {
            name: CameraImages(node, name, topics, self._take) for name in names
        }
        node.create_timer(_LOOK_S, self._look, clock=STEADY)

    def restart(self, why: str) -> None:
        """Time began anew: forget images."""
        self._stamps.clear()
        self._sets.clear(time.monotonic())
        self._on_restart(why)

    def complaints(self, patience_s: float) -> dict[str, str]:
        """What is wrong with cameras of which nothing could be used for so long, by camera."""
        now_s, count = time.monotonic(), self._node.count_publishers
        return {
            name: complaint
            for name, camera in self.cameras.items()
            if (complaint := camera.watch.complaint(now_s, patience_s, count))
        }

    def _take(self, name: str, stamp_ns: int, message: Any) -> None:
        topic = self.cameras[name].topics[IMAGE]
        if self._stamps.jumped_back(topic, stamp_ns):
            self.restart(f'stamps of {topic} jumped back')
        self._hand_over(self._sets.put(name, stamp_ns, message, time.monotonic()))

    def _look(self) -> None:
        self._hand_over(self._sets.due(time.monotonic()))

    def _hand_over(self, ready: ImageSet | None) -> None:
        if ready is None:
            return
        now_s = time.monotonic()
        for name in ready.images:
            camera = self.cameras[name]
            if INFO not in camera.topics or camera.camera is not None:
                camera.watch.saw_pair(now_s)
        self._on_set(ready)
