"""Lightning, made importable here: torchmetrics, which it imports, imports torchvision."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from vlm_nodes.clip.torchvision_import import ensure_torchvision

ensure_torchvision()

import lightning.pytorch as lightning  # noqa: E402 - it imports torchvision

__all__ = ['PRECISIONS', 'lightning', 'make_trainer']

PRECISIONS: Final = {'fp32': '32-true', 'bf16': 'bf16-mixed', 'fp16': '16-mixed'}
"""Lightning's names of what `--precision` may be."""


def make_trainer(
    folder: Path,
    keep: Any,
    *,
    precision: str,
    ema: float = 0.0,
    callbacks: Sequence[Any] = (),
    **settings: Any,
) -> Any:
    """A trainer that writes its curves and `last.ckpt`, from which it may go on, into a folder.

    Args:
        folder: Where to.
        keep: The callback that writes the network.
        precision: One of `PRECISIONS`.
        ema: Decay of the average of weights that is validated and kept; 0: none is made.
        callbacks: Further ones.
        settings: Further arguments of `lightning.Trainer`.
    """
    every: list[Any] = [keep]
    if ema > 0:
        # After what saves the averaged weights while they are in the model.
        every.append(lightning.callbacks.EMAWeightAveraging(decay=ema))
    every.append(
        lightning.callbacks.ModelCheckpoint(
            folder, filename='last', save_top_k=1, enable_version_counter=False
        )
    )
    every.extend(callbacks)
    if sys.stderr.isatty():
        every.append(lightning.callbacks.TQDMProgressBar(refresh_rate=5))
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    return lightning.Trainer(
        precision=PRECISIONS[precision],
        num_sanity_val_steps=0,
        callbacks=every,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        logger=[
            lightning.loggers.CSVLogger(folder, name='csv', version=''),
            lightning.loggers.TensorBoardLogger(folder, name='tensorboard', version=''),
        ],
        **settings,
    )
