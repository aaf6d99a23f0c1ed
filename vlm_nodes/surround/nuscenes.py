"""Keyframes of nuScenes, or of anything in its table layout, without its development kit."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final, overload

import numpy as np
from numpy.typing import ArrayLike

from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import matrix_from_quaternion
from vlm_nodes.surround.errors import SurroundError
from vlm_nodes.surround.index import NONE, load_index
from vlm_nodes.surround.keyframe import (
    CAMERAS,
    LIDAR,
    Keyframe,
    LidarSweep,
    Matrix,
    SurroundImage,
)
from vlm_nodes.surround.tables import find_tables

_LOGGER = logging.getLogger(__name__)
SIZE: Final = (1600, 900)
"""Width and height of a picture whose row says none: nuScenes' own."""

# Columns of an index record.
_FILE, _SENSOR, _CALIBRATION, _POSE_TOKEN, _POSE, _STAMP, _WIDTH, _HEIGHT = range(8)


@dataclass(frozen=True)
class LeftOut:
    """How many of the tables' keyframes are not in the data set, and why.

    Attributes:
        without_rows: those for which the tables list none of the cameras asked for, or no LiDAR
            where it is asked for.
        without_files: those with a file that is not on disk, where files are required.
        first_missing: the first such file.
    """

    without_rows: int = 0
    without_files: int = 0
    first_missing: Path | None = None

    def __str__(self) -> str:
        """In words, '' if nothing was left out."""
        reasons = []
        if self.without_rows:
            reasons.append(f'{self.without_rows} without rows of the sensors asked for')
        if self.without_files:
            reasons.append(f'{self.without_files} without all files (first: {self.first_missing})')
        return ', '.join(reasons)


class NuScenes(Sequence[Keyframe]):
    """The keyframes of a data set, scene after scene, in time order.

    Attributes:
        root: Folder that file names start from.
        cameras: Names of the cameras asked for.
        left_out: What is not in it, and why.

    Args:
        root: Folder of the data set, or of its tables.
        version: Name of the tables' folder, such as 'v1.0-trainval'; not needed where there is
            only one.
        cameras: Which cameras, in the order wanted.
        scenes: Names of the scenes to keep; None keeps all.
        lidar: Whether keyframes must have a LiDAR sweep, which is then given with them.
        require_files: Leave out keyframes of which a file is missing. Otherwise no file is looked
            for, and reading a missing one is an error.
        max_samples: Keep the first so many keyframes; None keeps all.
        cache: Folder for the index of the tables; None keeps it beside them.

    Raises:
        SurroundError: A table is missing or broken, a name is not known, a camera used has no
            calibration, or no keyframe is left.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        version: str | None = None,
        cameras: Sequence[str] = CAMERAS,
        scenes: Sequence[str] | None = None,
        lidar: bool = False,
        require_files: bool = False,
        max_samples: int | None = None,
        cache: Path | str | None = None,
    ) -> None:
        self.tables, self.root = find_tables(Path(root), version)
        self.cameras = tuple(cameras)
        self._lidar = lidar
        self._index = load_index(self.tables, Path(cache) if cache is not None else None)
        self._check_cameras()
        self._kept, self.left_out = self._choose(self._scene_places(scenes), require_files)
        if max_samples is not None:
            if max_samples < 1:
                raise SurroundError(f'max_samples must be at least 1, is {max_samples}')
            self._kept = self._kept[:max_samples]
        if not self._kept:
            raise SurroundError(
                f'{self.tables} leaves no keyframe: {self.left_out or "it is empty"}'
            )
        self._check_calibrations()
        self._place_of_token = {self._sample(i)[0]: i for i in range(len(self))}
        if str(self.left_out):
            _LOGGER.warning('%s: left out of keyframes: %s', self.tables, self.left_out)

    def __len__(self) -> int:
        """How many keyframes there are."""
        return len(self._kept)

    @overload
    def __getitem__(self, index: int) -> Keyframe: ...

    @overload
    def __getitem__(self, index: slice) -> list[Keyframe]: ...

    def __getitem__(self, index: int | slice) -> Keyframe | list[Keyframe]:
        """A keyframe, or several.

        Raises:
            IndexError: There is no such keyframe.
            SurroundError: Its calibration or poses are no numbers that make sense.
        """
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        token, stamp_us, scene = self._sample(range(len(self))[index])
        record = self._index.records[self._kept[index]]
        cameras = {name: self._image(name, record[name]) for name in self.cameras if name in record}
        sweep = self._sweep(record[LIDAR]) if self._lidar else None
        first = next(iter(cameras.values()))
        own = self._pose(record[LIDAR]) if LIDAR in record else first.map_from_ego
        name = self._index.scenes[scene][1]
        return Keyframe(token, stamp_us * 1000, name, own, cameras, sweep)

    def pictures(self, index: int) -> tuple[str, dict[str, Path]]:
        """A keyframe's token and pictures by camera, without calibrations and poses.

        Raises:
            IndexError: There is no such keyframe.
            SurroundError: A path leaves the data set's folder.
        """
        record = self._index.records[self._kept[index]]
        paths = {name: self._path(record[name]) for name in self.cameras if name in record}
        return self._sample(index)[0], paths

    def index_of(self, token: str) -> int:
        """The place of a sample.

        Raises:
            KeyError: It is not in the data set.
        """
        return self._place_of_token[token]

    def neighbours(self, index: int, before: int = 12, after: int = 12) -> list[int]:
        """The places of the keyframes about one, itself included, in time order.

        Those left out of the data set are skipped, and count: what comes back is never further
        than `before` and `after` samples away, and of the same scene.
        """
        own = self._kept[range(len(self))[index]]
        scene = self._index.samples[own][2]
        reach = range(max(0, index - before), min(len(self), index + after + 1))
        return [
            place
            for place in reach
            if -before <= self._kept[place] - own <= after
            and self._index.samples[self._kept[place]][2] == scene
        ]

    def scenes(self) -> dict[str, list[int]]:
        """The places of each scene's keyframes, in time order, by the scene's name."""
        found: dict[str, list[int]] = {}
        for place in range(len(self)):
            found.setdefault(self._index.scenes[self._sample(place)[2]][1], []).append(place)
        return found

    def _sample(self, index: int) -> list[Any]:
        return self._index.samples[self._kept[index]]

    def _check_cameras(self) -> None:
        known = {name for record in self._index.records for name in record}
        if not self.cameras:
            raise SurroundError('no camera is asked for')
        if len(set(self.cameras)) < len(self.cameras):
            raise SurroundError(f'a camera is asked for twice: {", ".join(self.cameras)}')
        wrong = [name for name in self.cameras if name not in known or name == LIDAR]
        if wrong:
            raise SurroundError(
                f'{self.tables} has no {", ".join(wrong)}; '
                f'its cameras are {", ".join(sorted(known - {LIDAR})) or "none"}'
            )

    def _scene_places(self, names: Sequence[str] | None) -> set[int]:
        place = {name: i for i, (_, name) in enumerate(self._index.scenes)}
        if names is None:
            return set(place.values())
        wrong = [name for name in names if name not in place]
        if wrong:
            raise SurroundError(f'{self.tables} has no scene {", ".join(wrong)}')
        return {place[name] for name in names}

    def _choose(self, scenes: set[int], require_files: bool) -> tuple[list[int], LeftOut]:
        kept: list[int] = []
        without_rows = without_files = 0
        first: Path | None = None
        for place, (sample, record) in enumerate(
            zip(self._index.samples, self._index.records, strict=True)
        ):
            if sample[2] not in scenes:
                continue
            if not self._has_rows(record):
                without_rows += 1
                continue
            missing = self._missing_file(record) if require_files else None
            if missing is not None:
                without_files, first = without_files + 1, first or missing
                continue
            kept.append(place)
        return kept, LeftOut(without_rows, without_files, first)

    def _has_rows(self, record: dict[str, list[Any]]) -> bool:
        has_camera = any(name in record for name in self.cameras)
        return has_camera and (LIDAR in record or not self._lidar)

    def _missing_file(self, record: dict[str, list[Any]]) -> Path | None:
        wanted = (*self.cameras, LIDAR) if self._lidar else self.cameras
        paths = (self._path(record[name]) for name in wanted if name in record)
        return next((path for path in paths if not path.is_file()), None)

    def _check_calibrations(self) -> None:
        """Every row used, now rather than hours into a training."""
        wanted = (*self.cameras, LIDAR)
        for place in self._kept:
            for name, row in self._index.records[place].items():
                if name in wanted:
                    self._check_row(name, row, self._index.samples[place][0])

    def _check_row(self, name: str, row: list[Any], sample: str) -> None:
        where = f'{self.tables / "sample_data.json"}: {name} of sample {sample!r}'
        if row[_CALIBRATION] == NONE:
            raise SurroundError(
                f'{where} has no calibration: calibrated_sensor.json lacks {row[_SENSOR]!r}'
            )
        if row[_POSE] == NONE:
            raise SurroundError(f'{where} has no pose: ego_pose.json lacks {row[_POSE_TOKEN]!r}')
        if name != LIDAR and not self._index.calibrations[row[_CALIBRATION]][2]:
            raise SurroundError(
                f'{self.tables / "calibrated_sensor.json"}: {row[_SENSOR]!r}, of {name}, '
                'has no camera_intrinsic: the camera is not calibrated'
            )

    def _image(self, name: str, row: list[Any]) -> SurroundImage:
        translation, rotation, intrinsic = self._index.calibrations[row[_CALIBRATION]]
        where = f'{self.tables / "calibrated_sensor.json"}: {row[_SENSOR]!r}, of {name}'
        size = (row[_WIDTH], row[_HEIGHT]) if row[_WIDTH] and row[_HEIGHT] else SIZE
        try:
            camera = Camera.from_matrix(intrinsic, *size)
        except (ValueError, TypeError) as error:
            raise SurroundError(f'{where}: {error}') from None
        mounting = _matrix(translation, rotation, where)
        stamp_ns = row[_STAMP] * 1000
        return SurroundImage(self._path(row), camera, mounting, self._pose(row), stamp_ns)

    def _sweep(self, row: list[Any]) -> LidarSweep:
        translation, rotation, _ = self._index.calibrations[row[_CALIBRATION]]
        where = f'{self.tables / "calibrated_sensor.json"}: {row[_SENSOR]!r}, of {LIDAR}'
        mounting = _matrix(translation, rotation, where)
        return LidarSweep(self._path(row), mounting, self._pose(row), row[_STAMP] * 1000)

    def _pose(self, row: list[Any]) -> Matrix:
        where = f'{self.tables / "ego_pose.json"}: {row[_POSE_TOKEN]!r}'
        translation, rotation = self._index.poses[row[_POSE]]
        return _matrix(translation, rotation, where)

    def _path(self, row: list[Any]) -> Path:
        return self.root / relative_path(row[_FILE])


def relative_path(name: str) -> PurePosixPath:
    """The place of a sensor file below the data set's folder.

    Tables that went through other tools hold back slashes, or whole paths of another machine; of
    those the part from `samples` or `sweeps` on is taken.

    Raises:
        SurroundError: The path is whole and has neither, or leaves the folder.
    """
    parts = [part for part in re.split(r'[/\\]+', name) if part not in ('', '.')]
    is_whole = name[:1] in ('/', '\\') or name[1:2] == ':'
    if is_whole:
        start = [i for i, part in enumerate(parts) if part in ('samples', 'sweeps')]
        if not start:
            raise SurroundError(f'file name {name!r} lies outside of the data set')
        parts = parts[start[-1] :]
    if not parts or '..' in parts:
        raise SurroundError(f'file name {name!r} lies outside of the data set')
    return PurePosixPath(*parts)


def _matrix(translation: ArrayLike, rotation_wxyz: Sequence[float], where: str) -> Matrix:
    try:
        w, x, y, z = rotation_wxyz
        return matrix_from_quaternion((x, y, z, w), np.asarray(translation, np.float64))
    except (ValueError, TypeError) as error:
        raise SurroundError(f'{where}: {error}') from None
