"""Where cameras go: a smooth tour that looks at a whole room, and random viewpoints."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

TOUR_RADIUS: Final = 0.42
"""The tour is an ellipse; its half axes as a share of the room's."""


@dataclass(frozen=True)
class MastPose:
    """A camera on a mast with a lift, a pan and a tilt joint, on a base that drives on the floor.

    Attributes:
        x: of the base in metres, map frame.
        y: of the base.
        yaw_rad: where the base heads.
        lift_m: height of the camera above the floor.
        pan_rad: of the camera to the left of the heading.
        tilt_rad: of the camera, positive upwards.
    """

    x: float
    y: float
    yaw_rad: float
    lift_m: float
    pan_rad: float
    tilt_rad: float

    def map_from_base(self) -> NDArray[np.float64]:
        """(4, 4) pose of the base: x forward, y left, z up."""
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        return np.array([[c, -s, 0, self.x], [s, c, 0, self.y], [0, 0, 1, 0], [0, 0, 0, 1.0]])

    def base_from_camera(self) -> NDArray[np.float64]:
        """(4, 4) pose of the camera's optical frame in the base frame."""
        return optical_pose((0.0, 0.0, self.lift_m), self.pan_rad, self.tilt_rad)

    def map_from_camera(self) -> NDArray[np.float64]:
        """(4, 4) pose of the camera's optical frame in the map."""
        return self.map_from_base() @ self.base_from_camera()


@dataclass(frozen=True)
class Tour:
    """Two laps around the middle of a room, looking inwards across it, then outwards at the walls.

    Attributes:
        half_extents: of the room in metres.
        duration_s: of both laps together; afterwards it starts again.
        laps: number of laps; the view swings from inwards to outwards and back within two.
    """

    half_extents: tuple[float, float]
    duration_s: float = 40.0
    laps: int = 2

    def __post_init__(self) -> None:
        """Check the values."""
        if not (np.isfinite(self.duration_s) and self.duration_s > 0):
            raise ValueError(f'duration_s must be positive, is {self.duration_s}')
        if self.laps < 1:
            raise ValueError(f'laps must be at least 1, is {self.laps}')

    def at(self, time_s: float) -> MastPose:
        """The pose at a time since the start; periodic in `duration_s`."""
        phase = time_s / self.duration_s % 1.0
        angle = 2 * np.pi * self.laps * phase
        a, b = np.array(self.half_extents) * TOUR_RADIUS
        x, y = a * np.cos(angle), b * np.sin(angle)
        yaw = np.arctan2(b * np.cos(angle), -a * np.sin(angle))
        # +1 looks inwards (to the left of an anticlockwise drive), -1 outwards; steep, so that
        # each takes half the time.
        inwards = np.tanh(3.0 * np.sin(2 * np.pi * phase)) / np.tanh(3.0)
        sweep = np.sin(2 * np.pi * phase * (3 * self.laps + 1))
        return MastPose(
            x=float(x),
            y=float(y),
            yaw_rad=float(yaw),
            lift_m=float(1.3 + 0.25 * np.sin(2 * np.pi * phase * 3)),
            pan_rad=float(inwards * np.pi / 2 + 0.45 * sweep),
            tilt_rad=float(-0.50 + 0.06 * inwards + 0.12 * np.cos(2 * np.pi * phase * 5)),
        )


@dataclass(frozen=True)
class Still:
    """A camera that stands where a tour stands at one time.

    Attributes:
        pose: where.
        duration_s: what counts as one round.
    """

    pose: MastPose
    duration_s: float = 40.0

    def at(self, time_s: float) -> MastPose:
        """The same pose at any time."""
        del time_s
        return self.pose


def optical_pose(position: ArrayLike, yaw_rad: float, tilt_rad: float) -> NDArray[np.float64]:
    """Pose of an optical frame (x right, y down, z forward) without roll, by yaw and tilt.

    Args:
        position: (3,) metres in the parent frame (z up).
        yaw_rad: of the view about the parent's z, 0 along +x.
        tilt_rad: above the horizon.

    Returns:
        (4, 4) parent_from_camera.
    """
    cy, sy, ct, st = np.cos(yaw_rad), np.sin(yaw_rad), np.cos(tilt_rad), np.sin(tilt_rad)
    forward = np.array([cy * ct, sy * ct, st])
    right = np.array([sy, -cy, 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = position
    return pose


def look_at(position: ArrayLike, target: ArrayLike) -> NDArray[np.float64]:
    """Pose (4, 4) of an optical frame at one point that looks at another, without roll.

    Args:
        position: (3,) metres.
        target: (3,) metres.

    Raises:
        ValueError: if both are the same point.
    """
    way = np.asarray(target, float) - np.asarray(position, float)
    if not np.linalg.norm(way) > 0:
        raise ValueError(f'camera and target are the same point {np.asarray(position)}')
    return optical_pose(
        position, np.arctan2(way[1], way[0]), np.arctan2(way[2], np.hypot(*way[:2]))
    )


def distance_to_tour(
    half_extents: tuple[float, float], centre: ArrayLike, box_half_extents: ArrayLike
) -> float:
    """Distance in metres from the tour's ellipse on the floor to an axis-aligned rectangle."""
    angle = np.linspace(0, 2 * np.pi, 90)
    ellipse = TOUR_RADIUS * np.column_stack(
        [half_extents[0] * np.cos(angle), half_extents[1] * np.sin(angle)]
    )
    outside = np.maximum(np.abs(ellipse - np.asarray(centre)) - np.asarray(box_half_extents), 0.0)
    return float(np.hypot(*outside.T).min())
