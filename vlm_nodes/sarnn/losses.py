"""What a prediction is worth: errors of the next image, joints, keypoints and touch codes.

Weights follow EIPL's SARNN (Ichiwara et al. 2022): images 0.1, joints 1, keypoints 0.1 once their
schedule has run. Keypoints are pulled together from both sides: the encoder learns to see what can
be predicted. Touch codes are targets only: a code that may move towards its prediction would
end up constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class LossWeights:
    """How much each part counts, once the keypoints' schedule has run.

    Attributes:
        image: Of the mean squared error of the next image, in [0, 1].
        joints: Of the next joints, scaled to [0, 1].
        keypoints: Of the next keypoints, in [0, 1] across the image.
        touch: Of the next touch codes.

    Raises:
        ValueError: A weight is negative or not finite.
    """

    image: float = 0.1
    joints: float = 1.0
    keypoints: float = 0.1
    touch: float = 0.1

    def __post_init__(self) -> None:
        """Check the weights and name the bad one."""
        for name in ('image', 'joints', 'keypoints', 'touch'):
            value = getattr(self, name)
            if not 0 <= value < float('inf'):
                raise ValueError(f'the weight of {name} must be 0 or more, got {value}')


def masked_mean_square(prediction: Tensor, target: Tensor, counts: Tensor, total: Tensor) -> Tensor:
    """Sum of a tick's mean squared error over the ticks that count, over a given number of ticks.

    The number is that of a whole batch, so that the errors of a sequence's windows add up to that
    of the sequence.

    Args:
        prediction: (B, T, ...).
        target: (B, T, ...).
        counts: (B, T) bool: which ticks are neither padding nor held over.
        total: Ticks of the whole batch that count, (); where it is 0 the error is 0.

    Returns:
        ().

    Raises:
        ValueError: The shapes differ.
    """
    if prediction.shape != target.shape or prediction.shape[:2] != counts.shape:
        raise ValueError(
            f'prediction {tuple(prediction.shape)}, target {tuple(target.shape)} and mask '
            f'{tuple(counts.shape)} do not fit'
        )
    # What does not count may be anything, NaN as well: it is left out, not multiplied by zero.
    squared = functional.mse_loss(
        prediction[counts].float(), target[counts].float(), reduction='sum'
    )
    return squared / max(1, math.prod(prediction.shape[2:])) / total.clamp(min=1)
