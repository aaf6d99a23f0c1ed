"""What: CLIP's levels from coarse to fine, with the sentence and the spatial stream joined in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from vlm_nodes.cliport.backbones import LEVEL_STRIDES, ClipFeatures
from vlm_nodes.cliport.blocks import ResidualBlock, Up, norm, resize
from vlm_nodes.cliport.config import ModelConfig
from vlm_nodes.cliport.fusion import LanguageFusion

LANGUAGE_STAGES = 3


class SemanticStream(nn.Module):
    """A decoder over a frozen backbone (arXiv 2109.12098, section 4.2).

    Three stages take the sentence first, then twice the side, a skip from the backbone and a
    lateral connection from the spatial stream; later ones have no sentence and no skip. The maps
    of the phrases are joined in at every stage.
    """

    def __init__(self, config: ModelConfig, level_widths: Sequence[int], summary_dim: int) -> None:
        """Untrained.

        Args:
            config: Sizes.
            level_widths: Channels of the backbone's levels at strides 4, 8, 16 and 32.
            summary_dim: Numbers of a sentence's summary.
        """
        super().__init__()
        widths, groups, maps = config.semantic_widths, config.norm_groups, 2 * config.phrases
        stages = len(widths) - 1
        self._strides = [LEVEL_STRIDES[-1] // 2 ** (i + 1) for i in range(stages)]
        spatial = spatial_widths_by_stride(config)
        skips = dict(zip(LEVEL_STRIDES, level_widths, strict=True))
        self.bottleneck = nn.Sequential(
            nn.Conv2d(level_widths[-1], widths[0], 3, padding=1),
            norm(widths[0], groups),
            nn.ReLU(inplace=True),
        )
        self.language = nn.ModuleList(
            LanguageFusion(summary_dim, width, config.language_fusion)
            for width in widths[:LANGUAGE_STAGES]
        )
        self.up = nn.ModuleList(
            Up(low, skips.get(stride, 0) + spatial.get(stride, 0) + maps, high, groups)
            for stride, (low, high) in zip(self._strides, pairwise(widths), strict=True)
        )
        self.last = ResidualBlock(widths[-1] + maps, widths[-1], groups)

    def forward(
        self,
        features: ClipFeatures,
        summary: Tensor,
        phrases: Tensor,
        spatial: Mapping[int, Tensor],
    ) -> Tensor:
        """Find what the sentence says.

        Args:
            features: Of the backbone.
            summary: (B, T) of the sentence.
            phrases: (B, 2 P, h, w), maps of the phrases at any stride.
            spatial: Maps of the spatial stream by stride.

        Returns:
            (B, semantic_widths[-1], H / output_stride, W / output_stride).
        """
        levels = dict(zip(LEVEL_STRIDES, features.levels, strict=True))
        maps: Tensor = self.bottleneck(levels[LEVEL_STRIDES[-1]])
        for index, (stride, up) in enumerate(zip(self._strides, self.up, strict=True)):
            if index < LANGUAGE_STAGES:
                maps = self.language[index](maps, summary)
            size = (maps.shape[-2] * 2, maps.shape[-1] * 2)
            joined = [resize(phrases, size)]
            joined += [source[stride] for source in (levels, spatial) if stride in source]
            maps = up(maps, torch.cat([part.to(maps.dtype) for part in joined], dim=1))
        fine = resize(phrases, maps.shape[-2:]).to(maps.dtype)
        return self.last(torch.cat([maps, fine], dim=1))  # type: ignore[no-any-return]


def spatial_widths_by_stride(config: ModelConfig) -> dict[int, int]:
    """Channels of the spatial stream's maps."""
    return {
        config.output_stride * 2**index: width for index, width in enumerate(config.spatial_widths)
    }
