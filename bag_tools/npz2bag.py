"""npz2bag EPISODE OUT: an episode back to a bag, so that a policy can be replayed against it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tqdm import tqdm

from bag_tools.episode import ACTIONS, Episode
from bag_tools.episode_bag import TOPICS, BagConfig, EpisodeBag
from bag_tools.whole_folder import check_free, whole_folder
from vlm_nodes.command_line import run, say

_HOLDS = ('metadata.yaml', '*.mcap')
_QUALITY = 95


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: the bag was written; 2: it could not be."""
    options = _parser().parse_args(arguments)
    return run('npz2bag', lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    known = ', '.join(f'{stream} {topic}' for stream, topic in TOPICS.items())
    parser = argparse.ArgumentParser(
        prog='npz2bag',
        description='Write an episode of rosbag2npz back to a bag (mcap, for ROS 2), to replay a '
        'policy against it with `ros2 bag play`. Every sample gets the stamp of its tick; samples '
        'that the episode marks as not valid are left out.',
        epilog=f'Topics, if not said otherwise: {known}. Actions are left out: the policy to be '
        'tried makes its own.',
    )
    parser.add_argument('episode', metavar='EPISODE', type=Path, help='.npz, or a folder of .npy')
    parser.add_argument('out', metavar='OUT', type=Path, help='folder of the bag to write')
    parser.add_argument(
        '--topic',
        nargs='+',
        default=[],
        metavar='STREAM=TOPIC',
        help='topic of a stream, such as color=/rgb; STREAM= leaves it out',
    )
    parser.add_argument(
        '--actions', metavar='TOPIC', help='write the actions too, such as to /joint_command'
    )
    parser.add_argument(
        '--images',
        choices=('raw', 'jpeg'),
        default='raw',
        help='form of colour: raw (Image, rgb8; the default), or jpeg (CompressedImage on '
        'TOPIC/compressed)',
    )
    parser.add_argument(
        '--quality', type=int, default=_QUALITY, metavar='Q', help='of jpeg (default %(default)s)'
    )
    parser.add_argument(
        '--held', action='store_true', help='write also what was held where nothing was measured'
    )
    parser.add_argument('--compress', action='store_true', help='compress the bag with zstd')
    parser.add_argument('--overwrite', action='store_true', help='replace OUT if it is a bag')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    return parser


def _run(options: argparse.Namespace) -> int:
    check_free(options.out, overwrite=options.overwrite, holds=_HOLDS)
    config = BagConfig(
        topics=_topics(options),
        jpeg_quality=options.quality if options.images == 'jpeg' else None,
        compress=options.compress,
        held=options.held,
    )
    bag = EpisodeBag(Episode(options.episode), config)
    bar = partial(tqdm, unit='block', leave=False, disable=None)
    with whole_folder(options.out, overwrite=options.overwrite, holds=_HOLDS) as folder:
        counts = bag.write(folder, bar)
    figures = {'out': str(options.out), 'ticks': bag.episode.steps, 'messages': counts}
    say(json.dumps(figures, indent=2) if options.json else _text(options.out, bag, counts))
    return 0


def _topics(options: argparse.Namespace) -> dict[str, str]:
    topics = {}
    for item in options.topic:
        stream, equals, topic = item.partition('=')
        if not equals:
            raise ValueError(f'--topic {item}: STREAM=TOPIC is needed, such as color=/rgb')
        topics[stream] = topic
    return topics | ({ACTIONS: options.actions} if options.actions else {})


def _text(out: Path, bag: EpisodeBag, counts: dict[str, int]) -> str:
    lines = [f'{bag.episode.steps} ticks of {bag.episode.path}']
    lines += [f'  {counts[topic]:6d}  {topic}  ({key})' for key, topic in bag.topics.items()]
    return '\n'.join([*lines, f'written: {out}'])


if __name__ == '__main__':
    sys.exit(main())
