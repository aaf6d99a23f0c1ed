"""Command line options that say how a folder or bag of RGB-D is to be read, shared by the tools."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlm_nodes.mapping.datasets import (
    CAMERA_AXES,
    CONFIG_NAME,
    UP_AXES,
    CorrectedDataset,
    Correction,
    DatasetError,
    EveryNth,
    FolderConfig,
    RgbdDataset,
    UprightDataset,
    open_folder,
)

CORRECTIONS = ('poses_inverted', 'camera_axes')
_FOLDER_OPTIONS = (
    'depth_intrinsics',
    'color_intrinsics',
    'color_from_depth',
    'base_from_camera',
    'camera_height_m',
)
BAG_OPTIONS = (
    'color_topic',
    'depth_topic',
    'color_info_topic',
    'depth_info_topic',
    'odometry_topic',
    'map_frame',
    'slop_s',
    'hold_s',
    'recover',
)


def add_dataset_arguments(parser: argparse.ArgumentParser) -> None:
    """Add DATASET and the options that say how to read it."""
    parser.add_argument(
        'dataset',
        metavar='DATASET_OR_BAG',
        type=Path,
        help='a VLMaps folder (rgb/, depth/, poses.txt), a 7-Scenes folder (NAME.color.png, '
        'NAME.depth.png, NAME.pose.txt), or a bag (rosbag2 directory, .mcap, .db3, .bag)',
    )
    parser.add_argument('--every', type=int, default=1, metavar='N', help='use every Nth frame')
    add_corrections(parser.add_argument_group('conventions, where the recording has others'))
    _add_folder_options(parser.add_argument_group('folders'))
    add_bag_options(parser.add_argument_group('bags'))


def open_recording(path: Path, config: FolderConfig | None = None) -> RgbdDataset:
    """A folder or bag as it says itself how it is to be read.

    Args:
        path: The folder or bag.
        config: For folders; None takes their `dataset.json`, or the defaults where there is none.

    Raises:
        DatasetError: It is absent, not whole, or of no known kind.
        bag_tools.reader.BagError: A bag cannot be read.
    """
    if _is_bag(path):
        from bag_tools.posed_rgbd import PosedRgbdBag

        return PosedRgbdBag(path)
    return open_folder(path, _stored_config(path) if config is None else config)


def open_dataset(options: argparse.Namespace) -> RgbdDataset:
    """The data set that the options of `add_dataset_arguments` name.

    Raises:
        DatasetError: It is absent, not whole, or of no known kind.
        ValueError: An option's value does not fit.
        bag_tools.reader.BagError: A bag cannot be read.
    """
    path: Path = options.dataset
    dataset = _open_bag(path, options) if _is_bag(path) else _open_folder(path, options)
    if options.up is not None:
        dataset = UprightDataset(dataset, options.up)
    return dataset if options.every == 1 else EveryNth(dataset, options.every)


def _is_bag(path: Path) -> bool:
    if not path.exists():
        raise DatasetError(f'there is no data set at {path}')
    # Imported here, as below: who only imports this module needs no libraries for bags.
    from bag_tools.reader import is_bag

    return is_bag(path)


def _stored_config(path: Path) -> FolderConfig:
    file = path / CONFIG_NAME
    return FolderConfig.from_json(file) if file.is_file() else FolderConfig()


def _open_folder(path: Path, options: argparse.Namespace) -> RgbdDataset:
    config = FolderConfig.from_json(options.config) if options.config else _stored_config(path)
    given = given_options(options, (*_FOLDER_OPTIONS, *CORRECTIONS))
    return _scaled(open_folder(path, replace(config, **given)), options)


def _scaled(dataset: RgbdDataset, options: argparse.Namespace) -> RgbdDataset:
    if options.depth_scale is None:
        return dataset
    return CorrectedDataset(dataset, Correction(depth_scale=options.depth_scale))


def _open_bag(path: Path, options: argparse.Namespace) -> RgbdDataset:
    from bag_tools.posed_rgbd import PosedRgbdBag, PosedRgbdConfig

    if unwanted := given_options(options, (*_FOLDER_OPTIONS, 'config')):
        names = ', '.join('--' + name.replace('_', '-') for name in unwanted)
        raise ValueError(f'{names}: for folders only, a bag says this itself')
    bag = PosedRgbdBag(path, PosedRgbdConfig(**given_options(options, BAG_OPTIONS)))
    changes = given_options(options, (*CORRECTIONS, 'depth_scale'))
    return CorrectedDataset(bag, Correction(**changes)) if changes else bag


def given_options(options: argparse.Namespace, names: tuple[str, ...]) -> dict[str, Any]:
    """The options that were given, by name; lists as tuples."""
    values = {name: getattr(options, name) for name in names}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if value is not None
    }


def add_corrections(group: argparse._ArgumentGroup) -> None:
    """Add the options of `CORRECTIONS`, --depth-scale and --up."""
    group.add_argument(
        '--poses-inverted',
        action='store_true',
        default=None,
        help='the poses take map coordinates to the camera: invert them',
    )
    group.add_argument(
        '--camera-axes',
        choices=list(CAMERA_AXES),
        help='axes of the camera frame in the poses: optical (x right, y down, z forward; the '
        'default), opengl (y up, z backward), body (x forward, y left, z up), or turned (optical, '
        'but turned from body to optical axes once too often)',
    )
    group.add_argument(
        '--depth-scale',
        type=float,
        metavar='FACTOR',
        help='multiply depth, such as 0.001 where millimetres were stored as metres',
    )

    group.add_argument(
        '--up',
        choices=list(UP_AXES),
        help='axis of the map frame that points up, where it is not z; a minus needs =, as --up=-y',
    )


def _add_folder_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        '--config', type=Path, metavar='FILE', help=f'JSON of the folder; default {CONFIG_NAME}'
    )
    for name, text in (
        ('--depth-intrinsics', 'depth camera in pixels'),
        ('--color-intrinsics', 'colour camera in pixels; without it colour is registered to depth'),
    ):
        group.add_argument(name, type=float, nargs=4, metavar=('FX', 'FY', 'CX', 'CY'), help=text)
    group.add_argument(
        '--color-from-depth',
        type=float,
        nargs=16,
        metavar='M',
        help='depth to colour frame, a 4x4 matrix row by row',
    )
    group.add_argument(
        '--base-from-camera',
        type=float,
        nargs=9,
        metavar='R',
        help='camera to base rotation row by row, where poses are those of a robot base (0 0 1 -1 '
        '0 0 0 -1 0 for a level camera that looks ahead)',
    )
    group.add_argument(
        '--camera-height-m', type=float, metavar='H', help='camera above the base, in metres'
    )


def add_bag_options(group: argparse._ArgumentGroup) -> None:
    """Add the options of `BAG_OPTIONS`: topics and frames of a bag."""
    for name, text in (
        ('--color-topic', 'colour images, raw or compressed'),
        ('--depth-topic', 'depth images, raw or compressedDepth'),
        ('--color-info-topic', 'CameraInfo of the colour images'),
        ('--depth-info-topic', 'CameraInfo of the depth images'),
        ('--odometry-topic', 'Odometry to place the camera with, besides tf'),
    ):
        group.add_argument(name, metavar='TOPIC', help=text)
    group.add_argument('--map-frame', metavar='FRAME', help='frame to map in')
    group.add_argument(
        '--slop-s', type=float, metavar='S', help='largest difference of two stamps of a pair'
    )
    group.add_argument(
        '--recover',
        action='store_true',
        default=None,
        help='read what can be had of a damaged bag, as of a recorder that was killed',
    )
    group.add_argument(
        '--hold-s',
        type=float,
        metavar='S',
        help='how far beyond the recorded transforms the camera is taken to stand still',
    )
