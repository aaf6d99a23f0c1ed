"""train_clip_vlm --mode distill|lm --qwen DIR --dataset ... --save DIR: views to text."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.utils.data import DataLoader

from vlm_nodes.clip.training_backend import PRECISIONS, lightning, make_trainer
from vlm_nodes.clip.training_folder import LAST, check_counts, check_folder, keep_page
from vlm_nodes.clip_vlm.batches import Collate, Example, Examples
from vlm_nodes.clip_vlm.checkpoint import (
    MODES,
    Checkpoint,
    Page,
    check_belongs,
    load_checkpoint,
    save_checkpoint,
)
from vlm_nodes.clip_vlm.clip_views import ClipViews
from vlm_nodes.clip_vlm.connector import ConnectorConfig
from vlm_nodes.clip_vlm.data import add_data_arguments, open_samples
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.feature_store import FeatureStore, clip_store
from vlm_nodes.clip_vlm.losses import DistillWeights
from vlm_nodes.clip_vlm.model import ClipVlm, LoraOptions, make_connector, parts_of, report
from vlm_nodes.clip_vlm.options import (
    add_clip_arguments,
    add_qwen_arguments,
    clip_config,
    device_of,
    load_qwen,
)
from vlm_nodes.clip_vlm.projectors import PROJECTIONS
from vlm_nodes.clip_vlm.qwen import Qwen
from vlm_nodes.clip_vlm.samples import CaptionedViews, SampleSet
from vlm_nodes.clip_vlm.teacher import DEFAULT_PIXELS, VisionTeacher
from vlm_nodes.clip_vlm.training import VAL_LOSS, ClipVlmTraining, KeepBest, TrainingConfig
from vlm_nodes.command_line import run, say

PROMPT: Final = 'Describe what each camera of the vehicle sees.'
FEATURES: Final = 'features'
_STANDARD: Final = 500
"""Pictures of which the spread of CLIP's tokens is measured."""
SIZES: Final = ('token_grid', 'width', 'heads', 'layers', 'projection')
# What may differ between a training and its resumption.
_MAY_DIFFER: Final = (
    'resume', 'json', 'threads', 'workers', 'devices', 'accelerator', 'weights_dir', 'cache',
)  # fmt: skip


@dataclass(frozen=True)
class Split:
    """Samples to train on and samples to watch."""

    train: Sequence[CaptionedViews]
    val: Sequence[CaptionedViews]
    cameras: tuple[str, ...]

    @property
    def both(self) -> list[CaptionedViews]:
        """All of them."""
        return [*self.train, *self.val]


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: trained; 2: it could not be."""
    options = make_parser().parse_args(arguments)
    return run('train_clip_vlm', lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    _check(options)
    lightning.seed_everything(options.seed, workers=True, verbose=False)
    if options.threads:
        torch.set_num_threads(options.threads)
    split = open_split(options)
    start = load_checkpoint(options.init) if options.init is not None else None
    clip = ClipViews(
        start.page.clip if start else clip_config(options),
        device=device_of(options),
        weights_dir=options.weights_dir,
    )
    qwen = load_qwen(options, device_of(options))
    model = _model(options, split, clip, qwen, start)
    stores = _stores(options, split, clip, model)
    if options.features_only:
        say(f'features of {len(split.both)} samples are in {_cache(options)}')
        return 0
    _keep_options(options)
    say(report(parts_of(model, clip.parameters)))
    start_s = time.monotonic()
    trainer = _fit(options, model, stores, split, _page(options, model, clip))
    if trainer.is_global_zero:
        figures = {
            'checkpoint': str(options.save),
            'steps': trainer.global_step,
            'epochs': trainer.current_epoch,
            'minutes': round((time.monotonic() - start_s) / 60, 2),
            **load_checkpoint(options.save).page.training['figures'],
        }
        lines = '\n'.join(f'{name:20} {value}' for name, value in figures.items())
        say(json.dumps(figures, indent=2) if options.json else lines)
    return 0


def open_split(options: argparse.Namespace) -> Split:
    """The samples of the options, and those held out: of their own folder, or the last of them."""
    captions_needed = options.mode == 'lm'
    samples = open_samples(options, captions_needed=captions_needed)
    _tell(samples, options.data_root)
    if options.val_root is not None:
        other = copy(options)
        other.data_root, other.captions = options.val_root, options.val_captions
        other.cameras = list(samples.cameras)
        if options.val_nuinteract_dir is not None:
            other.nuinteract_dir = options.val_nuinteract_dir
        held_out = open_samples(other, captions_needed=captions_needed)
        _tell(held_out, options.val_root)
        return Split(samples, held_out, samples.cameras)
    count = max(1, round(options.val_share * len(samples)))
    if count >= len(samples):
        raise ClipVlmError(f'{len(samples)} samples are too few to hold {count} of them out')
    return Split(samples[:-count], samples[-count:], samples.cameras)


def _tell(samples: SampleSet, where: Path) -> None:
    for line in str(samples).splitlines():
        print(f'train_clip_vlm: {where}: {line}', file=sys.stderr)


def _model(
    options: argparse.Namespace,
    split: Split,
    clip: ClipViews,
    qwen: Qwen,
    start: Checkpoint | None,
) -> ClipVlm:
    if start is not None:
        check_belongs(start, clip.identity, qwen.identity)
        connector = start.connector
    else:
        given = {n: getattr(options, n) for n in SIZES if getattr(options, n) is not None}
        if 'token_grid' in given:
            given['token_grid'] = tuple(given['token_grid'])
        config = ConnectorConfig(
            clip.dim, clip.config.grid, qwen.hidden_size, split.cameras, **given
        )
        connector = make_connector(config, options.seed)
    model = ClipVlm(connector, qwen)
    if start is not None and start.adapter is not None and options.use_lora:
        model.load_adapter(start.adapter, trainable=True)
    elif options.use_lora:
        model.add_adapter(
            LoraOptions(
                options.lora_rank,
                options.lora_alpha,
                options.lora_dropout,
                options.train_embeddings,
            )
        )
    if options.gradient_checkpointing:
        qwen.base.gradient_checkpointing_enable({'use_reentrant': False})
    # Dropout of adapters and checkpointing of gradients need it; Qwen itself has no dropout.
    return model.train()


@dataclass(frozen=True)
class _Stores:
    clip: FeatureStore
    teacher: FeatureStore | None


def _stores(options: argparse.Namespace, split: Split, clip: ClipViews, model: ClipVlm) -> _Stores:
    """What the frozen models say of all pictures, computed now where it is not there yet."""
    folder = _cache(options)
    store = clip_store(folder, clip)
    store.fill(split.both, clip.tokens, 'CLIP')
    if options.init is None:
        paths = [path for sample in split.train for path in sample.images.values()]
        some = paths[:: max(1, len(paths) // _STANDARD)]
        model.connector.standardise(torch.from_numpy(np.stack([store.read(p) for p in some])))
    if options.mode != 'distill':
        return _Stores(store, None)
    grid = model.connector.config.token_grid
    teacher = VisionTeacher(model.qwen, grid, options.teacher_pixels)
    identity = f'{model.qwen.identity.fingerprint} {grid} {options.teacher_pixels}'
    taught = FeatureStore(folder, f'{identity} {model.qwen.dtype} {options.qwen_quant}')
    taught.fill(split.both, teacher.tokens, 'vision tower')
    return _Stores(store, taught)


def _cache(options: argparse.Namespace) -> Path:
    folder: Path = options.cache or options.save / FEATURES
    return folder


def _page(options: argparse.Namespace, model: ClipVlm, clip: ClipViews) -> Page:
    return Page(
        options.mode,
        options.prompt,
        clip.config,
        clip.identity,
        model.qwen.identity,
        model.connector.config,
    )


def _fit(
    options: argparse.Namespace, model: ClipVlm, stores: _Stores, split: Split, page: Page
) -> Any:
    def write(figures: dict[str, Any]) -> None:
        about = {'dataset': options.dataset, 'data': str(options.data_root), 'seed': options.seed}
        whole = {**vars(page), 'training': {**about, 'figures': figures}}
        adapted = model.qwen.model if model.has_adapter else None
        save_checkpoint(options.save, Page(**whole), model.connector, adapted)

    training = _loader(options, model, stores, split.train, shuffle=True)
    trainer = _trainer(options, KeepBest(write), len(training))
    with warnings.catch_warnings():
        # Hints at workers.
        warnings.filterwarnings('ignore', message='.*does not have many workers.*')
        # The folder holds the options by then, or the training that goes on.
        warnings.filterwarnings('ignore', message='.*exists and is not empty.*')
        warnings.filterwarnings('ignore', message='.*LeafSpec.*')
        trainer.fit(
            ClipVlmTraining(model, training_config(options)),
            training,
            _loader(options, model, stores, split.val, shuffle=False),
            ckpt_path=options.save / LAST if options.resume else None,
            weights_only=True if options.resume else None,
        )
    return trainer


def training_config(options: argparse.Namespace) -> TrainingConfig:
    """How to train, as the options say."""
    return TrainingConfig(
        options.mode,
        options.lr,
        options.adapter_lr,
        options.weight_decay,
        options.warm_up,
        DistillWeights(options.smooth_l1_weight, options.cosine_weight),
    )


def _loader(
    options: argparse.Namespace,
    model: ClipVlm,
    stores: _Stores,
    samples: Sequence[CaptionedViews],
    *,
    shuffle: bool,
) -> DataLoader[Example]:
    is_text = options.mode == 'lm'
    data = Examples(
        samples,
        model.connector.config.cameras,
        stores.clip,
        teacher=stores.teacher,
        dialogue=model.dialogue if is_text else None,
        prompt=options.prompt,
    )
    return DataLoader(
        data,
        batch_size=options.batch,
        shuffle=shuffle,
        num_workers=options.workers,
        collate_fn=Collate(model.qwen.pad_id),
        persistent_workers=options.workers > 0,
    )


def _trainer(options: argparse.Namespace, keep: KeepBest, batches: int) -> Any:
    stop = lightning.callbacks.EarlyStopping(VAL_LOSS, patience=options.patience)
    return make_trainer(
        options.save,
        keep,
        precision=options.precision,
        callbacks=[stop] if options.patience else [],
        accelerator=options.accelerator,
        devices=options.devices,
        max_epochs=options.epochs,
        accumulate_grad_batches=options.accumulate,
        gradient_clip_val=options.clip_gradients,
        # So that the shortest training leaves a loss to look at.
        log_every_n_steps=min(10, max(1, batches)),
    )


def _check(options: argparse.Namespace) -> None:
    """Whether options make sense together, and a training may begin or go on there."""
    check_counts(options, ('epochs', 'batch', 'accumulate', 'teacher_pixels'))
    if not 0 < options.val_share < 1:
        raise ClipVlmError(f'--val-share must be between 0 and 1, is {options.val_share}')
    if not options.prompt.strip():
        raise ClipVlmError('--prompt is blank')
    training_config(options)
    if options.mode == 'distill' and options.use_lora:
        raise ClipVlmError('--use-lora: distillation changes the connector alone; use --mode lm')
    if options.train_embeddings and not options.use_lora:
        raise ClipVlmError('--train-embeddings goes with the adapters of --use-lora')
    if options.init is not None:
        given = [name for name in SIZES if getattr(options, name) is not None]
        if given:
            names = ', '.join(f'--{name.replace("_", "-")}' for name in given)
            raise ClipVlmError(f'{names}: the connector of --init has its sizes already')
    check_folder(options.save, resume=options.resume, option='--save', ours=FEATURES)


def _keep_options(options: argparse.Namespace) -> None:
    """Write down what is trained; a resumed training must be the same."""
    page = vars(options)
    alike = [(name,) for name in page if name not in _MAY_DIFFER]
    keep_page(options.save, page, resume=options.resume, alike=alike)


def make_parser() -> argparse.ArgumentParser:
    """The command line of `train_clip_vlm`."""
    parser = argparse.ArgumentParser(
        prog='train_clip_vlm',
        description='Train a connector between a frozen CLIP and a frozen Qwen.',
    )
    add = parser.add_argument
    add('--mode', choices=MODES, required=True, help="distill: imitate Qwen's eyes; lm: captions")
    add('--save', type=Path, required=True, metavar='DIR', help='folder to write')
    add('--init', type=Path, metavar='DIR', help='start from the connector that was saved there')
    add('--resume', action='store_true', help='go on from SAVE/last.ckpt')
    add('--features-only', action='store_true', help='compute features of all pictures and stop')
    add('--json', action='store_true', help='print the figures as JSON')
    add_data_arguments(parser)
    _add_held_out(parser)
    add_clip_arguments(parser)
    add_qwen_arguments(parser)
    _add_connector(parser)
    _add_training(parser)
    _add_machine(parser)
    return parser


def _add_held_out(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group('held-out samples').add_argument
    add('--val-root', type=Path, metavar='DIR', help='their folder, laid out as --data-root')
    add('--val-captions', type=Path, metavar='JSON', help='their captions, for nuscenes')
    add('--val-nuinteract-dir', type=Path, metavar='DIR', help='theirs, for nuinteract')
    add(
        '--val-share',
        type=float,
        default=0.1,
        help='without --val-root: this share of the samples, the last in order (default: 0.1)',
    )


def _add_connector(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group('connector').add_argument
    add('--token-grid', type=int, nargs=2, metavar=('R', 'C'), help='tokens a view (default: 4 8)')
    add('--width', type=int, help='of its own (default: 512)')
    add('--heads', type=int, help='of attention (default: 8)')
    add('--layers', type=int, help='of fusion (default: 2)')
    add('--projection', choices=sorted(PROJECTIONS), help='(default: mlp)')


def _add_training(parser: argparse.ArgumentParser) -> None:
    add, lora = parser.add_argument_group('training').add_argument, LoraOptions()
    add('--prompt', default=PROMPT, help=f'what is asked in training (default: {PROMPT})')
    add('--use-lora', action='store_true', help='adapters on the language layers, for --mode lm')
    add('--lora-rank', type=int, default=lora.rank, help='(default: 8)')
    add('--lora-alpha', type=int, default=lora.alpha, help='(default: 16)')
    add('--lora-dropout', type=float, default=lora.dropout, help='(default: 0.05)')
    add(
        '--train-embeddings',
        action='store_true',
        help='train input and output embeddings too: for a model that never learned a language',
    )
    add('--epochs', type=int, default=5, help='(default: 5)')
    add('--batch', type=int, default=4, help='samples a step (default: 4)')
    add('--accumulate', type=int, default=1, help='batches a step of the optimiser (default: 1)')
    add('--lr', type=float, default=1e-3, help='peak rate of the connector (default: 1e-3)')
    add('--adapter-lr', type=float, default=2e-4, help='of adapters (default: 2e-4)')
    add('--weight-decay', type=float, default=0.01)
    add('--warm-up', type=float, default=0.05, help='share of the steps (default: 0.05)')
    add('--clip-gradients', type=float, default=1.0, help='longest gradient (default: 1)')
    add('--smooth-l1-weight', type=float, default=1.0, help='of distillation (default: 1)')
    add('--cosine-weight', type=float, default=0.1, help='of distillation (default: 0.1)')
    add(
        '--teacher-pixels',
        type=int,
        default=DEFAULT_PIXELS,
        help=f'most pixels of a picture for the vision tower (default: {DEFAULT_PIXELS})',
    )
    add('--patience', type=int, default=0, help='stop after N epochs without progress; 0: never')
    add('--precision', choices=sorted(PRECISIONS), default='fp32')
    add('--gradient-checkpointing', action='store_true', help='less memory, more time')
    add('--seed', type=int, default=0)


def _add_machine(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group('running').add_argument
    add('--cache', type=Path, metavar='DIR', help='of features (default: SAVE/features)')
    add('--threads', type=int, default=0, help='CPU threads of torch; 0 for its own choice')
    add('--workers', type=int, default=0, help='processes that read')
    add('--accelerator', default='auto', help='cpu, gpu or auto')
    add('--devices', default='auto', help='how many, or auto; several train together (DDP)')


if __name__ == '__main__':
    sys.exit(main())
