"""train_langocc DATA... --val DATA --out DIR: surround pictures to occupancy, without labels."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from vlm_nodes.clip.training_backend import PRECISIONS, lightning, make_trainer
from vlm_nodes.clip.training_folder import LAST, check_counts, check_folder, keep_page
from vlm_nodes.command_line import run, say
from vlm_nodes.langocc.backbone import load_resnet50
from vlm_nodes.langocc.checkpoint import FeatureSpace
from vlm_nodes.langocc.config import LIFTS, LangOccConfig
from vlm_nodes.langocc.data import Batch, Moment, Moments, RayChoice
from vlm_nodes.langocc.driven import SMALL_CAR, Body
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.extract import (
    add_clip_options,
    fill,
    load_encoder,
    make_store,
    open_drives,
)
from vlm_nodes.langocc.losses import LossWeights
from vlm_nodes.langocc.model import LangOcc
from vlm_nodes.langocc.prompts import OCC3D_PROMPTS, SKY
from vlm_nodes.langocc.ray_store import RayStore
from vlm_nodes.langocc.training import KeepCheckpoints, LangOccTraining, TrainingConfig
from vlm_nodes.langocc.vocabulary import TextVectors
from vlm_nodes.surround import CAMERAS, NuScenes, VoxelGrid

SIZES: Final = ('small', 'full')


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: trained; 2: it could not be."""
    options = make_parser().parse_args(arguments)
    return run('train_langocc', lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    _check(options)
    lightning.seed_everything(options.seed, workers=True, verbose=False)
    if options.threads:
        torch.set_num_threads(options.threads)
    body = _body(options)
    drives = _drives(options, options.data)
    held_out = _drives(options, options.val)
    store = _store(options, [*drives, *held_out])
    config = model_config(options, store.page.feature_dim)
    model = LangOcc(config)
    if options.backbone_weights is not None:
        load_resnet50(model.backbone, options.backbone_weights)
    _keep_options(options, config)
    choice = RayChoice(options.rays, options.before, options.after)
    memory_mb = options.memory_mb // (len(drives) + len(held_out))
    common = {'memory_mb': memory_mb, 'body': body}
    training = [Moments(d, store, config, choice, **common) for d in drives]
    alone = replace(choice, before=0, after=0)
    validation = [Moments(d, store, config, alone, fixed=True, **common) for d in held_out]
    start_s = time.monotonic()
    keep = KeepCheckpoints(
        options.out,
        FeatureSpace.of(store),
        half=options.half,
        every=options.keep_every,
        about={'data': [str(d) for d in options.data], 'seed': options.seed},
    )
    trainer = _trainer(options, keep)
    with warnings.catch_warnings():
        # Hints at workers, and at logs of few steps.
        warnings.filterwarnings('ignore', message='.*does not have many workers.*')
        warnings.filterwarnings('ignore', message='.*smaller than the logging interval.*')
        # The folder holds the options by then, or the training that goes on.
        warnings.filterwarnings('ignore', message='.*exists and is not empty.*')
        warnings.filterwarnings('ignore', message='.*LeafSpec.*')
        trainer.fit(
            module := LangOccTraining(model, training_config(options), _words(options, store)),
            _loader(ConcatDataset(training), options, shuffle=True),
            _loader(ConcatDataset(validation), options, shuffle=False),
            ckpt_path=options.out / LAST if options.resume else None,
            weights_only=True if options.resume else None,
        )
    if trainer.is_global_zero:
        # The last step need not have been at a validation; averaged weights are in by now.
        keep.write(trainer, module)
        figures = {
            'checkpoint': str(options.out),
            'steps': trainer.global_step,
            'minutes': round((time.monotonic() - start_s) / 60, 2),
            **{name: round(float(v), 4) for name, v in trainer.callback_metrics.items()},
        }
        lines = '\n'.join(f'{name:18} {value}' for name, value in figures.items())
        say(json.dumps(figures, indent=2) if options.json else lines)
    return 0


def model_config(options: argparse.Namespace, feature_dim: int) -> LangOccConfig:
    """The network that options ask for."""
    config = LangOccConfig.small() if options.size == 'small' else LangOccConfig()
    changes: dict[str, Any] = {
        'cameras': tuple(options.cameras),
        'feature_dim': feature_dim,
        'hidden': min(options.hidden or config.hidden, feature_dim),
        'previous': options.previous,
    }
    if options.lift:
        changes['lift'] = options.lift
    if options.image_size:
        changes['image_size'] = tuple(options.image_size)
    if options.margin is not None:
        changes['margin'] = options.margin
    if options.fine:
        changes['fine'] = tuple(options.fine)
    if options.backbone:
        changes['backbone'] = options.backbone
    if options.lower or options.upper or options.voxel:
        changes['grid'] = VoxelGrid(
            tuple(options.lower or config.grid.lower_m),
            tuple(options.upper or config.grid.upper_m),
            options.voxel or config.grid.voxel_m,
        )
    return replace(config, **changes)


def training_config(options: argparse.Namespace) -> TrainingConfig:
    """How to train, as the options say."""
    return TrainingConfig(
        learning_rate=options.lr,
        weight_decay=options.weight_decay,
        steps=options.steps,
        losses=LossWeights(
            options.squared_weight,
            options.cosine_weight,
            options.depth_weight,
            options.sparsity_weight,
            options.spread_weight,
            options.picture_weight,
            options.sky_weight,
            options.driven_weight,
            options.rarity,
        ),
        light=options.light,
        drop_camera=options.drop_camera,
        mirror=not options.no_mirror,
    )


def _body(options: argparse.Namespace) -> Body:
    """Of the vehicle."""
    corners = tuple(options.body)
    return Body(corners[:3], corners[3:])


def _drives(options: argparse.Namespace, folders: Sequence[Path]) -> list[NuScenes]:
    return open_drives(
        folders,
        cameras=options.cameras,
        lidar=options.source == 'lidar',
        require_files=options.require_files,
    )


def _store(options: argparse.Namespace, drives: Sequence[NuScenes]) -> RayStore:
    """The rays extracted ahead; without them, they are extracted now and kept."""
    if options.store is not None:
        return RayStore(options.store)
    encoder = load_encoder(options)
    store = make_store(options.out / 'rays', drives, encoder, options)
    fill(store, drives, encoder, slice(None))
    return store


def _words(options: argparse.Namespace, store: RayStore) -> torch.Tensor | None:
    """Texts of what pixels may show, the first of sky, in the space of the store's features."""
    if not options.sky_weight:
        return None
    encode = TextVectors(FeatureSpace.of(store), weights_dir=options.weights_dir)
    texts = [SKY, *(text for group in OCC3D_PROMPTS.values() for text in group)]
    return torch.from_numpy(store.reduce(encode(texts)))


def _loader(
    data: Dataset[Moment], options: argparse.Namespace, *, shuffle: bool
) -> DataLoader[Moment]:
    return DataLoader(
        data,
        batch_size=options.batch,
        shuffle=shuffle,
        num_workers=options.workers,
        collate_fn=Batch.of,
        persistent_workers=options.workers > 0,
    )


def _trainer(options: argparse.Namespace, keep: KeepCheckpoints) -> Any:
    return make_trainer(
        options.out,
        keep,
        precision=options.precision,
        ema=options.ema,
        accelerator=options.accelerator,
        devices=options.devices,
        max_steps=options.steps,
        max_epochs=-1,
        check_val_every_n_epoch=options.val_every,
        gradient_clip_val=options.clip_gradients,
        log_every_n_steps=10,
    )


def _check(options: argparse.Namespace) -> None:
    """Whether a training may begin or go on there."""
    check_counts(options, ('steps', 'batch', 'val_every', 'rays'))
    if options.memory_mb < 0:
        raise LangOccError(f'--memory-mb must be at least 0, is {options.memory_mb}')
    if not 0 <= options.ema < 1:
        raise LangOccError(f'--ema must be at least 0 and below 1, is {options.ema}')
    check_folder(options.out, resume=options.resume, option='--out', ours='rays')


def _keep_options(options: argparse.Namespace, config: LangOccConfig) -> None:
    """Write down what is trained; a resumed training must be of the same network and length."""
    page = {'options': vars(options), 'model': config.to_dict()}
    alike = [('options', 'steps'), *(('model', name) for name in page['model'])]
    keep_page(options.out, page, resume=options.resume, alike=alike)


def make_parser() -> argparse.ArgumentParser:
    """The command line of `train_langocc`."""
    parser = argparse.ArgumentParser(
        prog='train_langocc',
        description='Train LangOcc on surround pictures: no label, no depth, CLIP alone.',
    )
    add = parser.add_argument
    add('data', type=Path, nargs='+', help="data sets in nuScenes' layout to train on")
    add('--val', type=Path, nargs='+', required=True, help='data sets to validate on')
    add('--out', type=Path, required=True, help='folder to write')
    add('--store', type=Path, help='rays of extract_rays; without, they are extracted into OUT')
    add('--resume', action='store_true', help='go on from OUT/last.ckpt')
    add('--json', action='store_true', help='print the figures as JSON')
    add_clip_options(parser.add_argument_group('CLIP and rays, where there is no --store'))
    _add_model(parser)
    _add_training(parser)
    _add_machine(parser)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group('network').add_argument
    add('--size', choices=SIZES, default='full', help='small trains on a CPU (default: full)')
    add('--cameras', nargs='+', default=list(CAMERAS), metavar='CAM', help='default: all six')
    add('--lift', choices=LIFTS, help='push along depth bins, or pull at voxels')
    add('--image-size', type=int, nargs=2, metavar=('H', 'W'), help='of resized pictures')
    add('--backbone', choices=('small', 'resnet50'))
    add('--backbone-weights', type=Path, help="torchvision's or timm's ResNet-50 weights")
    add('--hidden', type=int, help='channels of features in space')
    add('--margin', type=int, metavar='N', help='voxels about the grid that rays alone need')
    add('--fine', type=int, nargs=3, metavar='N', help="parts of a voxel's density along x, y, z")
    add('--previous', action='store_true', help='fuse the keyframe before')
    add('--lower', type=float, nargs=3, metavar='M', help='corner of the grid')
    add('--upper', type=float, nargs=3, metavar='M', help='the opposite corner')
    add('--voxel', type=float, metavar='M', help='edge of a voxel')


def _add_training(parser: argparse.ArgumentParser) -> None:
    add, default = parser.add_argument_group('training').add_argument, LossWeights()
    add('--steps', type=int, default=2000, help='of the optimiser (default: 2000)')
    add('--batch', type=int, default=4, help='moments a step (default: 4)')
    add('--rays', type=int, default=8192, help='of a moment (default: 8192)')
    add('--before', type=int, default=12, help='keyframes back whose rays count (default: 12)')
    add('--after', type=int, default=12, help='keyframes ahead (default: 12)')
    add('--lr', type=float, default=2e-4, help='peak learning rate (default: 2e-4)')
    add('--weight-decay', type=float, default=0.01)
    add('--clip-gradients', type=float, default=5.0, help='longest gradient (default: 5)')
    add('--ema', type=float, default=0.999, help='weight averaging; 0: none (default: 0.999)')
    add('--squared-weight', type=float, default=default.squared)
    add('--cosine-weight', type=float, default=default.cosine)
    add('--depth-weight', type=float, default=default.depth, help='of LiDAR rays (default: 0)')
    add('--sparsity-weight', type=float, default=default.sparsity)
    add('--spread-weight', type=float, default=default.spread, help='a metre of fog')
    add('--picture-weight', type=float, default=default.pictures, help='of pictures alone')
    add('--sky-weight', type=float, default=0.3, help='of clear rays where CLIP sees sky')
    add('--driven-weight', type=float, default=0.1, help='of space that the vehicle drove through')
    add(
        '--body',
        type=float,
        nargs=6,
        metavar='M',
        default=[*SMALL_CAR.lower_m, *SMALL_CAR.upper_m],
        help="the vehicle's: x y z of its rear right lower corner and of the opposite one, in the "
        'ego frame; z is its clearance above the ground (default: a small car)',
    )
    add('--rarity', type=float, default=default.rarity, help='exponent of rare features (0: off)')
    add('--light', type=float, default=0.1, help='greatest change of brightness (default: 0.1)')
    add('--drop-camera', type=float, default=0.0, help='chance that one is missing (default: 0)')
    add('--no-mirror', action='store_true', help='do not mirror the world at random')
    add('--precision', choices=sorted(PRECISIONS), default='fp32')
    add('--seed', type=int, default=0)


def _add_machine(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group('running').add_argument
    add('--val-every', type=int, default=1, help='epochs between validations (default: 1)')
    add('--keep-every', type=int, default=0, metavar='N', help='keep OUT/epoch-N at every Nth')
    add('--threads', type=int, default=0, help='CPU threads of torch; 0 for its own choice')
    add('--workers', type=int, default=0, help='processes that read')
    add('--memory-mb', type=int, default=1024, help='pictures kept by each, and as much of rays')
    add('--accelerator', default='auto', help='cpu, gpu or auto')
    add('--devices', default='auto', help='how many, or auto; several train together (DDP)')
    add('--half', action='store_true', help='write float16 weights')


if __name__ == '__main__':
    sys.exit(main())
