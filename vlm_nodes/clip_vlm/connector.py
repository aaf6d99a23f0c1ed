"""The connector: CLIP's tokens of any number of views to tokens of the language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.projectors import PROJECTIONS, join_neighbours


@dataclass(frozen=True)
class ConnectorConfig:
    """Sizes of a connector.

    Attributes:
        clip_dim: Width of CLIP's tokens.
        clip_grid: Rows and columns of CLIP's tokens of a view; (1, 1) for pooled ones.
        hidden_size: Width of the language model's tokens.
        cameras: Names of the views it knows, in the order that they are given.
        token_grid: Rows and columns of tokens that a view becomes.
        width: Its own.
        heads: Of its attention.
        layers: Of fusion.
        projection: A key of `PROJECTIONS`.

    Raises:
        ClipVlmError: A value is out of its range; the message holds it.
    """

    clip_dim: int
    clip_grid: tuple[int, int]
    hidden_size: int
    cameras: tuple[str, ...]
    token_grid: tuple[int, int] = (4, 8)
    width: int = 512
    heads: int = 8
    layers: int = 2
    projection: str = 'mlp'

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        for name in ('clip_dim', 'hidden_size', 'width', 'heads', 'layers'):
            if getattr(self, name) < 1:
                raise ClipVlmError(f'{name} must be at least 1, is {getattr(self, name)}')
        for name in ('clip_grid', 'token_grid'):
            grid = getattr(self, name)
            if len(grid) != 2 or min(grid) < 1:
                raise ClipVlmError(f'{name} must be rows and columns, at least 1 each, is {grid}')
        if self.width % self.heads:
            raise ClipVlmError(f'width {self.width} is no multiple of heads {self.heads}')
        if self.projection not in PROJECTIONS:
            raise ClipVlmError(
                f'unknown projection {self.projection!r}; choose of {", ".join(PROJECTIONS)}'
            )
        if not self.cameras or len(set(self.cameras)) < len(self.cameras):
            raise ClipVlmError(f'cameras must be named, each once, are {self.cameras}')

    @property
    def tokens_per_view(self) -> int:
        """Tokens of the language model that a view becomes."""
        return self.token_grid[0] * self.token_grid[1]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, page: Mapping[str, Any]) -> ConnectorConfig:
        """Of what `to_dict` gave.

        Raises:
            ClipVlmError: A value is missing, unknown or bad.
        """
        try:
            lists = {name: tuple(value) for name, value in page.items() if isinstance(value, list)}
            return cls(**{**page, **lists})
        except TypeError as error:
            raise ClipVlmError(f'no configuration of a connector: {error}') from error


class Connector(nn.Module):
    """Views look at one another, and each becomes a fixed number of tokens.

    A view's CLIP tokens are standardised and get the embeddings of their place and their camera.
    Means over the cells of a coarser grid ask all tokens of all views, and one another, for what
    belongs to them (attention, as in a perceiver resampler: Alayrac et al. 2022); so the budget of
    tokens is kept while small things are not averaged away. A projection takes them to the language
    model.
    """

    clip_mean: Tensor
    clip_std: Tensor

    def __init__(self, config: ConnectorConfig) -> None:
        """Build an untrained one."""
        super().__init__()
        self.config = config
        width = config.width
        self._factor = PROJECTIONS[config.projection].factor
        rows, columns = (side * self._factor for side in config.token_grid)
        self._asking = (rows, columns)
        self.enter = nn.Linear(config.clip_dim, width)
        self.enter_norm = nn.LayerNorm(width)
        # CLIP's tokens of all pictures are nearly the same vector; what differs is small beside it.
        self.register_buffer('clip_mean', torch.zeros(config.clip_dim))
        self.register_buffer('clip_std', torch.ones(config.clip_dim))
        places = config.clip_grid[0] * config.clip_grid[1]
        self.place = nn.Parameter(0.02 * torch.randn(places, width))
        self.camera = nn.Parameter(0.5 * torch.randn(len(config.cameras), width))
        self.token = nn.Parameter(0.02 * torch.randn(rows * columns, width))
        self.fusion = nn.ModuleList(_Fusion(width, config.heads) for _ in range(config.layers))
        self.leave_norm = nn.LayerNorm(width)
        self.project = PROJECTIONS[config.projection].make(width, config.hidden_size)

    def standardise(self, features: Tensor) -> None:
        """Take mean and standard deviation of (..., clip_dim) tokens for those of all to come."""
        tokens = features.reshape(-1, self.config.clip_dim).double()
        self.clip_mean.copy_(tokens.mean(0))
        self.clip_std.copy_(tokens.std(0).clamp(min=1e-6))

    def forward(self, features: Tensor, cameras: Tensor, present: Tensor) -> Tensor:
        """Tokens of the language model.

        Args:
            features: (B, V, N, clip_dim) of CLIP, V views of N = rows * columns tokens; anything
                but NaN where there is no view.
            cameras: (B, V) int64 places in `config.cameras`.
            present: (B, V) bool, which views there are; at least one a row.

        Returns:
            (B, V, T, hidden_size), T = `config.tokens_per_view`; without meaning where there is
            no view.

        Raises:
            ClipVlmError: A shape is another one, or a row has no view.
        """
        self._check(features, cameras, present)
        batch, views = present.shape
        camera = self.camera[cameras][:, :, None]
        standard = (features - self.clip_mean) / self.clip_std
        seen = self.enter_norm(self.enter(standard)) + self.place + camera
        asking = self._cells(seen) + self.token + camera
        tokens = self._along(asking)
        seen_mask = _mask(present, seen.shape[2])
        token_mask = _mask(present, asking.shape[2])
        for layer in self.fusion:
            tokens = layer(tokens, self._along(seen), token_mask, seen_mask)
        joined = join_neighbours(
            self.leave_norm(tokens).reshape(batch * views, -1, self.config.width),
            *self._asking,
            self._factor,
        )
        projected: Tensor = self.project(joined)
        return projected.reshape(batch, views, self.config.tokens_per_view, -1)

    def _cells(self, seen: Tensor) -> Tensor:
        """(B, V, N, C) -> means over the cells of the grid that asks."""
        batch, views, _, width = seen.shape
        grid = seen.reshape(batch * views, *self.config.clip_grid, width).permute(0, 3, 1, 2)
        cells = functional.adaptive_avg_pool2d(grid, self._asking)
        return cells.flatten(2).transpose(1, 2).reshape(batch, views, -1, width)

    @staticmethod
    def _along(tokens: Tensor) -> Tensor:
        """(B, V, N, C) -> (B, V N, C)."""
        return tokens.flatten(1, 2)

    def _check(self, features: Tensor, cameras: Tensor, present: Tensor) -> None:
        config = self.config
        count = config.clip_grid[0] * config.clip_grid[1]
        wanted = (*present.shape, count, config.clip_dim)
        if present.ndim != 2 or features.shape != wanted or cameras.shape != present.shape:
            raise ClipVlmError(
                f'features must be (B, V, {count}, {config.clip_dim}) with (B, V) cameras and '
                f'presence, are {tuple(features.shape)}, {tuple(cameras.shape)} and '
                f'{tuple(present.shape)}'
            )
        if not bool(present.any(1).all()):
            raise ClipVlmError('a row of the batch has no view')


def _mask(present: Tensor, count: int) -> Tensor:
    """(B, V) -> (B, 1, 1, V count): what may be attended to."""
    return present.repeat_interleave(count, 1)[:, None, None]


class _Fusion(nn.Module):
    """Tokens ask one another, then what was seen, then think; each normalised before."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.among_norm, self.seen_norm, self.think_norm = (nn.LayerNorm(width) for _ in range(3))
        self.among, self.seen = _Attention(width, heads), _Attention(width, heads)
        self.think = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(
        self, tokens: Tensor, seen: Tensor, token_mask: Tensor, seen_mask: Tensor
    ) -> Tensor:
        normed = self.among_norm(tokens)
        tokens = tokens + self.among(normed, normed, token_mask)
        tokens = tokens + self.seen(self.seen_norm(tokens), seen, seen_mask)
        thought: Tensor = self.think(self.think_norm(tokens))
        return tokens + thought


class _Attention(nn.Module):
    """Scaled dot-product attention in several heads (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.query, self.output = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)

    def forward(self, asking: Tensor, asked: Tensor, mask: Tensor) -> Tensor:
        key, value = self.key_value(asked).chunk(2, -1)
        mixed = functional.scaled_dot_product_attention(
            self._split(self.query(asking)), self._split(key), self._split(value), attn_mask=mask
        )
        output: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return output

    def _split(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        return tokens.reshape(batch, count, self._heads, width // self._heads).transpose(1, 2)
