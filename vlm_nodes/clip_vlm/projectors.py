"""From the connector's width to the language model's: the registry of projections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn

SHUFFLE: Final = 2
"""How many neighbours each way a pixel shuffle joins (Shi et al. 2016, backwards)."""


@dataclass(frozen=True)
class Projection:
    """A way to project.

    Attributes:
        factor: Neighbouring tokens each way that become one token.
        make: (width, hidden_size) -> module on (..., factor^2 * width).
    """

    factor: int
    make: Callable[[int, int], nn.Module]


def _linear(width: int, hidden_size: int) -> nn.Module:
    return nn.Linear(width, hidden_size)


def _mlp(width: int, hidden_size: int) -> nn.Module:
    """LLaVA-1.5's (Liu et al. 2023): two layers."""
    return nn.Sequential(
        nn.Linear(width, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size)
    )


def _pixel_shuffle_mlp(width: int, hidden_size: int) -> nn.Module:
    return _mlp(SHUFFLE**2 * width, hidden_size)


PROJECTIONS: Final = {
    'linear': Projection(1, _linear),
    'mlp': Projection(1, _mlp),
    'pixel_shuffle_mlp': Projection(SHUFFLE, _pixel_shuffle_mlp),
}


def join_neighbours(tokens: Tensor, rows: int, columns: int, factor: int) -> Tensor:
    """(B, rows * columns, C) on a grid -> (B, rows * columns / factor^2, factor^2 * C)."""
    batch, _, width = tokens.shape
    grid = tokens.reshape(batch, rows // factor, factor, columns // factor, factor, width)
    count = (rows // factor) * (columns // factor)
    return grid.transpose(2, 3).reshape(batch, count, factor**2 * width)
