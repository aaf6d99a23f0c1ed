"""What changes while a training runs, as functions of its optimiser steps."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class SmoothRamp:
    """From one value to another along t - sin(2 pi t) / 2 pi, which begins and ends level.

    EIPL's schedule for the keypoints' weight; here it is counted in optimiser steps of training.

    Attributes:
        first: Value at step 0.
        last: Value from step `steps` on.
        steps: How many steps it takes; 0 for `last` at once.

    Raises:
        ValueError: `steps` is negative.
    """

    first: float
    last: float
    steps: int

    def __post_init__(self) -> None:
        """Check the number of steps."""
        if self.steps < 0:
            raise ValueError(f'a ramp takes 0 steps or more, got {self.steps}')

    def __call__(self, step: int) -> float:
        """The value at an optimiser step."""
        t = 1.0 if step >= self.steps else max(step, 0) / self.steps
        share = t - math.sin(2 * math.pi * t) / (2 * math.pi)
        return self.first + (self.last - self.first) * share


@dataclass(frozen=True)
class WarmUpCosine:
    """Factor of the learning rate: up in a line, then down along half a cosine.

    Attributes:
        warm_up: Steps of the way up.
        steps: Steps of the whole training.
        floor: Factor at its end.

    Raises:
        ValueError: A number is out of its range.
    """

    warm_up: int
    steps: int
    floor: float = 0.02

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.warm_up < 0 or self.steps < 1 or not 0 <= self.floor <= 1:
            raise ValueError(
                f'warm_up = {self.warm_up} must be at least 0, steps = {self.steps} at least 1, '
                f'floor = {self.floor} from 0 to 1'
            )

    def __call__(self, step: int) -> float:
        """The factor at an optimiser step."""
        if step < self.warm_up:
            return (step + 1) / (self.warm_up + 1)
        t = min(1.0, (step - self.warm_up) / max(1, self.steps - self.warm_up))
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * t))
