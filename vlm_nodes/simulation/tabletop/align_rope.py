"""A rope of twenty beads is laid along one side of a three-sided frame."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation.room import Rgb
from vlm_nodes.simulation.tabletop.colors import COLOR_RGB
from vlm_nodes.simulation.tabletop.goals import Goal, Item
from vlm_nodes.simulation.tabletop.layout import X_RANGE_M, Y_RANGE_M, Layout, NoRoomError
from vlm_nodes.simulation.tabletop.props import Joint, Piece, Pose, Prop
from vlm_nodes.simulation.tabletop.task import Setting, Variant

MAX_STEPS: Final = 20
TOLERANCE_M: Final = 0.02
BEADS: Final = 20
BEAD_M: Final = 0.005
PITCH_M: Final = 2 * BEAD_M * float(np.sqrt(2))
LENGTH_M: Final = BEADS * PITCH_M
LIFT_M: Final = 0.02
SPEED_M_S: Final = 0.3
_SEEN_M: Final = 1.5 * BEAD_M
_BEAD_KG: Final = 0.02
_FRAME_RGB: Final[Rgb] = (0.82, 0.82, 0.78)
_FRAME_M: Final = 0.01
# A rope at rest bends no more than this from bead to bead, and its parts lie this far apart.
_BEND_RAD: Final = 0.45
_CLEAR_M: Final = 0.018
_EDGE_M: Final = 0.03
_TRIES: Final = 200

_HALF: Final = LENGTH_M / 2
_CORNERS: Final = {
    'front right': (_HALF, _HALF),
    'front left': (-_HALF, _HALF),
    'back right': (_HALF, -_HALF),
    'back left': (-_HALF, -_HALF),
}
# The frame's open side is its front.
SIDES: Final = (
    ('front left', 'front right', 'front left tip to front right tip'),
    ('front right', 'back right', 'front right tip to back right corner'),
    ('front left', 'back left', 'front left tip to back left corner'),
    ('back right', 'back left', 'back right corner to back left corner'),
)


def build(rng: np.random.Generator, variant: Variant) -> Setting:
    """A frame and a rope that lies about; there is only one form of this task."""
    del variant
    layout = Layout(rng)
    square = layout.find((LENGTH_M, LENGTH_M))
    start, end, words = SIDES[int(rng.integers(len(SIDES)))]
    a, b = np.array(_CORNERS[start]), np.array(_CORNERS[end])
    share = (np.arange(BEADS) + 0.5)[:, None] / BEADS
    targets = tuple(square.at((float(x), float(y), BEAD_M)) for x, y in a + share * (b - a))
    beads = _beads(_curve(rng, layout))
    items = tuple(Item(bead.name) for bead in beads)
    one_way = np.eye(BEADS, dtype=np.bool_)
    goal = Goal(
        instruction=f'align the rope from {words}',
        items=items,
        targets=targets,
        matches=one_way | one_way[::-1],
        turns=False,
        is_chain=True,
        tolerance_m=TOLERANCE_M,
    )
    joints = tuple(Joint(a.name, b.name, (PITCH_M / 2, 0.0, 0.0)) for a, b in pairwise(beads))
    return Setting(
        (_frame(square), *beads), (goal,), MAX_STEPS, joints, lift_m=LIFT_M, speed_m_s=SPEED_M_S
    )


def _frame(square: Pose) -> Prop:
    width, height = _FRAME_M / 2, 0.0006
    pieces = (
        Piece('box', (width, _HALF, height), (_HALF, 0.0, height), is_solid=False),
        Piece('box', (width, _HALF, height), (-_HALF, 0.0, height), is_solid=False),
        Piece('box', (_HALF + width, width, height), (0.0, -_HALF, height), is_solid=False),
    )
    return Prop('frame', 'frame', _FRAME_RGB, pieces, square, is_fixed=True)


def _curve(rng: np.random.Generator, layout: Layout) -> NDArray[np.float64]:
    """(BEADS, 3) x, y and heading of beads along a random curve on the table."""
    for _ in range(_TRIES):
        middle = layout.find((0.1, 0.1))
        bends = np.cumsum(rng.normal(0.0, 0.25, BEADS))
        bends = np.clip(bends - bends.mean(), -_BEND_RAD, _BEND_RAD)
        heading = middle.yaw_rad + np.cumsum(bends)
        # Neighbours meet half a pitch ahead of the one and half a pitch behind the other.
        ways = np.column_stack([np.cos(heading), np.sin(heading)]) * PITCH_M / 2
        points = np.cumsum(np.vstack([np.zeros((1, 2)), ways[:-1] + ways[1:]]), axis=0)
        points += (middle.x, middle.y) - points.mean(axis=0)
        if _fits(points):
            return np.column_stack([points, heading])
        layout = Layout(rng)
    raise NoRoomError('no place for the rope')


def _fits(points: NDArray[np.float64]) -> bool:
    low = np.array([X_RANGE_M[0], Y_RANGE_M[0]]) + _EDGE_M
    high = np.array([X_RANGE_M[1], Y_RANGE_M[1]]) - _EDGE_M
    if (points < low).any() or (points > high).any():
        return False
    apart = np.linalg.norm(points[:, None] - points, axis=-1)
    far = np.abs(np.subtract.outer(np.arange(BEADS), np.arange(BEADS))) > 1
    return bool((apart[far] > _CLEAR_M).all())


def _beads(curve: NDArray[np.float64]) -> tuple[Prop, ...]:
    props = []
    half = (BEAD_M,) * 3
    for index, (x, y, heading) in enumerate(curve):
        color = 'white' if index in (0, BEADS - 1) else 'red'
        pieces = (
            Piece('sphere', (_SEEN_M,), is_solid=False),
            Piece('box', half, is_visible=False),
        )
        pose = Pose(float(x), float(y), BEAD_M, float(heading))
        rgb = COLOR_RGB[color]
        props.append(Prop(f'bead_{index}', 'rope', rgb, pieces, pose, mass_kg=_BEAD_KG))
    return tuple(props)
