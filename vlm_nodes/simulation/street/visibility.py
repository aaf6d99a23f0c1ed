"""Which voxels rays run through: what of a grid can be known from where sensors look.

Walk: Amanatides and Woo, A Fast Voxel Traversal Algorithm for Ray Tracing, Eurographics 1987; all
rays take a step at the same time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlm_nodes.surround.occupancy import VoxelGrid

Floats = NDArray[np.float64]


def seen_voxels(
    grid: VoxelGrid, origin: ArrayLike, directions: ArrayLike, lengths_m: ArrayLike
) -> NDArray[np.bool_]:
    """The voxels that rays from one place run through or end in.

    Args:
        grid: of the frame that the rays are given in.
        origin: (3,) metres; may lie outside of the grid.
        directions: (N, 3), not zero, of any length.
        lengths_m: (N,) along the directions, in their own lengths; +inf for rays that never end.

    Returns:
        (X, Y, Z) bool.
    """
    start = (np.asarray(origin, np.float64) - grid.lower_m) / grid.voxel_m
    along = np.asarray(directions, np.float64) / grid.voxel_m
    # Never exactly along a face: a ray that does not move along an axis needs no special case.
    along = np.where(np.abs(along) < 1e-12, 1e-12, along)
    enter, leave = _clip(start, along, np.array(grid.shape, np.float64))
    end = np.minimum(np.asarray(lengths_m, np.float64), leave)
    alive = np.flatnonzero(enter < end)
    # A border of one voxel all around takes the rays that leave, so that no step needs a check.
    seen = np.zeros(np.array(grid.shape) + 2, bool)
    _walk(seen, start + along[alive] * enter[alive, None], along[alive], (end - enter)[alive])
    return np.ascontiguousarray(seen[1:-1, 1:-1, 1:-1])


def _clip(start: Floats, along: Floats, sides: Floats) -> tuple[Floats, Floats]:
    """Where rays come into the grid, 0 for those that begin inside, and where they leave it."""
    first, second = -start / along, (sides - start) / along
    enter = np.maximum(np.minimum(first, second).max(axis=1), 0.0)
    return enter, np.maximum(first, second).min(axis=1)


def _walk(seen: NDArray[np.bool_], start: Floats, along: Floats, end: Floats) -> None:
    """Marks what rays go through; all in voxels, `start` within the grid."""
    sides = np.array(seen.shape) - 2
    voxel = np.clip(np.floor(start), 0, sides - 1)
    strides = np.array([seen.shape[1] * seen.shape[2], seen.shape[2], 1], np.int64)
    place = (voxel.astype(np.int64) + 1) @ strides
    ahead = voxel + (along > 0)
    # When the next face across each axis is met, how much later the one after it, and which voxel
    # lies behind.
    x, y, z = ((ahead - start) / along).T
    dx, dy, dz = np.abs(1 / along).T
    ix, iy, iz = (np.where(along > 0, 1, -1) * strides).T
    flat = seen.reshape(-1)
    while len(place):
        flat[place] = True
        is_x = (x <= y) & (x <= z)
        is_y = ~is_x & (y <= z)
        is_z = ~(is_x | is_y)
        reached = np.where(is_x, x, np.where(is_y, y, z))
        place = place + np.where(is_x, ix, np.where(is_y, iy, iz))
        x, y, z = x + is_x * dx, y + is_y * dy, z + is_z * dz
        going = reached < end
        if not going.all():
            place, end = place[going], end[going]
            x, y, z, dx, dy, dz = (a[going] for a in (x, y, z, dx, dy, dz))
            ix, iy, iz = ix[going], iy[going], iz[going]
