"""Text to what it changes: standardised embeddings, and features modulated by them.

FiLM: Perez et al. 2018, Visual Reasoning with a General Conditioning Layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class TextScale(nn.Module):
    """Task embeddings less their mean, at unit spread, as `fit` found them in training.

    CLIP embeds sentences that differ in a word nearly alike: what differs is small beside what they
    share, and a network would learn to hear it late.

    Args:
        dim: D, numbers of an embedding.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer('mean', torch.zeros(dim))
        self.register_buffer('spread', torch.tensor(dim**-0.5))

    def fit(self, embeddings: Tensor) -> None:
        """Take mean and spread of the tasks trained on; of one task alone, only its length.

        Args:
            embeddings: (N, D), of N different texts.
        """
        embeddings = embeddings.to(self.mean)
        mean = embeddings.mean(0) if len(embeddings) > 1 else torch.zeros_like(self.mean)
        self.mean.copy_(mean)
        self.spread.copy_((embeddings - mean).square().mean().sqrt().clamp_min(1e-6))

    def forward(self, embeddings: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        scaled: Tensor = (embeddings - self.mean) / self.spread
        return scaled


class Film(nn.Module):
    """Features scaled and shifted per channel by what a text says; untrained it changes nothing.

    Args:
        text_dim: D of the (scaled) embedding; 0 without language, where features pass as they are.
        channels: C of the features.
    """

    def __init__(self, text_dim: int, channels: int) -> None:
        super().__init__()
        self.to_scale_shift = nn.Linear(text_dim, 2 * channels) if text_dim else None
        if self.to_scale_shift is not None:
            nn.init.zeros_(self.to_scale_shift.weight)
            nn.init.zeros_(self.to_scale_shift.bias)

    def forward(self, features: Tensor, text: Tensor | None) -> Tensor:
        """Modulate.

        Args:
            features: (N, C, h, w).
            text: (B, D), where N is B or B T with ticks running fastest; None without language.

        Returns:
            (N, C, h, w).
        """
        if (change := self.scale_and_shift(text)) is None:
            return features
        ticks = len(features) // len(change[0])
        scale, shift = (part.repeat_interleave(ticks, dim=0)[:, :, None, None] for part in change)
        modulated: Tensor = features * (1 + scale) + shift
        return modulated

    def scale_and_shift(self, text: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """(B, D) -> what channels are scaled by, less one, and shifted by, (B, C) each.

        None without language.
        """
        if self.to_scale_shift is None or text is None:
            return None
        scale, shift = self.to_scale_shift(text).chunk(2, dim=1)
        return scale, shift
