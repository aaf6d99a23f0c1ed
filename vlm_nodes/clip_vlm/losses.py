"""What training brings down: distance from the teacher, surprise at the caption."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vlm_nodes.clip_vlm.dialogue import IGNORED
from vlm_nodes.clip_vlm.errors import ClipVlmError


@dataclass(frozen=True)
class DistillWeights:
    """Of the parts of `distill_loss`.

    Attributes:
        smooth_l1: Of the distance.
        cosine: Of the angle.
    """

    smooth_l1: float = 1.0
    cosine: float = 0.1

    def __post_init__(self) -> None:
        """Check the weights.

        Raises:
            ClipVlmError: One is negative, or both are 0.
        """
        if min(self.smooth_l1, self.cosine) < 0 or self.smooth_l1 + self.cosine == 0:
            raise ClipVlmError(f'weights of distillation must be 0 or more, not both 0: {self}')


def distill_loss(
    student: Tensor, teacher: Tensor, present: Tensor, weights: DistillWeights
) -> Tensor:
    """Smooth L1 (Girshick 2015) and one less the cosine, averaged over a sample, then over samples.

    Args:
        student: (B, V, T, H).
        teacher: (B, V, T, H); nothing flows back to it.
        present: (B, V) bool, which views there are.
        weights: Of the parts.
    """
    student, teacher = student.float(), teacher.float().detach()
    distance = functional.smooth_l1_loss(student, teacher, reduction='none').mean((-2, -1))
    angle = 1 - functional.cosine_similarity(student, teacher, dim=-1).mean(-1)
    views = weights.smooth_l1 * distance + weights.cosine * angle
    return _mean_of_samples(views, present)


def caption_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, a mean over a caption's tokens, then over captions.

    So a batch of four is the mean of four batches of one, whatever their captions' lengths.

    Args:
        logits: (K, vocabulary) of the tokens that have a label, in the order of rows.
        labels: (B, L); K of them are not `IGNORED`.
    """
    said = labels != IGNORED
    losses = torch.zeros(labels.shape, dtype=torch.float32, device=labels.device)
    each = functional.cross_entropy(logits.float(), labels[said], reduction='none')
    return _mean_of_samples(losses.masked_scatter(said, each), said)


def _mean_of_samples(values: Tensor, counted: Tensor) -> Tensor:
    """(B, N) values of which some count: the mean of rows' means."""
    sums = (values * counted).sum(1)
    return (sums / counted.sum(1).clamp(min=1)).mean()
