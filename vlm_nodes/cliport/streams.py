"""Both streams, one picture, one sentence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlm_nodes.cliport.backbones import ClipFeatures
from vlm_nodes.cliport.blocks import resize
from vlm_nodes.cliport.config import ModelConfig
from vlm_nodes.cliport.language import Language, LexicalMaps, Reading, phrase_maps
from vlm_nodes.cliport.samples import Scene
from vlm_nodes.cliport.semantic import SemanticStream
from vlm_nodes.cliport.spatial import SpatialStream, normalised


@dataclass(frozen=True, eq=False)
class StreamMaps:
    """What both streams make of a picture, at `output_stride`.

    Attributes:
        spatial: (B, spatial_widths[0], h, w).
        semantic: (B, semantic_widths[-1], h, w).
    """

    spatial: Tensor
    semantic: Tensor


class TwoStreams(nn.Module):
    """The spatial and the semantic stream; the backbone is outside, shared by all of these."""

    def __init__(
        self, config: ModelConfig, level_widths: tuple[int, ...], summary_dim: int
    ) -> None:
        """Untrained; see `SemanticStream` for the arguments."""
        super().__init__()
        self._config = config
        self.spatial = SpatialStream(config)
        self.lexical = LexicalMaps(config)
        self.semantic = SemanticStream(config, level_widths, summary_dim)

    def forward(
        self, scene: Scene, features: ClipFeatures, language: Language, reading: Reading
    ) -> StreamMaps:
        """See and find; the picture's sides are multiples of 32."""
        picture = normalised(self._config, scene.color, scene.height_m, scene.seen)
        spatial = self.spatial(picture.contiguous(memory_format=torch.channels_last))
        finest = spatial[self._config.output_stride]
        learned = self.lexical(finest, reading)
        seen = scene.seen.unsqueeze(1).float()
        named = resize(phrase_maps(features, language, reading, seen), learned.shape[-2:])
        phrases = torch.cat([named, learned], dim=1)
        return StreamMaps(finest, self.semantic(features, reading.summary, phrases, spatial))
