"""Training: demonstrations as batches, and the Lightning module."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vlm_nodes.clip.training_backend import lightning
from vlm_nodes.cliport.augment import Augmentation, augment
from vlm_nodes.cliport.checkpoint import save_checkpoint
from vlm_nodes.cliport.config import ModelConfig
from vlm_nodes.cliport.losses import map_cross_entropy
from vlm_nodes.cliport.model import CliportModel
from vlm_nodes.cliport.poses import angle_bin
from vlm_nodes.cliport.samples import Sample, Scene


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes:
        learning_rate: Its peak; it rises at first, then falls along a cosine.
        weight_decay: AdamW's, on weights of two and more dimensions.
        warm_up: Share of the steps in which the rate rises.
        steps: Of the optimiser, in all.
        augmentation: Of tasks that `by_task` does not name.
        by_task: Augmentation by the beginning of a task's name; the longest that fits counts.
        main_task: Full name of the task that half of the samples are of, as published for
            `multi-attr`; '' where all tasks are drawn alike.

    Raises:
        ValueError: A value is out of its range; the message holds it.
    """

    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warm_up: float = 0.05
    steps: int = 2000
    augmentation: Augmentation = field(default_factory=Augmentation)
    by_task: Mapping[str, Augmentation] = field(default_factory=dict)
    main_task: str = ''

    def __post_init__(self) -> None:
        """Check every value."""
        if not 0 < self.learning_rate < 1:
            raise ValueError(f'learning_rate must be between 0 and 1, got {self.learning_rate}')
        if not 0 <= self.weight_decay < 1:
            raise ValueError(f'weight_decay must be at least 0, below 1, got {self.weight_decay}')
        if not 0 <= self.warm_up < 1:
            raise ValueError(f'warm_up must be a share of the steps, got {self.warm_up}')
        if self.steps < 1:
            raise ValueError(f'steps must be at least 1, got {self.steps}')

    def rate(self, step: int) -> float:
        """Share of the peak learning rate at a step."""
        rise = min(1.0, (step + 1) / max(1.0, self.warm_up * self.steps))
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))

    def augmentation_of(self, task: str) -> Augmentation:
        """What a task's pictures go through."""
        fitting = [name for name in self.by_task if task.startswith(name)]
        return self.by_task[max(fitting, key=len)] if fitting else self.augmentation


@dataclass(frozen=True, eq=False)
class Batch:
    """B labelled pictures.

    Attributes:
        scene: What is seen.
        instructions: B sentences.
        pick_cells: (B, 2) rows and columns of `output_stride` pixels.
        pick_bins: (B,) angles of the pick, over half a turn.
        place_cells: (B, 2).
        place_bins: (B,) angles of the place, over a turn.
    """

    scene: Scene
    instructions: list[str]
    pick_cells: Tensor
    pick_bins: Tensor
    place_cells: Tensor
    place_bins: Tensor

    @classmethod
    def of(cls, samples: Sequence[Sample], config: ModelConfig) -> Batch:
        """Stack samples; their labels become cells and bins."""
        scene = Scene.of([(s.color, s.height_m, s.seen) for s in samples])
        # Twice the angle over a turn is the angle over half a turn.
        picks = angle_bin([2 * s.pick_angle_rad for s in samples], config.pick_angles)
        places = angle_bin([s.place_angle_rad for s in samples], config.rotations)
        return cls(
            scene,
            [s.instruction for s in samples],
            cells([s.pick for s in samples], config.output_stride),
            torch.from_numpy(picks),
            cells([s.place for s in samples], config.output_stride),
            torch.from_numpy(places),
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        return Batch(
            self.scene.to(device),
            self.instructions,
            self.pick_cells.to(device),
            self.pick_bins.to(device),
            self.place_cells.to(device),
            self.place_bins.to(device),
        )


def cells(pixels: Sequence[tuple[float, float]], stride: int) -> Tensor:
    """The cells that pixels lie in: N places, whole at pixels' centres -> (N, 2) int64."""
    places = torch.tensor(pixels, dtype=torch.float64)
    return torch.div(places + 0.5, stride, rounding_mode='floor').long()


class Demonstrations(Dataset[Sample]):
    """Samples of many episodes, augmented unless they are for validation."""

    def __init__(
        self, episodes: Sequence[Sequence[Sample]], config: TrainingConfig | None = None
    ) -> None:
        """Hold the samples; without a configuration they stay as they are.

        Raises:
            ValueError: The configuration's main task is not among them.
        """
        self._samples = [sample for samples in episodes for sample in samples]
        self._config = config
        self.weights = _weights(episodes, config.main_task if config else '')

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        """Draws from torch's generator."""
        sample = self._samples[index]
        if self._config is None:
            return sample
        rng = np.random.default_rng(int(torch.randint(2**62, ())))
        return augment(sample, self._config.augmentation_of(sample.task), rng)


def _weights(episodes: Sequence[Sequence[Sample]], main_task: str = '') -> Tensor:
    """Each sample's chance: a task evenly, of it an episode evenly, of it a step (as published).

    Of a main task half of all samples are.
    """
    counts = Counter(samples[0].task for samples in episodes)
    if main_task and main_task not in counts:
        raise ValueError(
            f'no demonstration is of the main task {main_task!r}; there are: {", ".join(counts)}'
        )
    shares = dict.fromkeys(counts, 1 / len(counts))
    if main_task and len(counts) > 1:
        shares = dict.fromkeys(counts, 0.5 / (len(counts) - 1)) | {main_task: 0.5}
    weights = [
        shares[samples[0].task] / (counts[samples[0].task] * len(samples))
        for samples in episodes
        for _ in samples
    ]
    return torch.tensor(weights, dtype=torch.float64)


class CliportTraining(lightning.LightningModule):  # type: ignore[misc]
    """Both cross-entropies, and how far the best cells are off."""

    def __init__(self, model: CliportModel, config: TrainingConfig) -> None:
        """Train this model; what the weights are of, its checkpoints say."""
        super().__init__()
        self.model = model
        self._config = config

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Pick and place, the place for the pick shown."""
        pick, place, *_ = self._losses(batch)
        self.log('pick_loss', pick, prog_bar=True)
        self.log('place_loss', place, prog_bar=True)
        return pick + place

    def validation_step(self, batch: Batch, _index: int) -> None:
        """The losses, and the share of answers whose best cell is near the one shown."""
        pick, place, pick_logits, place_logits = self._losses(batch)
        near = 8 / self.model.config.output_stride
        figures = {
            'val_loss': pick + place,
            'val_pick_loss': pick,
            'val_pick_near': (_distance(pick_logits, batch.pick_cells) <= near).float().mean(),
            'val_place_near': (_distance(place_logits, batch.place_cells) <= near).float().mean(),
        }
        size = len(batch.instructions)
        self.log_dict(figures, prog_bar=True, batch_size=size, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW, decay on matrices only."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {'params': [p for p in parameters if p.ndim >= 2]},
            {'params': [p for p in parameters if p.ndim < 2], 'weight_decay': 0.0},
        ]
        config = self._config
        optimizer = torch.optim.AdamW(
            groups, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, config.rate)
        return {
            'optimizer': optimizer,
            'lr_scheduler': {'scheduler': schedule, 'interval': 'step'},
        }

    def transfer_batch_to_device(self, batch: Batch, device: Any, dataloader_idx: int) -> Batch:
        """Batches hold sentences too, which Lightning would not know how to move."""
        return batch.to(device)

    def _losses(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        language = self.model.embed(batch.instructions)
        pick, place = self.model(batch.scene, language, batch.pick_cells)
        return (
            map_cross_entropy(pick, batch.pick_bins, batch.pick_cells),
            map_cross_entropy(place, batch.place_bins, batch.place_cells),
            pick,
            place,
        )


def _distance(logits: Tensor, cells: Tensor) -> Tensor:
    """From the best cell to the one shown, in cells: (B,)."""
    flat = logits.amax(dim=1).flatten(1).argmax(dim=1)
    width = logits.shape[-1]
    best = torch.stack([flat // width, flat % width], dim=1)
    distance: Tensor = (best - cells).double().square().sum(dim=1).sqrt()
    return distance


class KeepCheckpoints(lightning.Callback):  # type: ignore[misc]
    """Writes the model after every validation, for rollouts to choose from.

    Listed before the averaging of weights, which has its weights in the model during validation and
    takes them out after this callback.
    """

    def __init__(self, folder: Path, half: bool, about: Mapping[str, Any]) -> None:
        """Write `folder/step-000123`; `about` is kept in each."""
        self._folder, self._half, self._about = folder, half, dict(about)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Write, on the first process only."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        figures = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if math.isfinite(float(value))
        }
        save_checkpoint(
            pl_module.model,
            self._folder / f'step-{trainer.global_step:06d}',
            half=self._half,
            training={**self._about, 'step': trainer.global_step, 'figures': figures},
        )
