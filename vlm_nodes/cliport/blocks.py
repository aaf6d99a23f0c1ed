"""Pieces that both streams are built of. None keeps statistics, none moves a map by half a cell."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def norm(channels: int, groups: int) -> nn.Module:
    """Group normalisation, which is the same in training and use; nothing where groups is 0."""
    return nn.GroupNorm(groups, channels) if groups else nn.Identity()


class ResidualBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        """Channels in and out, and groups of the normalisation."""
        super().__init__()
        bias = groups == 0
        self.change = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=bias),
            norm(outputs, groups),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=bias),
            norm(outputs, groups),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 1, bias=bias),
            norm(outputs, groups),
        )
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        return functional.relu(self.change(features) + self.shortcut(features))


class Up(nn.Module):
    """Twice the side, joined with a map of that side."""

    def __init__(self, inputs: int, joined: int, outputs: int, groups: int) -> None:
        """Channels from below, of what is joined, and out."""
        super().__init__()
        self.narrow = nn.Conv2d(inputs, outputs, 1)
        self.block = ResidualBlock(outputs + joined, outputs, groups)

    def forward(self, features: Tensor, joined: Tensor) -> Tensor:
        """(B, C, h, w) and (B, J, 2 h, 2 w) -> (B, C', 2 h, 2 w)."""
        # A 1x1 convolution and a resize commute; narrow maps are cheaper to resize.
        wide = resize(self.narrow(features), joined.shape[-2:])
        raised: Tensor = self.block(torch.cat([wide, joined.to(wide.dtype)], dim=1))
        return raised


def resize(maps: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Bring maps to another stride, both pictures' outer borders staying where they are.

    Args:
        maps: (B, C, h, w).
        size: A whole multiple of (h, w), or a whole part of it.
    """
    if maps.shape[-2:] == tuple(size):
        return maps
    if size[0] < maps.shape[-2]:
        return functional.adaptive_avg_pool2d(maps, (size[0], size[1]))
    return functional.interpolate(maps, size=size, mode='bilinear', align_corners=False)
