"""Posed RGB-D recordings on disk, each an iterable of RgbdFrame: folders, and bags.

Frames of a folder are paired by name. Sorting two folders and zipping them, as is often done, pairs
every later frame wrongly once a single file is missing.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry.camera import Camera
from vlm_nodes.geometry.depth import depth_to_metres
from vlm_nodes.geometry.frame import RgbdFrame
from vlm_nodes.geometry.rigid import (
    BODY_FROM_OPTICAL,
    invert,
    is_rigid,
    matrix_from_quaternion,
    quaternion_from_matrix,
)

Matrix = NDArray[np.float64]
Intrinsics = tuple[float, float, float, float]

CONFIG_NAME = 'dataset.json'
# Folders hold no time: frames are stamped by their place, one second apart.
FOLDER_STEP_NS = 1_000_000_000
# Trackers that chain rotations let them drift from exact ones: 7-Scenes' by 2e-4.
_POSE_TOLERANCE = 1e-2

# Axes that the poses' camera frame may have, as the matrix `axes_from_optical`.
CAMERA_AXES: dict[str, Matrix] = {
    'optical': np.eye(4),
    'opengl': np.diag([1.0, -1.0, -1.0, 1.0]),
    'body': BODY_FROM_OPTICAL,
    'turned': BODY_FROM_OPTICAL.T,
}

# For each axis that may point up, the matrix `upright_from_map` that makes it z.
UP_AXES: dict[str, Matrix] = {
    'z': np.eye(4),
    '-z': np.diag([1.0, -1.0, -1.0, 1.0]),
    'y': np.array(
        [[0.0, 0.0, -1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    ),
    '-y': BODY_FROM_OPTICAL,
}


class DatasetError(Exception):
    """A data set cannot be read; the text names the file and the reason."""


class RgbdDataset(Protocol):
    """Posed RGB-D frames in their order, read anew for each iteration."""

    @property
    def description(self) -> str:
        """What it is, in one line."""
        ...

    @property
    def frame_id(self) -> str:
        """Frame that the poses are given in."""
        ...

    def __len__(self) -> int:
        """Frames at most; a bag may yield fewer, where a partner or a pose is missing."""
        ...

    def __iter__(self) -> Iterator[RgbdFrame]:
        """The frames, one in memory at a time."""
        ...


@dataclass(frozen=True)
class Correction:
    """What to put right in poses and depth that were stored by another convention.

    Attributes:
        poses_inverted: The poses are camera-from-map and are to be inverted.
        camera_axes: Axes of the camera frame in the poses: 'optical' (x right, y down, z forward),
            'opengl' (x right, y up, z backward), 'body' (x forward, y left, z up), or 'turned'
            (optical poses that were already turned from body to optical axes once too often).
        depth_scale: Factor on the depth.

    Raises:
        ValueError: The axes are unknown, or the factor is not positive.
    """

    poses_inverted: bool = False
    camera_axes: str = 'optical'
    depth_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the values and name the bad one."""
        if self.camera_axes not in CAMERA_AXES:
            raise ValueError(f'camera_axes = {self.camera_axes!r} is none of {list(CAMERA_AXES)}')
        if not (np.isfinite(self.depth_scale) and self.depth_scale > 0):
            raise ValueError(f'depth_scale = {self.depth_scale} must be a positive number')

    def pose(self, stored: Matrix) -> Matrix:
        """`map_from_optical` (4, 4) from a stored pose."""
        return (invert(stored) if self.poses_inverted else stored) @ CAMERA_AXES[self.camera_axes]

    def __str__(self) -> str:
        parts = ['poses inverted'] if self.poses_inverted else []
        if self.camera_axes != 'optical':
            parts.append(f'camera axes {self.camera_axes}')
        if self.depth_scale != 1:
            parts.append(f'depth times {self.depth_scale:g}')
        return ', '.join(parts) or 'nothing'

    def depth(self, depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
        """Depth in metres from depth as it was read."""
        return depth_m if self.depth_scale == 1.0 else depth_m * np.float32(self.depth_scale)


@dataclass(frozen=True)
class FolderConfig:
    """What a folder of images does not say itself; also the keys of its `dataset.json`.

    Attributes:
        depth_intrinsics: fx, fy, cx, cy of the depth image, in pixels.
        color_intrinsics: The same of the colour image. None takes colour as registered to depth.
        color_from_depth: 16 numbers, row by row: depth optical frame to colour optical frame.
        depth_unit_m: Metres of one unit of stored depth; None is 1 for floats, 0.001 for integers.
        base_from_camera: 9 or 16 numbers, row by row: camera to base frame, where the poses are
            the base's.
        camera_height_m: How far the camera is above the base, along the base's up axis.
        forward_axis: The base's axis that becomes the map's x.
        left_axis: The base's axis that becomes the map's y.
        up_axis: The base's axis that becomes the map's z.
        poses_inverted: The poses are camera-from-map.
        camera_axes: Axes of the poses' camera frame; see `Correction`.
        frame_id: Name of the frame that the poses are given in.

    Raises:
        ValueError: A value has the wrong length, or is no rotation, or is not positive.
    """

    depth_intrinsics: Intrinsics | None = None
    color_intrinsics: Intrinsics | None = None
    color_from_depth: tuple[float, ...] | None = None
    depth_unit_m: float | None = None
    base_from_camera: tuple[float, ...] | None = None
    camera_height_m: float = 0.0
    forward_axis: tuple[float, ...] = (1.0, 0.0, 0.0)
    left_axis: tuple[float, ...] = (0.0, 1.0, 0.0)
    up_axis: tuple[float, ...] = (0.0, 0.0, 1.0)
    poses_inverted: bool = False
    camera_axes: str = 'optical'
    frame_id: str = 'map'

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        for name in ('depth_intrinsics', 'color_intrinsics'):
            value = getattr(self, name)
            if value is not None and len(value) != 4:
                raise ValueError(f'{name} = {value} must be the four numbers fx, fy, cx, cy')
        if self.depth_unit_m is not None and not self.depth_unit_m > 0:
            raise ValueError(f'depth_unit_m = {self.depth_unit_m} must be a positive number')
        if not np.isfinite(self.camera_height_m):
            raise ValueError(f'camera_height_m = {self.camera_height_m} must be a finite number')
        for name in ('color_from_depth', 'base_from_camera'):
            _rigid_from_numbers(name, getattr(self, name))
        if not is_rigid(self._axes()):
            raise ValueError(
                f'forward_axis {self.forward_axis}, left_axis {self.left_axis} and up_axis '
                f'{self.up_axis} are not the axes of a right-handed frame'
            )
        _ = self.correction  # checks the axes' name

    @classmethod
    def from_json(cls, path: Path) -> FolderConfig:
        """The configuration in a JSON file of the fields above; unknown keys are refused.

        Raises:
            DatasetError: The file cannot be read, or holds a key or value that does not fit.
        """
        values = _json_object(path)
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f'; did you mean {near[0]}?' if near else f'; known are {", ".join(known)}'
                raise DatasetError(f'{path}: unknown key {key!r}{hint}')
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise DatasetError(f'{path}: {error}') from error

    def to_json(self) -> str:
        """The text of a `dataset.json` with these values."""
        return json.dumps({k: v for k, v in asdict(self).items() if v is not None}, indent=2)

    @property
    def correction(self) -> Correction:
        """What is to be put right in poses."""
        return Correction(self.poses_inverted, self.camera_axes)

    def map_from_depth(self, stored: Matrix) -> Matrix:
        """`map_from_depth` (4, 4), optical axes, from a pose of the folder."""
        # The mount stands between the base's pose and the camera, the axes behind both.
        mount = _rigid_from_numbers('base_from_camera', self.base_from_camera)
        mount[:3, 3] += self.camera_height_m * np.asarray(self.up_axis)
        pose = invert(stored) if self.poses_inverted else stored
        return self._axes() @ pose @ mount @ CAMERA_AXES[self.camera_axes]

    def depth_from_color(self) -> Matrix:
        """`depth_from_color` (4, 4), optical axes."""
        return invert(_rigid_from_numbers('color_from_depth', self.color_from_depth))

    def _axes(self) -> Matrix:
        matrix = np.eye(4)
        try:
            matrix[:3, :3] = [self.forward_axis, self.left_axis, self.up_axis]
        except ValueError:
            return np.zeros((4, 4))
        return matrix


def _json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file, its lists as tuples."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path} cannot be read: {error}') from error
    if not isinstance(values, dict):
        raise DatasetError(f'{path} holds no JSON object')
    return {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}


def _rigid_from_numbers(name: str, numbers: Sequence[float] | None) -> Matrix:
    """A rigid (4, 4) matrix from none, 9 (a rotation) or 16 numbers, row by row."""
    matrix = np.eye(4)
    if numbers is None:
        return matrix
    if len(numbers) not in (9, 16):
        raise ValueError(f'{name} has {len(numbers)} numbers; 9 or 16 are needed')
    size = 3 if len(numbers) == 9 else 4
    matrix[:size, :size] = np.reshape(np.asarray(numbers, dtype=np.float64), (size, size))
    if not is_rigid(matrix):
        raise ValueError(f'{name} = {list(numbers)} is not a rotation or rigid transform')
    return matrix


@dataclass(frozen=True)
class _Files:
    """The files of one frame, and its pose as stored."""

    color: Path
    depth: Path
    pose: Matrix


class FolderDataset:
    """Frames of a folder of images, whose poses and pairs were checked at its opening.

    Args:
        root: The folder.
        kind: Name of its layout.
        files: Files and pose of each frame, in order.
        config: Cameras, units and axes.

    Raises:
        DatasetError: It holds no frame, the first frame cannot be read, or intrinsics are missing.
    """

    def __init__(
        self, root: Path, kind: str, files: Sequence[_Files], config: FolderConfig
    ) -> None:
        if not files:
            raise DatasetError(f'{root} holds no frame')
        self.root = root
        self.config = config
        self._kind = kind
        self._files = list(files)
        self.color_camera, self.depth_camera = self._cameras()

    @property
    def description(self) -> str:
        """What it is, and what was assumed, in one line."""
        color = (
            'colour camera of its own'
            if self.config.color_intrinsics
            else 'colour taken as registered to depth (no colour intrinsics given)'
        )
        return f'{self._kind} {self.root}: {len(self)} frames, {color}'

    @property
    def frame_id(self) -> str:
        """Frame that the poses are given in."""
        return self.config.frame_id

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[RgbdFrame]:
        for index in range(len(self)):
            yield self.frame(index)

    def frame(self, index: int) -> RgbdFrame:
        """Read one frame.

        Raises:
            DatasetError: A file of it cannot be read, or differs in size from the first frame's.
        """
        files = self._files[index]
        map_from_depth = self.config.map_from_depth(files.pose)
        try:
            return RgbdFrame(
                stamp_ns=index * FOLDER_STEP_NS,
                rgb=_read_color(files.color),
                depth_m=_read_depth(files.depth, self.config.depth_unit_m),
                color_camera=self.color_camera,
                depth_camera=self.depth_camera,
                map_from_color=map_from_depth @ self.config.depth_from_color(),
                map_from_depth=map_from_depth,
            )
        except ValueError as error:
            raise DatasetError(f'{files.color} and {files.depth}: {error}') from error

    def _cameras(self) -> tuple[Camera, Camera]:
        first = self._files[0]
        color_h, color_w = _read_color(first.color).shape[:2]
        depth_h, depth_w = _read_depth(first.depth, self.config.depth_unit_m).shape
        if self.config.depth_intrinsics is None:
            raise DatasetError(
                f'{self.root} says no intrinsics: give depth intrinsics fx fy cx cy '
                f'(option, or depth_intrinsics in {CONFIG_NAME})'
            )
        try:
            depth = Camera(depth_w, depth_h, *self.config.depth_intrinsics)
            if self.config.color_intrinsics is not None:
                return Camera(color_w, color_h, *self.config.color_intrinsics), depth
        except ValueError as error:
            raise DatasetError(f'{self.root}: {error}') from error
        if abs(color_w * depth_h - depth_w * color_h) > max(color_w, color_h):
            raise DatasetError(
                f'{self.root}: colour is {color_w}x{color_h}, depth {depth_w}x{depth_h}: they '
                'cannot be registered, so give colour intrinsics fx fy cx cy as well'
            )
        same_size = (color_w, color_h) == (depth_w, depth_h)
        return (depth if same_size else depth.resized(color_w, color_h)), depth


def vlmaps_folder(root: Path, config: FolderConfig) -> FolderDataset:
    """VLMaps' custom layout: rgb/NAME.png, depth/NAME.npy (metres) and poses.txt.

    poses.txt has a line for each name, in the order of the names with numbers compared as numbers:
    `px py pz qx qy qz qw`, or 16 numbers of a matrix row by row.

    Raises:
        DatasetError: A file is missing, or the number of poses differs from that of frames.
    """
    color = _by_stem(root / 'rgb', ('.png', '.jpg'))
    depth = _by_stem(root / 'depth', ('.npy', '.png'))
    names = sorted(color.keys() | depth.keys(), key=_natural)
    _refuse_missing(
        [root / 'rgb' / f'{name}.png' for name in names if name not in color]
        + [root / 'depth' / f'{name}.npy' for name in names if name not in depth]
    )
    poses = _read_poses(root / 'poses.txt')
    if len(poses) != len(names):
        raise DatasetError(
            f'{root / "poses.txt"} has {len(poses)} poses, but there are {len(names)} frames: '
            'each frame needs its line'
        )
    files = [
        _Files(color[name], depth[name], pose) for name, pose in zip(names, poses, strict=True)
    ]
    return FolderDataset(root, 'VLMaps folder', files, _with_intrinsics_file(root, config))


def seven_scenes_folder(root: Path, config: FolderConfig) -> FolderDataset:
    """7-Scenes' layout: NAME.color.png (or .jpg), NAME.depth.png (millimetres) and NAME.pose.txt.

    camera-intrinsics.txt, a 3x3 matrix, is the depth camera's.

    Raises:
        DatasetError: A file of a frame is missing, or a pose is not one.
    """
    color = _by_stem(root, ('.color.png', '.color.jpg'))
    depth = _by_stem(root, ('.depth.png',))
    poses = _by_stem(root, ('.pose.txt',))
    names = sorted(color.keys() | depth.keys() | poses.keys(), key=_natural)
    _refuse_missing(
        [root / f'{name}.color.png' for name in names if name not in color]
        + [root / f'{name}.depth.png' for name in names if name not in depth]
        + [root / f'{name}.pose.txt' for name in names if name not in poses]
    )
    files = [_Files(color[name], depth[name], _read_pose(poses[name])) for name in names]
    return FolderDataset(root, '7-Scenes folder', files, _with_intrinsics_file(root, config))


class CorrectedDataset:
    """Another data set with its poses and depth put right, frame by frame.

    Args:
        dataset: Any data set.
        correction: What to put right.
    """

    def __init__(self, dataset: RgbdDataset, correction: Correction) -> None:
        self.dataset = dataset
        self.correction = correction

    @property
    def description(self) -> str:
        """What it is, in one line."""
        return f'{self.dataset.description}, changed: {self.correction}'

    @property
    def frame_id(self) -> str:
        """Frame that the poses are given in."""
        return self.dataset.frame_id

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[RgbdFrame]:
        for frame in self.dataset:
            yield replace(
                frame,
                depth_m=self.correction.depth(frame.depth_m),
                map_from_color=self.correction.pose(frame.map_from_color),
                map_from_depth=self.correction.pose(frame.map_from_depth),
            )


class UprightDataset:
    """Another data set in a map frame that is turned so that its z points up.

    Args:
        dataset: Any data set.
        up: The axis of its frame that points up: a key of `UP_AXES`.

    Raises:
        ValueError: The axis is unknown.
    """

    def __init__(self, dataset: RgbdDataset, up: str) -> None:
        if up not in UP_AXES:
            raise ValueError(f'up = {up!r} is none of {list(UP_AXES)}')
        self.dataset = dataset
        self.up = up

    @property
    def description(self) -> str:
        """What it is, in one line."""
        return f'{self.dataset.description}, turned so that {self.up} is up'

    @property
    def frame_id(self) -> str:
        """Frame that the poses are given in."""
        return f'{self.dataset.frame_id}_upright'

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[RgbdFrame]:
        turn = UP_AXES[self.up]
        for frame in self.dataset:
            yield replace(
                frame,
                map_from_color=turn @ frame.map_from_color,
                map_from_depth=turn @ frame.map_from_depth,
            )


class EveryNth:
    """Every n-th frame of another data set.

    Args:
        dataset: Any data set.
        step: 1 keeps every frame.

    Raises:
        ValueError: The step is less than 1.
    """

    def __init__(self, dataset: RgbdDataset, step: int) -> None:
        if step < 1:
            raise ValueError(f'step = {step} must be 1 or more')
        self.dataset = dataset
        self.step = step

    @property
    def description(self) -> str:
        """What it is, in one line."""
        return f'{self.dataset.description}, every {self.step}th frame'

    @property
    def frame_id(self) -> str:
        """Frame that the poses are given in."""
        return self.dataset.frame_id

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.step)

    def __iter__(self) -> Iterator[RgbdFrame]:
        return islice(iter(self.dataset), 0, None, self.step)


def is_vlmaps_folder(path: Path) -> bool:
    """Whether a folder has VLMaps' custom layout."""
    return (path / 'rgb').is_dir() or (path / 'poses.txt').is_file()


def is_seven_scenes_folder(path: Path) -> bool:
    """Whether a folder has 7-Scenes' layout."""
    return any(path.glob('*.pose.txt')) or any(path.glob('*.depth.png'))


def open_folder(path: Path, config: FolderConfig) -> FolderDataset:
    """A folder of either layout.

    Raises:
        DatasetError: It has neither layout, or is not whole.
    """
    if is_vlmaps_folder(path):
        return vlmaps_folder(path, config)
    if is_seven_scenes_folder(path):
        return seven_scenes_folder(path, config)
    raise DatasetError(
        f'{path} is no data set: it is neither a VLMaps folder (rgb/, depth/, poses.txt), nor a '
        '7-Scenes folder (NAME.color.png, NAME.depth.png, NAME.pose.txt), nor a bag'
    )


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files of a folder by their names without the suffix; of several, the first suffix's."""
    if not folder.is_dir():
        raise DatasetError(f'{folder} is missing')
    found: dict[str, Path] = {}
    for suffix in suffixes:
        for path in folder.glob(f'*{suffix}'):
            found.setdefault(path.name.removesuffix(suffix), path)
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorting key in which numbers within a name compare as numbers: 2 before 10."""
    parts = re.split(r'(\d+)', name)
    return [(int(part), '') if part.isdigit() else (-1, part) for part in parts]


def _refuse_missing(paths: Sequence[Path]) -> None:
    if paths:
        more = f' and {len(paths) - 5} more' if len(paths) > 5 else ''
        raise DatasetError(f'missing: {", ".join(str(path) for path in paths[:5])}{more}')


def _load_numbers(path: Path) -> Matrix:
    try:
        return np.atleast_2d(np.loadtxt(path, dtype=np.float64))
    except (OSError, ValueError) as error:
        raise DatasetError(f'{path} cannot be read as numbers: {error}') from error


def _read_pose(path: Path) -> Matrix:
    matrix = _load_numbers(path)
    if not is_rigid(matrix, _POSE_TOLERANCE):
        raise DatasetError(f'{path} is not a 4x4 rigid transform')
    return _exactly_rigid(matrix)


def _exactly_rigid(matrix: Matrix) -> Matrix:
    return matrix_from_quaternion(quaternion_from_matrix(matrix), matrix[:3, 3])


def _read_poses(path: Path) -> list[Matrix]:
    if not path.is_file():
        raise DatasetError(f'{path} is missing')
    rows = _load_numbers(path)
    if rows.shape[1] not in (7, 16):
        raise DatasetError(
            f'{path} has {rows.shape[1]} numbers a line; 7 (px py pz qx qy qz qw) or 16 are needed'
        )
    return [_pose_from_row(path, line, row) for line, row in enumerate(rows, start=1)]


def _pose_from_row(path: Path, line: int, row: Matrix) -> Matrix:
    try:
        matrix = matrix_from_quaternion(row[3:], row[:3]) if len(row) == 7 else row.reshape(4, 4)
    except ValueError as error:
        raise DatasetError(f'{path}, pose {line}: {error}') from error
    if not is_rigid(matrix, _POSE_TOLERANCE):
        raise DatasetError(f'{path}, pose {line} is not a rigid transform')
    return _exactly_rigid(matrix)


def _with_intrinsics_file(root: Path, config: FolderConfig) -> FolderConfig:
    """The configuration completed by the folder's camera-intrinsics.txt, which is depth's."""
    path = root / 'camera-intrinsics.txt'
    if config.depth_intrinsics is not None or not path.is_file():
        return config
    k = _load_numbers(path)
    if k.shape != (3, 3):
        raise DatasetError(f'{path} holds {k.shape[0]}x{k.shape[1]} numbers; 3x3 are needed')
    intrinsics = (float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]))
    return replace(config, depth_intrinsics=intrinsics)


def _read_color(path: Path) -> NDArray[np.uint8]:
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise DatasetError(f'{path} is not a readable image')
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _read_depth(path: Path, unit_m: float | None) -> NDArray[np.float32]:
    """(H, W) float32 metres, NaN where there is no reading."""
    image = _load_array(path) if path.suffix == '.npy' else _load_image(path)
    if image.ndim != 2:
        raise DatasetError(f'{path} has shape {image.shape}, not (H, W)')
    if image.dtype == np.uint16:
        metres = depth_to_metres(image, '16UC1')
        return metres if unit_m is None else metres * np.float32(unit_m / 1e-3)
    if not np.issubdtype(image.dtype, np.floating):
        raise DatasetError(f'{path} holds {image.dtype}; floats or uint16 are needed')
    metres = depth_to_metres(image.astype(np.float32), '32FC1')
    return metres if unit_m is None else metres * np.float32(unit_m)


def _load_array(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DatasetError(f'{path} is not a readable array: {error}') from error
    return np.asarray(array)


def _load_image(path: Path) -> NDArray[Any]:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DatasetError(f'{path} is not a readable image')
    return np.asarray(image)
