"""Two real RGB-D cameras over one tote: how far apart their heights are, before and after aligning.

The calibration that comes with the recording is off: as it is, everything shows twice, in the
heightmap that its publishers made of it as well. Camera 0 is aligned to camera 1 on the frames of
the empty tote (a pose and a factor on its depths), and what came of it is measured on frames of the
tote with things in it, which the alignment did not see.

    python benchmarks/cliport_tote.py [--data FOLDER]

FOLDER (default: VLM_DATA, else ../shared/data) holds `tote_rgbd`. Prints one JSON object:

    raw_*                    the calibration as it comes
    scaled_*                 with the factor on depths alone, the poses as they come
    aligned_*                with pose and factor
    *_median_mm, *_p90_mm    of the difference in height where both cameras see
    *_within_cm              share of these pixels in which it is 1 cm at most
    *_share                  share of the workspace that both cameras see
    depth_scale              the factor on the depths of camera 0
    coverage                 share of the workspace that the aligned two see together
    published_overlap        pixels of the publishers' heightmap and of the raw one in both / in one
    published_difference     median difference of their colours there, of 255: whether the
                             recording is read here as its publishers read it
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from vlm_nodes.cliport.alignment import agreements, align
from vlm_nodes.cliport.heightmap import View, fuse, fuse_each
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.command_line import run, say
from vlm_nodes.geometry import Camera

DEFAULT_DATA = Path(os.environ.get('VLM_DATA', '../shared/data'))
DEPTH_UNITS_PER_M = 10000
PIXEL_M = 0.002


def main() -> int:
    """Exit code 0: measured; 2: there is no recording."""
    parser = argparse.ArgumentParser(description='Agreement of two cameras over a tote.')
    parser.add_argument('--data', type=Path, default=DEFAULT_DATA)
    parser.add_argument('--quick', action='store_true', help='changes nothing: it takes seconds')
    options = parser.parse_args()
    return run('cliport_tote', lambda: _run(options.data))


def _run(data: Path) -> int:
    say(json.dumps(figures(data / 'tote_rgbd')))
    return 0


def figures(folder: Path) -> dict[str, float]:
    """All figures of the recording."""
    workspace = workspace_of(folder)
    correction = align(*read_views(folder, 'background'), workspace, scale_depth=True)
    first, second = read_views(folder, 'input')
    scaled = replace(first, depth_m=first.depth_m * np.float32(correction.depth_scale))
    aligned = [correction.apply(first), second]
    return {
        **_named('raw', [first, second], workspace),
        **_named('scaled', [scaled, second], workspace),
        **_named('aligned', aligned, workspace),
        'depth_scale': round(correction.depth_scale, 4),
        'coverage': round(fuse(aligned, workspace).coverage, 3),
        **_held_against_published(folder, [first, second]),
    }


def workspace_of(folder: Path) -> Workspace:
    """60 by 40 cm around the tote's floor, from 8 cm under where it is said to be to 30 above."""
    x, y, z = np.loadtxt(folder / 'bin-position.txt')
    return Workspace((x - 0.3, x + 0.3), (y - 0.2, y + 0.2), (z - 0.08, z + 0.3), PIXEL_M)


def read_views(folder: Path, kind: str) -> list[View]:
    """Both cameras' frames of a kind, `background` (the empty tote) or `input`."""
    return [_view(folder, kind, number) for number in (0, 1)]


def _view(folder: Path, kind: str, number: int) -> View:
    color = _picture(folder / f'{kind}-{number}.color.png', cv2.IMREAD_COLOR)
    depth = _picture(folder / f'{kind}-{number}.depth.png', cv2.IMREAD_UNCHANGED)
    height, width = depth.shape
    k = np.loadtxt(folder / f'camera-{number}.intrinsics.txt')
    return View(
        np.ascontiguousarray(color[..., ::-1]),
        (depth / DEPTH_UNITS_PER_M).astype(np.float32),
        Camera.from_matrix(k, width, height),
        np.loadtxt(folder / f'camera-{number}.pose.txt'),
    )


def _picture(path: Path, mode: int) -> np.ndarray:
    picture = cv2.imread(str(path), mode)
    if picture is None:
        raise FileNotFoundError(f'no picture {path}')
    return picture


def _named(name: str, views: list[View], workspace: Workspace) -> dict[str, float]:
    agreement = agreements(views, workspace)[0]
    one, other = fuse_each(views, workspace)
    apart_m = np.abs(one.height_m - other.height_m)[one.seen & other.seen]
    return {
        f'{name}_median_mm': round(agreement.median_m * 1e3, 1),
        f'{name}_p90_mm': round(agreement.p90_m * 1e3, 1),
        f'{name}_within_cm': round(float((apart_m <= 0.01).mean()), 3),
        f'{name}_share': round(agreement.share, 3),
    }


def _held_against_published(folder: Path, views: list[View]) -> dict[str, float]:
    """The publishers' heightmap: 2 mm pixels, 60 by 40 cm, y upwards, turned by 11/16 of a turn."""
    x, y, z = np.loadtxt(folder / 'bin-position.txt')
    whole = Workspace((x - 0.3, x + 0.3), (y - 0.2, y + 0.2), (z - 0.3, z + 0.5), PIXEL_M)
    published = _picture(folder / 'test-heightmap.color.png', cv2.IMREAD_COLOR)[..., ::-1]
    ours = np.zeros_like(published)
    ours[60:260, 10:310] = np.flipud(fuse(views, whole).color)
    turn = cv2.getRotationMatrix2D((159.5, 159.5), 360 * 11 / 16, 1)
    ours = cv2.warpAffine(ours, turn, (320, 320), flags=cv2.INTER_NEAREST)
    seen = [picture.any(axis=-1) for picture in (ours, published)]
    both, either = seen[0] & seen[1], seen[0] | seen[1]
    apart = np.abs(ours[both].astype(int) - published[both])
    return {
        'published_overlap': round(float(both.sum() / either.sum()), 3),
        'published_difference': float(np.median(apart)),
    }


if __name__ == '__main__':
    sys.exit(main())
