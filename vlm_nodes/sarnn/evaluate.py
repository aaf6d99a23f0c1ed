"""evaluate_sarnn CHECKPOINT --data data: how far a policy's predictions are off, with pictures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vlm_nodes.clip.training_folder import OPTIONS
from vlm_nodes.command_line import run, say
from vlm_nodes.sarnn.checkpoint import CheckpointError, load_policy
from vlm_nodes.sarnn.data import TARGETS, Sequences, check_streams
from vlm_nodes.sarnn.encoder_of import load_encoder_of
from vlm_nodes.sarnn.model import Sarnn
from vlm_nodes.sarnn.pictures import write_gif, write_mp4, write_png
from vlm_nodes.sarnn.prepare import with_tensors
from vlm_nodes.sarnn.recordings import Recordings
from vlm_nodes.sarnn.rollouts import (
    ALL,
    Rollout,
    episode_frames,
    error_table,
    joints_of,
    roll_out_all,
)

SPLITS = ('test', 'train')


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: there are figures; 2: there are none."""
    options = _parser().parse_args(arguments)
    return run('evaluate_sarnn', lambda: _run(options))


def open_policy(path: Path) -> Sarnn:
    """Load a policy.

    Raises:
        ValueError: The file is missing, damaged or no policy.
    """
    try:
        return load_policy(path)
    except CheckpointError as error:
        raise ValueError(str(error)) from error


def report(model: Sarnn, sequences: Sequences, out: Path | None) -> dict[str, Any]:
    """Errors of a policy's predictions by task, and pictures of them.

    Args:
        model: In evaluation mode.
        sequences: Episodes.
        out: Folder for pictures: of the first episode of each task its joints, and in one film
            what is looked at; None for no pictures.

    Returns:
        `tasks`, as `error_table` has them, and the files of `pictures`.
    """
    rows = tqdm(range(len(sequences)), unit='episode', leave=False, disable=None)
    rollouts = roll_out_all(model, sequences, rows)
    bounds = np.asarray(model.config.joint_bounds)
    tasks = error_table(rollouts, model.config.joint_names, bounds)
    pictures = [] if out is None else _write_pictures(model, rollouts, out)
    return {'tasks': tasks, 'pictures': [str(path) for path in pictures]}


def figures_text(figures: dict[str, Any]) -> str:
    """Errors as a table of one line a task."""
    tasks = figures['tasks']
    width = max(len(task) for task in tasks)
    lines = [
        f'{"":{width}}  episodes   one step           closed loop',
        f'{"":{width}}             of range   units   of range   units',
    ]
    for task, row in sorted(tasks.items(), key=lambda item: item[0] == ALL):
        errors = '   '.join(
            f'{row[kind]["normalised"]:8.4f} {row[kind]["units"]:7.4f}'
            for kind in ('one_step', 'closed')
        )
        lines.append(f'{task:{width}}  {row["episodes"]:8d}   {errors}')
    lines += [f'written: {path}' for path in figures['pictures']]
    if 'policy' in figures:
        lines.append(
            f'policy: {figures["policy"]}, best after epoch {figures["best_epoch"]} of '
            f'{figures["epochs"]}'
        )
    return '\n'.join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='evaluate_sarnn',
        description="Root mean squared errors of a policy's joints on recorded episodes: of the "
        'next tick from measurements, and of whole episodes from their first tick.',
    )
    add = parser.add_argument
    add('checkpoint', type=Path, help='policy.safetensors of train_clip_sarnn')
    add('--data', type=Path, default=Path('data'), help='the data set (default %(default)s)')
    add('--split', choices=SPLITS, default='test', help='which episodes (default %(default)s)')
    add('--target', choices=TARGETS, help='what it predicts (default: as options.json beside it)')
    add('--out', type=Path, help='folder for pictures (default: none are made)')
    add('--clip_model', help="the policy's CLIP model, if it lies elsewhere now")
    add('--clip_pretrained', metavar='TAG', help='open_clip tag or weights file')
    add('--weights_dir', type=Path, help='folder of fetched weights')
    add('--cache', type=Path, help='folder of CLIP features (default: DATA.clip beside the data)')
    add('--device', default='cpu', help='of the encoder (default %(default)s)')
    add('--json', action='store_true', help='print the figures as JSON')
    return parser


def _run(options: argparse.Namespace) -> int:
    model = open_policy(options.checkpoint)
    options.target = options.target or _target_of(options.checkpoint)
    recordings, config = Recordings(options.data), model.config
    check_streams(recordings, config, options.target)
    encoder = load_encoder_of(
        config,
        model=options.clip_model,
        pretrained=options.clip_pretrained,
        weights_dir=options.weights_dir,
        device=options.device,
    )
    prepared = with_tensors(recordings, config, encoder, options.target, options.cache)
    sequences = prepared.test if options.split == 'test' else prepared.train
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    figures = report(model, sequences, options.out)
    say(json.dumps(figures, indent=2) if options.json else figures_text(figures))
    return 0


def _target_of(checkpoint: Path) -> str:
    """What a policy was trained to predict, by what its training wrote beside it."""
    path = checkpoint.with_name(OPTIONS)
    if not path.is_file():
        return TARGETS[0]
    try:
        return str(json.loads(path.read_text(encoding='utf-8'))['options']['target'])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} is broken ({error!r}): give --target') from error


def _write_pictures(model: Sarnn, rollouts: Sequence[Rollout], out: Path) -> list[Path]:
    """The first episode of each task: a picture of its joints, and its part of a film."""
    config = model.config
    first = {rollout.task: rollout for rollout in reversed(rollouts)}
    written = []
    for number, task in enumerate(sorted(first)):
        path = out / f'joints_{number}.png'
        write_png(path, joints_of(first[task], config.joint_names))
        written.append(path)
    for camera in config.cameras:
        frames = [f for task in sorted(first) for f in episode_frames(first[task], camera)]
        name = 'keypoints' if len(config.cameras) == 1 else f'keypoints_{camera}'
        for write, ending in ((write_gif, 'gif'), (write_mp4, 'mp4')):
            write(out / f'{name}.{ending}', frames, config.rate_hz)
            written.append(out / f'{name}.{ending}')
    return written


if __name__ == '__main__':
    sys.exit(main())
