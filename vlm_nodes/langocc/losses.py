"""What rays should see, as numbers to be made small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.model import Seen, Volume

_ALIKE: Final = 0.7
_SOFTNESS: Final = 0.05
_COMPARED: Final = 256
_MOST_RARE: Final = 50.0
_LEAST_LEFT: Final = 1e-4


@dataclass(frozen=True)
class LossWeights:
    """How much each part counts.

    Attributes:
        squared: Of squared differences, which a ray's opacity counts in.
        cosine: Of 1 - cosine.
        depth: Of LiDAR distances, where rays have some; relative to the distance.
        sparsity: Of mean opacity of voxels, which empties what no ray speaks of.
        spread: Of metres between what a ray sees in several places: surfaces instead of fog, which
            is as good an answer to the cameras of one moment.
        pictures: Of what pictures show before they are lifted, against their own pixels. Without
            it, a network must find depth and meaning out together, each of which helps little
            without the other.
        sky: Of the opacity of rays whose pixels show sky, as cross-entropy. They carve free space,
            and voxels need not look like sky.
        driven: Of density where the vehicle itself was, as optical depth of a voxel.
        rarity: Exponent of how much more rays count whose feature is rare among all: 0 counts
            pixels, as published; at 1 each kind of thing counts as much as road or sky.

    Raises:
        LangOccError: A weight is negative, or features count for nothing.
    """

    squared: float = 1.0
    cosine: float = 0.3
    depth: float = 0.0
    sparsity: float = 0.01
    spread: float = 0.02
    pictures: float = 0.5
    sky: float = 0.0
    driven: float = 0.0
    rarity: float = 0.0

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        for name, value in vars(self).items():
            if not 0 <= value < float('inf'):
                raise LangOccError(f'weight {name} must be at least 0, is {value}')
        if self.squared + self.cosine == 0:
            raise LangOccError('features must count: squared and cosine are both 0')


def ray_losses(
    seen: Seen,
    volume: Volume,
    features: Tensor,
    weights: LossWeights,
    voxel_m: float,
    depth_m: Tensor | None = None,
) -> dict[str, Tensor]:
    """The parts, weighted, and `loss`, their sum.

    Args:
        seen: What rays see.
        volume: That they go through.
        features: (B, R, D) unit vectors that they should see.
        weights: Of the parts.
        voxel_m: Edge of a voxel.
        depth_m: (B, R) distances, NaN where unknown; looked at where depth counts.
    """
    cosine = functional.cosine_similarity(seen.features, features, dim=-1)
    squared = (seen.features - features).square().sum(-1)
    counts = _counts(features, weights)
    parts = {
        'squared': weights.squared * _mean(squared, counts),
        'cosine': weights.cosine * _mean(1 - cosine, counts),
    }
    if weights.spread:
        parts['spread'] = weights.spread * seen.spread_m.mean()
    if weights.sparsity:
        opacity = 1 - torch.exp(-volume.density * voxel_m)
        parts['sparsity'] = weights.sparsity * opacity.mean()
    if weights.depth:
        if depth_m is None:
            raise LangOccError('depth counts, but the rays have none: extract them from LiDAR')
        known = torch.isfinite(depth_m)
        gap = (seen.depth_m - depth_m.nan_to_num(1.0)).abs() / depth_m.nan_to_num(1.0).clamp(min=1)
        parts['depth'] = weights.depth * (gap * known).sum() / known.sum().clamp(min=1)
    return {**parts, 'loss': torch.stack(list(parts.values())).sum()}


def rarity(features: Tensor) -> Tensor:
    """How rare each feature is among all of a batch.

    Args:
        features: (B, R, D) unit vectors.

    Returns:
        (B, R) 1 over the share of features that are alike, at most `_MOST_RARE`. Alike is a cosine
        above `_ALIKE`, counted softly, among `_COMPARED` of them that are spread over the batch.
    """
    with torch.no_grad():
        flat = features.flatten(0, 1)
        some = flat[:: max(1, len(flat) // _COMPARED)]
        alike = torch.sigmoid((flat @ some.T - _ALIKE) / _SOFTNESS).mean(-1)
        return (1 / alike.clamp(min=1 / _MOST_RARE)).reshape(features.shape[:2])


def sky_loss(opacity: Tensor, is_sky: Tensor, weights: LossWeights) -> Tensor:
    """Mean cross-entropy of rays whose pixels show sky with being clear, weighted.

    Others may end anywhere, behind the grid as well, and count nothing.

    Args:
        opacity: (B, R).
        is_sky: (B, R) bool.
        weights: Of the parts.
    """
    left = (1 - opacity.float()).clamp(min=_LEAST_LEFT)
    return -weights.sky * (left.log() * is_sky).mean()


def picture_loss(looked: Tensor, features: Tensor, weights: LossWeights) -> Tensor:
    """Mean squared difference of what pictures show from what they should, weighted.

    Args:
        looked: (B, P, D) unit vectors.
        features: (B, P, D) unit vectors.
        weights: Of the parts.
    """
    squared = (looked - features).square().sum(-1)
    return weights.pictures * _mean(squared, _counts(features, weights))


def _counts(features: Tensor, weights: LossWeights) -> Tensor | None:
    """How much each ray counts, more with a rare feature; None where all count the same."""
    return rarity(features) ** weights.rarity if weights.rarity else None


def _mean(values: Tensor, counts: Tensor | None) -> Tensor:
    return values.mean() if counts is None else (values * counts).sum() / counts.sum()
