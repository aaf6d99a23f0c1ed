"""Two real RGB-D cameras over one tote: how far apart their heights are, before and after aligning.

The calibration that comes with the recording is off: as it is, everything shows twice. Camera 0 is
aligned to camera 1 on the frames of the empty tote (a pose and a factor on its depths), and what
came of it is measured on frames of the tote with things in it, which the alignment did not see.

    python benchmarks/cliport_tote.py [--data FOLDER]

FOLDER (default: VLM_DATA, else ../shared/data) holds `tote_rgbd`.
Prints one JSON object: medians and 90th percentiles of the difference in
height where both cameras see, in millimetres; the share of the workspace that both see; the factor
on depths; and what the aligned two see together.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np

from vlm_nodes.cliport.alignment import Agreement, agreements, align
from vlm_nodes.cliport.heightmap import View, fuse
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
    aligned = [correction.apply(first), second]
    return {
        **_named('raw', agreements([first, second], workspace)[0]),
        **_named('aligned', agreements(aligned, workspace)[0]),
        'depth_scale': round(correction.depth_scale, 4),
        'coverage': round(fuse(aligned, workspace).coverage, 3),
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


def _named(name: str, agreement: Agreement) -> dict[str, float]:
    return {
        f'{name}_median_mm': round(agreement.median_m * 1e3, 1),
        f'{name}_p90_mm': round(agreement.p90_m * 1e3, 1),
        f'{name}_share': round(agreement.share, 3),
    }


if __name__ == '__main__':
    sys.exit(main())
