"""The errors of a batch of sequences, window by window.

A window is a run of ticks that are predicted in one go and whose gradients are had before the next
one begins, with the recurrent state carried over detached (truncated backpropagation through time).
What is kept for gradients is that of a window. Errors are divided by the ticks of the whole batch:
windows' gradients add up, and for a window as long as the sequence they are those of full
backpropagation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_nodes.sarnn.batch import JOINTS, Batch
from vlm_nodes.sarnn.config import CLIP_SUFFIX
from vlm_nodes.sarnn.losses import LossWeights, masked_mean_square
from vlm_nodes.sarnn.observation import Observation, Prediction, State

IMAGE, KEYPOINTS, TOUCH = 'image', 'keypoints', 'touch'
PARTS = (JOINTS, IMAGE, KEYPOINTS, TOUCH)
PAIRS = 'pairs'


@dataclass(frozen=True)
class Window:
    """Ticks `begin` to `end` - 1, and at which of them images are decoded.

    Attributes:
        begin: First tick.
        end: The tick after the last.
        decoded: (n,) int64, counted from `begin`.
    """

    begin: int
    end: int
    decoded: Tensor

    @property
    def decode_images(self) -> bool | Tensor:
        """As `Sarnn.forward` wants it: True for all ticks, False for none."""
        if len(self.decoded) == 0:
            return False
        return True if len(self.decoded) == self.end - self.begin else self.decoded


def make_windows(steps: int, length: int, decoded: Tensor) -> list[Window]:
    """Cut a sequence into windows.

    Args:
        steps: Ticks that have a next one.
        length: Of a window; 0 for one window. The last may be shorter.
        decoded: (n,) int64, sorted: ticks at which images are decoded.
    """
    length = length or steps
    begins = range(0, steps, length)
    return [
        Window(a, b, decoded[(decoded >= a) & (decoded < b)] - a)
        for a, b in ((begin, min(begin + length, steps)) for begin in begins)
    ]


def weighted(parts: Mapping[str, Tensor], weights: LossWeights, keypoints: float) -> Tensor:
    """The sum of a batch's errors, each by its weight; () as the errors are.

    Args:
        parts: As `window_errors` gives them.
        weights: Of all parts.
        keypoints: Share of the keypoints' weight that counts by now.
    """
    factors = {
        JOINTS: weights.joints,
        IMAGE: weights.image,
        KEYPOINTS: weights.keypoints * keypoints,
        TOUCH: weights.touch,
    }
    total = parts[JOINTS].new_zeros(())
    for name, error in parts.items():
        if factors[name]:
            total = total + factors[name] * error
    return total


def window_errors(
    model: Callable[..., tuple[Prediction, State]],
    batch: Batch,
    inputs: Observation,
    windows: list[Window],
    *,
    measured: float = 1.0,
) -> Iterator[tuple[dict[str, Tensor], Prediction]]:
    """Go through a batch window by window; take each one's gradients before the next.

    Args:
        model: `Sarnn`, or what stands around it.
        batch: What should be predicted.
        inputs: What the model is given: the batch's observations, changed or not.
        windows: Of the batch, in order.
        measured: Share of the measurement against the model's own prediction.

    Yields:
        The window's part of each mean squared error, and its prediction. Keypoints and touch codes
        are compared within a window: none across its end.
    """
    state: State | None = None
    totals = _totals(batch, windows)
    for window in windows:
        prediction, state = model(
            inputs.window(window.begin, window.end),
            batch.task,
            state,
            measured=measured,
            decode_images=window.decode_images if measured == 1 else True,
        )
        yield _errors(prediction, batch, window, totals, all_images=measured != 1), prediction
        state = state.detach()


def _errors(
    prediction: Prediction,
    batch: Batch,
    window: Window,
    totals: Mapping[tuple[str, str], Tensor],
    *,
    all_images: bool,
) -> dict[str, Tensor]:
    after = slice(window.begin + 1, window.end + 1)
    parts = {
        JOINTS: masked_mean_square(
            prediction.joints,
            batch.targets[:, after],
            batch.counts[JOINTS][:, after],
            totals[JOINTS, JOINTS],
        )
    }
    if prediction.images:
        ticks = window.decoded.to(batch.targets.device)
        errors = []
        for name, image in prediction.images.items():
            chosen = image[:, ticks] if all_images else image
            at = window.begin + 1 + ticks
            target, counts = batch.observations.images[name][:, at], batch.counts[name][:, at]
            errors.append(masked_mean_square(chosen, target, counts, totals[IMAGE, name]))
        parts[IMAGE] = torch.stack(errors).mean()
    if prediction.keypoints:
        parts[KEYPOINTS] = _next_errors(
            prediction.keypoints, prediction.encoded_keypoints, batch, window, totals
        )
    if prediction.codes:
        seen = {name: code.detach() for name, code in prediction.encoded_codes.items()}
        parts[TOUCH] = _next_errors(prediction.codes, seen, batch, window, totals)
    return parts


def _next_errors(
    predicted: Mapping[str, Tensor],
    encoded: Mapping[str, Tensor],
    batch: Batch,
    window: Window,
    totals: Mapping[tuple[str, str], Tensor],
) -> Tensor:
    """Mean over branches of what was predicted at a tick against what was encoded at the next."""
    errors = []
    for name, values in predicted.items():
        stream = name.removesuffix(CLIP_SUFFIX)
        counts = batch.counts[stream][:, window.begin + 1 : window.end]
        total = totals[PAIRS, stream]
        errors.append(masked_mean_square(values[:, :-1], encoded[name][:, 1:], counts, total))
    return torch.stack(errors).mean()


def _totals(batch: Batch, windows: list[Window]) -> dict[tuple[str, str], Tensor]:
    """How many ticks of a batch count: by kind of error and stream, ()."""
    totals = {}
    decoded = torch.cat([w.begin + 1 + w.decoded for w in windows]).to(batch.targets.device)
    begins = torch.tensor([w.begin for w in windows], device=batch.targets.device)
    for name, counts in batch.counts.items():
        totals[JOINTS, name] = counts[:, 1:].sum()
        totals[IMAGE, name] = counts[:, decoded].sum()
        # Pairs of ticks of one window: all but those whose second tick begins one.
        totals[PAIRS, name] = counts[:, : batch.steps].sum() - counts[:, begins].sum()
    return totals
