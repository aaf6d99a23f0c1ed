"""Where: an hourglass over colour and height that knows nothing of words."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlm_nodes.cliport.blocks import ResidualBlock, Up, norm
from vlm_nodes.cliport.config import ModelConfig

INPUTS = 5
"""Colour, height, and whether it was seen."""


class SpatialStream(nn.Module):
    """A residual hourglass down to stride 16 and back, with skips.

    Halving is by averaging 2 x 2 cells: unlike a strided 3 x 3 convolution it treats both
    directions alike, so that a turned picture gives a turned map as nearly as weights allow.
    """

    def __init__(self, config: ModelConfig) -> None:
        """Untrained."""
        super().__init__()
        widths, groups = config.spatial_widths, config.norm_groups
        self._stride = config.output_stride
        self.stem = nn.Sequential(
            nn.Conv2d(INPUTS * self._stride**2, widths[0], 3, padding=1),
            norm(widths[0], groups),
            nn.ReLU(inplace=True),
        )
        self.down = nn.ModuleList(
            nn.Sequential(ResidualBlock(a, b, groups), ResidualBlock(b, b, groups))
            for a, b in pairwise((widths[0], *widths))
        )
        self.up = nn.ModuleList(
            Up(low, high, high, groups) for high, low in reversed(list(pairwise(widths)))
        )

    def forward(self, picture: Tensor) -> dict[int, Tensor]:
        """See.

        Args:
            picture: (B, 5, H, W), normalised; both sides multiples of 16.

        Returns:
            Maps by stride, from 16 up to `output_stride`: (B, spatial_widths, H / s, W / s).
        """
        # Neighbouring pixels become channels: no pixel is left out, none counts more.
        features = self.stem(functional.pixel_unshuffle(picture, self._stride))
        levels: list[Tensor] = []
        for block in self.down:
            features = block(functional.avg_pool2d(features, 2) if levels else features)
            levels.append(features)
        stride = self._stride * 2 ** (len(levels) - 1)
        maps = {stride: levels.pop()}
        for block, skip in zip(self.up, reversed(levels), strict=True):
            maps[stride // 2] = block(maps[stride], skip)
            stride //= 2
        return maps


def normalised(config: ModelConfig, color: Tensor, height_m: Tensor, seen: Tensor) -> Tensor:
    """The picture a spatial stream expects; holes and what lies outside are zero.

    Args:
        config: Has the normalisation.
        color: (B, 3, H, W) in [0, 1].
        height_m: (B, H, W).
        seen: (B, H, W), 0 or 1.

    Returns:
        (B, 5, H, W).
    """
    mask = seen.to(color.dtype).unsqueeze(1)
    colors = (color - config.colour_mean) / config.colour_std
    heights = height_m.unsqueeze(1) / config.height_scale_m
    return torch.cat([colors * mask, heights * mask, mask], dim=1)
