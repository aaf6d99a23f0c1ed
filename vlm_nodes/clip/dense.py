"""Dense patch features from the image tower of an open_clip model, without training.

Formulae: MaskCLIP (Zhou et al. 2022), NACLIP (Hajimiri et al. 2024), SC-CLIP (Bai et al. 2024). The
towers are called through their own modules and never changed; only the last transformer block is
computed here.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlm_nodes.clip import sc_clip
from vlm_nodes.clip.backend import open_clip
from vlm_nodes.clip.vit import block_outputs, keys_and_values, output_projection, to_text_space

METHODS = ('naclip', 'maskclip', 'sc_clip')
CONVOLUTIONAL = 'value'
"""The method of convolutional towers: their final projection, applied at every place."""

NACLIP_SIGMA = 5.0
"""Standard deviation of NACLIP's neighbourhood, in patches."""

VisionTransformer = open_clip.transformer.VisionTransformer
ModifiedResNet = open_clip.model.ModifiedResNet
TimmModel = open_clip.timm_model.TimmModel


def dense_method(visual: Any, method: str) -> str:
    """The method that `dense_features` uses: `value` for a convolutional tower.

    Raises:
        ValueError: no such method, or a tower that no method here fits.
    """
    if method not in METHODS:
        raise ValueError(f'dense method must be one of {METHODS}, got {method!r}')
    if isinstance(visual, VisionTransformer):
        _check_transformer(visual, method)
        return method
    if isinstance(visual, TimmModel):
        _check_trunk(visual)
    elif not isinstance(visual, ModifiedResNet):
        raise ValueError(
            f'dense features are not supported for image towers of type {type(visual).__name__}'
        )
    return CONVOLUTIONAL


def dense_features(visual: Any, images: Tensor, method: str = 'naclip') -> Tensor:
    """Features of every patch in the space of the text embeddings.

    Args:
        visual: image tower of an open_clip model: VisionTransformer, ModifiedResNet or a
            convolutional TimmModel.
        images: (B, 3, H, W), preprocessed; H and W multiples of the patch size for transformers.
        method: `naclip`, `maskclip` or `sc_clip`; without effect on convolutional towers.

    Returns:
        (B, h, w, D), not normalised.

    Raises:
        ValueError: the method, the tower or the image size does not fit.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f'images must be (B, 3, H, W), got {tuple(images.shape)}')
    chosen = dense_method(visual, method)
    if isinstance(visual, ModifiedResNet):
        return _resnet_values(visual, images)
    if isinstance(visual, TimmModel):
        return _trunk_values(visual, images)
    outputs, grid = block_outputs(visual, images)
    last = visual.transformer.resblocks[-1]
    return to_text_space(visual, _TOKENS[chosen](last, outputs, grid), grid)


def patch_stride(visual: Any) -> int:
    """Side of a patch in pixels of the tower's input.

    Raises:
        ValueError: patches that are not square.
    """
    if isinstance(visual, VisionTransformer):
        height, width = visual.patch_size
        if height != width:
            raise ValueError(f'patches must be square, got {height} x {width}')
        return int(height)
    if isinstance(visual, TimmModel):
        return int(visual.trunk.feature_info[-1]['reduction'])
    return 32  # ModifiedResNet: stem 4, three stages of 2


def _check_transformer(visual: Any, method: str) -> None:
    blocks = visual.transformer.resblocks
    if visual.attn_pool is not None or not isinstance(blocks[-1].attn, nn.MultiheadAttention):
        raise ValueError(
            'dense features need a vision transformer with plain attention and a class token'
        )
    if method == 'sc_clip' and len(blocks) < sc_clip.MINIMUM_BLOCKS:
        raise ValueError(
            f'sc_clip needs at least {sc_clip.MINIMUM_BLOCKS} transformer blocks, got {len(blocks)}'
        )


def _check_trunk(visual: Any) -> None:
    info = getattr(visual.trunk, 'feature_info', None)
    if (
        not info
        or visual.trunk.default_cfg.get('pool_size') is None
        or 'proj' not in visual.head._modules
    ):
        raise ValueError(
            'dense features need a convolutional trunk with average pooling and a linear '
            f'projection, got {type(visual.trunk).__name__}'
        )


def _resnet_values(visual: Any, images: Tensor) -> Tensor:
    """The attention pooling's value and output projections, as 1x1 convolutions (MaskCLIP)."""
    features = images
    for stage in (visual.stem, visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        features = stage(features)
    pool = visual.attnpool
    values: Tensor = pool.c_proj(pool.v_proj(features.permute(0, 2, 3, 1)))
    return values


def _trunk_values(visual: Any, images: Tensor) -> Tensor:
    """The tower's head at every place, as if the whole image looked like it."""
    features = visual.trunk.forward_features(images)
    batch, channels, height, width = features.shape
    places = features.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)
    values: Tensor = visual.head(visual.trunk.forward_head(places))
    return values.reshape(batch, height, width, -1)


def _maskclip(block: Any, outputs: list[Tensor], _grid: tuple[int, int]) -> Tensor:
    """Every patch attends to itself alone."""
    _, values = keys_and_values(block, outputs[-1])
    return output_projection(block, values)[:, 1:]


def _naclip(block: Any, outputs: list[Tensor], grid: tuple[int, int]) -> Tensor:
    """Key-key attention with a Gaussian preference for near patches."""
    keys, values = keys_and_values(block, outputs[-1])
    bias = neighbourhood(grid).to(keys)
    mixed = functional.scaled_dot_product_attention(keys, keys, values, attn_mask=bias)
    return output_projection(block, mixed)[:, 1:]


@lru_cache(maxsize=8)
def neighbourhood(grid: tuple[int, int], sigma: float = NACLIP_SIGMA) -> Tensor:
    """NACLIP's attention bias: exp(-distance^2 / (2 sigma^2)) between patches, else 0.

    Returns:
        (1 + h w, 1 + h w) float32.
    """
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing='ij')
    places = torch.stack([rows.flatten(), columns.flatten()], dim=1).double()
    squared = (places[:, None] - places[None]).square().sum(-1)
    bias = torch.zeros(len(places) + 1, len(places) + 1)
    bias[1:, 1:] = torch.exp(-squared / (2 * sigma**2)).float()
    return bias


_TOKENS = {'naclip': _naclip, 'maskclip': _maskclip, 'sc_clip': sc_clip.calibrated_tokens}
