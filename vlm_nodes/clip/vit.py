"""The parts of open_clip's vision transformer that dense methods recombine.

Its modules are called, never changed.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def block_outputs(visual: Any, images: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
    """Outputs of all transformer blocks but the last.

    Args:
        visual: open_clip VisionTransformer.
        images: (B, 3, H, W), H and W multiples of the patch size.

    Returns:
        L - 1 tensors (B, 1 + h w, C), class token first, and the patch grid (h, w).

    Raises:
        ValueError: the image size does not fit the patches.
    """
    side_y, side_x = visual.patch_size
    if images.shape[2] % side_y or images.shape[3] % side_x:
        raise ValueError(
            f'image height and width must be multiples of the patch {side_y} x {side_x}, '
            f'got {images.shape[2]} x {images.shape[3]}'
        )
    patches = visual.conv1(images)
    grid = (int(patches.shape[2]), int(patches.shape[3]))
    patches = patches.flatten(2).transpose(1, 2)
    class_token = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
    tokens = torch.cat([class_token, patches], dim=1)
    tokens = visual.ln_pre(tokens + resized_positions(visual, grid).to(tokens.dtype))
    outputs = []
    for block in visual.transformer.resblocks[:-1]:
        tokens = _run(block, tokens)
        outputs.append(tokens)
    return outputs, grid


def _run(block: Any, tokens: Tensor) -> Tensor:
    """One block on (B, N, C) tokens, whichever order this version of open_clip built it for."""
    if block.attn.batch_first:
        result: Tensor = block(tokens)
    else:
        result = block(tokens.transpose(0, 1)).transpose(0, 1)
    return result


def resized_positions(visual: Any, grid: tuple[int, int]) -> Tensor:
    """The positional embedding on another patch grid, bicubic; the class token's stays.

    Returns:
        (1 + h w, C).
    """
    embedding: Tensor = visual.positional_embedding
    if grid == tuple(visual.grid_size):
        return embedding
    trained = embedding[1:].reshape(1, *visual.grid_size, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(
        trained.float(), size=grid, mode='bicubic', align_corners=False
    )
    patches = resized.permute(0, 2, 3, 1).reshape(grid[0] * grid[1], -1)
    return torch.cat([embedding[:1], patches.to(embedding.dtype)])


def keys_and_values(block: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of a block's attention on ln_1(tokens).

    Args:
        block: residual attention block of open_clip, self-attention in one input projection.
        tokens: (B, N, C).

    Returns:
        Two tensors (B, heads, N, C / heads).
    """
    width = tokens.shape[-1]
    weight, bias = block.attn.in_proj_weight[width:], block.attn.in_proj_bias[width:]
    both = functional.linear(block.ln_1(tokens), weight, bias)
    shape = (tokens.shape[0], tokens.shape[1], block.attn.num_heads, -1)
    keys, values = both.chunk(2, dim=-1)
    return keys.reshape(shape).transpose(1, 2), values.reshape(shape).transpose(1, 2)


def output_projection(block: Any, mixed: Tensor) -> Tensor:
    """Mixed values (B, heads, N, d) -> (B, N, C), with neither the residual nor the MLP."""
    projected: Tensor = block.attn.out_proj(mixed.transpose(1, 2).flatten(2))
    return projected


def to_text_space(visual: Any, patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patch tokens (B, h w, C), class token dropped -> features (B, h, w, D)."""
    features: Tensor = visual.ln_post(patches) @ visual.proj
    return features.reshape(len(patches), *grid, -1)
