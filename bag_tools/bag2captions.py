"""bag2captions BAG TABLE --camera CAM=TOPIC ... --out DIR: a recording to captioned pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from bag_tools.caption_table import COLUMNS, CaptionRow, read_caption_rows
from bag_tools.captioned_moments import find_moments, read_moments
from bag_tools.overlap_writer import HOLDS, OverlapWriter
from bag_tools.reader import DISTROS, BagError, BagReader
from bag_tools.whole_folder import check_free, whole_folder
from vlm_nodes.clip_vlm.samples import BEYOND, Tally
from vlm_nodes.command_line import run, say


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: the folder was written; 2: it could not be."""
    options = _parser().parse_args(arguments)
    return run('bag2captions', lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='bag2captions',
        description='Write the pictures of surround cameras at the moments that a table names, '
        'with what it says of them, as a folder for --dataset overlap_export.',
        epilog=f'Columns of TABLE: {", ".join(COLUMNS)}. A stamp is in seconds, time_s counts from '
        'the first picture; a row without a caption is of use for distilling.',
    )
    add = parser.add_argument
    add('bag', type=Path, help='.bag, rosbag2 folder, .mcap or .db3')
    add('table', type=Path, help='CSV with a caption a row')
    add('--out', type=Path, required=True, metavar='DIR', help='folder to make')
    add(
        '--camera',
        action='append',
        required=True,
        metavar='CAM=TOPIC',
        help='name and topic of a camera, such as CAM_FRONT=/front/image_raw; once for each',
    )
    add('--slop-s', type=float, default=0.1, help='furthest from its stamp (default: 0.1)')
    add('--max-samples', type=int, metavar='N', help='keep the first N')
    add('--overwrite', action='store_true', help='replace OUT if it is such a folder')
    add('--recover', action='store_true', help='take what can be had of a damaged bag')
    add('--distro', choices=DISTROS, default='jazzy', help='for bags without definitions')
    return parser


def _run(options: argparse.Namespace) -> int:
    topics = _topics(options.camera)
    if not options.slop_s >= 0:
        raise ValueError(f'--slop-s = {options.slop_s} is not 0 or more seconds')
    if options.max_samples is not None and options.max_samples < 1:
        raise ValueError(f'--max-samples must be at least 1, is {options.max_samples}')
    check_free(options.out, overwrite=options.overwrite, holds=HOLDS)
    rows = read_caption_rows(options.table, options.bag.resolve().stem)
    with (
        BagReader(options.bag, distro=options.distro, recover=options.recover) as bag,
        whole_folder(options.out, overwrite=options.overwrite, holds=HOLDS) as folder,
    ):
        counts = _convert(bag, topics, rows, OverlapWriter(folder, tuple(topics)), options)
        problems = [*bag.recovery, *bag.problems]
        if problems and not options.recover:
            raise BagError(f'{"; ".join(problems)}; --recover takes what can be had')
    told = [f'problem: {problem}' for problem in problems]
    say('\n'.join([counts, *told, f'written: {options.out}']))
    return 0


def _topics(items: Sequence[str]) -> dict[str, str]:
    topics: dict[str, str] = {}
    for item in items:
        name, equals, topic = item.partition('=')
        if not (name and equals and topic):
            raise ValueError(f'--camera {item!r} is not CAM=TOPIC')
        if name in topics:
            raise ValueError(f'--camera {name} is named twice')
        if topic in topics.values():
            raise ValueError(f'--camera {name}: topic {topic} is that of another camera')
        topics[name] = topic
    return topics


def _convert(
    bag: BagReader,
    topics: Mapping[str, str],
    rows: Sequence[CaptionRow],
    writer: OverlapWriter,
    options: argparse.Namespace,
) -> str:
    tally = Tally()
    moments = find_moments(bag, topics, rows, options.slop_s, tally)
    chosen = moments[: options.max_samples]
    tally.skipped[BEYOND] += len(moments) - len(chosen)
    found = read_moments(bag, topics, chosen)
    with tqdm(found, total=len(chosen), unit='sample', leave=False, disable=None) as progress:
        for moment, pictures in progress:
            if isinstance(pictures, str):
                tally.skipped[pictures] += 1
                continue
            writer.add(moment.row.token, pictures, moment.row.caption)
            tally.notes['kept without a caption'] += moment.row.caption is None
    return writer.finish(
        {'pictures': bag.path.resolve().name, 'captions': options.table.name}, tally
    )


if __name__ == '__main__':
    sys.exit(main())
