"""The command line of bag2cliport."""

from __future__ import annotations

import argparse
from pathlib import Path

from bag_tools.action_table import COLUMNS
from bag_tools.reader import DISTROS
from bag_tools.table_cameras import TableCamera, cameras_of_bag, cameras_of_file
from vlm_nodes.cliport.workspace import Workspace

_GRID = Workspace()


def parser() -> argparse.ArgumentParser:
    """The options and their help."""
    found = argparse.ArgumentParser(
        prog='bag2cliport',
        description='Write what a robot picked and placed in a bag as episodes that cliport_train '
        'takes: the table from above before each action and at the end, the instruction, and both '
        'poses. Cameras are placed by camera_info and tf, or by a file.',
        epilog=f'Columns of ACTIONS: {", ".join(COLUMNS)}. A stamp is in seconds, time_s counts '
        'from the first image. A pick or place is x, y, z (and yaw_deg or a quaternion) in the '
        'table frame, or the stamp (time_s) at which the tool was there. Rows with the same '
        'episode are its steps; its last row says with end_stamp (end_time_s) when to look again.',
    )
    found.add_argument('bag', metavar='BAG', type=Path, help='rosbag2 directory, .mcap, .db3, .bag')
    found.add_argument('actions', metavar='ACTIONS', type=Path, help='table (CSV) of actions')
    found.add_argument('out', metavar='OUT', type=Path, help='folder to write episodes to')
    found.add_argument('--task', help="name of the task; the folder's name by default")
    found.add_argument('--mode', choices=('train', 'val', 'test'), default='train')
    _add_camera_options(found.add_argument_group('cameras and frames'))
    _add_workspace_options(found.add_argument_group('workspace, in metres of the table frame'))
    found.add_argument(
        '--pictures', metavar='DIR', type=Path, help='also draw every action over what was seen'
    )
    found.add_argument('--recover', action='store_true', help='take what a damaged bag still has')
    found.add_argument('--overwrite', action='store_true', help='replace episodes that are there')
    found.add_argument('--json', action='store_true', help='print the figures as JSON')
    return found


def _add_camera_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--camera',
        action='append',
        default=[],
        metavar='NAME=COLOR,DEPTH',
        help="a camera's topics; once for each camera. Left out where the bag offers one only",
    )
    group.add_argument(
        '--calibration', metavar='FILE', type=Path, help='JSON with cameras, in place of --camera'
    )
    group.add_argument('--table-frame', default='base_link', help='frame of tf (default base_link)')
    group.add_argument('--tool-frame', help='frame of tf, for picks and places given as stamps')
    group.add_argument(
        '--tip-m',
        nargs=3,
        type=float,
        default=(0.0, 0.0, 0.0),
        metavar=('X', 'Y', 'Z'),
        help="what touches, in the tool's frame",
    )
    group.add_argument(
        '--align', metavar='NAME', help='align the other cameras to this one, by what they see'
    )
    group.add_argument(
        '--scale-depth',
        action='store_true',
        help='let --align also look for a factor on their depths',
    )
    group.add_argument(
        '--slop-s', type=float, default=0.1, help='how far images may be from a stamp (0.1)'
    )
    group.add_argument(
        '--hold-s', type=float, default=0.1, help='how far transforms may be from a stamp (0.1)'
    )
    group.add_argument('--distro', choices=DISTROS, default='jazzy', help='of old bags')


def _add_workspace_options(group: argparse._ArgumentGroup) -> None:
    for axis, bounds in zip(
        'xyz', (_GRID.x_range_m, _GRID.y_range_m, _GRID.z_range_m), strict=True
    ):
        group.add_argument(
            f'--{axis}-range',
            nargs=2,
            type=float,
            default=bounds,
            metavar=('LEAST', 'GREATEST'),
            help=f'default {bounds[0]} {bounds[1]}',
        )
    group.add_argument('--pixel-m', type=float, default=_GRID.pixel_m, help=f'{_GRID.pixel_m}')


def workspace_of(options: argparse.Namespace) -> Workspace:
    """The workspace that the options give.

    Raises:
        ValueError: A range is empty, or no whole number of pixels.
    """
    return Workspace(
        tuple(options.x_range), tuple(options.y_range), tuple(options.z_range), options.pixel_m
    )


def cameras_of(options: argparse.Namespace) -> list[TableCamera]:
    """The cameras that the options name.

    Raises:
        BagError: The bag does not have them.
        ValueError: An option or the calibration file says nothing that can be used.
    """
    if options.calibration:
        if options.camera:
            raise ValueError('--calibration and --camera both say which cameras there are')
        return cameras_of_file(options.calibration)
    topics = {}
    for text in options.camera:
        name, _, pair = text.partition('=')
        color, _, depth = pair.partition(',')
        if not (name and color and depth) or ',' in depth or name in topics:
            raise ValueError(f'--camera {text!r} is not NAME=COLOR,DEPTH, or its name came before')
        topics[name] = (color, depth)
    return cameras_of_bag(
        options.bag,
        topics,
        options.table_frame,
        distro=options.distro,
        recover=options.recover,
    )
