"""All cameras about the vehicle: pictures of one moment with calibration and place, or why not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.node import Node
from tf2_ros import Buffer, TransformListener

from vlm_nodes import messages
from vlm_nodes.geometry.rigid import invert
from vlm_nodes.langocc.lifting import RigView
from vlm_nodes.live.camera_images import INFO
from vlm_nodes.live.camera_sets import CameraSets
from vlm_nodes.live.image_sets import ImageSet
from vlm_nodes.transforms import MissingTransformError, lookup_matrix

Matrix = NDArray[np.float64]

_POLL_S: Final = 0.01


@dataclass(frozen=True)
class Views:
    """What is known of a moment.

    Attributes:
        images: (H, W, 3) uint8 RGB by camera.
        views: Their calibration.
        complaints: Why cameras whose picture came are not among them, by camera.
        fixed_from_ego: (4, 4) where the vehicle was, if there is a fixed frame.
    """

    images: dict[str, NDArray[np.uint8]]
    views: dict[str, RigView]
    complaints: dict[str, str]
    fixed_from_ego: Matrix | None = None


class _UnusableError(Exception):
    """A camera's picture cannot be used; the text says why."""


class CameraRig:
    """Subscribes to all cameras and to tf; hands over pictures of one moment.

    Attributes:
        names: Of the cameras.
    """

    def __init__(
        self,
        node: Node,
        names: Sequence[str],
        values: Mapping[str, Any],
        on_set: Callable[[ImageSet], None],
        on_restart: Callable[[str], None],
    ) -> None:
        """Listen.

        Args:
            node: To subscribe with.
            names: Of the cameras.
            values: Of the node's parameters.
            on_set: Told of pictures that belong together, whether or not they can be used.
            on_restart: Told where time began anew, after everything was forgotten.
        """
        self.names = tuple(names)
        self._values, self._on_restart = values, on_restart
        self._buffer = Buffer(cache_time=Duration(seconds=values['tf_cache_s']))
        self._listener = TransformListener(self._buffer, node)
        self._unplaced: set[str] = set()
        self._sets = CameraSets(
            node, self.names, values, on_set, self._forget, info=values['info_topic']
        )

    def restart(self, why: str) -> None:
        """Time began anew: forget images and transforms."""
        self._sets.restart(why)

    def complaints(self, patience_s: float) -> dict[str, str]:
        """What is wrong with cameras of which nothing could be used for so long, by camera."""
        return self._sets.complaints(patience_s)

    def views(self, taken: ImageSet, stopping: threading.Event) -> Views:
        """Pictures as the network takes them; waits for tf and camera_info.

        Cameras that lack something are left out. What one lacked the last time is not waited for
        again.

        Args:
            taken: Pictures of one moment.
            stopping: Ends all waiting.
        """
        found = Views({}, {}, {})
        deadline_s = time.monotonic() + self._values['tf_timeout_s']
        # Those that lacked something come last: by then it may be there.
        for name in sorted(taken.images, key=lambda name: name in self._unplaced):
            wait_s = 0.0 if name in self._unplaced else max(0.0, deadline_s - time.monotonic())
            try:
                rgb, view = self._view(name, taken, wait_s, stopping)
            except _UnusableError as error:
                found.complaints[name] = str(error)
                continue
            found.images[name], found.views[name] = rgb, view
        if found.images and self._values['fixed_frame']:
            # The views needed it, so it is there.
            return replace(found, fixed_from_ego=self._fixed_from_base(taken, 0.0, stopping))
        return found

    def _view(
        self, name: str, taken: ImageSet, wait_s: float, stopping: threading.Event
    ) -> tuple[NDArray[np.uint8], RigView]:
        message, camera = taken.images[name], self._sets.cameras[name]
        try:
            rgb = messages.rgb_from_image(message)
        except messages.MessageError as error:
            raise _UnusableError(str(error)) from error
        deadline_s = time.monotonic() + wait_s
        while camera.camera is None:
            if time.monotonic() >= deadline_s or stopping.wait(_POLL_S):
                self._unplaced.add(name)
                raise _UnusableError(f'no usable camera_info on {camera.topics[INFO]}')
        if rgb.shape[:2] != (camera.camera.height, camera.camera.width):
            raise _UnusableError(
                f'its picture has {rgb.shape[1]}x{rgb.shape[0]} pixels, its camera_info says '
                f'{camera.camera.width}x{camera.camera.height}'
            )
        try:
            pose = self._pose(message.header, taken, wait_s, stopping)
        except MissingTransformError as error:
            self._unplaced.add(name)
            raise _UnusableError(str(error)) from error
        self._unplaced.discard(name)
        return rgb, RigView(camera.camera, pose)

    def _pose(
        self, header: Any, taken: ImageSet, wait_s: float, stopping: threading.Event
    ) -> Matrix:
        """(4, 4) from the camera to where the vehicle's frame is at the moment's stamp."""

        def look_up(parent: str, child: str, stamp: Any) -> Matrix:
            return lookup_matrix(self._buffer, parent, child, stamp, wait_s, stopping)

        base, fixed = self._values['base_frame'], self._values['fixed_frame']
        if not fixed:
            return look_up(base, header.frame_id, header.stamp)
        now = self._fixed_from_base(taken, wait_s, stopping)
        return np.asarray(invert(now) @ look_up(fixed, header.frame_id, header.stamp))

    def _fixed_from_base(self, taken: ImageSet, wait_s: float, stopping: threading.Event) -> Matrix:
        """(4, 4) where the vehicle is at the moment's stamp."""
        base, fixed = self._values['base_frame'], self._values['fixed_frame']
        stamp = messages.stamp_message(taken.stamp_ns)
        return lookup_matrix(self._buffer, fixed, base, stamp, wait_s, stopping)

    def _forget(self, why: str) -> None:
        self._buffer.clear()
        self._on_restart(why)
