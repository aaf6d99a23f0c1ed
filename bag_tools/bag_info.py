"""bag_info BAG...: topics, types, counts, rates, gaps and damage of bags in one table each."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bag_tools.bag_files import find_bags
from bag_tools.bag_health import BagHealth, TopicHealth, examine, unreadable
from bag_tools.reader import DISTROS, BagError, BagReader
from vlm_nodes.command_line import run, say

_COLUMNS = (
    'topic',
    'type',
    'claimed',
    'read',
    'rate Hz',
    'gaps',
    'longest s',
    'disorder',
    'jumps',
    'skew ms',
    'spread ms',
)
_LEFT = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: all is whole; 1: a bag is damaged; 2: there is no bag."""
    options = _parser().parse_args(arguments)
    return run('bag_info', lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='bag_info',
        description='Read bags from end to end and say what they hold: messages claimed and '
        'read, rates, gaps, jumps of clocks, and damage.',
        epilog='gaps: intervals over 1.5 times the usual one, as where a message is missing, and '
        'the longest interval. disorder: stamps before that of a message received before. '
        'jumps: jumps of the header clock. skew: header stamp less time of receipt, its median and '
        'the spread of the central 90 percent. '
        'Exit code: 0 all is whole, 1 a bag is damaged, short or cannot be opened, '
        '2 there is no such bag.',
    )
    parser.add_argument(
        'bags',
        metavar='BAG_OR_DIR',
        type=Path,
        nargs='+',
        help='bags (rosbag2 directory, .mcap, .db3, .bag), or folders of them',
    )
    parser.add_argument(
        '--distro',
        choices=DISTROS,
        default='jazzy',
        help='ROS 2 release of bags that hold no message definitions (default %(default)s)',
    )
    parser.add_argument(
        '--recover',
        action='store_true',
        help='read what can be had of damaged bags; they still count as damaged',
    )
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    return parser


def _run(options: argparse.Namespace) -> int:
    found = find_bags(options.bags)
    with _quiet_reader():
        health = [_examine(path, options) for path in found]
    if options.json:
        say(json.dumps([_as_json(bag) for bag in health], indent=2))
    else:
        say('\n\n'.join(_text(bag) for bag in health))
    return 1 if any(bag.damage for bag in health) else 0


@contextmanager
def _quiet_reader() -> Iterator[None]:
    """Damage is in the table: said once is enough."""
    logger = logging.getLogger('bag_tools.reader')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _examine(path: Path, options: argparse.Namespace) -> BagHealth:
    try:
        bag = BagReader(path, distro=options.distro, recover=options.recover)
    except BagError as error:
        return unreadable(path, error)
    with bag:
        total = sum(topic.claimed for topic in bag.topics.values())
        bar = tqdm(bag.raw_messages(), total=total, unit='msg', leave=False, disable=None)
        return examine(bag, bar)


def _text(bag: BagHealth) -> str:
    read, claimed = sum(t.read for t in bag.topics), sum(t.claimed for t in bag.topics)
    lines = [f'{bag.path}: {bag.duration_s:.3f} s, {read} of {claimed} messages read']
    if bag.topics:
        lines += _table([_COLUMNS, *(_row(topic) for topic in bag.topics)])
    lines += [f'damage: {" ".join(text.split())}' for text in bag.damage] or ['no damage']
    return '\n'.join(lines)


def _row(topic: TopicHealth) -> tuple[str, ...]:
    return (
        topic.name,
        topic.msgtype,
        str(topic.claimed),
        str(topic.read),
        _number(topic.rate_hz, 1, 2),
        str(topic.gaps),
        _number(topic.longest_gap_s, 1, 3),
        str(topic.out_of_order),
        str(topic.jumps),
        _number(topic.skew_median_s, 1e3, 1),
        _number(topic.skew_spread_s, 1e3, 1),
    )


def _number(value: float | None, scale: float, digits: int) -> str:
    return '-' if value is None else f'{value * scale:.{digits}f}'


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        '  '.join(
            cell.ljust(width) if i < _LEFT else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _as_json(bag: BagHealth) -> dict[str, Any]:
    return {**asdict(bag), 'path': str(bag.path)}


if __name__ == '__main__':
    sys.exit(main())
