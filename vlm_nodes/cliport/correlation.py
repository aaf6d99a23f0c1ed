"""Cross-correlation of a map with many windows, through Fourier transforms.

The direct form costs 64 x 64 products a cell and angle, and on a CPU its gradient is computed by a
kernel without any tuning: 114 of the 139 s of a published training step. The transforms cost a
hundredth of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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
    with torch.autocast(key.device.type, enabled=False):
        scores: Tensor = _Correlation.apply(key.float(), queries.float())  # type: ignore[no-untyped-call]
    return scores


class _Correlation(torch.autograd.Function):
    """Its gradients are correlations too; left to autograd, they cost full complex transforms."""

    @staticmethod
    def forward(ctx: Any, key: Tensor, queries: Tensor) -> Tensor:
        height, width = key.shape[-2:]
        size = queries.shape[-1]
        spectrum = torch.fft.rfft2(key)
        windows = torch.fft.rfft2(queries, s=(height, width)).conj_physical()
        ctx.save_for_backward(spectrum, windows)
        ctx.sizes = height, width, size
        product = windows[:, :, 0] * spectrum[:, :1]
        for channel in range(1, spectrum.shape[1]):
            product.addcmul_(windows[:, :, channel], spectrum[:, channel : channel + 1])
        # Circular wrap-around only reaches the last S - 1 rows and columns.
        whole: Tensor = torch.fft.irfft2(product, s=(height, width))
        return whole[..., : height - size, : width - size]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        spectrum, windows = ctx.saved_tensors
        height, width, size = ctx.sizes
        error = torch.fft.rfft2(gradient, s=(height, width))
        of_key = of_queries = None
        if ctx.needs_input_grad[0]:
            total = torch.stack(
                [(error * windows[:, :, c].conj()).sum(dim=1) for c in range(windows.shape[2])], 1
            )
            of_key = torch.fft.irfft2(total, s=(height, width))
        if ctx.needs_input_grad[1]:
            product = error.conj_physical().unsqueeze(2) * spectrum.unsqueeze(1)
            of_queries = torch.fft.irfft2(product, s=(height, width))[..., :size, :size]
        return of_key, of_queries


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
