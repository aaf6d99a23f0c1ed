"""make_dataset EPISODES... --out data: episodes as padded arrays for training and testing."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bag_tools.episode import COLOR, Episode, find_episodes
from bag_tools.episode_split import SPLITS, TEST, TRAIN
from bag_tools.task_texts import TaskRule, read_rules, rules_from_texts, tasks_of, unused_rules
from bag_tools.training_set import SetConfig, TrainingSet
from bag_tools.training_set_writer import HOLDS, write_training_set
from bag_tools.whole_folder import check_free
from vlm_nodes.command_line import run, say

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: the data set was written; 2: it could not be."""
    options = _parser().parse_args(arguments)
    return run('make_dataset', lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    default = SetConfig()
    parser = argparse.ArgumentParser(
        prog='make_dataset',
        description='Make a training set of the episodes that rosbag2npz wrote: arrays of all '
        'episodes, padded to the longest one, in OUT/train and OUT/test.',
        epilog='Each episode needs a task in words: by --tasks, by --task-table, or in its own '
        'metadata, in this order. An episode without one is an error.',
    )
    parser.add_argument(
        'episodes',
        metavar='EPISODE_OR_DIR',
        type=Path,
        nargs='+',
        help='episodes (.npz, or folders of .npy), or folders of them',
    )
    parser.add_argument(
        '--out', type=Path, default=Path('data'), help='folder to write (default %(default)s)'
    )
    _add_tasks(parser.add_argument_group('tasks'))
    _add_streams(parser.add_argument_group('streams'), default)
    _add_split(parser.add_argument_group('split'), default)
    parser.add_argument('--overwrite', action='store_true', help='replace OUT if it is there')
    parser.add_argument('--dry-run', action='store_true', help='say what would be written')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    return parser


def _add_tasks(tasks: argparse._ArgumentGroup) -> None:
    tasks.add_argument(
        '--tasks',
        nargs='+',
        default=[],
        metavar='PATTERN=TEXT',
        help="task of the files whose name fits, as 'red_*=reach the red cup'; the first pattern "
        'that fits counts, and a TEXT alone is for all files',
    )
    tasks.add_argument(
        '--task-table',
        type=Path,
        metavar='FILE',
        help='the same as a table: CSV with pattern,task in each line, or YAML or JSON with '
        'pattern: task',
    )


def _add_streams(streams: argparse._ArgumentGroup, default: SetConfig) -> None:
    streams.add_argument(
        '--images',
        default=COLOR,
        metavar='STREAM',
        help='stream that becomes images.npy (default %(default)s)',
    )
    streams.add_argument(
        '--streams',
        nargs='+',
        metavar='STREAM',
        help='streams to take, such as color depth joints_state actions (default: all; then every '
        'episode must have the same)',
    )
    streams.add_argument(
        '--still-range',
        type=float,
        default=default.still_range,
        metavar='R',
        help='a joint that moves by no more never moves: it is reported and its bounds are set '
        'one apart (default %(default)g)',
    )


def _add_split(split: argparse._ArgumentGroup, default: SetConfig) -> None:
    split.add_argument(
        '--test-share',
        type=float,
        default=default.test_share,
        metavar='SHARE',
        help="share of each task's episodes kept for testing (default %(default)s)",
    )
    split.add_argument(
        '--seed', type=int, default=default.seed, help='of the draw (default %(default)s)'
    )


def _run(options: argparse.Namespace) -> int:
    config = SetConfig(
        images=options.images,
        streams=tuple(dict.fromkeys(options.streams)) if options.streams else None,
        test_share=options.test_share,
        seed=options.seed,
        still_range=options.still_range,
    )
    if not options.dry_run:
        check_free(options.out, overwrite=options.overwrite, holds=HOLDS)
    training_set = _plan(options, config)
    if not options.dry_run:
        bar = tqdm(range(len(training_set.episodes)), unit='episode', leave=False, disable=None)
        write_training_set(training_set, options.out, overwrite=options.overwrite, progress=bar)
    figures = _figures(training_set, None if options.dry_run else options.out)
    say(json.dumps(figures, indent=2, ensure_ascii=False) if options.json else _text(figures))
    return 0


def _plan(options: argparse.Namespace, config: SetConfig) -> TrainingSet:
    episodes = [Episode(path) for path in find_episodes(options.episodes)]
    rules = _rules(options)
    tasks = tasks_of(episodes, rules)
    for rule in unused_rules(episodes, rules):
        logger.warning('the task %r for %r is that of no episode', rule.text, rule.pattern)
    return TrainingSet(episodes, tasks, config)


def _rules(options: argparse.Namespace) -> list[TaskRule]:
    rules = rules_from_texts(options.tasks)
    return rules + (read_rules(options.task_table) if options.task_table else [])


def _figures(training_set: TrainingSet, out: Path | None) -> dict[str, Any]:
    return {
        'out': None if out is None else str(out),
        'episodes': {split: len(training_set.rows(split)) for split in SPLITS},
        'tasks': {text: _counts(training_set, text) for text in training_set.task_texts},
        'shapes': {
            training_set.file_name(key): list(training_set.shape(TRAIN, key))
            for key in training_set.keys
        },
        'megabytes': round(training_set.bytes / 1e6, 1),
        'padding': round(training_set.padding, 4),
        'still_joints': training_set.still_joints,
        'reordered': [str(path) for path in training_set.reordered],
        'untested_tasks': training_set.untested_tasks,
    }


def _counts(training_set: TrainingSet, text: str) -> dict[str, int]:
    count = Counter(
        TEST if test else TRAIN
        for task, test in zip(training_set.tasks, training_set.is_test, strict=True)
        if task == text
    )
    return {split: count[split] for split in SPLITS}


def _text(figures: dict[str, Any]) -> str:
    counts = figures['episodes']
    lines = [
        f'{counts[TRAIN]} episodes to train on, {counts[TEST]} to test on, '
        f'{figures["megabytes"]:g} MB, {figures["padding"]:.1%} of the ticks are padding'
    ]
    lines += [f'  {c[TRAIN]:4d} + {c[TEST]:3d}  {text}' for text, c in figures['tasks'].items()]
    lines += [
        f'  {name:24} {" x ".join(str(n) for n in shape)}'
        for name, shape in figures['shapes'].items()
    ]
    for key, note in (
        ('still_joints', 'joints that never move in training, their bounds are set one apart'),
        ('reordered', 'joints put into the order of the first episode, by name, in'),
        ('untested_tasks', 'tasks without an episode to test on'),
    ):
        if figures[key]:
            lines.append(f'note: {note}: {", ".join(figures[key])}')
    lines.append(f'written: {figures["out"]}' if figures['out'] else 'nothing written (--dry-run)')
    return '\n'.join(lines)


if __name__ == '__main__':
    sys.exit(main())
