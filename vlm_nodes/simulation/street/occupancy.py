"""Which class fills each voxel of a grid, from the solids themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry.rigid import invert, transform_points
from vlm_nodes.simulation.street.solids import Solid
from vlm_nodes.simulation.street.vocabulary import class_number
from vlm_nodes.surround.occupancy import FREE, VoxelGrid

# Places along a voxel's side at which footprints are looked at. The outermost are at its edges, so
# that a wall which only just reaches into a voxel is in it, as its surface is.
_PLACES: Final = np.array([0.02, 0.34, 0.66, 0.98])


def voxelise(
    solids: Sequence[Solid],
    grid: VoxelGrid,
    street_from_ego: NDArray[np.float64],
    min_fill: float = 0.03,
) -> NDArray[np.uint8]:
    """The class that fills most of each voxel, of those that fill enough.

    Heights are exact; footprints are looked at in 4 x 4 places of a voxel, from edge to edge.

    Args:
        solids: all that is there, street frame.
        grid: in the ego frame.
        street_from_ego: (4, 4), upright, as the vehicle stands.
        min_fill: the share of a voxel below which a class does not occupy it. It is low, as labels
            made of LiDAR points occupy a voxel by any point in it; a road marking is less.

    Returns:
        (X, Y, Z) uint8 numbers of Occ3D's classes, `FREE` where nothing is.

    Raises:
        ValueError: the share is not in (0, 1], or the vehicle is not upright.
    """
    if not 0 < min_fill <= 1:
        raise ValueError(f'min_fill must be in (0, 1], is {min_fill}')
    if not np.allclose(street_from_ego[2, :3], (0, 0, 1), atol=1e-6):
        raise ValueError('street_from_ego is not upright')
    numbers = sorted({class_number(solid.kind) for solid in solids})
    fill = np.zeros((len(numbers), *grid.shape), np.float32)
    ego_from_street = invert(street_from_ego)
    for solid in solids:
        own = _moved(solid, ego_from_street)
        _add_fill(fill[numbers.index(class_number(solid.kind))], own, grid)
    if not numbers:
        return np.full(grid.shape, FREE, np.uint8)
    best = fill.argmax(axis=0)
    enough = np.take_along_axis(fill, best[None], axis=0)[0] >= min_fill
    return np.where(enough, np.array(numbers, np.uint8)[best], np.uint8(FREE))


def _moved(solid: Solid, ego_from_street: NDArray[np.float64]) -> Solid:
    x, y, z = transform_points(ego_from_street, solid.centre)
    turn = np.arctan2(ego_from_street[1, 0], ego_from_street[0, 0])
    return replace(
        solid, centre=(float(x), float(y), float(z)), yaw_rad=solid.yaw_rad + float(turn)
    )


def _add_fill(fill: NDArray[np.float32], solid: Solid, grid: VoxelGrid) -> None:
    """Adds the share of each voxel that a solid in the ego frame fills."""
    x, y = (_range(solid.centre[a], solid.reach_m, grid, a) for a in (0, 1))
    z = _range(solid.centre[2], solid.half[2], grid, 2)
    if not (x and y and z):
        return
    places_x, places_y = (_sample_places(r, grid, a) for r, a in ((x, 0), (y, 1)))
    below = solid.covers(places_x[:, None], places_y[None, :])
    per_voxel = below.reshape(len(x), len(_PLACES), len(y), len(_PLACES))
    share = per_voxel.mean(axis=(1, 3), dtype=np.float32)
    floor = grid.lower_m[2] + np.array(z) * grid.voxel_m
    low = np.maximum(floor, solid.centre[2] - solid.half[2])
    high = np.minimum(floor + grid.voxel_m, solid.centre[2] + solid.half[2])
    height = np.maximum(0, high - low).astype(np.float32) / np.float32(grid.voxel_m)
    part = fill[x.start : x.stop, y.start : y.stop, z.start : z.stop]
    part += share[:, :, None] * height


def _range(centre: float, reach: float, grid: VoxelGrid, axis: int) -> range:
    """Voxels along an axis that something reaches into."""
    low = int(np.floor((centre - reach - grid.lower_m[axis]) / grid.voxel_m))
    high = int(np.ceil((centre + reach - grid.lower_m[axis]) / grid.voxel_m))
    return range(max(0, low), min(grid.shape[axis], high))


def _sample_places(voxels: range, grid: VoxelGrid, axis: int) -> NDArray[np.float64]:
    places = np.array(voxels)[:, None] + _PLACES
    return np.asarray(grid.lower_m[axis] + places.reshape(-1) * grid.voxel_m, np.float64)
