"""What happens after every validation of a training: the best policy is kept, curves are drawn."""

from __future__ import annotations

import csv
import io
import math
import sys
from pathlib import Path
from typing import Any

from bag_tools.whole_file import write_whole
from vlm_nodes.clip.training_backend import lightning
from vlm_nodes.sarnn.checkpoint import CheckpointError, save_policy
from vlm_nodes.sarnn.pictures import loss_picture, write_png

POLICY, LOSS_PICTURE, LOSS_TABLE = 'policy.safetensors', 'loss.png', 'loss.csv'


class KeepBest(lightning.Callback):  # type: ignore[misc]
    """Writes the policy whenever a validation figure is lower than ever before.

    Listed before the averaging of weights, which has its weights in the model during validation and
    takes them out after this callback.

    Args:
        path: The file.
        monitor: The figure.
    """

    def __init__(self, path: Path, monitor: str) -> None:
        self.path, self.monitor = path, monitor
        self.best = math.inf
        self.best_epoch = -1

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Write, on the first process only."""
        value = float(trainer.callback_metrics[self.monitor])
        if trainer.sanity_checking or not value < self.best:
            return
        self.best, self.best_epoch = value, trainer.current_epoch
        if trainer.is_global_zero:
            try:
                save_policy(self.path, pl_module.model)
            except CheckpointError as error:
                raise ValueError(str(error)) from error

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training has to know."""
        return {'best': self.best, 'best_epoch': self.best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from it."""
        self.best, self.best_epoch = state_dict['best'], state_dict['best_epoch']


class History(lightning.Callback):  # type: ignore[misc]
    """Errors of training and validation by epoch, as a table and as curves.

    Args:
        folder: Where both are written.
        tell: Write a line of them on standard error too, where no progress bar does.
    """

    def __init__(self, folder: Path, *, tell: bool = False) -> None:
        self.folder, self.tell = folder, tell
        self.rows: list[dict[str, float]] = []
        self._waiting: dict[str, float] = {}

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Take what was validated; training's figures of the epoch come only at its end."""
        if not trainer.sanity_checking:
            self._waiting = _figures(trainer, 'val/')

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Write a row, on the first process only."""
        if not self._waiting:
            return
        epoch = {'epoch': float(trainer.current_epoch + 1)}
        self.rows.append(epoch | _figures(trainer, 'train/') | self._waiting)
        self._waiting = {}
        if trainer.is_global_zero:
            self._write()
            if self.tell:
                row = self.rows[-1]
                sys.stderr.write(
                    f'epoch {row["epoch"]:.0f} of {trainer.max_epochs}: '
                    f'loss {row["train/loss"]:.6f}, test {row["val/loss"]:.6f}, '
                    f'joints of test {row["val/joints"]:.6f}, '
                    f'in closed loop {row["val/joints_closed"]:.6f}\n'
                )

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training has to know."""
        return {'rows': self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from it."""
        self.rows = [dict(row) for row in state_dict['rows']]

    def _write(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.rows[-1]), restval='', extrasaction='ignore')
        writer.writeheader()
        writer.writerows(self.rows)
        write_whole(self.folder / LOSS_TABLE, text.getvalue().encode())
        write_png(self.folder / LOSS_PICTURE, loss_picture(self.rows))


def _figures(trainer: Any, stage: str) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith(stage)
    }
