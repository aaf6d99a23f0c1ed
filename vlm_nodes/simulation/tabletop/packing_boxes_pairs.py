"""All boxes of two colours go into the brown box, which they just fill."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation.tabletop.colors import COLOR_RGB
from vlm_nodes.simulation.tabletop.container import HEIGHT_M, place_container
from vlm_nodes.simulation.tabletop.goals import Goal, Item, Zone, box_points
from vlm_nodes.simulation.tabletop.layout import Layout, NoRoomError
from vlm_nodes.simulation.tabletop.props import Piece, Pose, Prop
from vlm_nodes.simulation.tabletop.task import Setting, Variant

MAX_STEPS: Final = 20
DISTRACTORS: Final = 4
SIDE_RANGE_M: Final = (0.05, 0.30)
# Boxes on top of boxes in the container do not count.
_TOP_M: Final = 0.0525
_EDGE_M: Final = 0.01
_GAP_M: Final = 0.01
_LEAST_M: Final = 0.05

Cell = NDArray[np.float64]


def split(rng: np.random.Generator, cell: Cell, least_m: float = _LEAST_M) -> list[Cell]:
    """Cuts a rectangle at random, again and again, until no part is twice as long as the least.

    Args:
        rng: of the cuts.
        cell: (2, 2) least and greatest (x, y).
        least_m: that a side keeps.
    """
    size = cell[1] - cell[0]
    long = np.flatnonzero(size > 2 * least_m)
    if not len(long):
        return [cell]
    axis = int(long[rng.integers(len(long))])
    cut = cell[0, axis] + least_m + rng.random() * (size[axis] - 2 * least_m)
    low, high = cell.copy(), cell.copy()
    low[1, axis], high[0, axis] = cut - _GAP_M / 2, cut + _GAP_M / 2
    return [*split(rng, low, least_m), *split(rng, high, least_m)]


def build(rng: np.random.Generator, variant: Variant) -> Setting:
    """A container, the boxes that fill it beside it, and four boxes of other colours."""
    layout = Layout(rng)
    box, size = place_container(rng, layout, *SIDE_RANGE_M)
    half = np.array(size) / 2
    cells = split(rng, np.stack([-half + _EDGE_M, half - _EDGE_M]))
    count = min(2, len(cells))
    colors = [str(name) for name in rng.choice(variant.colors, count, replace=False)]
    items, targets, points, props = [], [], [], [box]
    for index, cell in enumerate(cells):
        color = colors[int(rng.integers(count))]
        sides = cell[1] - cell[0]
        middle = cell.mean(axis=0)
        targets.append(box.pose.at((float(middle[0]), float(middle[1]), 0.0)))
        props.append(_box(layout, f'box_{index}', color, sides))
        items.append(Item(f'box_{index}', np.pi))
        points.append(box_points((*sides, HEIGHT_M)))
    props += _distractors(rng, layout, variant, colors, cells)
    goal = Goal(
        instruction=f'pack all the {" and ".join(colors)} blocks into the brown box',
        items=tuple(items),
        targets=tuple(targets),
        matches=np.eye(len(items), dtype=np.bool_),
        zone=Zone(box.pose, size, _TOP_M, tuple(points)),
    )
    return Setting(tuple(props), (goal,), MAX_STEPS)


def _distractors(
    rng: np.random.Generator,
    layout: Layout,
    variant: Variant,
    taken: list[str],
    cells: list[Cell],
) -> list[Prop]:
    others = [color for color in variant.colors if color not in taken]
    props: list[Prop] = []
    for index in range(DISTRACTORS):
        cell = cells[int(rng.integers(len(cells)))]
        color = others[int(rng.integers(len(others)))]
        try:
            props.append(_box(layout, f'distractor_{index}', color, cell[1] - cell[0]))
        except NoRoomError:
            # They come last; where the table is full, there are fewer.
            break
    return props


def _box(layout: Layout, name: str, color: str, sides_m: NDArray[np.float64]) -> Prop:
    x, y = float(sides_m[0]), float(sides_m[1])
    pose: Pose = layout.find((x, y), HEIGHT_M / 2)
    piece = Piece('box', (x / 2, y / 2, HEIGHT_M / 2))
    return Prop(name, f'{color} box', COLOR_RGB[color], (piece,), pose)
