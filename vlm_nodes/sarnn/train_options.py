"""The command line of `train_clip_sarnn`."""

from __future__ import annotations

import argparse
from pathlib import Path

from vlm_nodes.clip.training_backend import PRECISIONS
from vlm_nodes.sarnn.augment import Augmentation
from vlm_nodes.sarnn.data import TARGETS
from vlm_nodes.sarnn.losses import LossWeights
from vlm_nodes.sarnn.training import TrainingConfig

AUTO = 'auto'


def make_parser() -> argparse.ArgumentParser:
    """The parser, options by group."""
    parser = argparse.ArgumentParser(
        prog='train_clip_sarnn',
        description='Train a policy on a data set of make_dataset: camera, touch, joints and a '
        'task in words to the next joints. Writes LOG/TAG/policy.safetensors.',
    )
    add = parser.add_argument
    add('--data', type=Path, default=Path('data'), help='the data set (default %(default)s)')
    add('--tag', required=True, help='name of this training')
    add('--log', type=Path, default=Path('log'), help='folder of trainings (default %(default)s)')
    add('--resume', action='store_true', help='go on from LOG/TAG/last.ckpt')
    add('--overwrite', action='store_true', help='replace LOG/TAG if it is there')
    add('--json', action='store_true', help='print the figures as JSON')
    _add_inputs(parser.add_argument_group('what the policy sees, feels and is told'))
    _add_clip(parser.add_argument_group('CLIP'))
    _add_sizes(parser.add_argument_group('sizes'))
    _add_training(parser.add_argument_group('training'))
    _add_weights(parser.add_argument_group('weights of the errors'))
    _add_noise(parser.add_argument_group('noise on the inputs of training'))
    _add_machine(parser.add_argument_group('machine'))
    return parser


def training_config(options: argparse.Namespace, steps: int) -> TrainingConfig:
    """How to train, as the options say, for a number of optimiser steps.

    Raises:
        ValueError: An option is out of its range.
    """
    return TrainingConfig(
        learning_rate=options.lr,
        weight_decay=options.weight_decay,
        steps=steps,
        tbptt=options.tbptt,
        image_share=options.image_share,
        keypoint_steps=options.keypoint_steps,
        measured=options.measured,
        measured_steps=options.measured_steps,
        weights=LossWeights(
            options.image_weight,
            options.joint_weight,
            options.keypoint_weight,
            options.touch_weight,
        ),
        augmentation=Augmentation(
            joint_stdev=options.stdev,
            offset_share=options.offset_share,
            brightness=options.brightness,
            contrast=options.contrast,
            image_stdev=options.image_stdev,
            erase=options.erase,
        ),
        seed=options.seed,
    )


def _add_inputs(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add('--no_clip', action='store_true', help="without CLIP's patch features")
    add('--no_language', action='store_true', help='without the task in words')
    add('--no_touch', action='store_true', help='without touch sensors')
    add('--no_depth', action='store_true', help='without depth')
    add('--cameras', nargs='+', metavar='STREAM', help='colour streams (default: of images.npy)')
    add('--touch', nargs='+', metavar='STREAM', help='touch streams (default: all gelsight*)')
    add('--depth', metavar='STREAM', help='depth stream (default: depth, where there is one)')
    add(
        '--depth_range',
        nargs=2,
        type=float,
        default=(0.1, 2.0),
        metavar=('NEAR', 'FAR'),
        help='metres between which depth differs to the policy (default 0.1 2.0)',
    )
    add(
        '--image_size',
        nargs='+',
        type=int,
        metavar='PX',
        help="height and width, or one for both (default: the data set's)",
    )
    add(
        '--target',
        choices=TARGETS,
        default=TARGETS[0],
        help='what to predict: the joints of the next tick, or what was commanded at this one '
        '(default %(default)s)',
    )


def _add_clip(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add('--clip_model', default='tiny', help='tiny, an open_clip model, a folder or NAME.json')
    add('--clip_pretrained', metavar='TAG', help='open_clip tag or weights file')
    add('--clip_method', default='naclip', help='dense method (default %(default)s)')
    add('--clip_image_size', type=int, metavar='PX', help="its images' side (default: its own)")
    add('--clip_grid', type=int, default=16, help='patches along the shorter side (default 16)')
    add('--clip_k_dim', type=int, default=4, help='keypoints of CLIP a camera (default 4)')
    add('--weights_dir', type=Path, help='folder of fetched weights')
    add('--cache', type=Path, help='folder of CLIP features (default: DATA.clip beside the data)')


def _add_sizes(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add('--k_dim', type=int, default=8, help='keypoints a camera (default %(default)s)')
    add('--rec_dim', type=int, default=128, help='recurrent state (default %(default)s)')
    add('--heatmap_size', type=float, default=0.1, help='window of the decoder (default 0.1)')


def _add_training(group: argparse._ArgumentGroup) -> None:
    add, default = group.add_argument, TrainingConfig()
    add('--epoch', type=int, default=200, help='times through the data (default %(default)s)')
    add('--batch_size', type=int, default=5, help='episodes a step (default %(default)s)')
    add('--lr', type=float, default=default.learning_rate, help='peak (default %(default)g)')
    add('--weight_decay', type=float, default=default.weight_decay, help='(default %(default)g)')
    add(
        '--tbptt',
        type=int,
        default=64,
        metavar='T',
        help='ticks that gradients go back; less takes less memory, 0 is all (default 64)',
    )
    add(
        '--image_share',
        type=float,
        default=0.25,
        metavar='SHARE',
        help='share of ticks whose images are decoded and compared (default %(default)s)',
    )
    add(
        '--measured',
        type=float,
        default=1.0,
        metavar='SHARE',
        help="of measurements against the policy's own predictions in training (default 1)",
    )
    add('--measured_steps', type=int, default=0, help='steps from 1 to --measured (default 0)')
    add('--ema', type=float, default=0.99, help='averaging of weights, 0 for none (default 0.99)')
    add('--val_every', type=int, default=5, help='epochs between tests (default %(default)s)')
    add(
        '--patience',
        type=int,
        default=20,
        help='tests without a better one after which training stops (default %(default)s)',
    )
    add('--seed', type=int, default=0, help='of all draws (default 0)')


def _add_weights(group: argparse._ArgumentGroup) -> None:
    add, default = group.add_argument, TrainingConfig()
    for name, weight, said in (
        ('image', default.weights.image, 'of the next images'),
        ('joint', default.weights.joints, 'of the next joints'),
        ('keypoint', default.weights.keypoints, 'of the next keypoints, once it is whole'),
        ('touch', default.weights.touch, 'of the next codes of touch and depth'),
    ):
        add(f'--{name}_weight', type=float, default=weight, help=f'{said} (default {weight:g})')
    add(
        '--keypoint_steps',
        type=int,
        default=default.keypoint_steps,
        help="steps until the keypoints' weight is whole (default %(default)s)",
    )


def _add_noise(group: argparse._ArgumentGroup) -> None:
    add, default = group.add_argument, Augmentation()
    add(
        '--stdev',
        type=float,
        default=default.joint_stdev,
        help='of joints, a share of their range (default %(default)s)',
    )
    for name, said in (
        ('offset_share', 'share of that noise which stays the same over a sequence'),
        ('brightness', 'added to images in [0, 1], up to plus or minus this'),
        ('contrast', 'images about their mean, by a factor of up to 1 plus or minus this'),
        ('image_stdev', 'of pixels in [0, 1], at most'),
        ('erase', "largest side of a painted rectangle, a share of the image's"),
    ):
        value = getattr(default, name)
        add(f'--{name}', type=float, default=value, help=f'{said} (default {value:g})')


def _add_machine(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add('--device', default='auto', help='auto, cpu, cuda or cuda:N (default %(default)s)')
    add(
        '--precision',
        choices=(AUTO, *PRECISIONS),
        default=AUTO,
        help='auto: bf16 on CPUs that compute in it (AVX512-BF16, AMX), else fp32',
    )
    add('--threads', type=int, help="torch's CPU threads")
    add('--workers', type=int, default=0, help='processes that read (default: none)')
