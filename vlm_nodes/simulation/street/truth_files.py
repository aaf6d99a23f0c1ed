"""What each pixel and each LiDAR point of a recorded street shows, beside the pictures."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.surround.errors import SurroundError


@dataclass(frozen=True)
class PixelTruth:
    """What a picture shows.

    Attributes:
        depth_m: (H, W) float32 along the camera's z; +inf where there is sky.
        semantics: (H, W) uint8 numbers of Occ3D's classes; that of free space where there is sky.
        things: (H, W) uint16 numbers of the street's things; 0 elsewhere.
    """

    depth_m: NDArray[np.float32]
    semantics: NDArray[np.uint8]
    things: NDArray[np.uint16]


def truth_path(sensor_file: Path) -> Path:
    """The file of what a picture or a sweep shows: `truth/` instead of `samples/`, as `.npz`."""
    root, channel = sensor_file.parents[2], sensor_file.parent.name
    return root / 'truth' / channel / f'{sensor_file.name.partition(".")[0]}.npz'


def read_pixel_truth(picture: Path) -> PixelTruth:
    """What a picture of a recorded street shows.

    Raises:
        SurroundError: There is no such file beside the picture, or it is broken.
    """
    arrays = _read(truth_path(picture), ('depth_m', 'semantics', 'things'))
    return PixelTruth(**arrays)


def read_point_truth(sweep: Path) -> NDArray[np.uint8]:
    """Numbers of Occ3D's classes, (N,), of the points of a recorded sweep.

    Raises:
        SurroundError: There is no such file beside the sweep, or it is broken.
    """
    semantics: NDArray[np.uint8] = _read(truth_path(sweep), ('semantics',))['semantics']
    return semantics


def _read(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise SurroundError(f'{path} is missing: only simulated streets have it')
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise SurroundError(f'{path} is broken: {error}') from None
