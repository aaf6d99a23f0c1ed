"""cliport_train DATA... --val DATA --out DIR: from demonstrations to a policy."""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, WeightedRandomSampler

from bag_tools.whole_file import write_whole
from vlm_nodes.clip.training_backend import PRECISIONS, lightning, make_trainer
from vlm_nodes.clip.training_folder import LAST, check_counts, check_folder, keep_page
from vlm_nodes.cliport.augment import Augmentation
from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.config import LANGUAGE_FUSIONS, QUERY_FORMS, SHARINGS, ModelConfig
from vlm_nodes.cliport.language import vocabulary
from vlm_nodes.cliport.model import CliportModel
from vlm_nodes.cliport.samples import Sample, commonest_workspace, read_samples
from vlm_nodes.cliport.training import (
    Batch,
    CliportTraining,
    Demonstrations,
    KeepCheckpoints,
    TrainingConfig,
)
from vlm_nodes.command_line import run, say

SIZES = ('full', 'small')
FIGURES = 'figures.json'
_LOGGER = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: trained; 2: it could not be."""
    options = make_parser().parse_args(arguments)
    return run('cliport_train', lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    _check(options)
    lightning.seed_everything(options.seed, workers=True, verbose=False)
    if options.threads:
        torch.set_num_threads(options.threads)
    episodes = read_samples(options.data, options.episodes)
    held_out = read_samples(options.val)
    clip = FrozenClip.load(options.model, options.pretrained, options.weights_dir)
    model = CliportModel(_model_config(options, episodes), clip)
    config = _training_config(options)
    _keep_options(options, model.config)
    start_s = time.monotonic()
    trainer = _trainer(options, _about(options, episodes))
    with warnings.catch_warnings():
        # A hint at workers, which pictures in memory do not need.
        warnings.filterwarnings('ignore', message='.*does not have many workers.*')
        warnings.filterwarnings('ignore', message='.*smaller than the logging interval.*')
        # It is the folder's options.json; `_check` has seen to the rest.
        warnings.filterwarnings('ignore', message='.*exists and is not empty.*')
        warnings.filterwarnings('ignore', message='.*treespec.*')
        trainer.fit(
            CliportTraining(model, config),
            _training_loader(episodes, model.config, config, options),
            _loader(Demonstrations(held_out), model.config, options),
            ckpt_path=options.out / LAST if options.resume else None,
            weights_only=True if options.resume else None,
        )
    if trainer.is_global_zero:
        figures = {
            'checkpoints': str(options.out / 'checkpoints'),
            'steps': trainer.global_step,
            'minutes': round((time.monotonic() - start_s) / 60, 2),
            **{name: round(float(v), 4) for name, v in trainer.callback_metrics.items()},
        }
        page = json.dumps(figures, indent=2)
        write_whole(options.out / FIGURES, (page + '\n').encode())
        say(page if options.json else _text(figures))
    return 0


def _model_config(options: argparse.Namespace, episodes: Sequence[Sequence[Sample]]) -> ModelConfig:
    """The size asked for, with a lexicon of the training's words."""
    changes: dict[str, Any] = {
        name: getattr(options, name)
        for name in ('rotations', 'pick_angles', 'language_fusion', 'sharing', 'query_form')
        if getattr(options, name) is not None
    }
    sentences = {sample.instruction for samples in episodes for sample in samples}
    changes['words'] = vocabulary(sentences)
    return ModelConfig.small(**changes) if options.size == 'small' else ModelConfig(**changes)


def _training_config(options: argparse.Namespace) -> TrainingConfig:
    by_task = {}
    for rule in options.task_turn:
        task, _, degrees = rule.rpartition('=')
        if not task or not degrees.replace('.', '', 1).isdigit():
            raise ValueError(f'--task-turn must be TASK=DEGREES, got {rule!r}')
        by_task[task] = _augmentation(options, float(degrees))
    return TrainingConfig(
        learning_rate=options.lr,
        weight_decay=options.weight_decay,
        steps=options.steps,
        augmentation=_augmentation(options, options.turn),
        by_task=by_task,
        main_task=options.main_task,
    )


def _augmentation(options: argparse.Namespace, turn_degrees: float) -> Augmentation:
    return Augmentation(math.radians(turn_degrees), options.shift, options.light, options.tint)


def _training_loader(
    episodes: Sequence[Sequence[Sample]],
    model: ModelConfig,
    config: TrainingConfig,
    options: argparse.Namespace,
) -> DataLoader[Sample]:
    """An epoch is what lies between two validations."""
    data = Demonstrations(episodes, config)
    sampler = WeightedRandomSampler(
        data.weights.tolist(), options.batch * min(options.val_every, options.steps)
    )
    return _loader(data, model, options, sampler)


def _loader(
    data: Demonstrations,
    model: ModelConfig,
    options: argparse.Namespace,
    sampler: WeightedRandomSampler | None = None,
) -> DataLoader[Sample]:
    return DataLoader(
        data,
        batch_size=options.batch,
        sampler=sampler,
        num_workers=options.workers,
        collate_fn=partial(Batch.of, config=model),
        persistent_workers=options.workers > 0,
    )


def _about(options: argparse.Namespace, episodes: Sequence[Sequence[Sample]]) -> dict[str, Any]:
    """What a checkpoint remembers of its training; JSON values."""
    workspace = commonest_workspace(episodes)
    return {
        'tasks': sorted({samples[0].task for samples in episodes}),
        'episodes': len(episodes),
        'workspace': asdict(workspace) if workspace else None,
        'seed': options.seed,
        'batch': options.batch,
    }


def _trainer(options: argparse.Namespace, about: dict[str, Any]) -> Any:
    return make_trainer(
        options.out,
        KeepCheckpoints(options.out / 'checkpoints', options.half, about),
        precision=options.precision,
        ema=options.ema,
        accelerator=options.accelerator,
        devices=options.devices,
        max_steps=options.steps,
        max_epochs=-1,
        gradient_clip_val=1.0,
        log_every_n_steps=20,
    )


def _check(options: argparse.Namespace) -> None:
    """Whether a training may begin or go on there."""
    check_counts(options, ('steps', 'batch', 'val_every'))
    if options.episodes is not None:
        check_counts(options, ('episodes',))
    if not 0 <= options.ema < 1:
        raise ValueError(f'--ema must be at least 0 and below 1, got {options.ema}')
    check_folder(options.out, resume=options.resume, option='--out')


def _keep_options(options: argparse.Namespace, model: ModelConfig) -> None:
    """Write down what is trained; a resumed training must be of the same model and length."""
    page = {'options': vars(options), 'model': vars(model)}
    alike = [('options', 'steps'), *(('model', name) for name in page['model'])]
    keep_page(options.out, page, resume=options.resume, alike=alike)


def _text(figures: dict[str, Any]) -> str:
    return '\n'.join(f'{name:18} {value}' for name, value in figures.items())


def make_parser() -> argparse.ArgumentParser:
    """The command line of `cliport_train`."""
    parser = argparse.ArgumentParser(
        prog='cliport_train',
        description='Train CLIPort on folders of demonstrations, of one task or of several.',
        epilog='OUT/checkpoints/step-N is written at every validation. Validation losses choose '
        'badly between them: let rollouts choose (cliport_eval).',
    )
    add = parser.add_argument
    add('data', type=Path, nargs='+', help='folders of episodes to train on')
    add('--val', type=Path, nargs='+', required=True, help='folders of episodes to validate on')
    add('--out', type=Path, required=True, help='folder to write')
    add('--size', choices=SIZES, default='small', help='of the network (default small)')
    add('--model', default='tiny', help='CLIP: tiny, RN50, or a folder (default tiny)')
    add('--pretrained', help='its weights: an open_clip tag or a file')
    add('--weights-dir', type=Path, help='folder of fetched weights')
    add('--episodes', type=int, help='most episodes to take of each folder')
    add('--main-task', default='', metavar='TASK', help='half of what is drawn is of this task')
    add('--rotations', type=int, help='angles of placing')
    add('--pick-angles', type=int, help='angles of picking, over half a turn; 1 for suction')
    add('--language-fusion', choices=LANGUAGE_FUSIONS)
    add('--sharing', choices=SHARINGS, help='which of pick, key and query share their streams')
    add('--query-form', choices=QUERY_FORMS, help='turn features (rotate) or crops (crop)')
    _add_optimiser(parser)
    _add_augmentation(parser)
    _add_running(parser)
    return parser


def _add_optimiser(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--steps', type=int, default=2000, help='of the optimiser (default 2000)')
    add('--batch', type=int, default=4, help='pictures a step (default 4)')
    add('--lr', type=float, default=1e-3, help='peak learning rate (default 1e-3)')
    add('--weight-decay', type=float, default=0.02)
    add('--ema', type=float, default=0.99, help='weight averaging; 0 for none (default 0.99)')
    add('--precision', choices=sorted(PRECISIONS), default='fp32')


def _add_augmentation(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--turn', type=float, default=60.0, help='spread of turns in degrees (default 60)')
    add(
        '--task-turn',
        nargs='+',
        default=[],
        metavar='TASK=DEGREES',
        help="the same of tasks whose names begin so; 0 where sentences say 'left'",
    )
    add('--shift', type=float, default=26.7, help='spread of shifts in pixels (default 26.7)')
    add('--light', type=float, default=0.1, help='greatest change of brightness (default 0.1)')
    add('--tint', type=float, default=0.03, help='greatest change of a colour (default 0.03)')


def _add_running(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--val-every', type=int, default=250, help='steps between validations (default 250)')
    add('--threads', type=int, default=0, help='CPU threads of torch; 0 for its own choice')
    add('--workers', type=int, default=0, help='processes that augment pictures')
    add('--accelerator', default='auto', help='cpu, gpu or auto')
    add('--devices', default='auto', help='how many, or auto; several train together (DDP)')
    add('--seed', type=int, default=0)
    add('--half', action='store_true', help='write float16 weights')
    add('--resume', action='store_true', help='go on from OUT/last.ckpt')
    add('--json', action='store_true', help='print the figures as JSON')


if __name__ == '__main__':
    sys.exit(main())
