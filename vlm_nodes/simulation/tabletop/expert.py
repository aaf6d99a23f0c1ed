"""The scripted expert: where to pick and where to place for the goal at hand."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation.tabletop.goals import Goal, PoseOf, turn_to
from vlm_nodes.simulation.tabletop.layout import PIXEL_M, X_RANGE_M, Y_RANGE_M
from vlm_nodes.simulation.tabletop.props import Pose

Matrix = NDArray[np.float64]

# Of the greatest distance to the edge of what is seen of a body: picks keep this much of it.
_INNER_SHARE: Final = 0.7


class NothingVisibleError(RuntimeError):
    """Nothing that the goal asks to move can be seen from above."""


def candidates(goal: Goal, pose_of: PoseOf) -> list[tuple[int, int]]:
    """Items that are not at a target yet, each with its nearest free one, farthest first."""
    allowed = _one_way(goal, pose_of) if goal.is_chain else goal.allowed().copy()
    for i, item in enumerate(goal.items):
        for j in np.flatnonzero(allowed[i]):
            if goal.is_at(item, pose_of(item.name), goal.targets[j]):
                allowed[i] = False
                if goal.one_each:
                    allowed[:, j] = False
                break
    pairs = []
    for i, item in enumerate(goal.items):
        here = pose_of(item.name)[:2, 3]
        ways = {
            int(j): float(np.hypot(goal.targets[j].x - here[0], goal.targets[j].y - here[1]))
            for j in np.flatnonzero(allowed[i])
        }
        if ways:
            nearest = min(ways, key=lambda j: ways[j])
            pairs.append((ways[nearest], i, nearest))
    return [(i, j) for _, i, j in sorted(pairs, key=lambda pair: -pair[0])]


def _one_way(goal: Goal, pose_of: PoseOf) -> NDArray[np.bool_]:
    """(items, targets) of a chain: its order or the reverse, whichever is nearer."""
    here = np.array([pose_of(item.name)[:2, 3] for item in goal.items])
    there = np.array([[target.x, target.y] for target in goal.targets])
    forward = np.linalg.norm(there - here, axis=1).sum()
    backward = np.linalg.norm(there[::-1] - here, axis=1).sum()
    identity = np.eye(len(here), dtype=np.bool_)
    return identity if forward <= backward else identity[::-1].copy()


def pick_point(mask: NDArray[np.bool_], rng: np.random.Generator) -> tuple[float, float]:
    """A random point (x, y) well inside of what is seen of a body.

    A cup sticks best far from edges, and labels that lie in the middle of things are learned from
    fewer demonstrations than such that lie anywhere on them.

    Args:
        mask: (rows along y, columns along x), True where the body is seen.
        rng: of the choice.
    """
    padded = np.pad(mask.astype(np.uint8), 1)
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    inner = np.flatnonzero(depth >= _INNER_SHARE * depth.max())
    row, column = divmod(int(inner[rng.integers(len(inner))]), mask.shape[1])
    return X_RANGE_M[0] + (column + 0.5) * PIXEL_M, Y_RANGE_M[0] + (row + 0.5) * PIXEL_M


def carry(
    pick: tuple[float, float, float], body: Matrix, target: Pose, turn_rad: float
) -> tuple[Matrix, Matrix]:
    """The poses (4, 4) table_from_tool that bring a body, held at a point, to a target."""
    c, s = np.cos(turn_rad), np.sin(turn_rad)
    start = np.eye(4)
    start[:3, 3] = pick
    end = np.eye(4)
    end[:2, :2] = [[c, -s], [s, c]]
    end[:2, 3] = (target.x, target.y) + end[:2, :2] @ (np.array(pick[:2]) - body[:2, 3])
    end[2, 3] = target.z + pick[2] - body[2, 3]
    return start, end


def turn_for(goal: Goal, item: int, body: Matrix, target: Pose) -> float:
    """How far an item is turned on its way: no more than its symmetry makes necessary."""
    return turn_to(body, target, goal.items[item].symmetry_rad) if goal.turns else 0.0


def sweep(goal: Goal, pose_of: PoseOf) -> tuple[Matrix, Matrix]:
    """Where to push next: the item farthest outside of the zone, towards its middle.

    Returns:
        Poses (4, 4) where the push begins and where it ends.
    """
    assert goal.zone is not None
    target = goal.targets[0]
    zone_from_table = np.linalg.inv(target.matrix())
    here = np.array([pose_of(item.name)[:3, 3] for item in goal.items])
    within = np.abs(here @ zone_from_table[:2, :3].T + zone_from_table[:2, 3])
    outside = (within - np.array(goal.zone.size_m) / 2).max(axis=1)
    farthest = int(outside.argmax())
    start, end = np.eye(4), np.eye(4)
    start[:3, 3] = here[farthest]
    end[:3, 3] = (target.x, target.y, here[farthest][2])
    return start, end
