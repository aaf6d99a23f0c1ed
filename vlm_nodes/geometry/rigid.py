"""Rigid transforms as 4x4 matrices: `a_from_b` takes coordinates in frame b to frame a."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Matrix = NDArray[np.float64]

# Body axes (x forward, y left, z up) from optical axes (x right, y down, z forward), REP-103.
BODY_FROM_OPTICAL: Matrix = np.array(
    [[0.0, 0.0, 1.0, 0.0], [-1.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)


def is_rigid(matrix: ArrayLike, tolerance: float = 1e-4) -> bool:
    """Whether a (4, 4) matrix is finite, a proper rotation and a translation."""
    m = np.asarray(matrix, dtype=np.float64)
    if m.shape != (4, 4) or not np.isfinite(m).all():
        return False
    r = m[:3, :3]
    return bool(
        np.allclose(r @ r.T, np.eye(3), atol=tolerance)
        and np.linalg.det(r) > 0
        and np.allclose(m[3], (0, 0, 0, 1), atol=tolerance)
    )


def invert(a_from_b: ArrayLike) -> Matrix:
    """`b_from_a` of a rigid (4, 4) transform."""
    m = np.asarray(a_from_b, dtype=np.float64)
    r, t = m[:3, :3], m[:3, 3]
    inverse = np.eye(4)
    inverse[:3, :3] = r.T
    inverse[:3, 3] = -r.T @ t
    return inverse


def matrix_from_quaternion(quaternion_xyzw: ArrayLike, translation: ArrayLike) -> Matrix:
    """A (4, 4) transform from a quaternion (x, y, z, w) and a translation in metres.

    Raises:
        ValueError: The quaternion is zero or a number is not finite.
    """
    q = np.asarray(quaternion_xyzw, dtype=np.float64)
    t = np.asarray(translation, dtype=np.float64)
    norm = float(np.linalg.norm(q))
    if not (np.isfinite(q).all() and np.isfinite(t).all() and norm > 1e-6):
        raise ValueError(f'quaternion {q.tolist()} with translation {t.tolist()} is not a pose')
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(q / norm).as_matrix()
    matrix[:3, 3] = t
    return matrix


def quaternion_from_matrix(matrix: ArrayLike) -> NDArray[np.float64]:
    """The unit quaternion (x, y, z, w) of a (4, 4) or (3, 3) matrix's rotation."""
    rotation = np.asarray(matrix, dtype=np.float64)[:3, :3]
    return np.asarray(Rotation.from_matrix(rotation).as_quat(), dtype=np.float64)


def transform_points(a_from_b: ArrayLike, points_b: ArrayLike) -> Matrix:
    """Points (..., 3) in frame b as points (..., 3) in frame a."""
    m = np.asarray(a_from_b, dtype=np.float64)
    return np.asarray(points_b, dtype=np.float64) @ m[:3, :3].T + m[:3, 3]


def look_at(eye: ArrayLike, target: ArrayLike) -> Matrix:
    """`world_from_camera` (4, 4), optical axes, of a level camera at `eye` that looks at `target`.

    The world's z is up. A camera that looks straight up or down has its image's top toward +y.
    """
    position = np.asarray(eye, dtype=np.float64)
    forward = np.asarray(target, dtype=np.float64) - position
    length = float(np.linalg.norm(forward))
    if length < 1e-9:
        raise ValueError(f'camera at {position.tolist()} cannot look at its own position')
    forward /= length
    up = np.array([0.0, 0.0, 1.0]) if abs(forward[2]) < 1 - 1e-9 else np.array([0.0, 1.0, 0.0])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
    matrix[:3, 3] = position
    return matrix
