"""The recording vehicle: where its sensors are mounted, and how it drives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import BODY_FROM_OPTICAL
from vlm_nodes.surround.keyframe import CAMERAS
from vlm_nodes.surround.nuscenes import SIZE

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Mount:
    """How a camera is mounted, roughly as on nuScenes' vehicle.

    Attributes:
        position: metres in the ego frame.
        yaw_deg: the way that it looks, from straight ahead to the left.
        focal_px: of a picture 1600 pixels wide.
        offset_ns: when it is triggered, from the LiDAR's stamp.
    """

    position: tuple[float, float, float]
    yaw_deg: float
    focal_px: float
    offset_ns: int

    @property
    def ego_from_camera(self) -> Matrix:
        """(4, 4); optical axes, level."""
        return upright_pose(self.position, np.radians(self.yaw_deg)) @ BODY_FROM_OPTICAL

    def camera(self, width: int, height: int) -> Camera:
        """Intrinsics of a picture of some size; square pixels."""
        focal = self.focal_px * width / SIZE[0]
        return Camera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)


MOUNTS: Final[dict[str, Mount]] = {
    'CAM_FRONT_LEFT': Mount((1.52, 0.49, 1.51), 55.0, 1270.0, -43_000_000),
    'CAM_FRONT': Mount((1.70, 0.02, 1.51), 0.0, 1266.0, -35_000_000),
    'CAM_FRONT_RIGHT': Mount((1.55, -0.49, 1.50), -56.0, 1260.0, -28_000_000),
    'CAM_BACK_LEFT': Mount((1.04, 0.48, 1.56), 108.5, 1257.0, -1_000_000),
    'CAM_BACK': Mount((0.03, 0.0, 1.55), 180.0, 809.0, -10_000_000),
    'CAM_BACK_RIGHT': Mount((1.01, -0.48, 1.56), -110.5, 1259.0, -20_000_000),
}

# nuScenes' LiDAR looks along its own y; so x is the vehicle's right.
LIDAR_POSITION: Final = (0.94, 0.0, 1.84)
LIDAR_YAW_DEG: Final = -90.0
LIDAR_ELEVATIONS_DEG: Final = tuple(float(v) for v in np.linspace(-30.67, 10.67, 32))
LIDAR_RANGE_M: Final = 70.0

KEYFRAME_NS: Final = 500_000_000


def upright_pose(position: Sequence[float], yaw_rad: float) -> Matrix:
    """(4, 4) of something level at a place, turned about z."""
    cos, sin = np.cos(yaw_rad), np.sin(yaw_rad)
    pose = np.eye(4)
    pose[:2, :2] = ((cos, -sin), (sin, cos))
    pose[:3, 3] = position
    return pose


def ego_from_lidar() -> Matrix:
    """(4, 4) mounting of the LiDAR."""
    return upright_pose(LIDAR_POSITION, np.radians(LIDAR_YAW_DEG))


def lidar_directions(azimuth_steps: int) -> tuple[Matrix, NDArray[np.float32]]:
    """Unit vectors of a turn of the LiDAR in its own frame, (N, 3), and their rings, (N,)."""
    azimuth = np.arange(azimuth_steps) * (2 * np.pi / azimuth_steps)
    turn, rise = np.meshgrid(azimuth, np.radians(LIDAR_ELEVATIONS_DEG), indexing='ij')
    flat = np.cos(rise)
    rays = np.stack([flat * np.cos(turn), flat * np.sin(turn), np.sin(rise)], axis=-1)
    rings = np.tile(np.arange(len(LIDAR_ELEVATIONS_DEG), dtype=np.float32), azimuth_steps)
    return rays.reshape(-1, 3), rings


@dataclass(frozen=True)
class Drive:
    """How the vehicle goes along a street: at one speed, swaying a little in its lane.

    Attributes:
        lane_y: its lane's middle, street frame.
        speed_m_s: along the street.
        sway_m: how far to either side.
        sway_length_m: of one such wave.
        map_from_street: (4, 4) where the street lies in the map.
        start_ns: stamp of the first keyframe, a whole number of microseconds.
    """

    lane_y: float
    speed_m_s: float
    sway_m: float
    sway_length_m: float
    map_from_street: Matrix
    start_ns: int

    def stamp_ns(self, keyframe: int) -> int:
        """Of a keyframe's LiDAR, which comes every half second."""
        return self.start_ns + keyframe * KEYFRAME_NS

    def street_from_ego(self, stamp_ns: int) -> Matrix:
        """(4, 4) where the vehicle is at a time."""
        x = self.speed_m_s * (stamp_ns - self.start_ns) * 1e-9
        phase = 2 * np.pi * x / self.sway_length_m
        slope = self.sway_m * 2 * np.pi / self.sway_length_m * np.cos(phase)
        y = self.lane_y + self.sway_m * np.sin(phase)
        return upright_pose((x, y, 0.0), float(np.arctan(slope)))

    def map_from_ego(self, stamp_ns: int) -> Matrix:
        """(4, 4) where the vehicle is in the map at a time."""
        return self.map_from_street @ self.street_from_ego(stamp_ns)


def random_drive(seed: int, lane_y: float, speed_m_s: tuple[float, float]) -> Drive:
    """How the vehicle goes along the street of a seed."""
    rng = np.random.default_rng([seed, 31])
    place = (float(rng.uniform(300, 1500)), float(rng.uniform(300, 1500)), 0.0)
    return Drive(
        lane_y=lane_y,
        speed_m_s=float(rng.uniform(*speed_m_s)),
        sway_m=float(rng.uniform(0.1, 0.3)),
        sway_length_m=float(rng.uniform(25.0, 40.0)),
        map_from_street=upright_pose(place, float(rng.uniform(-np.pi, np.pi))),
        # Before 2038 for all seeds: ROS counts seconds in 32 bits.
        start_ns=1_500_000_000_000_000_000 + seed * 100_000_000_000,
    )


def checked_cameras(names: Sequence[str]) -> tuple[str, ...]:
    """Camera names, all known and each once.

    Raises:
        ValueError: one is not, or there is none.
    """
    wrong = [name for name in names if name not in MOUNTS]
    if wrong or not names or len(set(names)) < len(names):
        raise ValueError(
            f'cameras {", ".join(names) or "(none)"}: choose some of {", ".join(CAMERAS)}, '
            'each once'
        )
    return tuple(names)
