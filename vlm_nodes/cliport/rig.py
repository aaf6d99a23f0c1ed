"""All cameras over the table: their newest images as the planner's views, or why there are none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Event
from typing import Any, Final

import numpy as np
from rclpy.duration import Duration
from rclpy.node import Node
from tf2_ros import Buffer, TransformListener

from vlm_nodes import messages
from vlm_nodes.cliport.camera_topics import CameraTopics
from vlm_nodes.cliport.heightmap import View
from vlm_nodes.cliport.views import SECOND_NS, NewestViews, Pair
from vlm_nodes.live.stamps import StampWatch
from vlm_nodes.transforms import MissingTransformError, lookup_matrix

_POLL_S: Final = 0.01
# Frames nearer than this (metres, radians) are those of one lens.
_SAME_LENS: Final = 1e-3


class NoViewsError(Exception):
    """What the cameras sent cannot be used.

    Attributes:
        kind: Why, in a word or two.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class CameraRig:
    """Subscribes to all cameras and to tf.

    Attributes:
        names: Of the cameras, in their order.
    """

    def __init__(
        self,
        node: Node,
        scales: Mapping[str, float],
        values: Mapping[str, Any],
        on_restart: Callable[[str], None],
    ) -> None:
        """Listen.

        Args:
            node: To subscribe with.
            scales: What depths are multiplied by, by camera.
            values: Of the node's parameters.
            on_restart: Told where time began anew, after everything was forgotten.
        """
        self.names = list(scales)
        self._node, self._values, self._on_restart = node, values, on_restart
        self._scales = {name: np.float32(scale) for name, scale in scales.items()}
        self._stamps = StampWatch()
        self._views = NewestViews(self.names, values['sync_slop_s'])
        self._buffer = Buffer(cache_time=Duration(seconds=values['tf_cache_s']))
        self._listener = TransformListener(self._buffer, node)
        self._cameras = [
            CameraTopics(node, name, values, self._views, self._saw) for name in self.names
        ]

    def restart(self, why: str) -> None:
        """Time began anew: forget images and transforms."""
        self._buffer.clear()
        self._stamps.clear()
        self._views.forget()
        self._on_restart(why)

    def newest(self) -> dict[str, Pair]:
        """The newest images of each camera that has some."""
        return self._views.newest()

    def wait(self, asked_ns: int, asked_s: float, is_over: Callable[[], bool]) -> dict[str, Pair]:
        """Images of all cameras that are new enough for a question.

        Args:
            asked_ns: When it was asked, on the node's clock.
            asked_s: The same on the clock of `time.monotonic`.
            is_over: Whether nobody needs them any more.

        Raises:
            NoImagesError: They did not come in time.
        """
        max_age_s = self._values['max_age_s']
        return self._views.wait(
            after_ns=None if max_age_s < 0 else asked_ns - round(max_age_s * SECOND_NS),
            after_s=asked_s if max_age_s == 0 else -np.inf,
            timeout_s=self._values['image_timeout_s'],
            is_over=is_over,
        )

    def views(self, pairs: Mapping[str, Pair], stopping: Event) -> list[View]:
        """Images as the planner takes them; waits for tf and camera_info.

        Raises:
            NoViewsError: An image cannot be used.
        """
        return [self._view(camera, pairs[camera.name], stopping) for camera in self._cameras]

    def complaints(self, patience_s: float) -> list[str]:
        """What is wrong with cameras that sent nothing for so long."""
        now_s, count = time.monotonic(), self._node.count_publishers
        return [
            f'{camera.name}: {complaint}' if camera.name else complaint
            for camera in self._cameras
            if (complaint := camera.watch.complaint(now_s, patience_s, count))
        ]

    def _saw(self, topic: str, stamp_ns: int) -> None:
        if self._stamps.jumped_back(topic, stamp_ns):
            self.restart(f'stamps of {topic} jumped back')

    def _view(self, camera: CameraTopics, pair: Pair, stopping: Event) -> View:
        deadline = time.monotonic() + self._values['tf_timeout_s']
        while camera.camera is None:
            # Like tf it may come later than the first images.
            if time.monotonic() >= deadline or stopping.wait(_POLL_S):
                topic = camera.topics['camera_info']
                raise NoViewsError('no camera_info', f'no usable camera_info on {topic}')
        try:
            pose = lookup_matrix(
                self._buffer,
                self._values['table_frame'],
                pair.rgb.header.frame_id,
                pair.rgb.header.stamp,
                self._values['tf_timeout_s'],
                stopping,
            )
            self._check_registered(camera, pair, stopping)
            depth_m = messages.depth_from_image(pair.depth) * self._scales[camera.name]
            return View(messages.rgb_from_image(pair.rgb), depth_m, camera.camera, pose)
        except MissingTransformError as error:
            raise NoViewsError('no transform', str(error)) from error
        except ValueError as error:  # of messages too
            where = camera.name or camera.topics['rgb']
            raise NoViewsError('bad message', f'images of {where}: {error}') from error

    def _check_registered(self, camera: CameraTopics, pair: Pair, stopping: Event) -> None:
        """Depth of another lens puts everything beside where it is, and looks right.

        Raises:
            NoViewsError: tf says that depth was taken from elsewhere than colour.
        """
        color, depth = pair.rgb.header.frame_id, pair.depth.header.frame_id
        if color == depth:
            return
        try:
            stamp = pair.rgb.header.stamp
            color_from_depth = lookup_matrix(self._buffer, color, depth, stamp, 0.0, stopping)
        except MissingTransformError:
            return  # Registered depth may come under a name that tf does not know.
        if not np.allclose(color_from_depth, np.eye(4), atol=_SAME_LENS):
            raise NoViewsError(
                'not registered',
                f'depth on {camera.topics["depth"]} is of frame {depth!r} and colour of {color!r}, '
                'which tf has apart: depth has to be registered to colour',
            )
