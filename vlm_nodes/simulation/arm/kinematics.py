"""The arm's joints, where its fingertip is, and which joints bring it there.

The frame is `base_link`: the origin on the table top under the arm, x forward, y to the robot's
left, z up. The finger is kept upright by the wrist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

JOINTS: Final = ('base_yaw', 'shoulder', 'elbow', 'wrist')

SHOULDER_HEIGHT_M: Final = 0.20
UPPER_ARM_M: Final = 0.32
FOREARM_M: Final = 0.32
FINGER_M: Final = 0.14
"""From the wrist to the centre of the fingertip."""
TIP_RADIUS_M: Final = 0.014

LOWER_RAD: Final = (-1.2, -0.4, -2.7, -1.6)
UPPER_RAD: Final = (1.2, 1.8, -0.15, 2.4)

REST_TIP: Final = (0.27, 0.0, 0.20)


class UnreachableError(ValueError):
    """The fingertip cannot be there."""


@dataclass(frozen=True)
class Limits:
    """Least and greatest angle of each joint.

    Attributes:
        lower: (4,) radians, in the order of `JOINTS`.
        upper: (4,) radians.
    """

    lower: tuple[float, ...] = LOWER_RAD
    upper: tuple[float, ...] = UPPER_RAD

    def clip(self, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        """The nearest joint angles that are allowed."""
        return np.clip(joints, self.lower, self.upper)

    def hold(self, joints: NDArray[np.float64], tolerance_rad: float = 1e-9) -> bool:
        """Whether all joint angles are allowed."""
        return bool(np.allclose(self.clip(joints), joints, rtol=0, atol=tolerance_rad))


def tip_position(joints: ArrayLike) -> NDArray[np.float64]:
    """Lowest point of an unloaded, upright fingertip.

    Args:
        joints: (4,) radians, in the order of `JOINTS`.

    Returns:
        (3,) metres in `base_link`. Where the finger is tilted: the point on its axis, a radius
        past the centre of the fingertip.
    """
    yaw, shoulder, elbow, wrist = np.asarray(joints, np.float64)
    forearm = shoulder + elbow
    tilt = forearm + wrist
    finger = FINGER_M + TIP_RADIUS_M
    reach = UPPER_ARM_M * np.cos(shoulder) + FOREARM_M * np.cos(forearm) + finger * np.sin(tilt)
    height = UPPER_ARM_M * np.sin(shoulder) + FOREARM_M * np.sin(forearm) - finger * np.cos(tilt)
    return np.array([reach * np.cos(yaw), reach * np.sin(yaw), SHOULDER_HEIGHT_M + height])


def joints_for_tip(position: ArrayLike, limits: Limits | None = None) -> NDArray[np.float64]:
    """Joint angles that bring the lowest point of the upright fingertip somewhere, elbow up.

    Two links in the vertical plane of the base's yaw: the law of cosines.

    Args:
        position: (3,) metres in `base_link`.
        limits: the arm's own where none are given.

    Returns:
        (4,) radians, in the order of `JOINTS`.

    Raises:
        UnreachableError: it is too far, too near, or beyond a joint's limit.
    """
    x, y, z = np.asarray(position, np.float64)
    reach = np.hypot(x, y)
    height = z + TIP_RADIUS_M + FINGER_M - SHOULDER_HEIGHT_M
    cosine = (reach**2 + height**2 - UPPER_ARM_M**2 - FOREARM_M**2) / (2 * UPPER_ARM_M * FOREARM_M)
    if not abs(cosine) <= 1:
        raise UnreachableError(f'the fingertip cannot be at {_text(position)}: out of reach')
    elbow = -np.arccos(cosine)
    bend = np.arctan2(FOREARM_M * np.sin(elbow), UPPER_ARM_M + FOREARM_M * np.cos(elbow))
    shoulder = np.arctan2(height, reach) - bend
    joints = np.array([np.arctan2(y, x), shoulder, elbow, -(shoulder + elbow)])
    if not (limits or Limits()).hold(joints):
        raise UnreachableError(
            f'the fingertip cannot be at {_text(position)}: a joint is at its end'
        )
    return joints


def _text(position: ArrayLike) -> str:
    x, y, z = np.asarray(position, np.float64)
    return f'({x:.3f}, {y:.3f}, {z:.3f}) m'
