"""Where the vehicle has been there was nothing else.

Pictures alone do not tell how high a plain road lies when the vehicle drives straight along it: its
edges look the same if it is higher and narrower. That its own body went through the space above
the road does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vlm_nodes.geometry.rigid import transform_points
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.grid_tensors import corners
from vlm_nodes.langocc.rendering import sample_volume
from vlm_nodes.surround import VoxelGrid

_ON_THE_EDGE: Final = 1e-3
"""Of a layer: so close to its edge counts as on it."""


@dataclass(frozen=True)
class Body:
    """A vehicle's body in its ego frame: x ahead of the rear axle, z above the ground.

    Attributes:
        lower_m: Its rear right lower corner; z is the clearance above the ground.
        upper_m: The opposite corner.

    Raises:
        LangOccError: The corners are not finite or not in order.
    """

    lower_m: tuple[float, float, float]
    upper_m: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Check the corners."""
        corners = np.array([self.lower_m, self.upper_m])
        if not (np.isfinite(corners).all() and (corners[0] < corners[1]).all()):
            raise LangOccError(f"a body's corners must be in order, are {corners.tolist()}")


SMALL_CAR: Final = Body((-0.9, -0.8, 0.15), (3.1, 0.8, 1.4))


def driven_points(
    now_from_then: Sequence[NDArray[np.float64]], body: Body, count: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Points where the vehicle's body was at some moments, drawn evenly.

    Args:
        now_from_then: (4, 4) from the ego frame of each moment to the one that points are wanted
            in.
        body: The vehicle.
        count: P.
        rng: To draw with.

    Returns:
        (P, 3) float32 metres.
    """
    points = rng.uniform(body.lower_m, body.upper_m, (count, 3))
    which = rng.integers(len(now_from_then), size=count)
    for number, pose in enumerate(now_from_then):
        mine = which == number
        points[mine] = transform_points(pose, points[mine])
    return points.astype(np.float32)


def optical_depth(density: Tensor, points_m: Tensor, grid: VoxelGrid) -> Tensor:
    """Mean over points of density times the edge of a voxel: -log of what that lets through.

    Args:
        density: (B, 1, X, Y, Z) 1/m, of the grid's voxels or of parts of them.
        points_m: (B, P, 3) in the ego frame; those outside of the grid do not count, nor those so
            low that the layer which the ground is in is looked up as well.
        grid: What the volume fills.
    """
    layer_m = (grid.upper_m[2] - grid.lower_m[2]) / density.shape[-1]
    below = math.ceil(-grid.lower_m[2] / layer_m - _ON_THE_EDGE) - 1
    ground_m = grid.lower_m[2] + (below + 0.5) * layer_m  # middle of the layer below z = 0
    lower, upper = corners(grid, points_m)
    counts = ((points_m >= lower) & (points_m < upper)).all(-1)
    counts &= points_m[..., 2] >= ground_m + layer_m
    found = sample_volume(density, points_m[:, :, None], grid)[:, 0, :, 0]
    return grid.voxel_m * (found * counts).sum() / counts.sum().clamp(min=1)
