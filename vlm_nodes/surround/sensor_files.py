"""Pictures and LiDAR sweeps of keyframes, read from disk."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from vlm_nodes.surround.errors import SurroundError
from vlm_nodes.surround.keyframe import LidarSweep, SurroundImage

_FIELDS: Final = 5


def read_image(image: SurroundImage) -> NDArray[np.uint8]:
    """The picture, (H, W, 3) uint8 RGB.

    Raises:
        SurroundError: The file is missing, is no picture, or is of another size than its camera.
    """
    if not image.path.is_file():
        raise SurroundError(
            f'picture {image.path} is missing: copy it, or leave such keyframes out with '
            '--require-files'
        )
    bgr = cv2.imread(str(image.path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise SurroundError(f'{image.path} is not a picture, or is cut short')
    if bgr.shape[:2] != (image.camera.height, image.camera.width):
        raise SurroundError(
            f'{image.path} has {bgr.shape[1]}x{bgr.shape[0]} pixels, its camera '
            f'{image.camera.width}x{image.camera.height}: pictures that were resized need tables '
            'with their size and intrinsics'
        )
    return np.ascontiguousarray(bgr[..., ::-1])


def read_points(sweep: LidarSweep) -> NDArray[np.float32]:
    """The sweep's points, (N, 5) float32: x, y, z in metres in the LiDAR's frame, intensity, ring.

    Raises:
        SurroundError: The file is missing or of a length that no sweep has.
    """
    if not sweep.path.is_file():
        raise SurroundError(
            f'LiDAR sweep {sweep.path} is missing: copy it, or leave such keyframes out with '
            '--require-files'
        )
    numbers = np.fromfile(sweep.path, np.float32)
    if numbers.size % _FIELDS or sweep.path.stat().st_size % 4:
        raise SurroundError(
            f'{sweep.path} is cut short: it is no list of {_FIELDS} numbers a point'
        )
    return numbers.reshape(-1, _FIELDS)
