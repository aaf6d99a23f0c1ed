"""What `check_dataset` does with surround cameras: opens them, checks, and says what it found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vlm_nodes.command_line import say
from vlm_nodes.surround.calibration_check import CalibrationReport, check_calibration
from vlm_nodes.surround.errors import SurroundError
from vlm_nodes.surround.keyframe import CAMERAS, Keyframe
from vlm_nodes.surround.keyframe_file import read_keyframe_file
from vlm_nodes.surround.nuscenes import NuScenes


def is_surround(path: Path) -> bool:
    """Whether a path is a folder in nuScenes' layout, or a keyframe's file."""
    if path.is_file():
        return path.suffix == '.json'
    return (path / 'sample.json').is_file() or any(path.glob('*/sample.json'))


def some_keyframes(path: Path, cameras: Sequence[str], count: int) -> list[Keyframe]:
    """Keyframes with LiDAR sweeps, spread over the data.

    Raises:
        SurroundError: They cannot be read, or have no sweeps.
    """
    if path.is_file():
        keyframe, _ = read_keyframe_file(path)
        return [keyframe]
    try:
        drives = NuScenes(path, cameras=cameras, lidar=True, require_files=True)
    except SurroundError as error:
        raise SurroundError(f'calibration is checked by LiDAR sweeps: {error}') from error
    places = np.unique(np.linspace(0, len(drives) - 1, count).round().astype(int))
    return [drives[int(place)] for place in places]


def check_surround(
    path: Path, *, cameras: Sequence[str] = CAMERAS, keyframes: int = 6, as_json: bool = False
) -> int:
    """Check where cameras look, and print what was found.

    Returns:
        0: where their calibration says; 1: not, or it cannot be told.

    Raises:
        SurroundError: The data cannot be read, or have no sweeps.
    """
    if keyframes < 1:
        raise SurroundError(f'--keyframes must be at least 1, is {keyframes}')
    report = check_calibration(some_keyframes(path, cameras, keyframes))
    say(_as_json(path, report) if as_json else _as_text(path, report))
    return 0 if report.fits else 1


def _as_text(path: Path, report: CalibrationReport) -> str:
    lines = [
        f'surround cameras of {path}: {report.keyframes} keyframe(s), pictures against LiDAR',
        f'\n{"camera":18} {"jumps":>6} {"as given":>9} {"best":>6} {"yaw":>6} {"pitch":>6}',
    ]
    lines += [
        f'{fit.name:18} {fit.jumps:6d} {fit.given:9.1f} {fit.best:6.1f} '
        f'{fit.yaw_deg:+6.1f} {fit.pitch_deg:+6.1f}{"" if fit.is_known else "  (chance)"}'
        for fit in report.cameras
    ]
    return '\n'.join([*lines, f'\nverdict: {report.text}'])


def _as_json(path: Path, report: CalibrationReport) -> str:
    page = {
        'dataset': str(path),
        'fits': report.fits,
        'text': report.text,
        'keyframes': report.keyframes,
        'cameras': [asdict(fit) for fit in report.cameras],
    }
    return json.dumps(page, indent=2)
