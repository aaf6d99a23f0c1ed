"""Sequences side by side, as they are trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vlm_nodes.sarnn.observation import Observation

JOINTS = 'joints'


@dataclass(frozen=True)
class Batch:
    """B sequences of T ticks, padded to the longest.

    Attributes:
        observations: Leading shape (B, T), clean.
        targets: (B, T, P) joints to be at, scaled as the observations': those of tick t + 1 are to
            be predicted at tick t.
        task: (B, D) embeddings of the tasks; None without language.
        counts: By stream (cameras, touch sensors, depth) and `joints`, (B, T) bool: which ticks
            were measured, and are neither held over nor padding.
    """

    observations: Observation
    targets: Tensor
    task: Tensor | None
    counts: Mapping[str, Tensor]

    @property
    def steps(self) -> int:
        """Ticks that have a next one: T - 1."""
        return self.targets.shape[1] - 1

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        return Batch(
            self.observations.to(device),
            self.targets.to(device, non_blocking=True),
            None if self.task is None else self.task.to(device, non_blocking=True),
            {name: mask.to(device, non_blocking=True) for name, mask in self.counts.items()},
        )
