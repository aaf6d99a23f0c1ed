"""The velocity of a frame, from how its pose changed over an interval."""

from __future__ import annotations

from typing import NamedTuple

from ._exceptions import TransformException
from ._frame_tree import FrameTree
from ._rotation import (
    Pose,
    Vector,
    axis_and_angle,
    canonical,
    conjugate,
    cross,
    multiply,
    rotate,
)
from ._stamps import from_seconds, to_seconds
from ._time_cache import LATEST

# The interval never begins before this time (seconds), for time zero would mean the latest.
_EARLIEST_S = 0.00001


class Question(NamedTuple):
    """Whose velocity, seen from where, told in which axes and about which point."""

    tracking_frame: str
    observation_frame: str
    reference_frame: str
    reference_point: Vector
    reference_point_frame: str


def velocity(
    tree: FrameTree, question: Question, time_ns: int, interval_ns: int
) -> tuple[Vector, Vector]:
    """Average the velocity of the tracking frame over an interval around a time.

    The interval is moved back where it would end after the newest data.

    Returns:
        Linear (m/s) and angular (rad/s) velocity in the axes of the reference frame.

    Raises:
        TransformException: If the poses at its ends cannot be looked up.
    """
    tracking, observation = question.tracking_frame, question.observation_frame
    time_s, interval_s = to_seconds(time_ns), to_seconds(interval_ns)
    latest_s = to_seconds(_latest_common_ns(tree, observation, tracking))
    end_s = min(time_s + 0.5 * interval_s, latest_s)
    start_s = max(_EARLIEST_S + interval_s, end_s) - interval_s
    start = _pose_of(tree, observation, tracking, from_seconds(start_s))
    end = _pose_of(tree, observation, tracking, from_seconds(end_s))
    linear, angular = _twist(start, end, end_s - start_s)
    return _refer(tree, question, from_seconds(time_s), linear, angular)


def _latest_common_ns(tree: FrameTree, target: str, source: str) -> int:
    try:
        return tree.latest_common_ns(target, source)
    except TransformException:
        # The lookups that follow tell what is wrong.
        return LATEST


def _pose_of(tree: FrameTree, target: str, source: str, time_ns: int) -> Pose:
    (rotation, translation), _ = tree.lookup(target, source, time_ns)
    return canonical(rotation), translation


def _twist(start: Pose, end: Pose, duration_s: float) -> tuple[Vector, Vector]:
    axis, angle = axis_and_angle(canonical(multiply(conjugate(start[0]), end[0])))
    x, y, z = rotate(start[0], axis)
    speed = angle / duration_s
    (ax, ay, az), (bx, by, bz) = start[1], end[1]
    linear = ((bx - ax) / duration_s, (by - ay) / duration_s, (bz - az) / duration_s)
    return linear, (x * speed, y * speed, z * speed)


def _refer(
    tree: FrameTree, question: Question, time_ns: int, linear: Vector, angular: Vector
) -> tuple[Vector, Vector]:
    """Turn a twist into the reference frame's axes and move it to the reference point."""
    rotation, origin = _pose_of(tree, question.reference_frame, question.tracking_frame, time_ns)
    point_rotation, point_origin = _pose_of(
        tree, question.reference_frame, question.reference_point_frame, time_ns
    )
    wx, wy, wz = turned = rotate(rotation, angular)
    vx, vy, vz = rotate(rotation, linear)
    cx, cy, cz = cross(origin, turned)
    px, py, pz = rotate(point_rotation, question.reference_point)
    dx = px + point_origin[0] - origin[0]
    dy = py + point_origin[1] - origin[1]
    dz = pz + point_origin[2] - origin[2]
    # tf2 multiplies the last term component by component, and a stand-in gives tf2's numbers.
    return (vx + cx + wx * dx, vy + cy + wy * dy, vz + cz + wz * dz), turned
