"""Cross-correlation of a map with many windows, through Fourier transforms.

The direct form costs 64 x 64 products a cell and angle, and on a CPU its gradient is computed by a
kernel without any tuning: 114 of the 139 s of a published training step. The transforms cost a
hundredth of it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def correlate(key: Tensor, queries: Tensor) -> Tensor:
    """How well each window fits at each cell of the map's interior.

    score[b, k, y, x] = sum over c, i, j of
    key[b, c, y + i, x + j] queries[b, k, c, i, j], where (y + S/2, x + S/2) is the cell of the key
    that the window's centre, its element (S/2, S/2), lies on. Linear, not circular: windows that
    would reach over the border are left out.

    Args:
        key: (B, C, H, W), padded by S/2 cells on each side.
        queries: (B, K, C, S, S), S even.

    Returns:
        (B, K, H - S, W - S) float32; element (y, x) belongs to cell (y, x) of the unpadded map.

    Raises:
        ValueError: The shapes do not fit.
    """
    _check(key, queries)
    size = queries.shape[-1]
    height, width = key.shape[-2:]
    with torch.autocast(key.device.type, enabled=False):
        spectrum = torch.fft.rfft2(key.float()).unsqueeze(1)
        windows = torch.fft.rfft2(queries.float(), s=(height, width))
        product = (spectrum * windows.conj()).sum(dim=2)
        scores: Tensor = torch.fft.irfft2(product, s=(height, width))
    # Circular wrap-around only reaches the last S - 1 rows and columns.
    return scores[..., : height - size, : width - size]


def _check(key: Tensor, queries: Tensor) -> None:
    if key.ndim != 4 or queries.ndim != 5 or queries.shape[-1] != queries.shape[-2]:
        raise ValueError(
            'key must be (B, C, H, W) and queries (B, K, C, S, S), '
            f'got {tuple(key.shape)} and {tuple(queries.shape)}'
        )
    if key.shape[0] != queries.shape[0] or key.shape[1] != queries.shape[2]:
        raise ValueError(
            f'key {tuple(key.shape)} and queries {tuple(queries.shape)} differ in batch or channels'
        )
    if min(key.shape[-2:]) <= queries.shape[-1]:
        raise ValueError(
            f'a key of {tuple(key.shape[-2:])} cells is no larger than a window of '
            f'{queries.shape[-1]}'
        )
