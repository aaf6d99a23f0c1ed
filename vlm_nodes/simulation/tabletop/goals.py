"""What a task asks for, step by step, and how much of it is done.

The rewards are the published ones: each goal is worth a share of 1, partly done goals give a part
of it, and a reward is what was gained since the last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation.tabletop.props import Pose

Matrix = NDArray[np.float64]
PoseOf = Callable[[str], Matrix]

ANGLE_TOLERANCE_RAD: Final = float(np.deg2rad(15.0))
POSITION_TOLERANCE_M: Final = 0.01
POINT_SPACING_M: Final = 0.02
# A goal counts as reached this near to its worth, an episode above this total.
_NEARLY: Final = 0.01
_SUCCESS: Final = 0.99


@dataclass(frozen=True)
class Item:
    """A body that has to go somewhere.

    Attributes:
        name: of the body.
        symmetry_rad: the turn after which it looks the same; 0 if its turn does not matter.
    """

    name: str
    symmetry_rad: float = 0.0


@dataclass(frozen=True, eq=False)
class Zone:
    """A box that things have to be in.

    Attributes:
        pose: of its middle.
        size_m: along its own x and y.
        top_m: above its middle; points higher do not count.
        points: of each item, (N, 3) in its body's frame.
    """

    pose: Pose
    size_m: tuple[float, float]
    top_m: float
    points: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True, eq=False)
class Goal:
    """One instruction and what it asks for.

    Attributes:
        instruction: the sentence.
        items: what to move.
        targets: where to.
        matches: (items, targets) bool, which item may go to which target; all where None.
        worth: of the goal; those of all goals of a task sum to 1.
        zone: what is measured is the share of the items' points in it; without one, the share of
            items at a target of theirs.
        one_each: whether a target takes one item only, for the expert.
        turns: whether the expert turns things as the target says.
        is_chain: whether the items hang together in their order, so that what lies at one end's
            target says which way round the rest goes.
        tolerance_m: of positions.
    """

    instruction: str
    items: tuple[Item, ...]
    targets: tuple[Pose, ...]
    matches: NDArray[np.bool_] | None = None
    worth: float = 1.0
    zone: Zone | None = None
    one_each: bool = True
    turns: bool = True
    is_chain: bool = False
    tolerance_m: float = POSITION_TOLERANCE_M

    def allowed(self) -> NDArray[np.bool_]:
        """(items, targets), which item may go to which target."""
        if self.matches is None:
            return np.ones((len(self.items), len(self.targets)), np.bool_)
        return self.matches

    def is_at(self, item: Item, pose: Matrix, target: Pose) -> bool:
        """Whether an item is at a target: within the tolerance, and 15 degrees but for symmetry."""
        if np.hypot(pose[0, 3] - target.x, pose[1, 3] - target.y) >= self.tolerance_m:
            return False
        if item.symmetry_rad == 0:
            return True
        turn = turn_to(pose, target, item.symmetry_rad)
        return abs(turn) < ANGLE_TOLERANCE_RAD

    def score(self, pose_of: PoseOf) -> float:
        """How much of the goal's worth is done."""
        share = self._zone_share(pose_of) if self.zone else self._target_share(pose_of)
        return self.worth * share

    def _target_share(self, pose_of: PoseOf) -> float:
        allowed = self.allowed()
        there = [
            any(
                self.is_at(item, pose_of(item.name), self.targets[j])
                for j in np.flatnonzero(allowed[i])
            )
            for i, item in enumerate(self.items)
        ]
        return sum(there) / len(there)

    def _zone_share(self, pose_of: PoseOf) -> float:
        assert self.zone is not None
        zone_from_table = np.linalg.inv(self.zone.pose.matrix())
        half = np.array(self.zone.size_m) / 2
        inside = total = 0
        for item, points in zip(self.items, self.zone.points, strict=True):
            zone_from_item = zone_from_table @ pose_of(item.name)
            placed = points @ zone_from_item[:3, :3].T + zone_from_item[:3, 3]
            within = (np.abs(placed[:, :2]) < half).all(axis=1) & (placed[:, 2] < self.zone.top_m)
            inside, total = inside + int(within.sum()), total + len(points)
        return inside / total


def turn_to(pose: Matrix, target: Pose, symmetry_rad: float) -> float:
    """The smallest turn about z that takes a pose to a target's yaw, but for symmetry."""
    if symmetry_rad == 0:
        return 0.0
    turn = target.yaw_rad - float(np.arctan2(pose[1, 0], pose[0, 0]))
    return (turn + symmetry_rad / 2) % symmetry_rad - symmetry_rad / 2


def box_points(size_m: Sequence[float]) -> NDArray[np.float64]:
    """Points spread evenly in a box round the origin, 2 cm apart or closer: (N, 3)."""
    axes = []
    for side in size_m:
        count = max(1, int(np.ceil(side / POINT_SPACING_M - 1e-9)))
        axes.append((np.arange(count) + 0.5) * side / count - side / 2)
    return np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1).reshape(-1, 3)


@dataclass
class Progress:
    """How far an episode has come.

    Attributes:
        goals: that are not reached yet, in order.
        total: reward so far.
    """

    goals: list[Goal]
    total: float = 0.0
    _reached: float = field(default=0.0, init=False)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do."""
        return not self.goals or self.total > _SUCCESS

    def update(self, pose_of: PoseOf) -> float:
        """Looks at where things are now; the reward gained since the last look."""
        if not self.goals:
            return 0.0
        goal = self.goals[0]
        score = goal.score(pose_of)
        gained = self._reached + score - self.total
        self.total = self._reached + score
        if abs(goal.worth - score) < _NEARLY:
            self._reached += goal.worth
            self.goals.pop(0)
        return gained
