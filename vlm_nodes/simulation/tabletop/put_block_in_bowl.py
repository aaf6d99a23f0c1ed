"""Blocks of one colour go into bowls of another; a bowl each."""

from __future__ import annotations

from typing import Final

import numpy as np

from vlm_nodes.simulation.tabletop import bowl as bowls
from vlm_nodes.simulation.tabletop.colors import COLOR_RGB
from vlm_nodes.simulation.tabletop.goals import Goal, Item
from vlm_nodes.simulation.tabletop.layout import Layout
from vlm_nodes.simulation.tabletop.props import Prop, block
from vlm_nodes.simulation.tabletop.task import Setting, Variant

BLOCK_M: Final = 0.04
DISTRACTORS: Final = 6
TOLERANCE_M: Final = 0.05
_BOWL_SIZE: Final = (bowls.DIAMETER_M, bowls.DIAMETER_M)


def build(rng: np.random.Generator, variant: Variant) -> Setting:
    """One to three bowls, at most as many blocks, and six things of other colours."""
    layout = Layout(rng)
    bowl_count = int(rng.integers(1, 4))
    block_count = int(rng.integers(1, bowl_count + 1))
    block_color, bowl_color = (str(name) for name in rng.choice(variant.colors, 2, replace=False))
    targets, props = [], []
    for index in range(bowl_count):
        pose = layout.find(_BOWL_SIZE)
        targets.append(pose)
        rgb = COLOR_RGB[bowl_color]
        props.append(bowls.bowl(f'bowl_{index}', bowl_color, rgb, pose, is_fixed=True))
    items = []
    for index in range(block_count):
        props.append(_block(layout, f'block_{index}', block_color))
        items.append(Item(props[-1].name))
    props += _distractors(rng, layout, (block_color, bowl_color))
    goal = Goal(
        instruction=f'put the {block_color} blocks in a {bowl_color} bowl',
        items=tuple(items),
        targets=tuple(targets),
        tolerance_m=TOLERANCE_M,
    )
    return Setting(tuple(props), (goal,), max_steps=block_count + 1)


def _block(layout: Layout, name: str, color: str) -> Prop:
    pose = layout.find((BLOCK_M, BLOCK_M), BLOCK_M / 2)
    return block(name, color, COLOR_RGB[color], pose, BLOCK_M)


def _distractors(rng: np.random.Generator, layout: Layout, taken: tuple[str, str]) -> list[Prop]:
    """Blocks and bowls of all colours that the instruction does not name, as published."""
    colors = [color for color in COLOR_RGB if color not in taken]
    props = []
    for index in range(DISTRACTORS):
        color, name = colors[index], f'distractor_{index}'
        if rng.random() > 0.5:
            props.append(_block(layout, name, color))
        else:
            pose = layout.find(_BOWL_SIZE)
            props.append(bowls.bowl(name, color, COLOR_RGB[color], pose, is_fixed=False))
    return props
