"""Training of a policy, as Lightning runs it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vlm_nodes.clip.training_backend import lightning
from vlm_nodes.sarnn.augment import Augmentation
from vlm_nodes.sarnn.batch import JOINTS, Batch
from vlm_nodes.sarnn.losses import LossWeights, masked_mean_square
from vlm_nodes.sarnn.model import Sarnn
from vlm_nodes.sarnn.objective import make_windows, weighted, window_errors
from vlm_nodes.sarnn.schedule import SmoothRamp, WarmUpCosine


@dataclass(frozen=True)
class TrainingConfig:
    """How a policy is trained.

    Attributes:
        learning_rate: Of AdamW, at its peak.
        weight_decay: Of AdamW.
        clip: Largest norm of the gradient.
        warm_up: Optimiser steps until the learning rate is at its peak.
        steps: Optimiser steps of the whole training, over which the learning rate falls.
        tbptt: Ticks of a window of truncated backpropagation; 0 for whole sequences.
        image_share: Share of the ticks whose images are decoded and compared.
        keypoint_steps: Optimiser steps until the keypoints' weight is whole.
        measured: Share of the measurement against the model's own prediction at its inputs, from
            `measured_steps` on; it is 1 at first.
        measured_steps: Optimiser steps until then.
        weights: Of the errors.
        augmentation: Of the inputs.
        seed: Of noise, and of the ticks whose images are decoded.

    Raises:
        ValueError: A number is out of its range.
    """

    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    clip: float = 1.0
    warm_up: int = 50
    steps: int = 1000
    tbptt: int = 0
    image_share: float = 1.0
    keypoint_steps: int = 1000
    measured: float = 1.0
    measured_steps: int = 0
    weights: LossWeights = field(default_factory=LossWeights)
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers and name the bad one."""
        for name in ('learning_rate', 'clip'):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f'{name} = {value} must be a positive number')
        for name in ('weight_decay', 'warm_up', 'tbptt', 'keypoint_steps', 'measured_steps'):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f'{name} = {getattr(self, name)} must be 0 or more')
        for name in ('image_share', 'measured'):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name} = {getattr(self, name)} must be from 0 to 1')
        if self.steps < 1:
            raise ValueError(f'steps = {self.steps} must be at least 1')


class SarnnTraining(lightning.LightningModule):  # type: ignore[misc]
    """A policy and its training: `Batch` in, optimiser steps out.

    Each batch is one optimiser step, whose gradient is gathered window by window
    (`objective.window_errors`): `tbptt` decides on memory, not on the learning rate.

    Args:
        model: To train.
        config: How.
    """

    def __init__(self, model: Sarnn, config: TrainingConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.automatic_optimization = False
        self._keypoint_share = SmoothRamp(0.0, 1.0, config.keypoint_steps)
        self._measured = SmoothRamp(1.0, config.measured, config.measured_steps)

    def training_step(self, batch: Batch, _index: int) -> None:
        """One optimiser step."""
        step = self.global_step
        # Drawn anew from the seed at every step, so that a resumed training draws as one that ran
        # through.
        generator = torch.Generator().manual_seed(
            hash((self.config.seed, self.global_rank, step)) % 2**63
        )
        inputs = self.config.augmentation(batch.observations, generator)
        decoded = choose_ticks(batch.steps, self.config.image_share, generator)
        windows = make_windows(batch.steps, self.config.tbptt, decoded)
        sums: dict[str, Tensor] = {}

        def gather_gradients() -> None:
            optimizer.zero_grad()
            errors = window_errors(
                self.model, batch, inputs, windows, measured=self._measured(step)
            )
            for parts, _ in errors:
                loss = weighted(parts, self.config.weights, self._keypoint_share(step))
                self.manual_backward(loss)
                _add(sums, parts | {'loss': loss})

        optimizer: Any = self.optimizers()
        optimizer.step(closure=gather_gradients)
        self.lr_schedulers().step()
        self._log('train', sums, len(batch.targets))
        self.log('lr', optimizer.param_groups[0]['lr'])

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient: here mixed precision has taken its scale off again."""
        parameters = [p for group in optimizer.param_groups for p in group['params']]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.clip)
        self.log('gradient_norm', norm)

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Errors of a batch with all weights whole, and of joints in closed loop."""
        every = torch.arange(batch.steps)
        windows = make_windows(batch.steps, self.config.tbptt, every)
        sums: dict[str, Tensor] = {}
        for parts, _ in window_errors(self.model, batch, batch.observations, windows):
            _add(sums, parts | {'loss': weighted(parts, self.config.weights, 1.0)})
        sums['joints_closed'] = closed_loop_error(self.model, batch)
        self._log('val', sums, len(batch.targets))

    def configure_optimizers(self) -> Any:
        """AdamW, and a learning rate that goes up and then falls."""
        config = self.config
        optimizer = torch.optim.AdamW(
            parameter_groups(self.model, config.weight_decay), lr=config.learning_rate
        )
        factor = WarmUpCosine(config.warm_up, config.steps)
        return [optimizer], [torch.optim.lr_scheduler.LambdaLR(optimizer, factor)]

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, _loader: int) -> Batch:
        """A batch on the device."""
        return batch.to(device)

    def _log(self, stage: str, parts: dict[str, Tensor], size: int) -> None:
        self.log_dict(
            {f'{stage}/{name}': value for name, value in parts.items()},
            on_step=False,
            on_epoch=True,
            batch_size=size,
            sync_dist=stage == 'val',
        )
        self.log(
            f'{stage}_loss',
            parts['loss'],
            prog_bar=True,
            logger=False,
            on_step=False,
            on_epoch=True,
            batch_size=size,
            sync_dist=stage == 'val',
        )


def choose_ticks(steps: int, share: float, generator: torch.Generator) -> Tensor:
    """A share of the ticks 0 to steps - 1, drawn and sorted; of a share above 0 at least one."""
    if share >= 1:
        return torch.arange(steps)
    count = max(1, round(share * steps)) if share > 0 else 0
    return torch.randperm(steps, generator=generator)[:count].sort().values


def closed_loop_error(model: Sarnn, batch: Batch) -> Tensor:
    """Mean squared error of joints when after the first tick a model hears itself alone, ()."""
    inputs = batch.observations.window(0, batch.steps)
    prediction, _ = model(inputs, batch.task, measured=0.0)
    counts = batch.counts[JOINTS][:, 1:]
    return masked_mean_square(prediction.joints, batch.targets[:, 1:], counts, counts.sum())


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """What decays, the weights of layers, and what does not: biases and single numbers."""
    trained = [p for p in model.parameters() if p.requires_grad]
    kinds: Iterable[tuple[float, list[Tensor]]] = (
        (weight_decay, [p for p in trained if p.ndim > 1]),
        (0.0, [p for p in trained if p.ndim <= 1]),
    )
    return [{'params': group, 'weight_decay': decay} for decay, group in kinds if group]


def _add(sums: dict[str, Tensor], parts: dict[str, Tensor]) -> None:
    for name, value in parts.items():
        sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach()
