"""Messages and matrices for the tests of tf2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tf2_ros
from geometry_msgs.msg import TransformStamped
from numpy.typing import NDArray
from rclpy.time import Time
from scipy.spatial.transform import Rotation

only_stand_in = pytest.mark.skipif(
    'standalone' not in Path(tf2_ros.__file__).resolve().parts,
    reason='the tf2_ros installed here is no stand-in and does not promise this',
)
Triple = Sequence[float]


def at(seconds: float) -> Time:
    """A time to the nanosecond: rclpy cuts off what a float lacks."""
    return Time(nanoseconds=round(seconds * 1e9))


def pose(
    parent: str,
    child: str,
    seconds: float = 1.0,
    xyz: Triple = (0.0, 0.0, 0.0),
    xyzw: Sequence[float] = (0.0, 0.0, 0.0, 1.0),
) -> TransformStamped:
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    message.header.stamp = at(seconds).to_msg()
    translation, rotation = message.transform.translation, message.transform.rotation
    translation.x, translation.y, translation.z = map(float, xyz)
    rotation.x, rotation.y, rotation.z, rotation.w = map(float, xyzw)
    return message


def yaw(degrees: float) -> list[float]:
    return list(Rotation.from_euler('z', degrees, degrees=True).as_quat())


def matrix(message: TransformStamped) -> NDArray[np.float64]:
    """The 4x4 matrix that takes points of the child frame into the frame of the header."""
    t, q = message.transform.translation, message.transform.rotation
    result = np.eye(4)
    result[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    result[:3, 3] = [t.x, t.y, t.z]
    return result


def xyz_of(message: TransformStamped) -> list[float]:
    t = message.transform.translation
    return [t.x, t.y, t.z]


def xyzw_of(message: TransformStamped) -> list[float]:
    q = message.transform.rotation
    return [q.x, q.y, q.z, q.w]


def seconds_of(message: TransformStamped) -> float:
    return message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
