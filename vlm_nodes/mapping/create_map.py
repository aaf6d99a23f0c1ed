"""create_map DATASET_OR_BAG OUT: fuse a recording into a map file, and picture it from above."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vlm_nodes.clip.projection import FeatureProjection
from vlm_nodes.command_line import run
from vlm_nodes.mapping.config import VoxelMapConfig
from vlm_nodes.mapping.dataset_options import add_dataset_arguments, open_dataset
from vlm_nodes.mapping.datasets import DatasetError, RgbdDataset
from vlm_nodes.mapping.pictures import TopDownView, framed, top_down_color, write_picture
from vlm_nodes.mapping.text_encoder import DenseEncoder
from vlm_nodes.mapping.voxel_map import VoxelMap

NO_MODEL = 'none'


def build_map(
    dataset: RgbdDataset,
    encoder: DenseEncoder | None,
    config: VoxelMapConfig | None = None,
    *,
    progress: bool = False,
) -> VoxelMap:
    """Fuse a whole recording.

    Args:
        dataset: Posed RGB-D frames.
        encoder: Gives the features; None maps geometry and colour only.
        config: The map's parameters.
        progress: Show a progress bar on standard error, where that is a terminal.

    Raises:
        DatasetError: No frame could be read, or no depth of any frame lay in the map's range.
    """
    voxel_map = VoxelMap(config, frame_id=dataset.frame_id, encoder=encoder)
    fuse(dataset, encoder, voxel_map, progress=progress)
    return voxel_map


def fuse(
    dataset: RgbdDataset,
    encoder: DenseEncoder | None,
    voxel_map: VoxelMap,
    *,
    progress: bool = False,
) -> int:
    """Fuse a whole recording into a map that is there, with the map's own encoder.

    Returns:
        Frames fused.

    Raises:
        DatasetError: No frame could be read, or the map is still empty after all of them.
    """
    frames = 0
    for frame in tqdm(dataset, unit='frame', desc='fusing', disable=None if progress else True):
        features = None if encoder is None else encoder.encode_dense(frame.rgb)
        voxel_map.integrate(frame, features)
        frames += 1
    if not frames:
        raise DatasetError(f'{dataset.description}: no frame could be used')
    if not len(voxel_map):
        limits = voxel_map.config
        raise DatasetError(
            f'{dataset.description}: no depth of {frames} frames lies between '
            f'{limits.min_depth_m:g} and {limits.max_depth_m:g} m: run check_dataset on it'
        )
    return frames


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: the map was written; 2: it could not be."""
    options = _parser().parse_args(arguments)
    return run('create_map', lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='create_map',
        description='Fuse a folder or bag of posed RGB-D into a map that answers texts '
        '(index_map), and write a picture of it from above. check_dataset says whether the '
        'recording fuses at all.',
    )
    add_dataset_arguments(parser)
    parser.add_argument('out', metavar='OUT', type=Path, help='map file to write, such as room.npz')
    parser.add_argument(
        '--picture',
        type=Path,
        metavar='FILE',
        help="the picture from above (default: beside OUT, with the map's name and .png)",
    )
    parser.add_argument(
        '--below-m',
        type=float,
        metavar='Z',
        help='leave out of the picture what is higher, such as a ceiling',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace OUT if it is there')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    _add_map_options(parser.add_argument_group('map'))
    add_encoder_options(parser.add_argument_group('encoder'))
    return parser


def _add_map_options(group: argparse._ArgumentGroup) -> None:
    default = VoxelMapConfig()
    for name, value, text in (
        ('--voxel-size-m', default.voxel_size_m, 'edge of a voxel'),
        ('--min-depth-m', default.min_depth_m, 'nearer readings are left out'),
        ('--max-depth-m', default.max_depth_m, 'farther readings are left out'),
    ):
        group.add_argument(
            name, type=float, default=value, metavar='M', help=f'{text} (default %(default)s)'
        )
    group.add_argument(
        '--feature-dim',
        type=int,
        default=default.feature_dim,
        metavar='N',
        help='numbers kept of a feature; 0 keeps all (default %(default)s)',
    )
    group.add_argument(
        '--reducer',
        type=Path,
        metavar='FILE',
        help='reducer of train_clip_reducer, in place of one that is fitted to the recording',
    )


def add_encoder_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that choose an encoder, for `encoder_from`."""
    group.add_argument(
        '--model',
        default='tiny',
        help="tiny (the default: knows the simulated rooms only), an open_clip model's name, or "
        f'{NO_MODEL}: geometry and colour without features',
    )
    group.add_argument('--pretrained', metavar='TAG', help='open_clip tag, or a file of weights')
    group.add_argument(
        '--method', default='naclip', help='dense method: naclip, maskclip or sc_clip'
    )
    group.add_argument('--device', default='cpu', help='torch device, such as cuda')
    group.add_argument('--weights-dir', type=Path, metavar='DIR', help='folder of fetched weights')
    group.add_argument('--threads', type=int, metavar='N', help="the model's CPU threads")


def encoder_from(options: argparse.Namespace) -> DenseEncoder | None:
    """The encoder that the options name; None for `--model none`.

    Raises:
        ValueError: An option does not fit.
        Exception: As `Encoder.load` raises where weights are missing.
    """
    if options.model == NO_MODEL:
        return None
    from vlm_nodes.clip.encoder import Encoder  # torch takes seconds to load

    return Encoder.load(
        options.model,
        options.pretrained,
        method=options.method,
        device=options.device,
        weights_dir=options.weights_dir,
        num_threads=options.threads,
    )


def _projection(path: Path | None, encoder: DenseEncoder | None) -> FeatureProjection | None:
    if path is None:
        return None
    from vlm_nodes.clip.reducer import load_reducer  # torch takes seconds to load

    if encoder is None:
        raise ValueError('--reducer reduces features of a CLIP: with --model none there are none')
    reducer = load_reducer(path)
    reducer.check(encoder.identity, str(path))
    return reducer.projection


def _run(options: argparse.Namespace) -> int:
    if options.out.exists() and not options.overwrite:
        raise ValueError(f'{options.out} exists already: give another name, or --overwrite')
    config = VoxelMapConfig(
        voxel_size_m=options.voxel_size_m,
        min_depth_m=options.min_depth_m,
        max_depth_m=options.max_depth_m,
        feature_dim=options.feature_dim,
    )
    dataset = open_dataset(options)
    encoder = encoder_from(options)
    start = time.perf_counter()
    voxel_map = VoxelMap(
        config,
        frame_id=dataset.frame_id,
        encoder=encoder,
        projection=_projection(options.reducer, encoder),
    )
    frames = fuse(dataset, encoder, voxel_map, progress=True)
    seconds = time.perf_counter() - start
    options.out.parent.mkdir(parents=True, exist_ok=True)
    voxel_map.save(options.out)
    picture = options.picture or options.out.with_suffix('.png')
    write_picture(picture, map_picture(voxel_map, options.dataset.resolve().name, options.below_m))
    figures = {
        'dataset': dataset.description,
        'frames': frames,
        'frames_claimed': len(dataset),
        'seconds': round(seconds, 3),
        **_map_figures(voxel_map),
        'map': str(options.out),
        'picture': str(picture),
    }
    print(json.dumps(figures, indent=2) if options.json else _text(figures))
    return 0


def map_picture(voxel_map: VoxelMap, title: str, below_m: float | None = None) -> NDArray[np.uint8]:
    """A map in colour from above, with its title and scale: (H, W, 3) uint8 RGB.

    Args:
        voxel_map: The map.
        title: Written above it.
        below_m: Leave out what is higher, such as a ceiling.
    """
    points, colors = voxel_map.color_cloud()
    if below_m is not None:
        shown = points[:, 2] < below_m
        points, colors = points[shown], colors[shown]
    view = TopDownView.around(points, voxel_map.config.voxel_size_m)
    return framed(top_down_color(points, colors, view), view, f'{title}: from above')


def _map_figures(voxel_map: VoxelMap) -> dict[str, Any]:
    low, high = voxel_map.bounds
    return {
        'voxels': len(voxel_map),
        'voxel_size_m': voxel_map.config.voxel_size_m,
        'extent_m': [round(float(length), 3) for length in high - low],
        'frame_id': voxel_map.frame_id,
    }


def _text(figures: dict[str, Any]) -> str:
    x, y, z = figures['extent_m']
    fused, claimed = figures['frames'], figures['frames_claimed']
    frames = f'{fused}' if fused == claimed else f'{fused} of {claimed}'
    return (
        f'{figures["dataset"]}\n'
        f'{figures["voxels"]} voxels of {figures["voxel_size_m"]:g} m over {x:.1f} x {y:.1f} x '
        f'{z:.1f} m in frame {figures["frame_id"]}, {frames} frames in '
        f'{figures["seconds"]:.1f} s\n'
        f'map: {figures["map"]}\npicture: {figures["picture"]}'
    )


if __name__ == '__main__':
    sys.exit(main())
