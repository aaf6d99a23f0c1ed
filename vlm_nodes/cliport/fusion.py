"""Where words meet pictures, and where both streams meet."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlm_nodes.cliport.config import ModelConfig


class LanguageFusion(nn.Module):
    """A sentence changes channels, alike at all places.

    `mult` multiplies by a linear function of it (arXiv 2109.12098), `film` scales and shifts
    (Perez et al. 2018). Both begin as the identity.
    """

    def __init__(self, sentence: int, channels: int, kind: str) -> None:
        """Numbers of a sentence, channels of the map, `mult` or `film`."""
        super().__init__()
        self.scale = _zeroed(sentence, channels)
        self.shift = _zeroed(sentence, channels) if kind == 'film' else None

    def forward(self, features: Tensor, sentence: Tensor) -> Tensor:
        """(B, C, h, w) and (B, T) -> (B, C, h, w)."""
        changed: Tensor = features * (1 + self.scale(sentence))[..., None, None]
        if self.shift is not None:
            changed = changed + self.shift(sentence)[..., None, None]
        return changed


class AddHead(nn.Module):
    """Each stream's own answer, added up; as the pick's."""

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        """Channels of the answer; the streams' are the configuration's."""
        super().__init__()
        self.spatial = nn.Conv2d(config.spatial_widths[0], outputs, 1)
        self.semantic = nn.Conv2d(config.semantic_widths[-1], outputs, 1)

    def forward(self, spatial: Tensor, semantic: Tensor) -> Tensor:
        """Maps of both streams at one stride -> (B, outputs, h, w)."""
        answer: Tensor = self.spatial(spatial) + self.semantic(semantic)
        return answer


class ConvHead(nn.Module):
    """Both streams' answers, weighed by a 1x1 convolution; as the place's."""

    def __init__(self, config: ModelConfig, outputs: int) -> None:
        """Channels of the answer; the streams' are the configuration's."""
        super().__init__()
        self.spatial = nn.Conv2d(config.spatial_widths[0], outputs, 1)
        self.semantic = nn.Conv2d(config.semantic_widths[-1], outputs, 1)
        self.join = nn.Conv2d(2 * outputs, outputs, 1)

    def forward(self, spatial: Tensor, semantic: Tensor) -> Tensor:
        """Maps of both streams at one stride -> (B, outputs, h, w)."""
        both = torch.cat([self.spatial(spatial), self.semantic(semantic)], dim=1)
        answer: Tensor = self.join(functional.relu(both))
        return answer


def _zeroed(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
