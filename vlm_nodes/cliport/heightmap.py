"""Calibrated RGB-D views fused to one picture of the table from above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import is_rigid

# Views whose highest points in a pixel differ by less than this look at one surface.
SAME_SURFACE_M = 0.01


class EmptyHeightmapError(ValueError):
    """No reading of depth lies within the workspace."""


@dataclass(frozen=True, eq=False)
class View:
    """A colour image and the depth registered to it, from one calibrated camera.

    Attributes:
        rgb: (h, w, 3) uint8, RGB.
        depth_m: (h, w) float32, metres along z; zero, negative, NaN and infinite are no reading.
        camera: Intrinsics of both images.
        table_from_camera: (4, 4) float64, optical frame to table frame.

    Raises:
        ValueError: An array's shape or type does not fit, or the pose is not a rigid transform.
    """

    rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    camera: Camera
    table_from_camera: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check that images, camera and pose fit together."""
        size = (self.camera.height, self.camera.width)
        if self.rgb.shape != (*size, 3) or self.rgb.dtype != np.uint8:
            raise ValueError(
                f'colour image is {self.rgb.shape} {self.rgb.dtype}, '
                f'its camera says {(*size, 3)} uint8'
            )
        if self.depth_m.shape != size or self.depth_m.dtype != np.float32:
            raise ValueError(
                f'depth image is {self.depth_m.shape} {self.depth_m.dtype}, its camera says '
                f'{size} float32: depth has to be registered to the colour image'
            )
        if not is_rigid(self.table_from_camera):
            raise ValueError(
                f'table_from_camera is not a rigid transform:\n{self.table_from_camera}'
            )


@dataclass(frozen=True, eq=False)
class Heightmap:
    """The table from above: what colour and how high each pixel of a workspace is.

    Attributes:
        color: (H, W, 3) uint8, RGB; black where nothing was seen.
        height_m: (H, W) float32, z in the table frame; 0 where nothing was seen.
        seen: (H, W) bool, where any view had a reading; the rest are holes.
        workspace: What the pixels cover.

    Raises:
        ValueError: An array's shape or type does not fit the workspace.
    """

    color: NDArray[np.uint8]
    height_m: NDArray[np.float32]
    seen: NDArray[np.bool_]
    workspace: Workspace

    def __post_init__(self) -> None:
        """Check the arrays against the workspace."""
        shape = self.workspace.shape
        for name, expected, dtype in (
            ('color', (*shape, 3), np.uint8),
            ('height_m', shape, np.float32),
            ('seen', shape, np.bool_),
        ):
            array = getattr(self, name)
            if array.shape != expected or array.dtype != dtype:
                raise ValueError(
                    f'{name} is {array.shape} {array.dtype}, '
                    f'the workspace says {expected} {np.dtype(dtype).name}'
                )

    @property
    def coverage(self) -> float:
        """Share of pixels that were seen."""
        return float(self.seen.mean())


def fuse(
    views: Sequence[View], workspace: Workspace, same_surface_m: float = SAME_SURFACE_M
) -> Heightmap:
    """Fuse views of one scene; their order does not matter.

    Every reading goes to the pixel that its point lies in. A pixel's height is the greatest z of
    all its points. Its colour is the mean over views, each of which gives the colour of its own
    highest point there; views whose highest point is more than `same_surface_m` below the greatest
    look at something under the top surface, and do not count.

    Args:
        views: One or more.
        workspace: Bounds and pixels.
        same_surface_m: How far below the greatest z the highest point of a view may lie.

    Raises:
        EmptyHeightmapError: No point of any view lies within the workspace.
        ValueError: There is no view.
    """
    if not views:
        raise ValueError('a heightmap needs one view at least')
    heights, colors, seen = _layers(views, workspace)
    any_seen = seen.any(axis=0)
    if not any_seen.any():
        raise EmptyHeightmapError(_why_empty(views, workspace))
    top = np.where(seen, heights, -np.inf).max(axis=0)
    counts = seen & (heights >= top - np.float32(same_surface_m))
    weights = counts / np.maximum(counts.sum(axis=0), 1)
    mean = np.einsum('vp,vpc->pc', weights, colors)
    shape = workspace.shape
    return Heightmap(
        np.rint(mean).astype(np.uint8).reshape(*shape, 3),
        np.where(any_seen, top, 0).astype(np.float32).reshape(shape),
        any_seen.reshape(shape),
        workspace,
    )


def fuse_each(views: Sequence[View], workspace: Workspace) -> list[Heightmap]:
    """One heightmap a view, holes where it saw nothing: to hold cameras against each other."""
    heights, colors, seen = _layers(views, workspace)
    shape = workspace.shape
    return [
        Heightmap(c.reshape(*shape, 3), z.reshape(shape), s.reshape(shape), workspace)
        for z, c, s in zip(heights, colors, seen, strict=True)
    ]


def _layers(
    views: Sequence[View], workspace: Workspace
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
    """Of each view its highest point in each pixel: z (V, P), colour (V, P, 3), whether any (V, P).

    One scatter does it: the bits of a float32 that is not negative sort as it does, so height and
    image pixel packed in an integer are the highest point where they are the greatest integer.
    """
    rows, cols = workspace.shape
    highest = np.full((len(views), rows * cols), -1, dtype=np.int64)
    for layer, view in zip(highest, views, strict=True):
        cells, above, indices = _points_within(view, workspace)
        np.maximum.at(layer, cells, (above.view(np.int32).astype(np.int64) << 32) | indices)
    seen = highest >= 0
    above = (highest >> 32).astype(np.int32).view(np.float32)
    heights = np.where(seen, above + np.float32(workspace.z_range_m[0]), np.float32(0))
    indices = np.where(seen, highest & 0xFFFFFFFF, 0)
    colors = np.stack(
        [v.rgb.reshape(-1, 3).take(i, axis=0) for v, i in zip(views, indices, strict=True)], axis=0
    )
    colors[~seen] = 0
    return heights, colors, seen


def _points_within(
    view: View, workspace: Workspace
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.intp]]:
    """Of each reading within the workspace: grid cell, metres above the least z, image pixel."""
    rows, cols = workspace.shape
    rays = view.camera.rays()
    depth = view.depth_m
    m = view.table_from_camera.astype(np.float32)
    low_z, high_z = (np.float32(z) for z in workspace.z_range_m)
    # NaN and infinite depths make these comparisons false or their points out of bounds.
    with np.errstate(invalid='ignore', over='ignore'):
        above = _along(rays, m[2], depth) + (m[2, 3] - low_z)
        within = (above >= 0) & (above <= high_z - low_z) & (depth > 0)
    # np.take is many times faster here than indexing with an array.
    indices = np.flatnonzero(within)
    rays, depth = rays.reshape(-1, 2).take(indices, axis=0), depth.take(indices)
    above = above.take(indices)
    per_m = np.float32(1 / workspace.pixel_m)
    col = (_along(rays, m[0], depth) + np.float32(m[0, 3] - workspace.x_range_m[0])) * per_m
    row = (_along(rays, m[1], depth) + np.float32(m[1, 3] - workspace.y_range_m[0])) * per_m
    inside = np.flatnonzero((row >= 0) & (row < rows) & (col >= 0) & (col < cols))
    cells = row.take(inside).astype(np.int32) * cols + col.take(inside).astype(np.int32)
    # The absolute value makes zero of a negative zero, whose bits are a negative integer's.
    return cells, np.abs(above.take(inside)), indices.take(inside)


def _along(
    rays: NDArray[np.float32], axis: NDArray[np.float32], depth: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Coordinates along an axis of the table frame, from the camera's position."""
    return np.asarray((rays[..., 0] * axis[0] + rays[..., 1] * axis[1] + axis[2]) * depth)


def _why_empty(views: Sequence[View], workspace: Workspace) -> str:
    """What each view did see, for who has to find the wrong pose, unit or bound."""
    lines = [
        f'no depth within the workspace: x {workspace.x_range_m}, y {workspace.y_range_m}, '
        f'z {workspace.z_range_m} m of the table frame'
    ]
    for number, view in enumerate(views):
        known = np.isfinite(view.depth_m) & (view.depth_m > 0)
        if not known.any():
            lines.append(f'view {number} has no reading of depth at all')
            continue
        depth = view.depth_m[known].astype(np.float64)
        rays = np.concatenate([view.camera.rays()[known], np.ones((len(depth), 1))], axis=1)
        points = rays * depth[:, None] @ view.table_from_camera[:3, :3].T
        points += view.table_from_camera[:3, 3]
        spans = (
            f'{name} {low:.2f} to {high:.2f}'
            for name, low, high in zip('xyz', points.min(axis=0), points.max(axis=0), strict=True)
        )
        lines.append(f'view {number} saw {", ".join(spans)}')
    return '; '.join(lines) + ': look at its pose, the unit of depth and the bounds'
