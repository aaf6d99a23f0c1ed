"""One keyframe that is given as a file of infos (`data_list`), as detection code bases make them.

It names pictures, their cameras and a LiDAR sweep, all of which lie beside it, and boxes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import invert
from vlm_nodes.surround.errors import SurroundError
from vlm_nodes.surround.keyframe import Keyframe, LidarSweep, Matrix, SurroundImage
from vlm_nodes.surround.nuscenes import SIZE


@dataclass(frozen=True)
class Box:
    """An object's box.

    Attributes:
        name: Its category.
        centre_m: (3,) middle of the box, LiDAR frame.
        size_m: (3,) length, width, height.
        yaw_rad: Of its length about the LiDAR's z axis, from x.
    """

    name: str
    centre_m: NDArray[np.float64]
    size_m: NDArray[np.float64]
    yaw_rad: float

    def corners(self) -> Matrix:
        """(8, 3) metres, LiDAR frame."""
        signs = np.array(list(product((-0.5, 0.5), repeat=3)))
        return (signs * self.size_m) @ self._rotation().T + self.centre_m

    def contains(self, points_m: ArrayLike) -> NDArray[np.bool_]:
        """Which of points (N, 3), LiDAR frame, lie inside."""
        own = (np.asarray(points_m, np.float64) - self.centre_m) @ self._rotation()
        return np.asarray((np.abs(own) <= self.size_m / 2).all(axis=1))

    def _rotation(self) -> Matrix:
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def read_keyframe_file(path: Path) -> tuple[Keyframe, list[Box]]:
    """The first keyframe of a file of infos, and its boxes.

    Raises:
        SurroundError: The file is missing, broken, or lacks something.
    """
    try:
        content = json.loads(path.read_text())
        names = {number: name for name, number in content['metainfo']['categories'].items()}
        info = content['data_list'][0]
        boxes = [_box(row, names) for row in info['instances']]
        return _keyframe(path.parent, info), boxes
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SurroundError(f'{path} holds no keyframe: {type(error).__name__} {error}') from None


def _keyframe(folder: Path, info: dict[str, Any]) -> Keyframe:
    map_from_ego = _pose(info['ego2global'])
    points = info['lidar_points']
    ego_from_lidar = _pose(points['lidar2ego'])
    stamp_ns = round(info['timestamp'] * 1e9)
    images = {
        name: _image(folder, row, map_from_ego @ ego_from_lidar)
        for name, row in info['images'].items()
    }
    sweep = LidarSweep(folder / points['lidar_path'], ego_from_lidar, map_from_ego, stamp_ns)
    scene = points['lidar_path'].partition('__')[0]
    return Keyframe(info['token'], stamp_ns, scene, map_from_ego, images, sweep)


def _image(folder: Path, row: dict[str, Any], map_from_lidar: Matrix) -> SurroundImage:
    ego_from_camera = _pose(row['cam2ego'])
    # The vehicle's pose at the picture's stamp is not in the file, but follows from what is.
    map_from_camera = map_from_lidar @ invert(_pose(row['lidar2cam']))
    return SurroundImage(
        path=folder / row['img_path'],
        camera=Camera.from_matrix(row['cam2img'], *SIZE),
        ego_from_camera=ego_from_camera,
        map_from_ego=map_from_camera @ invert(ego_from_camera),
        stamp_ns=round(row['timestamp'] * 1e9),
    )


def _box(row: dict[str, Any], names: dict[int, str]) -> Box:
    numbers = np.array(row['bbox_3d'], np.float64)
    name = names.get(row['bbox_label_3d'], 'unknown')
    return Box(name, numbers[:3], numbers[3:6], float(numbers[6]))


def _pose(rows: Any) -> Matrix:
    return np.array(rows, np.float64)
