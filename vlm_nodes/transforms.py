"""tf and geometry_msgs <-> 4x4 matrices. `a_from_b` takes coordinates in frame b to frame a.

In tf's words a TransformStamped with header.frame_id a and child_frame_id b holds a_from_b, and
`lookup_transform(a, b, time)` returns it.
"""

from __future__ import annotations

import time
from threading import Event

import numpy as np
from builtin_interfaces.msg import Time as TimeMessage
from geometry_msgs.msg import Point, Pose, Quaternion, Transform, TransformStamped, Vector3
from numpy.typing import ArrayLike, NDArray
from rclpy.time import Time
from tf2_ros import Buffer, TransformException

from vlm_nodes.geometry.rigid import matrix_from_quaternion, quaternion_from_matrix

_POLL_S = 0.003


def matrix_from_transform(transform: Transform) -> NDArray[np.float64]:
    """The (4, 4) matrix of a Transform.

    Raises:
        ValueError: The quaternion is zero or a number is not finite.
    """
    return matrix_from_quaternion(_xyzw(transform.rotation), _xyz(transform.translation))


class MissingTransformError(Exception):
    """tf does not know a transform; the text names both frames, the stamp and tf's reason."""


def lookup_matrix(
    buffer: Buffer,
    parent: str,
    child: str,
    stamp: TimeMessage,
    timeout_s: float,
    stopping: Event,
) -> NDArray[np.float64]:
    """`parent_from_child` (4, 4) at a stamp, waited for.

    tf usually comes a little later than the image that it belongs to. The wait is on the machine's
    own clock: tf2's own waits never end while simulated time stands still.

    Args:
        buffer: Filled by a TransformListener whose callbacks run in other threads.
        parent: Frame to go to.
        child: Frame to come from.
        stamp: When.
        timeout_s: Longest wait.
        stopping: Set when the node ends: the wait then ends as well.

    Raises:
        MissingTransformError: It did not come in time, or is no rigid transform; or the stamp is 0,
            by which tf means the latest transform, whenever that was.
    """
    if stamp.sec == 0 and stamp.nanosec == 0:
        raise MissingTransformError(
            f'no transform from {child!r} to {parent!r}: the message is stamped 0, so it does not '
            'say when it was taken'
        )
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            found = buffer.lookup_transform(parent, child, Time.from_msg(stamp))
            return matrix_from_transform(found.transform)
        except (TransformException, ValueError) as error:
            if time.monotonic() >= deadline or stopping.wait(_POLL_S):
                raise MissingTransformError(
                    f'no transform from {child!r} to {parent!r} at {stamp.sec}.{stamp.nanosec:09d}'
                    f' within {timeout_s} s: {error}'
                ) from error


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


def matrix_from_pose(pose: Pose) -> NDArray[np.float64]:
    """The (4, 4) matrix of a Pose.

    Raises:
        ValueError: The quaternion is zero or a number is not finite.
    """
    return matrix_from_quaternion(_xyzw(pose.orientation), _xyz(pose.position))


def pose_message(matrix: ArrayLike) -> Pose:
    """A Pose from a rigid (4, 4) matrix."""
    m = np.asarray(matrix, dtype=np.float64)
    return Pose(position=point_message(m[:3, 3]), orientation=_quaternion_message(m))


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
