"""Where depth pixels lie in a colour image that another camera took."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry import Camera, RgbdFrame
from vlm_nodes.geometry.rigid import invert
from vlm_nodes.mapping.jit import kernel
from vlm_nodes.mapping.projection_table import ProjectionTable, look_up

# Cells of the colour view's z-buffer; a depth image sampled more coarsely than this leaves gaps.
_CELL_PX = 4
# Nearer than this, two cameras see the same points: nothing can hide behind anything.
_SAME_PLACE_M = 1e-3


def is_registered(frame: RgbdFrame) -> bool:
    """Whether depth pixel (u, v) is colour pixel (u, v)."""
    return frame.color_camera == frame.depth_camera and np.array_equal(
        frame.map_from_color, frame.map_from_depth
    )


def color_pixels(
    frame: RgbdFrame,
    rays: NDArray[np.float32],
    table: ProjectionTable,
    hidden_margin_m: float,
) -> NDArray[np.float32]:
    """Colour pixel of every depth pixel.

    What the depth camera sees but the colour camera does not, because something nearer is in its
    way, gets no colour pixel: points are held against a coarse z-buffer of the colour view.

    Args:
        frame: The two images.
        rays: (h, w, 2) rays of the depth camera.
        table: Projection of the colour camera.
        hidden_margin_m: How much deeper than the nearest point in its cell a point must lie, plus
            3 % of its depth, to count as hidden.

    Returns:
        (h, w, 2) float32 of (u, v) for the depth image's (h, w) pixels; -1 where there is none.
    """
    color_from_depth = invert(frame.map_from_color) @ frame.map_from_depth
    pixels = np.empty((*frame.depth_m.shape, 2), dtype=np.float32)
    depths = np.empty(frame.depth_m.shape, dtype=np.float32)
    _project(
        frame.depth_m,
        rays,
        color_from_depth,
        table.pixels,
        table.origin_scale,
        frame.color_camera.width,
        frame.color_camera.height,
        pixels,
        depths,
    )
    if np.linalg.norm(color_from_depth[:3, 3]) > _SAME_PLACE_M:
        nearest = _empty_buffer(frame.color_camera)
        _drop_hidden(pixels, depths, nearest, hidden_margin_m)
    return pixels


def _empty_buffer(camera: Camera) -> NDArray[np.float32]:
    shape = (camera.height // _CELL_PX + 1, camera.width // _CELL_PX + 1)
    return np.full(shape, np.inf, dtype=np.float32)


@kernel
def _project(
    depth_m: NDArray[np.float32],
    rays: NDArray[np.float32],
    color_from_depth: NDArray[np.float64],
    table: NDArray[np.float64],
    origin_scale: NDArray[np.float64],
    width: int,
    height: int,
    pixels: NDArray[np.float32],
    depths: NDArray[np.float32],
) -> None:
    m = color_from_depth
    columns = depth_m.shape[1]
    color_rays = np.empty((columns, 2), dtype=np.float64)
    found = np.empty((columns, 2), dtype=np.float64)
    for row in range(depth_m.shape[0]):
        for col in range(columns):
            d = np.float64(depth_m[row, col]) if depth_m[row, col] > 0.0 else np.nan
            x, y = rays[row, col, 0] * d, rays[row, col, 1] * d
            z = m[2, 0] * x + m[2, 1] * y + m[2, 2] * d + m[2, 3]
            # A point that is not in front, or has no depth, gets a ray outside any table.
            inverse = 1.0 / z if z > 0.0 else np.inf
            color_rays[col, 0] = (m[0, 0] * x + m[0, 1] * y + m[0, 2] * d + m[0, 3]) * inverse
            color_rays[col, 1] = (m[1, 0] * x + m[1, 1] * y + m[1, 2] * d + m[1, 3]) * inverse
            depths[row, col] = z
        look_up(table, origin_scale, color_rays, found)
        for col in range(columns):
            u, v = found[col, 0], found[col, 1]
            # Up to half a pixel outside the outermost centres still lies in the image.
            inside = -0.5 <= u < width - 0.5 and -0.5 <= v < height - 0.5
            pixels[row, col, 0] = max(u, 0.0) if inside else -1.0
            pixels[row, col, 1] = max(v, 0.0) if inside else -1.0


@kernel
def _drop_hidden(
    pixels: NDArray[np.float32],
    depths: NDArray[np.float32],
    nearest: NDArray[np.float32],
    margin_m: float,
) -> None:
    for row in range(pixels.shape[0]):
        for col in range(pixels.shape[1]):
            u, v = pixels[row, col, 0], pixels[row, col, 1]
            if u >= 0.0:
                i, j = int(v) // _CELL_PX, int(u) // _CELL_PX
                nearest[i, j] = min(nearest[i, j], depths[row, col])
    for row in range(pixels.shape[0]):
        for col in range(pixels.shape[1]):
            u, v = pixels[row, col, 0], pixels[row, col, 1]
            if u < 0.0:
                continue
            z = depths[row, col]
            if z > nearest[int(v) // _CELL_PX, int(u) // _CELL_PX] + margin_m + 0.03 * z:
                pixels[row, col, 0] = -1.0
                pixels[row, col, 1] = -1.0
