"""Small pictures of a conversion's images, for its report."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

COUNT = 8
WIDTH = 120


class Thumbnails:
    """Pictures of evenly spread ticks of every image stream.

    Args:
        ticks: Ticks of the conversion; 0 takes no pictures.
    """

    def __init__(self, ticks: int) -> None:
        self.restart(ticks)

    def restart(self, ticks: int) -> None:
        """Forget all pictures, for another number of ticks."""
        count = min(COUNT, ticks)
        self.rows = sorted({round(i * (ticks - 1) / max(1, count - 1)) for i in range(count)})
        self._pictures: dict[str, dict[int, str]] = {}

    def offer(self, stream: str, row: int, image: NDArray[Any]) -> None:
        """Take a picture of a row that is wanted."""
        if row in self.rows:
            self._pictures.setdefault(stream, {})[row] = png_text(_small(_visible(image)))

    def as_text(self) -> dict[str, dict[int, str]]:
        """PNGs in base64 by stream and row."""
        return self._pictures


def png_text(rgb: NDArray[np.uint8]) -> str:
    """A (H, W, 3) uint8 RGB image as PNG in base64."""
    good, data = cv2.imencode('.png', cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR))
    if not good:
        raise ValueError(f'an image of shape {rgb.shape} cannot be written as PNG')
    return base64.b64encode(data.tobytes()).decode()


def image_from_png_text(text: str) -> NDArray[np.uint8]:
    """The (H, W, 3) uint8 RGB image that `png_text` wrote."""
    data = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), dtype=np.uint8)


def _visible(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Depth in colours from near to far by what it holds, black where there is no reading."""
    if image.ndim == 3:
        return np.asarray(image, dtype=np.uint8)
    known = image > 0
    near, far = np.percentile(image[known], [2, 98]) if known.any() else (0.0, 1.0)
    scaled = np.clip((image - near) / max(1.0, far - near), 0, 1) * 255
    bgr = cv2.applyColorMap(scaled.astype(np.uint8), cv2.COLORMAP_TURBO)
    bgr[~known] = 0
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _small(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height = max(1, round(rgb.shape[0] * WIDTH / rgb.shape[1]))
    return np.asarray(cv2.resize(rgb, (WIDTH, height), interpolation=cv2.INTER_AREA))
