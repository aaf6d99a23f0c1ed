"""A grid of voxels among tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from vlm_nodes.surround import VoxelGrid


def corners(grid: VoxelGrid, like: Tensor) -> tuple[Tensor, Tensor]:
    """Its lower and upper corner, (3,) each, with the type and on the device of a tensor."""
    lower, upper = (
        torch.tensor(corner, dtype=like.dtype, device=like.device)
        for corner in (grid.lower_m, grid.upper_m)
    )
    return lower, upper


def places(grid: VoxelGrid, points_m: Tensor) -> Tensor:
    """Points (..., 3) as `grid_sample` counts: -1 to 1 between outer faces, z first."""
    lower, upper = corners(grid, points_m)
    return (2 * (points_m - lower) / (upper - lower) - 1).flip(-1)
