"""Do calibrated views agree with each other, and what makes them agree where they do not.

Poses of cameras on real robots are off by degrees and centimetres, and some sensors measure all
depths too long by a factor. A heightmap then shows everything twice. The views themselves tell:
where two cameras see one surface, it has to lie in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from vlm_nodes.cliport.heightmap import View, fuse_each
from vlm_nodes.cliport.workspace import Workspace

Matrix = NDArray[np.float64]

# Every 4th row and column of the moved view and every 3rd of the one it is held against are plenty.
_MOVED_STEP_PX, _FIXED_STEP_PX = 4, 3
# Partners may lie this share of the first distance apart, step by step.
_REACH_SHARES = (1, 1, 0.7, 0.7, 0.5, 0.4, 0.3, 0.2, 0.15, 0.15, 0.1, 0.1, 0.07, 0.07, 0.07)
_NEIGHBOURS = 16
# Least of the three variances of a neighbourhood, as a share of all: a surface has next to none.
_FLAT_SHARE = 0.05
# Residuals beyond this count linearly (Huber).
_HUBER_M = 0.005
# What the surfaces do not hold, such as a bare table the shift along it, stays as it was.
_DAMPING = 1e-4 * np.diag([0.1, 0.1, 0.1, 1.0, 1.0, 1.0, 0.1])
_LEAST_PARTNERS = 200
# Normals of partners are within 45 degrees.
_LEAST_COSINE = 0.7


class AlignmentError(ValueError):
    """Views share too little to be aligned."""


@dataclass(frozen=True)
class Agreement:
    """How well two views agree on heights.

    Attributes:
        first: Index of one view.
        second: Index of the other.
        share: Share of the workspace's pixels that both see.
        median_m: Median of the absolute difference of heights; NaN where `share` is 0.
        p90_m: Its 90th percentile.
    """

    first: int
    second: int
    share: float
    median_m: float
    p90_m: float


@dataclass(frozen=True, eq=False)
class Correction:
    """What a view's calibration is short of.

    Attributes:
        depth_scale: Its depths are to be multiplied by this, ...
        table_from_claimed: ... and its pose to be moved by this (4, 4) transform.
        residual_m: Median distance of its points to the surfaces that they were aligned to.
    """

    depth_scale: float
    table_from_claimed: Matrix
    residual_m: float

    def apply(self, view: View) -> View:
        """The view as it should have been, from the same camera."""
        return replace(
            view,
            depth_m=(view.depth_m * np.float32(self.depth_scale)).astype(np.float32),
            table_from_camera=self.table_from_claimed @ view.table_from_camera,
        )


def agreements(views: Sequence[View], workspace: Workspace) -> list[Agreement]:
    """Every pair of views held against each other, pixel by pixel of the heightmap."""
    maps = fuse_each(views, workspace)
    found = []
    for i, j in combinations(range(len(maps)), 2):
        both = maps[i].seen & maps[j].seen
        apart = np.abs(maps[i].height_m - maps[j].height_m)[both]
        median, p90 = np.percentile(apart, (50, 90)) if both.any() else (np.nan, np.nan)
        found.append(Agreement(i, j, float(both.mean()), float(median), float(p90)))
    return found


def align(
    moved: View,
    fixed: View,
    workspace: Workspace,
    *,
    reach_m: float = 0.15,
    scale_depth: bool = False,
) -> Correction:
    """What brings one view's surfaces onto those of another, by point to plane distances.

    The scene has to hold what is looked for: a bare table gives height and tilt, and upright
    sides that both see, of a tote or of boxes, the rest. The result agrees with `fixed`; whether
    that one is right only something known tells, such as the height of the table.

    Args:
        moved: The view to correct.
        fixed: The view to trust.
        workspace: Surfaces in and up to `reach_m` around it count.
        reach_m: How far off the view may be to begin with.
        scale_depth: Also look for a factor on its depths. Sides of things at many heights have to
            be seen to tell one from a camera that hangs lower.

    Raises:
        AlignmentError: The views share too few points.
    """
    source = _Surface.of(moved, workspace, reach_m, _MOVED_STEP_PX)
    target = _Surface.of(fixed, workspace, reach_m, _FIXED_STEP_PX)
    tree, middle = cKDTree(target.points), target.points.mean(axis=0)
    scale, pose, residuals = 1.0, np.eye(4), np.zeros(0)
    for share in _REACH_SHARES:
        now = source.moved(scale, pose)
        partners = _partners(now, target, tree, share * reach_m)
        step, residuals = _step(*partners, now.eye, middle, scale_depth)
        pose = _motion(step, middle) @ pose
        scale *= float(np.exp(step[6]))
    return Correction(scale, pose, float(np.median(np.abs(residuals))))


@dataclass(frozen=True, eq=False)
class _Surface:
    """Points of what is flat around them, their normals, and the camera that these look towards."""

    points: Matrix
    normals: Matrix
    eye: Matrix

    @classmethod
    def of(cls, view: View, workspace: Workspace, margin_m: float, step_px: int) -> _Surface:
        points = _points(view, workspace, margin_m, step_px)
        if len(points) < _LEAST_PARTNERS:
            raise AlignmentError(
                f'a view has {len(points)} readings in and around the workspace, '
                f'{_LEAST_PARTNERS} at least are needed'
            )
        _, near = cKDTree(points).query(points, _NEIGHBOURS)
        offsets = points[near] - points[near].mean(axis=1, keepdims=True)
        variances, axes = np.linalg.eigh(np.einsum('nki,nkj->nij', offsets, offsets))
        flat = variances[:, 0] <= _FLAT_SHARE * variances.sum(axis=1)
        points, normals = points[flat], axes[flat, :, 0]
        eye = view.table_from_camera[:3, 3].astype(np.float64)
        away = ((eye - points) * normals).sum(axis=1) < 0
        return cls(points, np.where(away[:, None], -normals, normals), eye)

    def moved(self, scale: float, motion: Matrix) -> _Surface:
        """What it is once depths are scaled and the camera moved."""
        points = self.eye + scale * (self.points - self.eye)
        turn, shift = motion[:3, :3], motion[:3, 3]
        return _Surface(points @ turn.T + shift, self.normals @ turn.T, turn @ self.eye + shift)


def _partners(
    source: _Surface, target: _Surface, tree: cKDTree, reach_m: float
) -> tuple[Matrix, Matrix, Matrix]:
    """Points, the nearest ones of the target that face the same way, and the normals of these."""
    distance, index = tree.query(source.points, distance_upper_bound=reach_m)
    found = np.flatnonzero(np.isfinite(distance))
    # The far side of a box, which the other camera sees, is no partner of its near side.
    alike = (source.normals[found] * target.normals[index[found]]).sum(axis=1) > _LEAST_COSINE
    found = found[alike]
    if len(found) < _LEAST_PARTNERS:
        raise AlignmentError(
            f'the views share {len(found)} points of surfaces within {reach_m:.3g} m of each '
            f'other, {_LEAST_PARTNERS} at least are needed: they look at different things, or '
            'are further off than reach_m'
        )
    return source.points[found], target.points[index[found]], target.normals[index[found]]


def _step(
    p: Matrix, q: Matrix, n: Matrix, eye: Matrix, middle: Matrix, scale_depth: bool
) -> tuple[Matrix, Matrix]:
    """One step of Gauss-Newton: a turn (3), a shift (3), the log of a scale, and the residuals."""
    residuals = ((p - q) * n).sum(axis=1)
    along_ray = ((p - eye) * n).sum(axis=1, keepdims=True) * scale_depth
    jacobian = np.concatenate([np.cross(p - middle, n), n, along_ray], axis=1)
    weights = 1 / np.maximum(1, np.abs(residuals) / _HUBER_M)
    normal = jacobian.T @ (jacobian * weights[:, None]) + _DAMPING * len(p)
    return np.linalg.solve(normal, -jacobian.T @ (weights * residuals)), residuals


def _motion(step: Matrix, middle: Matrix) -> Matrix:
    """A turn about the middle of things, and a shift."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec(step[:3]).as_matrix()
    motion[:3, 3] = middle - motion[:3, :3] @ middle + step[3:6]
    return motion


def _points(view: View, workspace: Workspace, margin_m: float, step_px: int) -> Matrix:
    """(N, 3) points of the table frame, of every few rows and columns, around the workspace."""
    depth = view.depth_m[::step_px, ::step_px].astype(np.float64)
    rays = view.camera.rays()[::step_px, ::step_px]
    known = np.isfinite(depth) & (depth > 0)
    rays, depth = rays[known].astype(np.float64), depth[known, None]
    camera = np.concatenate([rays * depth, depth], axis=1)
    points = camera @ view.table_from_camera[:3, :3].T + view.table_from_camera[:3, 3]
    low, high = np.array([workspace.x_range_m, workspace.y_range_m, workspace.z_range_m]).T
    within = ((points >= low - margin_m) & (points <= high + margin_m)).all(axis=1)
    return np.asarray(points[within])
