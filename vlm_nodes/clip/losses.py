"""Losses between patch features and the texts of their labels."""

import torch
from torch import Tensor
from torch.nn import functional

_NEVER = -1e4
"""A logit that never wins; finite, so that cells with every label present have a gradient."""


def cell_labels(labels: Tensor, grid: tuple[int, int]) -> Tensor:
    """The label pixels within every patch cell.

    Args:
        labels: (B, H, W) integers; H and W multiples of the grid's.
        grid: (h, w) patches.

    Returns:
        (B h w, H W / (h w)).

    Raises:
        ValueError: the cells would not hold whole pixels.
    """
    batch, height, width = labels.shape
    rows, columns = grid
    if height % rows or width % columns:
        raise ValueError(
            f'labels of {height} x {width} do not divide into {rows} x {columns} cells'
        )
    cells = labels.reshape(batch, rows, height // rows, columns, width // columns)
    return cells.transpose(2, 3).reshape(batch * rows * columns, -1)


def label_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy over the texts, LSeg's loss (Li et al. 2022).

    The share of a label's pixels in the cell is its probability.

    Args:
        logits: (P, C) scaled cosines of P patches with C texts.
        targets: (P, S) text index of every pixel of the cell, -1 where it has none.
        weights: (P, S) weight of every pixel, 0 where it has no target.

    Returns:
        Scalar: mean over the weights; 0 where there are none.
    """
    chosen = logits.log_softmax(1).gather(1, targets.clamp(min=0))
    return -(weights * chosen).sum() / weights.sum().clamp(min=1e-6)


def ranking_loss(logits: Tensor, negatives: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The right text before any negative, a negative before any wrong text (Plackett-Luce).

    The first choice is `label_loss` with the negatives among the texts. The second makes a query
    for what is not there lose against the negatives, which is how queries are scored.

    Args:
        logits: (P, C) scaled cosines of P patches with C texts.
        negatives: (P, N) those with texts that mean nothing in particular.
        targets: (P, S) text index of every pixel of the cell, -1 where it has none.
        weights: (P, S) weight of every pixel, 0 where it has no target.

    Returns:
        Scalar: mean over the weights; 0 where there are none.
    """
    first = label_loss(torch.cat([logits, negatives], dim=1), targets, weights)
    spare = logits.shape[1]  # a column of its own for pixels without a target
    columns = targets.where(targets >= 0, spare)
    right = torch.zeros_like(functional.pad(logits, (0, 1)), dtype=torch.bool)
    right = right.scatter_(1, columns, True)[:, :spare]
    wrong = logits.masked_fill(right, _NEVER).logsumexp(1)
    lost = functional.softplus(wrong - negatives.logsumexp(1))
    return first + (weights.sum(1) * lost).sum() / weights.sum().clamp(min=1e-6)
