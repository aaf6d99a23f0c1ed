"""Where a picked thing fits, and at which angle: rotated queries correlated with the key map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlm_nodes.cliport.config import ModelConfig
from vlm_nodes.cliport.correlation import correlate
from vlm_nodes.cliport.fusion import AddHead, ConvHead
from vlm_nodes.cliport.rotation import rotated_windows, window_mask
from vlm_nodes.cliport.streams import StreamMaps


class PlaceHead(nn.Module):
    """Key, query and, where configured, a map alike for all angles."""

    def __init__(self, config: ModelConfig) -> None:
        """Untrained."""
        super().__init__()
        self._config = config
        self.key = ConvHead(config, config.place_channels)
        self.query = ConvHead(config, config.place_channels)
        self.everywhere = AddHead(config, 1) if config.place_map else None
        self.sharpness = nn.Parameter(torch.zeros(()))

    def rotated_queries(self, maps: StreamMaps, cells: Tensor) -> Tensor:
        """Queries about picks, cut and turned from the features of the whole picture.

        Args:
            maps: Of B pictures.
            cells: (B, 2) rows and columns.

        Returns:
            (B, K, C, S, S).
        """
        query = self.query(maps.spatial, maps.semantic)
        config = self._config
        return rotated_windows(query, cells, config.rotations, config.crop_cells)

    def cropped_queries(self, maps: StreamMaps) -> Tensor:
        """Queries from features of B K turned crops: (B, K, C, S, S)."""
        query: Tensor = self.query(maps.spatial, maps.semantic)
        return query.reshape(-1, self._config.rotations, *query.shape[1:])

    def forward(self, maps: StreamMaps, queries: Tensor) -> Tensor:
        """Logits of all angles and cells.

        Args:
            maps: Of the whole pictures.
            queries: (B, K, C, S, S).

        Returns:
            (B, K, h, w) float32.
        """
        size = self._config.crop_cells
        disc = window_mask(size).to(queries.device)
        queries = queries.float() * (disc / disc.sum())
        key = self.key(maps.spatial, maps.semantic).float()
        key = functional.pad(key, [size // 2] * 4)
        logits = correlate(key, queries) * (size * self.sharpness.exp())
        if self.everywhere is not None:
            logits = logits + self.everywhere(maps.spatial, maps.semantic).float()
        return logits
