"""One moment of a drive: surround images, their cameras and poses, maybe a LiDAR sweep.

Frames: `map` is the tables' global frame; `ego` is the vehicle's, x forward, y left, z up, its
origin on the ground below the middle of the rear axle; `camera` has optical axes (REP-103).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import invert, is_rigid
from vlm_nodes.surround.errors import SurroundError

Matrix = NDArray[np.float64]

CAMERAS: Final = (
    'CAM_FRONT_LEFT', 'CAM_FRONT', 'CAM_FRONT_RIGHT', 'CAM_BACK_LEFT', 'CAM_BACK', 'CAM_BACK_RIGHT',
)  # fmt: skip
"""nuScenes' six cameras, in the order that pictures of them are laid out."""

LIDAR: Final = 'LIDAR_TOP'


@dataclass(frozen=True)
class SurroundImage:
    """One camera's picture of a keyframe.

    Attributes:
        path: of the picture; it need not exist.
        camera: intrinsics of the picture as it is on disk.
        ego_from_camera: (4, 4) mounting.
        map_from_ego: (4, 4) where the vehicle was when this picture was taken.
        stamp_ns: when that was.
    """

    path: Path
    camera: Camera
    ego_from_camera: Matrix
    map_from_ego: Matrix
    stamp_ns: int

    def __post_init__(self) -> None:
        """Refuse what is not a pose."""
        _check_poses(self, ('ego_from_camera', 'map_from_ego'), str(self.path))

    @property
    def map_from_camera(self) -> Matrix:
        """(4, 4) where the camera was."""
        return self.map_from_ego @ self.ego_from_camera


@dataclass(frozen=True)
class LidarSweep:
    """A LiDAR sweep on disk.

    Attributes:
        path: of nuScenes' `.pcd.bin`; it need not exist.
        ego_from_lidar: (4, 4) mounting.
        map_from_ego: (4, 4) where the vehicle was at the sweep's stamp.
        stamp_ns: of the sweep.
    """

    path: Path
    ego_from_lidar: Matrix
    map_from_ego: Matrix
    stamp_ns: int

    def __post_init__(self) -> None:
        """Refuse what is not a pose."""
        _check_poses(self, ('ego_from_lidar', 'map_from_ego'), str(self.path))


@dataclass(frozen=True)
class Keyframe:
    """One moment of a drive.

    Attributes:
        token: nuScenes' sample token.
        stamp_ns: of the sample.
        scene: name of the drive.
        map_from_ego: (4, 4) where the vehicle was: at the LiDAR's stamp, in whose ego frame
            occupancy labels are given; without a LiDAR row at that of its first camera.
        cameras: pictures by camera name, in the order asked for; those without a row are absent.
        lidar: the sweep, if there is one.
    """

    token: str
    stamp_ns: int
    scene: str
    map_from_ego: Matrix
    cameras: Mapping[str, SurroundImage]
    lidar: LidarSweep | None = None

    def __post_init__(self) -> None:
        """Refuse a keyframe without a picture, or what is not a pose."""
        if not self.cameras:
            raise SurroundError(f'keyframe {self.token!r} has no camera')
        _check_poses(self, ('map_from_ego',), f'keyframe {self.token!r}')

    def ego_from_camera(self, name: str) -> Matrix:
        """(4, 4) from a camera to the keyframe's own ego frame, the vehicle's motion included.

        A camera's picture is taken some 0.01 s before or after the LiDAR's stamp; at 10 m/s the
        bare mounting is wrong by that many decimetres.

        Raises:
            KeyError: The keyframe has no such camera.
        """
        return invert(self.map_from_ego) @ self.cameras[name].map_from_camera


def _check_poses(owner: object, names: tuple[str, ...], where: str) -> None:
    for name in names:
        # Published rotations are rounded to 16 bit floats in places.
        if not is_rigid(getattr(owner, name), tolerance=1e-3):
            raise SurroundError(f'{where}: {name} is not a pose: {getattr(owner, name)}')
