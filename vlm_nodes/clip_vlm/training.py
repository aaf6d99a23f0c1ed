"""Distilling and learning captions: the Lightning module, and the checkpoint written as it goes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from vlm_nodes.clip.training_backend import lightning
from vlm_nodes.clip_vlm.batches import Batch
from vlm_nodes.clip_vlm.checkpoint import MODES
from vlm_nodes.clip_vlm.dialogue import IGNORED
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.losses import DistillWeights, caption_loss, distill_loss
from vlm_nodes.clip_vlm.model import ClipVlm

VAL_LOSS: Final = 'val_loss'


@dataclass(frozen=True)
class TrainingConfig:
    """How to train.

    Attributes:
        mode: 'distill' or 'lm'.
        learning_rate: Of the connector, at its peak; it rises at first, then falls along a cosine.
        adapter_learning_rate: Of adapters, likewise.
        weight_decay: AdamW's, on matrices.
        warm_up: Share of the steps in which rates rise.
        distill: Weights of the parts of distillation's loss.

    Raises:
        ClipVlmError: A value is out of its range; the message holds it.
    """

    mode: str
    learning_rate: float = 1e-3
    adapter_learning_rate: float = 2e-4
    weight_decay: float = 0.01
    warm_up: float = 0.05
    distill: DistillWeights = field(default_factory=DistillWeights)

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        if self.mode not in MODES:
            raise ClipVlmError(f'unknown mode {self.mode!r}; choose of {", ".join(MODES)}')
        for name in ('learning_rate', 'adapter_learning_rate'):
            if not 0 < getattr(self, name) < 1:
                raise ClipVlmError(f'{name} must be between 0 and 1, is {getattr(self, name)}')
        for name in ('weight_decay', 'warm_up'):
            if not 0 <= getattr(self, name) < 1:
                raise ClipVlmError(f'{name} must be at least 0, below 1, is {getattr(self, name)}')

    def rate(self, step: int, steps: int) -> float:
        """Share of the peak learning rate at one of so many steps."""
        rise = min(1.0, (step + 1) / max(1.0, self.warm_up * steps))
        return rise * 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))


class ClipVlmTraining(lightning.LightningModule):  # type: ignore[misc]
    """The connector is pulled to the vision tower's tokens, or to what makes Qwen say captions."""

    def __init__(self, model: ClipVlm, config: TrainingConfig) -> None:
        """Train this model."""
        super().__init__()
        self.model = model
        self._config = config
        # What is frozen is not in checkpoints: see `on_save_checkpoint`.
        self.strict_loading = False

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """The loss of a batch."""
        loss = self._distill(batch) if self._config.mode == 'distill' else self._say(batch)[0]
        self.log('loss', loss.detach(), prog_bar=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: Batch, _index: int) -> None:
        """The same on held-out samples; of captions also how many tokens are guessed right."""
        if self._config.mode == 'distill':
            figures = {VAL_LOSS: self._distill(batch)}
        else:
            loss, accuracy = self._say(batch)
            figures = {VAL_LOSS: loss, 'val_token_accuracy': accuracy}
        self.log_dict(figures, prog_bar=True, batch_size=len(batch), sync_dist=True)

    def configure_optimizers(self) -> Any:
        """AdamW: connector and adapters at rates of their own, decay on matrices only."""
        config = self._config
        groups = []
        for is_adapter, rate in (
            (False, config.learning_rate), (True, config.adapter_learning_rate),
        ):  # fmt: skip
            mine = [
                p for n, p in self.model.trainable().items() if n.startswith('qwen.') == is_adapter
            ]
            for is_matrix, decay in ((True, config.weight_decay), (False, 0.0)):
                chosen = [p for p in mine if (p.ndim >= 2) == is_matrix]
                if chosen:
                    groups.append({'params': chosen, 'lr': rate, 'weight_decay': decay})
        optimizer = torch.optim.AdamW(groups)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: config.rate(step, steps)
        )
        return {
            'optimizer': optimizer,
            'lr_scheduler': {'scheduler': schedule, 'interval': 'step'},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is trained only: the frozen models lie where they were loaded from."""
        kept = {f'model.{name}' for name in self.model.trainable()}
        state = checkpoint['state_dict']
        checkpoint['state_dict'] = {name: state[name] for name in state if name in kept}

    def transfer_batch_to_device(self, batch: Batch, device: Any, dataloader_idx: int) -> Batch:
        """Batches hold rows too, which Lightning would not know how to move."""
        return batch.to(device)

    def _distill(self, batch: Batch) -> Tensor:
        if batch.taught is None:
            raise ClipVlmError('a batch without a teacher cannot be distilled from')
        seen = self.model.see(batch.views)
        return distill_loss(seen, batch.taught, batch.views.present, self._config.distill)

    def _say(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if batch.rows is None:
            raise ClipVlmError('a batch without text has no captions to be learned')
        labels = batch.rows.labels
        logits = self.model.caption_logits(batch.views, batch.rows)
        right = logits.argmax(-1) == labels[labels != IGNORED]
        return caption_loss(logits, labels), right.float().mean()


class KeepBest(lightning.Callback):  # type: ignore[misc]
    """Writes the checkpoint after each validation that was the best so far."""

    def __init__(self, write: Callable[[dict[str, Any]], None]) -> None:
        """`write` is given the figures of then, on the first process only."""
        self._write = write
        self._best = math.inf

    def on_validation_epoch_end(self, trainer: Any, _module: Any) -> None:
        """Write if there was never a lower loss."""
        loss = float(trainer.callback_metrics.get(VAL_LOSS, math.inf))
        if trainer.sanity_checking or not loss < self._best:
            return
        self._best = loss
        if trainer.is_global_zero:
            figures = {n: round(float(v), 6) for n, v in trainer.callback_metrics.items()}
            self._write({'epoch': trainer.current_epoch + 1, **figures})

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training must know."""
        return {'best': self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._best = state_dict['best']
