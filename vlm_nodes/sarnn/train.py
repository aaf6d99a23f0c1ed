"""train_clip_sarnn --data data --tag clip_run1: from recordings to a policy."""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from bag_tools.whole_file import write_whole
from vlm_nodes.clip.training_backend import PRECISIONS, lightning
from vlm_nodes.clip.training_folder import LAST, OPTIONS
from vlm_nodes.command_line import run, say
from vlm_nodes.sarnn.batch import Batch
from vlm_nodes.sarnn.callbacks import POLICY, History, KeepBest
from vlm_nodes.sarnn.config import SarnnConfig
from vlm_nodes.sarnn.data import Sequences, Shuffled, collate
from vlm_nodes.sarnn.evaluate import figures_text, open_policy, report
from vlm_nodes.sarnn.model import Sarnn
from vlm_nodes.sarnn.prepare import Prepared, prepare
from vlm_nodes.sarnn.recordings import Recordings
from vlm_nodes.sarnn.train_options import AUTO, make_parser, training_config
from vlm_nodes.sarnn.training import SarnnTraining

MONITOR = 'val/loss'


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: there is a policy; 2: none could be trained; 130: Ctrl-C."""
    options = make_parser().parse_args(arguments)
    return run('train_clip_sarnn', lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    folder: Path = options.log / options.tag
    _check_folder(folder, options)
    _check_numbers(options)
    accelerator, devices = _device(options.device)
    if options.precision == AUTO:
        options.precision = auto_precision(accelerator)
    lightning.seed_everything(options.seed, workers=True, verbose=False)
    if options.threads:
        torch.set_num_threads(options.threads)
    prepared = prepare(Recordings(options.data), options)
    _keep_options(folder, options, prepared.config)
    keep = KeepBest(folder / POLICY, MONITOR)
    trainer = _trainer(options, folder, keep, accelerator, devices)
    try:
        _fit(trainer, prepared, options, folder)
    except SystemExit:  # how Lightning ends where somebody interrupts it
        kept = f'the best policy so far is {folder / POLICY}; --resume goes on'
        said = kept if keep.best_epoch >= 0 else 'before there was a policy'
        sys.stderr.write(f'train_clip_sarnn: interrupted; {said}\n')
        return 130
    if trainer.is_global_zero:
        model = open_policy(folder / POLICY)
        figures = report(model, prepared.test, folder)
        figures |= {
            'policy': str(folder / POLICY),
            'epochs': trainer.current_epoch,
            'best_epoch': keep.best_epoch + 1,
            'steps': trainer.global_step,
        }
        say(json.dumps(figures, indent=2) if options.json else figures_text(figures))
    return 0


def _fit(trainer: Any, prepared: Prepared, options: argparse.Namespace, folder: Path) -> None:
    loader = _loader(prepared.train, options, shuffle=True)
    model = Sarnn(prepared.config)
    if model.text_scale is not None:
        embeddings = np.stack(list(prepared.embeddings.values()))
        model.text_scale.fit(torch.from_numpy(embeddings))
    module = SarnnTraining(model, training_config(options, options.epoch * len(loader)))
    with warnings.catch_warnings():
        # A hint at workers, which images in memory do not need, and at logs of few steps.
        warnings.filterwarnings('ignore', message='.*does not have many workers.*')
        warnings.filterwarnings('ignore', message='.*smaller than the logging interval.*')
        # The folder holds the options by then, or the training that goes on.
        warnings.filterwarnings('ignore', message='.*exists and is not empty.*')
        warnings.filterwarnings('ignore', message='.*LeafSpec.*')
        trainer.fit(
            module,
            loader,
            _loader(prepared.test, options, shuffle=False),
            ckpt_path=folder / LAST if options.resume else None,
            # Written by this tool: its callbacks keep lists of numbers in it.
            weights_only=True if options.resume else None,
        )


def _loader(data: Sequences, options: argparse.Namespace, *, shuffle: bool) -> DataLoader[Batch]:
    size = min(options.batch_size, len(data))
    return DataLoader(
        data,
        batch_size=size,
        sampler=Shuffled(data.lengths, size, options.seed) if shuffle else None,
        num_workers=options.workers,
        collate_fn=collate,
        persistent_workers=options.workers > 0,
    )


def _trainer(
    options: argparse.Namespace, folder: Path, keep: KeepBest, accelerator: str, devices: Any
) -> Any:
    callbacks: list[Any] = [
        keep,
        History(folder, tell=not sys.stderr.isatty()),
        lightning.callbacks.EarlyStopping(MONITOR, patience=options.patience, verbose=False),
        lightning.callbacks.TQDMProgressBar(refresh_rate=1, leave=False),
        lightning.callbacks.ModelCheckpoint(
            folder, filename='last', enable_version_counter=False, save_on_train_epoch_end=True
        ),
    ]
    if options.ema > 0:
        # After what saves the averaged weights while they are in the model.
        callbacks.insert(2, lightning.callbacks.EMAWeightAveraging(decay=options.ema))
    if not sys.stderr.isatty():
        callbacks = [c for c in callbacks if not isinstance(c, lightning.callbacks.ProgressBar)]
    logging.getLogger('lightning.pytorch').setLevel(logging.WARNING)
    return lightning.Trainer(
        accelerator=accelerator,
        devices=devices,
        precision=PRECISIONS[options.precision],
        max_epochs=options.epoch,
        check_val_every_n_epoch=options.val_every,
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        callbacks=callbacks,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        logger=lightning.loggers.TensorBoardLogger(options.log, name=options.tag, version=''),
    )


def _check_folder(folder: Path, options: argparse.Namespace) -> None:
    """Whether a training may write there; an older one is removed where that was asked for."""
    if options.resume:
        if not (folder / LAST).is_file():
            raise ValueError(f'there is nothing to resume: no file {folder / LAST}')
        return
    if not folder.exists():
        return
    if not options.overwrite:
        raise FileExistsError(
            f'{folder} exists already: go on with --resume, replace it with --overwrite, or give '
            'another --tag'
        )
    if not (folder / OPTIONS).is_file():
        raise FileExistsError(f'{folder} is no training (it has no {OPTIONS}): it is not replaced')
    shutil.rmtree(folder)


def _check_numbers(options: argparse.Namespace) -> None:
    """Check what is counted; epochs are rounded up to whole times `val_every`."""
    for name in ('epoch', 'batch_size', 'val_every', 'patience', 'clip_grid', 'clip_k_dim'):
        if getattr(options, name) < 1:
            raise ValueError(f'--{name} must be at least 1, got {getattr(options, name)}')
    if not 0 <= options.ema < 1:
        raise ValueError(f'--ema must be at least 0 and below 1, got {options.ema}')
    training_config(options, steps=1)
    # The last epoch, at the lowest learning rate, is the one most worth a test.
    options.epoch = math.ceil(options.epoch / options.val_every) * options.val_every


def _keep_options(folder: Path, options: argparse.Namespace, config: SarnnConfig) -> None:
    """Write down what is trained; a resumed training must be of the same policy."""
    path, policy = folder / OPTIONS, json.loads(config.to_json())
    if options.resume and path.is_file():
        before = json.loads(path.read_text(encoding='utf-8'))['policy']
        if other := sorted(key for key in policy if policy[key] != before.get(key)):
            raise ValueError(
                f'{folder} cannot be resumed: {", ".join(other)} differ from those that it began '
                f'with ({", ".join(str(before.get(key)) for key in other)})'
            )
    folder.mkdir(parents=True, exist_ok=True)
    said = {'options': vars(options), 'policy': policy}
    write_whole(path, (json.dumps(said, indent=2, default=str) + '\n').encode())


def auto_precision(accelerator: str) -> str:
    """The precision of `PRECISIONS` that is fastest without other results.

    On CPUs that compute in bfloat16 a step takes less than half the time, at the same learning
    curves. On GPUs it stays at fp32: what fewer bits bring there was not measured.

    Args:
        accelerator: As Lightning calls it: auto, cpu or gpu.
    """
    if accelerator == 'gpu' or (accelerator == 'auto' and torch.cuda.is_available()):
        return 'fp32'
    # Of torch 2.10 and later; older ones do not tell.
    able: dict[str, Any] = getattr(torch.cpu, 'get_capabilities', dict)()
    return 'bf16' if able.get('avx512_bf16') or able.get('amx_bf16') else 'fp32'


def _device(name: str) -> tuple[str, Any]:
    """Lightning's accelerator and devices."""
    kind, _, number = name.partition(':')
    if kind not in ('auto', 'cpu', 'cuda') or (number and not number.isdigit()):
        raise ValueError(f'--device must be auto, cpu, cuda or cuda:N, got {name!r}')
    if kind == 'cuda' and int(number or 0) >= torch.cuda.device_count():
        raise ValueError(f'--device {name}: torch sees {torch.cuda.device_count()} CUDA device(s)')
    if kind == 'cuda':
        return 'gpu', [int(number)] if number else 1
    return kind, 1


if __name__ == '__main__':
    sys.exit(main())
