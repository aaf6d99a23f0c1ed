"""bag2vlmaps BAG OUT: posed RGB-D of a bag as a VLMaps custom data set."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bag_tools.posed_rgbd import PosedRgbdBag, PosedRgbdConfig
from bag_tools.reader import BagError
from bag_tools.transform_tree import TransformError
from bag_tools.vlmaps_folder import DEPTH_FORMATS, HOLDS, VlmapsWriter, Written, write_frames
from bag_tools.whole_folder import check_free, whole_folder
from vlm_nodes.command_line import run, say
from vlm_nodes.geometry.rigid import invert
from vlm_nodes.mapping.dataset_options import (
    BAG_OPTIONS,
    CORRECTIONS,
    add_bag_options,
    add_corrections,
    given_options,
)
from vlm_nodes.mapping.datasets import (
    CAMERA_AXES,
    CorrectedDataset,
    Correction,
    EveryNth,
    RgbdDataset,
    UprightDataset,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: the folder was written; 2: it could not be."""
    options = _parser().parse_args(arguments)
    return run('bag2vlmaps', lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='bag2vlmaps',
        description='Write colour, depth, cameras and poses of a bag (or of an Isaac Sim recording)'
        ' as a VLMaps custom data set: rgb/NAME.png, depth/NAME.npy, poses.txt, dataset.json. '
        'check_dataset and create_map take it. Lens distortion is taken out of the images.',
        epilog='Colour and depth are paired by stamp, and placed by tf, or by odometry where tf '
        'has no poses that move. They need not be registered: dataset.json has both cameras and '
        'how they lie to each other.',
    )
    parser.add_argument(
        'bag', metavar='BAG', type=Path, help='rosbag2 directory, .mcap, .db3 or .bag'
    )
    parser.add_argument('out', metavar='OUT', type=Path, help='folder to write')
    parser.add_argument('--every', type=int, default=1, metavar='N', help='use every Nth frame')
    parser.add_argument(
        '--depth',
        choices=DEPTH_FORMATS,
        default=DEPTH_FORMATS[0],
        help='npy: float32 metres (the default, as VLMaps has it); png: uint16 millimetres, '
        'smaller',
    )
    add_bag_options(parser.add_argument_group('topics and frames'))
    add_corrections(parser.add_argument_group('conventions, where the recording has others'))
    parser.add_argument('--overwrite', action='store_true', help='replace OUT if it is there')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    return parser


def _run(options: argparse.Namespace) -> int:
    check_free(options.out, overwrite=options.overwrite, holds=HOLDS)
    bag = PosedRgbdBag(options.bag, PosedRgbdConfig(**given_options(options, BAG_OPTIONS)))
    _refuse_short(bag, options)
    correction = Correction(**given_options(options, (*CORRECTIONS, 'depth_scale')))
    dataset = _dataset(bag, correction, options)
    with whole_folder(options.out, overwrite=options.overwrite, holds=HOLDS) as folder:
        writer = VlmapsWriter(
            folder,
            bag.color.camera,
            bag.depth.camera,
            color_from_depth(bag, correction, _first_stamp_ns(bag)),
            depth_format=options.depth,
            frame_id=dataset.frame_id,
        )
        bar = tqdm(dataset, total=len(dataset), unit='frame', leave=False, disable=None)
        written = write_frames(bar, writer)
        _refuse_short(bag, options)
    figures = _figures(bag, written, dataset, options.out)
    say(json.dumps(figures, indent=2) if options.json else _text(figures))
    return 0


def _refuse_short(bag: PosedRgbdBag, options: argparse.Namespace) -> None:
    """Refuse a bag that gave less than it claims, unless that is what was asked for.

    Raises:
        BagError: It did.
    """
    if bag.problems and not options.recover:
        raise BagError(f'{"; ".join(bag.problems)}; --recover maps what can be had')


def _dataset(bag: PosedRgbdBag, correction: Correction, options: argparse.Namespace) -> RgbdDataset:
    dataset: RgbdDataset = CorrectedDataset(bag, correction)
    if options.up is not None:
        dataset = UprightDataset(dataset, options.up)
    return EveryNth(dataset, options.every)


def color_from_depth(
    bag: PosedRgbdBag, correction: Correction, stamp_ns: int
) -> NDArray[np.float64]:
    """How the two cameras lie to each other at one moment: (4, 4), optical axes.

    Taken from tf at one stamp: between a frame's two stamps the camera moves, and that is not how
    it is mounted.

    Raises:
        BagError: Their frames are not connected.
    """
    if bag.color.frame_id == bag.depth.frame_id:
        return np.eye(4)
    try:
        relation = bag.tree.lookup(bag.color.frame_id, bag.depth.frame_id, stamp_ns)
    except TransformError as error:
        raise BagError(f'{bag.path}: colour is not placed beside depth: {error}') from error
    axes_from_optical = CAMERA_AXES[correction.camera_axes]
    return invert(axes_from_optical) @ relation @ axes_from_optical


def _first_stamp_ns(bag: PosedRgbdBag) -> int:
    for frame in bag:
        return frame.stamp_ns
    raise BagError(f'{bag.path}: no frame could be used: {_reasons(bag)}')


def _reasons(bag: PosedRgbdBag) -> str:
    return '; '.join(f'{reason} ({count})' for reason, count in bag.dropped.items()) or 'none came'


def _figures(
    bag: PosedRgbdBag, written: Written, dataset: RgbdDataset, out: Path
) -> dict[str, Any]:
    return {
        'bag': str(bag.path),
        'frames': written.frames,
        'frames_claimed': len(dataset),
        'dropped': dict(bag.dropped),
        'problems': list(bag.problems),
        'frame_id': dataset.frame_id,
        'registered': written.registered,
        'shift_mm': round(written.shift_m * 1e3, 3),
        'turn_deg': round(math.degrees(written.turn_rad), 4),
        'out': str(out),
    }


def _text(figures: dict[str, Any]) -> str:
    cameras = 'registered' if figures['registered'] else 'each with its own camera'
    lines = [
        f'{figures["frames"]} of {figures["frames_claimed"]} frames in {figures["frame_id"]}, '
        f'colour and depth {cameras}',
        f'the camera moved {figures["shift_mm"]:g} mm and {figures["turn_deg"]:g} degrees at most '
        "between the stamps of colour and depth; poses are depth's",
    ]
    lines += [f'left out: {reason} ({count})' for reason, count in figures['dropped'].items()]
    lines += [f'problem: {problem}' for problem in figures['problems']]
    return '\n'.join([*lines, f'written: {figures["out"]}'])


if __name__ == '__main__':
    sys.exit(main())
