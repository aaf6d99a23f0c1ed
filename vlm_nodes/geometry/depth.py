from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# What a 16-bit sensor writes where it has no reading: REP-118 says 0, Kinects also the maximum.
NO_READING_16BIT = (0, 65535)


def depth_to_metres(image: NDArray[Any], encoding: str) -> NDArray[np.float32]:
    """Depth along z in metres, NaN where there is no reading (REP-117, REP-118).

    Args:
        image: (H, W) uint16 millimetres ('16UC1', 'mono16') or float32 metres ('32FC1').
        encoding: The sensor_msgs encoding, which decides the unit.

    Returns:
        (H, W) float32 metres, a new array. Zero, negative, infinite and 65535 readings become NaN.

    Raises:
        ValueError: The encoding is not one of depth, or the array does not fit it.
    """
    if image.ndim != 2:
        raise ValueError(f'depth image has shape {image.shape}, not (H, W)')
    if encoding in ('16UC1', 'mono16'):
        if image.dtype != np.uint16:
            raise ValueError(f'depth encoding {encoding} holds uint16, got {image.dtype}')
        metres = image.astype(np.float32) / np.float32(1000)
        metres[(image == NO_READING_16BIT[0]) | (image == NO_READING_16BIT[1])] = np.nan
        return metres
    if encoding == '32FC1':
        if image.dtype != np.float32:
            raise ValueError(f'depth encoding 32FC1 holds float32, got {image.dtype}')
        return np.where(np.isfinite(image) & (image > 0), image, np.float32(np.nan))
    raise ValueError(
        f'encoding {encoding!r} is not a depth encoding: '
        '32FC1 (metres) or 16UC1 (millimetres) is needed'
    )
