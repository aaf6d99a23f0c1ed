"""Closed-form scenes over a table: what a camera sees of planes and boxes, by ray casting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.cliport.heightmap import View
from vlm_nodes.geometry import Camera

Color = tuple[int, int, int]
GRAY: Color = (90, 90, 90)
FRONT, LEFT, RIGHT = (1.0, 0.0, 0.75), (0.0, 0.5, 0.75), (0.0, -0.5, 0.75)
MIDDLE = (0.5, 0.0, 0.0)


@dataclass(frozen=True)
class Box:
    """An upright box: its corner of least x, y, z and that of greatest."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    color: Color = (200, 30, 30)


def published_camera(width: int = 640, height: int = 480) -> Camera:
    return Camera(width, height, 450.0 * width / 640, 450.0 * width / 640, width / 2, height / 2)


def cast(
    camera: Camera,
    table_from_camera: NDArray[np.float64],
    boxes: tuple[Box, ...] = (),
    table_z: float = 0.0,
    color: Color = GRAY,
) -> View:
    """The view of a level, endless table at `table_z` and boxes; NaN where a ray meets nothing."""
    rays = np.concatenate(
        [camera.rays().astype(np.float64), np.ones((camera.height, camera.width, 1))], axis=-1
    )
    directions = rays @ table_from_camera[:3, :3].T
    eye = table_from_camera[:3, 3]
    with np.errstate(divide='ignore'):
        depth = (table_z - eye[2]) / directions[..., 2]
    depth = np.where(depth > 0, depth, np.inf)
    rgb = np.full((*depth.shape, 3), color, dtype=np.uint8)
    for box in boxes:
        met = _meet(box, eye, directions)
        nearer = met < depth
        depth[nearer], rgb[nearer] = met[nearer], box.color
    depth[np.isinf(depth)] = np.nan
    return View(rgb, depth.astype(np.float32), camera, table_from_camera)


def _meet(box: Box, eye: NDArray[np.float64], directions: NDArray[np.float64]) -> NDArray:
    """Depth at which rays enter a box; infinite where they miss."""
    with np.errstate(divide='ignore', invalid='ignore'):
        a = (np.array(box.low) - eye) / directions
        b = (np.array(box.high) - eye) / directions
    enter, leave = np.minimum(a, b).max(axis=-1), np.maximum(a, b).min(axis=-1)
    return np.where((enter <= leave) & (enter > 0), enter, np.inf)
