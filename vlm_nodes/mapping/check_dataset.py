"""check_dataset DATASET_OR_BAG: does a recording of posed RGB-D fuse, and if not, why not.

Of surround cameras: do they look where their calibration says?
"""

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

from vlm_nodes.command_line import run
from vlm_nodes.geometry.frame import RgbdFrame
from vlm_nodes.geometry.rigid import invert, transform_points
from vlm_nodes.mapping.dataset_options import add_dataset_arguments, open_dataset
from vlm_nodes.mapping.datasets import Correction
from vlm_nodes.mapping.fusion_check import (
    AS_GIVEN,
    ColorHypothesis,
    Hypothesis,
    Report,
    Verdict,
    check,
)
from vlm_nodes.mapping.pictures import Image, depth_picture, error_picture, panels, write_picture
from vlm_nodes.mapping.reprojection import FramePair, pixel_index, relative_pose, sampled_points
from vlm_nodes.surround.check import check_surround, is_surround
from vlm_nodes.surround.keyframe import CAMERAS

_ERROR_TOP_M = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: it fuses, or fits; 1: it does not; 2: it cannot be read."""
    options = _parser().parse_args(arguments)
    return run('check_dataset', lambda: _run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='check_dataset',
        description='Check whether posed RGB-D fuses: carries depth from frame to frame, tries the '
        'usual mistakes in poses, axes, units and colour registration, and names the one that '
        'explains it with the option that cures it. Of surround cameras (a folder in the layout of '
        "nuScenes, or a keyframe's .json) it holds LiDAR against pictures, and names cameras that "
        'look elsewhere than their calibration says.',
        epilog='Exit code: 0 it fuses, 1 it does not or cannot be told, 2 it cannot be read.',
    )
    add_dataset_arguments(parser)
    parser.add_argument(
        '--picture',
        type=Path,
        metavar='FILE',
        help='where to write the picture (default: check_NAME.png in this folder)',
    )
    parser.add_argument('--no-picture', action='store_true', help='write no picture')
    parser.add_argument('--json', action='store_true', help='print the figures as JSON')
    add = parser.add_argument_group('surround cameras').add_argument
    add('--cameras', nargs='+', default=list(CAMERAS), metavar='CAM', help='default: all six')
    add('--keyframes', type=int, default=6, metavar='N', help='spread over the data (default: 6)')
    return parser


def _run(options: argparse.Namespace) -> int:
    if is_surround(options.dataset):
        return check_surround(
            options.dataset,
            cameras=options.cameras,
            keyframes=options.keyframes,
            as_json=options.json,
        )
    dataset = open_dataset(options)
    # The bar vanishes when done, and where nobody watches there is none.
    report = check(tqdm(dataset, unit='frame', leave=False, disable=None))
    picture = None
    if report.pairs and not options.no_picture:
        name = options.dataset.resolve().name
        picture = options.picture or Path(f'check_{name}.png')
        write_picture(picture, report_picture(report))
    if options.json:
        print(json.dumps(_as_json(dataset.description, report, picture), indent=2))
    else:
        _print_report(dataset.description, report, picture)
    return 0 if report.verdict is Verdict.FUSES else 1


def report_picture(report: Report) -> Image:
    """One pair of frames: colours, depth of the first in the second, and where they differ.

    Where a mistake was found there is a second row, with it put right.

    Args:
        report: Of a check that found pairs.
    """
    pair = report.pairs[len(report.pairs) // 2]
    rows = [*_row(pair, AS_GIVEN, 'as given')]
    if report.correction != AS_GIVEN:
        rows += _row(pair, report.correction, 'put right')
    colors = [
        (f'A: frame {pair.first_index}', pair.first.rgb),
        (f'B: frame {pair.second_index}', pair.second.rgb),
    ]
    carried = warped_color(pair, report.correction)
    return panels([*colors, ('colour of A carried into B by depth', carried), *rows], columns=3)


def _row(pair: FramePair, correction: Correction, name: str) -> list[tuple[str, Image]]:
    carried = warped_depth(pair, correction)
    measured = correction.depth(pair.second.depth_m)
    near, far = np.nanpercentile(measured, [2, 98]) if np.isfinite(measured).any() else (0, 1)
    error = carried - measured
    middle = float(np.nanmedian(np.abs(error))) if np.isfinite(error).any() else math.nan
    top = _ERROR_TOP_M if far < 100 else _ERROR_TOP_M * 1000
    return [
        (f'depth of A carried into B, {name}', depth_picture(carried, near, far)),
        (f'depth of B, {near:.2f} to {far:.2f} m', depth_picture(measured, near, far)),
        (f'difference, {name}: median {middle:.3f} m', error_picture(error, top)),
    ]


def warped_depth(pair: FramePair, correction: Correction) -> NDArray[np.float32]:
    """The first frame's depth as the second's depth camera would see it.

    Returns:
        (h, w) float32 metres, the nearest reading of each pixel; NaN where none falls.
    """
    points = _points(pair.first, correction)
    moved = transform_points(relative_pose(pair, correction), points)
    camera = pair.second.depth_camera
    inside, rows, columns = pixel_index(camera.project(moved), camera.width, camera.height)
    warped = np.full((camera.height, camera.width), np.inf, dtype=np.float32)
    np.minimum.at(warped, (rows, columns), moved[inside, 2].astype(np.float32))
    return np.where(np.isfinite(warped), warped, np.float32(np.nan))


def warped_color(pair: FramePair, correction: Correction) -> Image:
    """The first frame's colours as the second's depth camera would see them.

    Returns:
        (h, w, 3) uint8 RGB; black where no reading falls.
    """
    first, camera = pair.first, pair.second.depth_camera
    points = _points(first, correction)
    color_from_depth = invert(correction.pose(first.map_from_color)) @ correction.pose(
        first.map_from_depth
    )
    source = first.color_camera.project(transform_points(color_from_depth, points))
    colored, rows, columns = pixel_index(source, first.rgb.shape[1], first.rgb.shape[0])
    moved = transform_points(relative_pose(pair, correction), points[colored])
    far_first = np.argsort(-moved[:, 2])  # what is nearer is written later, and stays
    colors, moved = first.rgb[rows, columns][far_first], moved[far_first]
    inside, rows, columns = pixel_index(camera.project(moved), camera.width, camera.height)
    warped = np.zeros((camera.height, camera.width, 3), dtype=np.uint8)
    warped[rows, columns] = colors[inside]
    return warped


def _points(frame: RgbdFrame, correction: Correction) -> NDArray[np.float64]:
    """Every depth reading of a frame: (N, 3) metres in its depth camera's frame."""
    return sampled_points(frame, frame.depth_m.size) * correction.depth_scale


def _print_report(description: str, report: Report, picture: Path | None) -> None:
    print(description)
    print(f'{report.frames} frames read, {len(report.pairs)} pairs held against each other')
    if report.hypotheses:
        print(f'\n{"median error":>13} {"of depth":>9} {"overlap":>8} {"agree":>6}  depth, if')
        for hypothesis in report.hypotheses:
            print(_depth_line(hypothesis))
    if report.color:
        print(f'\n{"correlation":>13} {"gain":>6} {"shift":>9}  colour')
        for color in report.color:
            fit = color.fit
            print(f'{fit.correlation:13.3f} {fit.gain:6.3f} {fit.shift_px:6.1f} px  {color.text}')
    for note in report.notes:
        print(f'\nnote: {note}')
    if picture:
        print(f'\npicture: {picture}')
    print(f'\nverdict: {report.text}')


def _depth_line(hypothesis: Hypothesis) -> str:
    fit = hypothesis.fit
    error = '-' if math.isnan(fit.median_error_m) else f'{fit.median_error_m * 1e3:.1f} mm'
    share = '-' if math.isnan(fit.median_share) else f'{fit.median_share:.1%}'
    return f'{error:>13} {share:>9} {fit.overlap:8.0%} {fit.agreement:6.0%}  {hypothesis.text}'


def _as_json(description: str, report: Report, picture: Path | None) -> dict[str, Any]:
    return {
        'dataset': description,
        'verdict': report.verdict.value,
        'text': report.text,
        'frames': report.frames,
        'pairs': [[pair.first_index, pair.second_index] for pair in report.pairs],
        'depth': [_depth_json(hypothesis) for hypothesis in report.hypotheses],
        'color': [_color_json(color) for color in report.color],
        'notes': list(report.notes),
        'picture': str(picture) if picture else None,
    }


def _depth_json(hypothesis: Hypothesis) -> dict[str, Any]:
    fit = hypothesis.fit
    return {
        'if': hypothesis.text,
        'median_error_m': _number(fit.median_error_m),
        'median_share': _number(fit.median_share),
        'overlap': fit.overlap,
        'agreement': fit.agreement,
    }


def _color_json(color: ColorHypothesis) -> dict[str, Any]:
    camera = color.camera
    return {
        'if': color.text,
        'correlation': _number(color.fit.correlation),
        'gain': _number(color.fit.gain),
        'shift_px': _number(color.fit.shift_px),
        'intrinsics': [camera.fx, camera.fy, camera.cx, camera.cy],
    }


def _number(value: float) -> float | None:
    """A number for JSON, which knows no NaN."""
    return None if math.isnan(value) else value


if __name__ == '__main__':
    sys.exit(main())
