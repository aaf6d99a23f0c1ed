"""Voxels that a depth image sees through."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vlm_nodes.mapping.jit import kernel
from vlm_nodes.mapping.projection_table import look_up
from vlm_nodes.mapping.voxel_index import AXIS_BITS, AXIS_HALF


def nearest_around(depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest reading in each pixel's 3 x 3 neighbourhood; NaN where the pixel has none.

    At edges and grazing angles a voxel's pixel may show what lies behind it; one of the pixels
    around still shows the voxel.

    Args:
        depth_m: (H, W) float32 metres, NaN for no reading.

    Returns:
        (H, W) float32 metres.
    """
    missing = ~(depth_m > 0)
    filled = np.where(missing, np.float32(np.inf), depth_m)
    nearest = np.asarray(cv2.erode(filled, np.ones((3, 3), np.uint8)), dtype=np.float32)
    nearest[missing] = np.nan
    return nearest


@kernel
def seen_through(
    keys: NDArray[np.int64],
    offset: NDArray[np.float32],
    touched: NDArray[np.bool_],
    origin: NDArray[np.int64],
    voxel_size: float,
    depth_from_map: NDArray[np.float64],
    table: NDArray[np.float64],
    origin_scale: NDArray[np.float64],
    nearest_m: NDArray[np.float32],
    limits: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Rows of voxels that lie clearly in front of what the depth image shows at their pixel.

    Args:
        keys: (N,) packed voxel keys.
        offset: (N, 3) mean point within the voxel, in voxels.
        touched: (N,) voxels that got a point from this image; they are not tested.
        origin: (3,) the voxel of key coordinates 0.
        voxel_size: Metres.
        depth_from_map: (4, 4).
        table: Projection table of the depth camera.
        origin_scale: The table's origin and scale.
        nearest_m: (H, W), see `nearest_around`.
        limits: (4,) minimum and maximum depth, margin in metres, margin per square metre.

    Returns:
        (M,) positions within the N voxels.
    """
    m = depth_from_map
    min_depth, max_depth, margin, margin_per_m2 = limits
    height, width = nearest_m.shape
    axis_mask = (1 << AXIS_BITS) - 1
    found = np.empty(keys.size, dtype=np.int64)
    depths = np.empty(keys.size, dtype=np.float64)
    rays = np.empty((keys.size, 2), dtype=np.float64)
    count = 0
    for i in range(keys.size):
        if touched[i]:
            continue
        key = keys[i]
        x = ((key >> (2 * AXIS_BITS)) - AXIS_HALF + origin[0] + offset[i, 0]) * voxel_size
        y = (((key >> AXIS_BITS) & axis_mask) - AXIS_HALF + origin[1] + offset[i, 1]) * voxel_size
        z = ((key & axis_mask) - AXIS_HALF + origin[2] + offset[i, 2]) * voxel_size
        depth = m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + m[2, 3]
        if min_depth <= depth <= max_depth:
            found[count], depths[count] = i, depth
            rays[count, 0] = (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + m[0, 3]) / depth
            rays[count, 1] = (m[1, 0] * x + m[1, 1] * y + m[1, 2] * z + m[1, 3]) / depth
            count += 1
    pixels = np.empty((count, 2), dtype=np.float64)
    look_up(table, origin_scale, rays[:count], pixels)
    kept = 0
    for n in range(count):
        u, v, depth = pixels[n, 0], pixels[n, 1], depths[n]
        if 0.0 <= u <= width - 1 and 0.0 <= v <= height - 1:
            surface = nearest_m[int(v + 0.5), int(u + 0.5)]
            if depth + margin + margin_per_m2 * depth * depth < surface:
                found[kept] = found[n]
                kept += 1
    return found[:kept].copy()
