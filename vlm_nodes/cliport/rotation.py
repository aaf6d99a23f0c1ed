"""Rotated windows of feature maps, about the centre of a cell.

Angles run counterclockwise about the table's z, which in a map of rows along y and columns along x
turns columns towards rows. At multiples of a right angle no value is interpolated.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional


def bin_angles(count: int) -> Tensor:
    """Angles of the bins, evenly over a turn; (count,) float64."""
    return torch.arange(count, dtype=torch.float64) * (2 * torch.pi / count)


@lru_cache(maxsize=16)
def window_offsets(count: int, size: int, group: int = 1) -> Tensor:
    """Where the rotated windows look, about their centre.

    A window of `size` cells reaches from -size / 2 to size / 2 - 1. Where groups of `group` x
    `group` cells become one, the centre is that of a group, between cells if they are even. The
    value at offset v of the window turned by a is the map's at R(-a) v: what lies in the map at u
    appears at R(a) u, as a thing that is placed at angle a.

    Returns:
        (count, size, size, 2) float32 of (row, column) offsets in cells.
    """
    line = torch.arange(size, dtype=torch.float64) - size // 2 - (group - 1) / 2
    rows, columns = torch.meshgrid(line, line, indexing='ij')
    angles = bin_angles(count).reshape(-1, 1, 1)
    cos, sin = torch.cos(angles), torch.sin(angles)
    return torch.stack([cos * rows - sin * columns, sin * rows + cos * columns], dim=-1).float()


@lru_cache(maxsize=16)
def window_mask(size: int) -> Tensor:
    """The disc within a window, which looks the same from all angles: (size, size) float32."""
    line = torch.arange(size, dtype=torch.float32) - size // 2
    return (line[:, None].square() + line[None].square() <= (size / 2 - 0.5) ** 2).float()


def rotated_windows(maps: Tensor, centres: Tensor, count: int, size: int, group: int = 1) -> Tensor:
    """Windows of maps about given cells, turned by every angle.

    Args:
        maps: (B, C, H, W); beyond them there is zero.
        centres: (B, 2) rows and columns of cells, whole numbers or not.
        count: K angles, evenly over a turn.
        size: S, side of the windows in cells, even.
        group: Side of the groups of cells whose centre the window's is.

    Returns:
        (B, K, C, S, S) float32, bilinearly interpolated; bin k turned by k 2 pi / K.
    """
    if size < 2 or size % 2:
        raise ValueError(f'size must be even and at least 2, got {size}')
    batch, channels, height, width = maps.shape
    places = window_offsets(count, size, group).to(maps.device)
    places = places + centres.reshape(-1, 1, 1, 1, 2).float()
    # grid_sample takes (x, y) of [-1, 1] between the centres of the outermost cells.
    scale = torch.tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)], device=maps.device)
    grid = places.flip(-1).reshape(batch, count * size, size, 2) * scale - 1
    with torch.autocast(maps.device.type, enabled=False):
        windows = functional.grid_sample(
            maps.float(), grid, mode='bilinear', padding_mode='zeros', align_corners=True
        )
    return windows.reshape(batch, channels, count, size, size).transpose(1, 2)
