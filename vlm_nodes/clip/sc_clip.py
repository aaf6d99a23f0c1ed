"""SC-CLIP (Bai et al. 2024): outliers repaired, attention and features made consistent.

Layer numbers are those of 12 blocks (ViT-B), f_l being the output of block l; other depths L take
f_(L-1) for f_11, f_(L-3) for f_9, f_(L/3) for f_4, and the sum of f_(L/3)..f_(L-2) for that of
f_4..f_10.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vlm_nodes.clip.vit import keys_and_values, output_projection

NEIGHBOURS = 30
OUTLIER_SHARE = 0.05
SIMILARITY_THRESHOLD = 0.4
SHARPNESS = 3.0
CLASS_TOKEN_SHARE = 0.3
MINIMUM_BLOCKS = 4


def calibrated_tokens(block: Any, outputs: list[Tensor], grid: tuple[int, int]) -> Tensor:
    """What replaces the last block's output, patches only.

    Args:
        block: the last transformer block.
        outputs: outputs of all blocks before it, (B, 1 + h w, C) each, at least three.
        grid: patch grid (h, w).

    Returns:
        (B, h w, C), to be normalised by ln_post and projected.
    """
    blocks = len(outputs) + 1
    early = max(round(blocks / 3), 1)
    last, middle = outputs[-1][:, 1:], outputs[blocks - 4][:, 1:]
    outliers = outlier_mask(last)
    last = repair(last, outliers, grid)
    similarity = cosine_matrix(repair(middle, outliers, grid))
    spread = row_weights(cosine_matrix(outputs[early - 1][:, 1:]))
    levels = torch.stack(outputs[early - 1 : blocks - 2]).sum(0)
    deep = _attend(block, row_weights(similarity) @ last, outputs[-1][:, :1], similarity)
    multi_level = _attend(block, levels[:, 1:], levels[:, :1], similarity)
    return spread @ (deep + multi_level)


def _attend(block: Any, patches: Tensor, class_token: Tensor, similarity: Tensor) -> Tensor:
    """Half the similarity of f_9, half key-key attention, and some of the class token."""
    keys, values = keys_and_values(block, patches)
    centred = SHARPNESS * (similarity - similarity.mean(dim=(1, 2), keepdim=True))
    shared = centred.masked_fill(centred < 0, -torch.inf).softmax(dim=-1).unsqueeze(1)
    own = (keys @ keys.transpose(-1, -2) * keys.shape[-1] ** -0.5).softmax(dim=-1)
    mixed = (0.5 * (shared + own)).to(values.dtype) @ values
    return output_projection(block, mixed) + CLASS_TOKEN_SHARE * class_token


def cosine_matrix(patches: Tensor) -> Tensor:
    """(B, N, C) -> (B, N, N)."""
    unit = functional.normalize(patches, dim=-1)
    return unit @ unit.transpose(1, 2)


def row_weights(similarity: Tensor) -> Tensor:
    """Similarities below the threshold dropped, each row summing to 1."""
    kept = similarity.where(similarity >= SIMILARITY_THRESHOLD, 0.0)
    return kept / kept.sum(dim=-1, keepdim=True)


def local_outlier_factor(patches: Tensor, neighbours: int = NEIGHBOURS) -> Tensor:
    """Local outlier factor (Breunig et al. 2000) on squared distances; about 1 for normal patches.

    Args:
        patches: (B, N, C), N >= 2.
        neighbours: k, at most N - 1 are used.

    Returns:
        (B, N).
    """
    points = patches.float()
    squared = points.square().sum(-1)
    distances = squared[:, :, None] + squared[:, None] - 2 * points @ points.transpose(1, 2)
    distances = distances.clamp(min=0)
    distances.diagonal(dim1=1, dim2=2).fill_(torch.inf)
    nearest, index = distances.topk(min(neighbours, points.shape[1] - 1), dim=-1, largest=False)
    batch = torch.arange(len(points), device=points.device)[:, None, None]
    reach = torch.maximum(nearest, nearest[..., -1][batch, index])
    density = 1 / reach.mean(dim=-1).clamp(min=1e-12)
    return density[batch, index].mean(dim=-1) / density


def outlier_mask(patches: Tensor) -> Tensor:
    """The share of patches with the largest outlier factor: (B, N, C) -> (B, N) bool."""
    mask = torch.zeros(patches.shape[:2], dtype=torch.bool, device=patches.device)
    count = int(OUTLIER_SHARE * patches.shape[1])
    if count:
        worst = local_outlier_factor(patches).topk(count, dim=-1).indices
        mask.scatter_(1, worst, True)
    return mask


def repair(patches: Tensor, outliers: Tensor, grid: tuple[int, int]) -> Tensor:
    """Outliers replaced by the mean of their normal neighbours of eight; kept where none is.

    Args:
        patches: (B, h w, C).
        outliers: (B, h w) bool.
        grid: (h, w).

    Returns:
        (B, h w, C).
    """
    normal = (~outliers).to(patches.dtype).reshape(-1, 1, *grid)
    planes = patches.transpose(1, 2).reshape(len(patches), -1, *grid)
    sums = 9 * functional.avg_pool2d(planes * normal, 3, stride=1, padding=1)
    counts = 9 * functional.avg_pool2d(normal, 3, stride=1, padding=1)
    means = (sums / counts.clamp(min=1)).flatten(2).transpose(1, 2)
    replace = outliers & (counts.flatten(1) > 0.5)
    return torch.where(replace[..., None], means, patches)
