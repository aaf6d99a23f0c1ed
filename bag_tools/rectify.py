"""Images without their lens's distortion, for formats that know pinhole cameras alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry.camera import Camera


class Rectifier:
    """Turns images of a camera into those of a pinhole camera of the same matrix and size.

    Args:
        camera: What took the images.
    """

    def __init__(self, camera: Camera) -> None:
        self.camera = replace(camera, distortion_model='', distortion=())
        self._map = _source_pixels(camera, self.camera) if camera.is_distorted else None

    def color(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8; black where the lens saw nothing."""
        return np.asarray(self._remap(image, cv2.INTER_LINEAR), dtype=np.uint8)

    def depth(self, depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
        """(H, W) float32 metres, nearest readings; NaN where the lens saw nothing."""
        # Never blended: between a cup and the wall behind it there is nothing.
        return np.asarray(self._remap(depth_m, cv2.INTER_NEAREST, np.nan), dtype=np.float32)

    def _remap(self, image: NDArray[Any], interpolation: int, border: float = 0.0) -> Any:
        if self._map is None:
            return image
        return cv2.remap(
            image,
            self._map,
            None,
            interpolation,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=border,
        )


def _source_pixels(camera: Camera, pinhole: Camera) -> NDArray[np.float32]:
    """(H, W, 2) float32: where in the camera's image each pixel of the pinhole's is."""
    rays = pinhole.rays().reshape(-1, 2).astype(np.float64)
    points = np.column_stack([rays, np.ones(len(rays))])
    pixels = camera.project(points).reshape(pinhole.height, pinhole.width, 2)
    return np.nan_to_num(pixels, nan=-1e6).astype(np.float32)
