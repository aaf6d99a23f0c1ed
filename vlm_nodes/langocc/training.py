"""Training by rendering: the Lightning module, and the network written as it goes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlm_nodes.clip.training_backend import lightning
from vlm_nodes.langocc.checkpoint import FeatureSpace, save_checkpoint
from vlm_nodes.langocc.data import Batch
from vlm_nodes.langocc.driven import optical_depth
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.losses import LossWeights, picture_loss, ray_losses, sky_loss
from vlm_nodes.langocc.model import LangOcc, Surround


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes:
        learning_rate: Its peak; it rises at first, then falls along a cosine.
        weight_decay: AdamW's, on weights of two and more dimensions.
        warm_up: Share of the steps in which the rate rises.
        steps: Of the optimiser, in all.
        losses: Weights of the loss's parts.
        light: Greatest change of pictures' brightness and contrast.
        drop_camera: Chance that a camera is missing, so that the network learns to do without.
        mirror: Mirror the lifted volume and the rays at random, across x and across y.

    Raises:
        LangOccError: A value is out of its range; the message holds it.
    """

    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warm_up: float = 0.05
    steps: int = 1000
    losses: LossWeights = field(default_factory=LossWeights)
    light: float = 0.1
    drop_camera: float = 0.0
    mirror: bool = True

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        if not 0 < self.learning_rate < 1:
            raise LangOccError(f'learning_rate must be between 0 and 1, is {self.learning_rate}')
        if not 0 <= self.weight_decay < 1:
            raise LangOccError(f'weight_decay must be at least 0, below 1, is {self.weight_decay}')
        for name in ('warm_up', 'drop_camera', 'light'):
            if not 0 <= getattr(self, name) < 1:
                raise LangOccError(f'{name} must be at least 0, below 1, is {getattr(self, name)}')
        if self.steps < 1:
            raise LangOccError(f'steps must be at least 1, are {self.steps}')

    def rate(self, step: int) -> float:
        """Share of the peak learning rate at a step."""
        rise = min(1.0, (step + 1) / max(1.0, self.warm_up * self.steps))
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))


class LangOccTraining(lightning.LightningModule):  # type: ignore[misc]
    """Rays through the predicted volume are pulled to what CLIP says of their pixels."""

    def __init__(self, model: LangOcc, config: TrainingConfig, words: Tensor | None = None) -> None:
        """Train this network.

        Args:
            model: The network.
            config: How.
            words: (K, D) texts of what pixels may show, the first of sky; where sky counts.

        Raises:
            LangOccError: Mirroring is asked for, but the grid is not even about the vehicle; or
                sky counts, but there are no words to know it by.
        """
        super().__init__()
        self.model = model
        self._config = config
        if config.losses.sky and words is None:
            raise LangOccError('sky counts, but there are no words to know it by')
        self.register_buffer('_words', words, persistent=False)
        grid = model.config.grid
        if config.mirror and any(
            abs(grid.lower_m[axis] + grid.upper_m[axis]) > 1e-6 for axis in (0, 1)
        ):
            raise LangOccError('mirroring needs a grid that is even about the vehicle in x and y')

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """The loss of a batch, its pictures and rays changed at random."""
        now = self._disturb(batch.now)
        previous = self._disturb(batch.previous) if batch.previous is not None else None
        flips = [axis for axis in (0, 1) if self._config.mirror and bool(torch.rand(()) < 0.5)]
        volume = self.model(now, previous, batch.previous_from_now, mirror=tuple(flips))
        for axis in flips:
            batch = batch.mirrored(axis)
        seen = self.model.render(volume, batch.rays, jitter=True)
        losses = self._losses(seen, volume, batch)
        self.log_dict({k: v.detach() for k, v in losses.items()}, prog_bar=True, batch_size=1)
        return losses['loss']

    def validation_step(self, batch: Batch, _index: int) -> None:
        """The same without changes, and how alike rays and features are."""
        volume = self.model(batch.now, batch.previous, batch.previous_from_now)
        seen = self.model.render(volume, batch.rays)
        cosine = torch.nn.functional.cosine_similarity(seen.features, batch.features, dim=-1)
        figures = {
            'val_loss': self._losses(seen, volume, batch)['loss'],
            'val_cosine': cosine.mean(),
            'val_opacity': seen.opacity.mean(),
        }
        size = len(batch.features)
        self.log_dict(figures, prog_bar=True, batch_size=size, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW, decay on matrices only."""
        config, parameters = self._config, list(self.model.parameters())
        groups: list[dict[str, Any]] = [
            {'params': [p for p in parameters if p.ndim >= 2]},
            {'params': [p for p in parameters if p.ndim < 2], 'weight_decay': 0.0},
        ]
        optimizer = torch.optim.AdamW(
            groups, lr=config.learning_rate, weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, config.rate)
        return {
            'optimizer': optimizer,
            'lr_scheduler': {'scheduler': schedule, 'interval': 'step'},
        }

    def transfer_batch_to_device(self, batch: Batch, device: Any, dataloader_idx: int) -> Batch:
        """Batches hold rigs too, which Lightning would not know how to move."""
        return batch.to(device)

    def _losses(self, seen: Any, volume: Any, batch: Batch) -> dict[str, Tensor]:
        edge = self.model.config.grid.voxel_m
        weights = self._config.losses
        losses = ray_losses(seen, volume, batch.features, weights, edge, batch.depth_m)
        if weights.sky:
            words: Tensor = self._words
            is_sky = (batch.features @ words.T).argmax(-1) == 0
            losses['sky'] = sky_loss(seen.opacity, is_sky, weights)
            losses['loss'] = losses['loss'] + losses['sky']
        if weights.driven:
            depth = optical_depth(volume.density, batch.driven_m, self.model.config.space)
            losses['driven'] = weights.driven * depth
            losses['loss'] = losses['loss'] + losses['driven']
        if weights.pictures and volume.pictures is not None:
            flat = volume.pictures.flatten(1, 3)
            places = batch.cells[..., None].expand(-1, -1, flat.shape[-1])
            looked = self.model.decode(flat.gather(1, places))
            losses['pictures'] = picture_loss(looked, batch.cell_features, weights)
            losses['loss'] = losses['loss'] + losses['pictures']
        return losses

    def _disturb(self, surround: Surround) -> Surround:
        """Other light for each picture, and cameras that are missing."""
        images, amount = surround.images, self._config.light
        shape = (*images.shape[:2], 1, 1, 1)
        gain = 1 + amount * (2 * torch.rand(shape, device=images.device) - 1)
        shift = amount * (torch.rand(shape, device=images.device) - 0.5)
        rigs = [
            [None if bool(torch.rand(()) < self._config.drop_camera) else v for v in rig]
            for rig in surround.rigs
        ]
        return Surround((images * gain + shift).clamp(0, 1), rigs)


class KeepCheckpoints(lightning.Callback):  # type: ignore[misc]
    """Writes the network after every validation; listed before the averaging of weights.

    The averaging has its weights in the network during validation and takes them out afterwards.
    """

    def __init__(
        self, folder: Path, space: FeatureSpace, *, half: bool, every: int, about: Mapping[str, Any]
    ) -> None:
        """Write `folder` at each validation, and `folder/epoch-N` at every so many epochs."""
        self._folder, self._space, self._half = folder, space, half
        self._every, self._about = every, dict(about)

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Write, on the first process only."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        epoch = trainer.current_epoch + 1
        self.write(trainer, pl_module)
        if self._every and epoch % self._every == 0:
            self.write(trainer, pl_module, self._folder / f'epoch-{epoch:03d}')

    def write(self, trainer: Any, pl_module: Any, folder: Path | None = None) -> None:
        """Write the network as it is, with the latest figures."""
        figures = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if math.isfinite(float(value))
        }
        training = {**self._about, 'step': trainer.global_step, 'figures': figures}
        save_checkpoint(
            folder or self._folder,
            pl_module.model,
            self._space,
            half=self._half,
            training=training,
        )
