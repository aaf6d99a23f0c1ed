"""One of five flat shapes goes into the brown box, by its name."""

from __future__ import annotations

from typing import Final

import numpy as np

from vlm_nodes.simulation.tabletop.colors import COLOR_RGB
from vlm_nodes.simulation.tabletop.container import place_container
from vlm_nodes.simulation.tabletop.goals import Goal, Item, Zone, box_points
from vlm_nodes.simulation.tabletop.layout import Layout
from vlm_nodes.simulation.tabletop.outlines import OUTLINES, pieces_of
from vlm_nodes.simulation.tabletop.prisms import prism
from vlm_nodes.simulation.tabletop.props import Piece, Pose, Prop
from vlm_nodes.simulation.tabletop.task import Setting, Variant

SHAPES: Final = 5
# An object's place on the table, its own outline in it, and its thickness.
PLACE_M: Final = (0.08, 0.08)
SIDE_M: Final = 0.064
HEIGHT_M: Final = 0.02
_CONTAINER_M: Final = (0.10, 0.15)
_TOP_M: Final = 0.275


def outlines_of(variant: Variant) -> list[int]:
    """Which of `OUTLINES` a split and mode take objects from, as published.

    Training shows the first fourteen, the others come in validation and test; those of 'seen' are
    seen in all modes, those of 'full' are all.
    """
    if variant.split == 'full':
        return list(range(len(OUTLINES)))
    is_seen = variant.split == 'seen' or variant.mode == 'train'
    return [index for index, outline in enumerate(OUTLINES) if outline.is_seen == is_seen]


def shape(name: str, index: int, color: str, pose: Pose) -> Prop:
    """A flat shape; its origin is its middle."""
    mesh = prism(f'shape_{index}', pieces_of(index, SIDE_M), HEIGHT_M)
    label = f'{color} {OUTLINES[index].name}'
    return Prop(name, label, COLOR_RGB[color], (Piece('mesh', mesh=mesh),), pose)


def build(rng: np.random.Generator, variant: Variant) -> Setting:
    """A container and five shapes, each of another kind and colour."""
    layout = Layout(rng)
    chosen = [int(i) for i in rng.choice(outlines_of(variant), SHAPES, replace=False)]
    colors = [str(name) for name in rng.permutation(variant.colors)[:SHAPES]]
    box, size = place_container(rng, layout, *_CONTAINER_M)
    props = [box]
    for number, (index, color) in enumerate(zip(chosen, colors, strict=True)):
        pose = layout.find(PLACE_M, HEIGHT_M / 2)
        props.append(shape(f'shape_{number}', index, color, pose))
    extent = np.ptp(np.vstack(pieces_of(chosen[0], SIDE_M)), axis=0)
    goal = Goal(
        instruction=f'pack the {OUTLINES[chosen[0]].name} in the brown box',
        items=(Item('shape_0'),),
        targets=(box.pose,),
        zone=Zone(box.pose, size, _TOP_M, (box_points((*extent, HEIGHT_M)),)),
    )
    return Setting(tuple(props), (goal,), max_steps=1)
