"""Cross-entropy of a map against one right cell."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def map_cross_entropy(logits: Tensor, angle_bins: Tensor, cells: Tensor) -> Tensor:
    """Minus the log probability of the right angle and cell, mean over the batch only.

    The published loss is the mean over all cells of the map as well; divided by 1.8 million, its
    gradients lie below Adam's epsilon.

    Args:
        logits: (B, K, h, w), of any float type; the softmax is over K, h and w together.
        angle_bins: (B,) in [0, K).
        cells: (B, 2) rows and columns.

    Returns:
        Scalar float32.

    Raises:
        ValueError: A label lies outside its map.
    """
    count, height, width = logits.shape[1:]
    rows, columns = cells.unbind(dim=-1)
    for name, values, size in (
        ('angle bin', angle_bins, count),
        ('row', rows, height),
        ('column', columns, width),
    ):
        if bool(((values < 0) | (values >= size)).any()):
            raise ValueError(f'a label lies outside the map: {name} {values.tolist()} of {size}')
    target = (angle_bins * height + rows) * width + columns
    return functional.cross_entropy(logits.flatten(1).float(), target)
