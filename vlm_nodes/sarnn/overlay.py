"""What a policy attends to, drawn into the image that it saw."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Color = tuple[int, int, int]

SEEN: tuple[Color, ...] = ((40, 90, 255), (60, 200, 60))
"""RGB of keypoints in this image, of the camera's own branch and of CLIP's."""
EXPECTED: tuple[Color, ...] = ((255, 40, 40), (255, 170, 30))
"""RGB of keypoints expected in the next image."""

_SHORTEST_SIDE = 240


def draw_keypoints(
    image: NDArray[np.uint8],
    seen: Sequence[ArrayLike],
    expected: Sequence[ArrayLike] = (),
) -> NDArray[np.uint8]:
    """An image with keypoints in it: discs where they are, crosses where they will be.

    Small images are enlarged by a whole number, so that points hide little of them.

    Args:
        image: (H, W, 3) RGB.
        seen: Keypoints of this image, (K, 2) of each branch, (x, y) from 0 at the left and
            upper edge to 1 at the right and lower one.
        expected: Those expected in the next.

    Returns:
        (n H, n W, 3) RGB, a new array.
    """
    times = max(1, round(_SHORTEST_SIDE / min(image.shape[:2])))
    canvas = np.ascontiguousarray(image.repeat(times, axis=0).repeat(times, axis=1))
    radius = max(2, min(canvas.shape[:2]) // 80)
    for points, color in zip(seen, SEEN, strict=False):
        for center in _pixels(points, canvas):
            cv2.circle(canvas, center, radius, color, thickness=-1, lineType=cv2.LINE_AA)
    for points, color in zip(expected, EXPECTED, strict=False):
        for center in _pixels(points, canvas):
            cv2.drawMarker(canvas, center, color, cv2.MARKER_TILTED_CROSS, 3 * radius)
    return canvas


def _pixels(points: ArrayLike, canvas: NDArray[np.uint8]) -> list[tuple[int, int]]:
    height, width = canvas.shape[:2]
    finite = np.nan_to_num(np.asarray(points, dtype=np.float64), nan=-1.0, posinf=2.0, neginf=-1.0)
    scaled = np.rint(np.clip(finite, -1, 2) * (width, height) - 0.5).astype(int)
    return [(int(x), int(y)) for x, y in scaled]
