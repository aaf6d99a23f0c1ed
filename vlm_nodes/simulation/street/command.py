"""Simulated streets in nuScenes' layout: what LangOcc and CLIP-VLM learn from without nuScenes.

make_street --scenes 8 --out street/ --split train
make_street --scenes 2 --out street_val/ --split val
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from bag_tools.whole_folder import check_free
from vlm_nodes.command_line import run, say
from vlm_nodes.simulation.street.export import HOLDS, Plan, write_streets
from vlm_nodes.simulation.street.recorder import Settings
from vlm_nodes.simulation.street.vocabulary import scene_seeds
from vlm_nodes.surround.keyframe import CAMERAS
from vlm_nodes.surround.occupancy import VoxelGrid


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `make_street`."""
    options = _parser().parse_args(arguments)
    return run('make_street', lambda: _make(options))


def _parser() -> argparse.ArgumentParser:
    default = Settings()
    parser = argparse.ArgumentParser(
        prog='make_street',
        description='Record simulated streets with surround cameras, LiDAR, occupancy and '
        'captions, in the layout of nuScenes. The same options give the same files.',
    )
    add = parser.add_argument
    add('--out', type=Path, required=True, help='folder to make')
    add('--scenes', type=int, default=8, help='how many drives (default: 8)')
    add('--seed', type=int, default=0, help='number of the first in its split (default: 0)')
    add(
        '--split',
        choices=('train', 'val'),
        default='train',
        help='val: streets that no training split has (default: train)',
    )
    add(
        '--keyframes', type=int, default=default.keyframes, help='of a drive, at 2 Hz (default: 10)'
    )
    add('--width', type=int, default=default.width, help='of pictures in pixels (default: 160)')
    add('--height', type=int, default=default.height, help='of pictures in pixels (default: 96)')
    add('--cameras', nargs='+', default=list(CAMERAS), metavar='CAM', help='default: all six')
    grid = default.grid
    add('--lower', type=float, nargs=3, default=grid.lower_m, metavar='M', help='of the grid')
    add('--upper', type=float, nargs=3, default=grid.upper_m, metavar='M', help='of the grid')
    add('--voxel', type=float, default=grid.voxel_m, help='edge in metres (default: 0.4)')
    add('--samples', type=int, default=default.samples, help='a pixel; 0 is fastest (default: 4)')
    add('--no-lidar', action='store_true', help='write no LiDAR sweeps')
    add('--no-truth', action='store_true', help='write no depth and classes of pixels')
    add('--overwrite', action='store_true', help='replace OUT if it is there')
    return parser


def _make(options: argparse.Namespace) -> int:
    check_free(options.out, overwrite=options.overwrite, holds=HOLDS)
    settings = Settings(
        width=options.width,
        height=options.height,
        cameras=tuple(options.cameras),
        keyframes=options.keyframes,
        grid=VoxelGrid(tuple(options.lower), tuple(options.upper), options.voxel),
        samples=options.samples,
    )
    seeds = scene_seeds(options.split, options.seed, options.scenes)
    plan = Plan(seeds, settings, lidar=not options.no_lidar, truth=not options.no_truth)
    with tqdm(plan.steps(), unit='keyframe', desc='street') as progress:
        write_streets(options.out, plan, overwrite=options.overwrite, progress=progress)
    say(
        f'{len(seeds)} scenes of {settings.keyframes} keyframes in {options.out}: '
        f'{options.split} {options.seed} to {options.seed + len(seeds) - 1}'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
