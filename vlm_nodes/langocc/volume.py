"""Lifted features as a volume: moved with the vehicle, and refined by 3D convolutions."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlm_nodes.langocc.grid_tensors import places
from vlm_nodes.surround import VoxelGrid


def warp(volume: Tensor, grid: VoxelGrid, then_from_now: Tensor) -> Tensor:
    """A volume about where the vehicle was, as one about where it is.

    Args:
        volume: (B, C, X, Y, Z) in the ego frame then.
        grid: Its voxels.
        then_from_now: (B, 4, 4).

    Returns:
        (B, C, X, Y, Z) in the ego frame now; 0 where the old volume does not reach.
    """
    centres = torch.from_numpy(grid.centres()).to(volume.device, torch.float32)
    poses = then_from_now.to(torch.float32)
    there = torch.einsum('bij,xyzj->bxyzi', poses[:, :3, :3], centres)
    there = there + poses[:, None, None, None, :3, 3]
    where = places(grid, there).to(volume.dtype)
    return functional.grid_sample(volume, where, padding_mode='zeros', align_corners=False)


def coordinates(grid: VoxelGrid) -> Tensor:
    """(4, X, Y, Z): each voxel's place, -1 to 1, and its distance from the vehicle."""
    centres = torch.from_numpy(grid.centres()).float()
    scaled = places(grid, centres).flip(-1).permute(3, 0, 1, 2)
    return torch.cat([scaled, scaled[:2].square().sum(0, keepdim=True).sqrt()])


def split(volume: Tensor, fine: tuple[int, int, int]) -> Tensor:
    """Channels as parts of voxels: (B, C i j k, X, Y, Z) -> (B, C, X i, Y j, Z k)."""
    if fine == (1, 1, 1):
        return volume
    batch, channels, x, y, z = volume.shape
    i, j, k = fine
    parts = volume.reshape(batch, channels // (i * j * k), i, j, k, x, y, z)
    return parts.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, -1, x * i, y * j, z * k)


def parts_of(volume: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """A fine volume (B, C, X i, Y j, Z k) as parts of voxels of a shape, (B, C, X, Y, Z, i j k)."""
    batch, channels, *sides = volume.shape
    i, j, k = (side // whole for side, whole in zip(sides, shape, strict=True))
    x, y, z = shape
    parts = volume.reshape(batch, channels, x, i, y, j, z, k).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return parts.reshape(batch, channels, x, y, z, i * j * k)


class Block(nn.Module):
    """Two 3x3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, stride)
        self.second = _convolution(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv3d(inputs, outputs, 1, stride)

    def forward(self, volume: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> (B, C', X / stride, Y / stride, Z / stride)."""
        changed = self.second(functional.relu(self.first(volume)))
        return functional.relu(changed + self.shortcut(volume))


class Trunk3d(nn.Module):
    """A residual network over voxels, its coarser levels added back to the finest."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        before = (inputs, *widths[:-1])
        self.levels = nn.ModuleList(
            Block(low, high, stride=1 if number == 0 else 2)
            for number, (low, high) in enumerate(zip(before, widths, strict=True))
        )
        self.laterals = nn.ModuleList(nn.Conv3d(high, low, 1) for low, high in pairwise(widths))
        self.smooth = _convolution(widths[0], widths[0])

    def forward(self, volume: Tensor) -> Tensor:
        """(B, inputs, X, Y, Z) -> (B, widths[0], X, Y, Z)."""
        levels = []
        for level in self.levels:
            volume = level(volume)
            levels.append(volume)
        for fine, lateral in zip(reversed(levels[:-1]), reversed(self.laterals), strict=True):
            coarse = functional.interpolate(
                lateral(volume), size=fine.shape[-3:], mode='trilinear', align_corners=False
            )
            volume = fine + coarse
        return functional.relu(self.smooth(volume))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(8, outputs)
    )
