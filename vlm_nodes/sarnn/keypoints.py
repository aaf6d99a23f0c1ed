"""Heatmaps to points and back: the spatial softmax and its inverse.

Places are (x, y) in [0, 1]^2: x runs along the width from the left edge, y along the height from
the upper edge, and the middle of column j of W is x = (j + 0.5) / W. So a point means the same
place in an image and in its heatmaps, whatever their sizes.

Spatial softmax: Finn et al. 2016, Deep Spatial Autoencoders. Its inverse: Ichiwara et al. 2022,
Contact-Rich Manipulation of a Flexible Object based on Deep Predictive Learning (SARNN).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


def centres(length: int, like: Tensor) -> Tensor:
    """(length,) places of the middles of a side's pixels, with the type and device of `like`."""
    return (torch.arange(length, device=like.device, dtype=like.dtype) + 0.5) / length


class SpatialSoftmax(nn.Module):
    """Heatmaps to the expected place under each: continuous, so that gradients flow.

    Each map is brought to mean 0 and standard deviation 1 over its places first, so that how sharp
    the softmax is depends on the temperature and on the map's shape, never on its contrast: an
    untrained network, whose maps are nearly flat, has points that move and gradients that are felt.

    Args:
        temperature: To begin with; learnt, as its logarithm. Small is sharp.
    """

    def __init__(self, temperature: float = 0.5) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    def forward(self, heatmaps: Tensor) -> Tensor:
        """(..., K, H, W) heatmaps -> (..., K, 2) places (x, y)."""
        height, width = heatmaps.shape[-2:]
        # Sums over places are done in float32 whatever the network is in: bfloat16 has 8 bits. So
        # no products of matrices either, which autocast would take to fewer.
        flat = heatmaps.flatten(-2).float()
        scaled = functional.layer_norm(flat, flat.shape[-1:], eps=1e-12)
        weights = (scaled * torch.exp(-self.log_temperature)).softmax(-1)
        weights = weights.reshape(heatmaps.shape)
        x = (weights.sum(-2) * centres(width, weights)).sum(-1)
        y = (weights.sum(-1) * centres(height, weights)).sum(-1)
        return torch.stack([x, y], dim=-1)


def inverse_spatial_softmax(keypoints: Tensor, size: tuple[int, int], width: float) -> Tensor:
    """Windows around places: exp(-distance^2 / width), 1 at the place itself.

    Args:
        keypoints: (..., K, 2) places (x, y).
        size: (H, W) of the windows.
        width: Of the bell, in units of the image's squared side.

    Returns:
        (..., K, H, W).
    """
    x, y = keypoints.unbind(-1)
    # The bell of a distance is the product of the bells along both axes.
    row = torch.exp(-((centres(size[1], x) - x.unsqueeze(-1)) ** 2) / width)
    column = torch.exp(-((centres(size[0], y) - y.unsqueeze(-1)) ** 2) / width)
    return column.unsqueeze(-1) * row.unsqueeze(-2)
