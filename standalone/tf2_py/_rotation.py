"""Unit quaternions as tuples ``(x, y, z, w)`` and vectors as tuples ``(x, y, z)``, both of floats.

Plain tuples rather than arrays: one lookup needs a few dozen multiplications, which numpy would
drown in its cost per call.
"""

from __future__ import annotations

import math

Quaternion = tuple[float, float, float, float]
Vector = tuple[float, float, float]
# Turns and moves points of a child frame into its parent.
Pose = tuple[Quaternion, Vector]

IDENTITY: Quaternion = (0.0, 0.0, 0.0, 1.0)
ORIGIN: Vector = (0.0, 0.0, 0.0)

# Below this angle (radians) sin(a)/a is 1 to double precision, and slerp is a straight line.
_SMALL_ANGLE = 1e-8


def canonical(q: Quaternion) -> Quaternion:
    """Scale to unit length and choose the sign that a conversion from a rotation matrix gives.

    tf2 keeps rotations as matrices, so its answers carry that sign: w positive where w^2 > 1/4,
    else the largest of x, y and z. A zero or infinite quaternion comes back as NaN.
    """
    x, y, z, w = q
    norm = math.sqrt(x * x + y * y + z * z + w * w)
    if norm == 0.0 or not math.isfinite(norm):
        return (math.nan, math.nan, math.nan, math.nan)
    if norm != 1.0:
        x, y, z, w = x / norm, y / norm, z / norm, w / norm
    lead = w if w * w > 0.25 else max((x, y, z), key=abs)
    if lead < 0.0:
        # Subtracting from zero rather than negating leaves no negative zeros.
        return (0.0 - x, 0.0 - y, 0.0 - z, 0.0 - w)
    return (x, y, z, w)


def conjugate(q: Quaternion) -> Quaternion:
    """Give the inverse of a unit quaternion."""
    return (0.0 - q[0], 0.0 - q[1], 0.0 - q[2], q[3])


def multiply(a: Quaternion, b: Quaternion) -> Quaternion:
    """Give the rotation that applies b first, then a."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by + ay * bw + az * bx - ax * bz,
        aw * bz + az * bw + ax * by - ay * bx,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def rotate(q: Quaternion, v: Vector) -> Vector:
    """Turn a vector by a unit quaternion: v + w t + u x t with t = 2 u x v."""
    x, y, z, w = q
    vx, vy, vz = v
    tx = 2.0 * (y * vz - z * vy)
    ty = 2.0 * (z * vx - x * vz)
    tz = 2.0 * (x * vy - y * vx)
    return (
        vx + w * tx + y * tz - z * ty,
        vy + w * ty + z * tx - x * tz,
        vz + w * tz + x * ty - y * tx,
    )


def cross(a: Vector, b: Vector) -> Vector:
    """Give the vector product."""
    return (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )


def compose(outer: Pose, inner: Pose) -> Pose:
    """Give the pose that applies inner first, then outer."""
    (qa, ta), (qb, tb) = outer, inner
    rx, ry, rz = rotate(qa, tb)
    return multiply(qa, qb), (rx + ta[0], ry + ta[1], rz + ta[2])


def invert(pose: Pose) -> Pose:
    """Give the pose that undoes this one."""
    back = conjugate(pose[0])
    x, y, z = rotate(back, pose[1])
    return back, (0.0 - x, 0.0 - y, 0.0 - z)


def slerp(a: Quaternion, b: Quaternion, ratio: float) -> Quaternion:
    """Interpolate at constant angular speed along the shorter way (Shoemake 1985).

    Args:
        a: Unit quaternion at ratio 0.
        b: Unit quaternion at ratio 1.
        ratio: From 0 to 1.
    """
    dot = a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]
    # The angle between the two as 4-vectors; asin stays exact where acos of almost one does not.
    difference = math.dist(a, b if dot >= 0.0 else (-b[0], -b[1], -b[2], -b[3]))
    angle = 2.0 * math.asin(min(1.0, 0.5 * difference))
    if angle < _SMALL_ANGLE:
        wa, wb = 1.0 - ratio, ratio
    else:
        scale = 1.0 / math.sin(angle)
        wa, wb = math.sin((1.0 - ratio) * angle) * scale, math.sin(ratio * angle) * scale
    if dot < 0.0:
        wb = -wb
    return (
        wa * a[0] + wb * b[0],
        wa * a[1] + wb * b[1],
        wa * a[2] + wb * b[2],
        wa * a[3] + wb * b[3],
    )


def axis_and_angle(q: Quaternion) -> tuple[Vector, float]:
    """Give the unit axis and the angle (radians) of a rotation; x where there is no turn."""
    x, y, z, w = q
    length = math.sqrt(x * x + y * y + z * z)
    if length < 1e-8:
        return (1.0, 0.0, 0.0), 0.0
    return (x / length, y / length, z / length), 2.0 * math.atan2(length, w)
