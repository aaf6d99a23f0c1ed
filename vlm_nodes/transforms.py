"""tf and geometry_msgs <-> 4x4 matrices. `a_from_b` takes coordinates in frame b to frame a.

In tf's words a TransformStamped with header.frame_id a and child_frame_id b holds a_from_b, and
`lookup_transform(a, b, time)` returns it.
"""

from __future__ import annotations

import numpy as np
from builtin_interfaces.msg import Time as TimeMessage
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, TransformStamped, Vector3
from numpy.typing import ArrayLike, NDArray

from vlm_nodes.geometry.rigid import matrix_from_quaternion, quaternion_from_matrix


def matrix_from_transform(transform: Transform) -> NDArray[np.float64]:
    """The (4, 4) matrix of a Transform.

    Raises:
        ValueError: The quaternion is zero or a number is not finite.
    """
    return matrix_from_quaternion(_xyzw(transform.rotation), _xyz(transform.translation))


def matrix_from_pose(pose: Pose) -> NDArray[np.float64]:
    """The (4, 4) matrix of a Pose: header frame from posed thing.

    Raises:
        ValueError: The quaternion is zero or a number is not finite.
    """
    return matrix_from_quaternion(_xyzw(pose.orientation), _xyz(pose.position))


def transform_message(
    parent: str, child: str, parent_from_child: ArrayLike, stamp: TimeMessage
) -> TransformStamped:
    """The TransformStamped by which tf learns `parent_from_child`, a (4, 4) matrix."""
    matrix = np.asarray(parent_from_child, dtype=np.float64)
    message = TransformStamped(child_frame_id=child)
    message.header.frame_id = parent
    message.header.stamp = stamp
    message.transform.translation = vector_message(matrix[:3, 3])
    message.transform.rotation = _quaternion_message(matrix)
    return message


def pose_message(frame_from_thing: ArrayLike) -> Pose:
    """The Pose of a thing, from a (4, 4) matrix."""
    matrix = np.asarray(frame_from_thing, dtype=np.float64)
    return Pose(position=point_message(matrix[:3, 3]), orientation=_quaternion_message(matrix))


def point_message(xyz: ArrayLike) -> Point:
    """A Point from (3,) metres."""
    x, y, z = np.asarray(xyz, dtype=np.float64)
    return Point(x=float(x), y=float(y), z=float(z))


def vector_message(xyz: ArrayLike) -> Vector3:
    """A Vector3 from (3,) numbers."""
    x, y, z = np.asarray(xyz, dtype=np.float64)
    return Vector3(x=float(x), y=float(y), z=float(z))


def _quaternion_message(matrix: NDArray[np.float64]) -> Quaternion:
    x, y, z, w = quaternion_from_matrix(matrix)
    return Quaternion(x=float(x), y=float(y), z=float(z), w=float(w))


def _xyz(vector: Vector3 | Point) -> tuple[float, float, float]:
    return vector.x, vector.y, vector.z


def _xyzw(quaternion: Quaternion) -> tuple[float, float, float, float]:
    return quaternion.x, quaternion.y, quaternion.z, quaternion.w
