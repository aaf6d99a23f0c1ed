"""Six blocks become a pyramid on a stand of three browns, one instruction at a time."""

from __future__ import annotations

from typing import Final

import numpy as np

from vlm_nodes.simulation.tabletop.colors import BROWN, COLOR_RGB, DARK_BROWN, LIGHT_BROWN
from vlm_nodes.simulation.tabletop.goals import Goal, Item
from vlm_nodes.simulation.tabletop.layout import Layout
from vlm_nodes.simulation.tabletop.props import Piece, Pose, Prop, block
from vlm_nodes.simulation.tabletop.task import Setting, Variant

BLOCK_M: Final = 0.04
STAND_M: Final = (0.05, 0.15, 0.005)
MAX_STEPS: Final = 12
_PITCH_M: Final = 0.05
_BASE_M: Final = STAND_M[2] + BLOCK_M / 2
# Where blocks go, in the stand's frame: three, on them two, on them one.
_PLACES: Final = (
    (0.0, -_PITCH_M, _BASE_M),
    (0.0, 0.0, _BASE_M),
    (0.0, _PITCH_M, _BASE_M),
    (0.0, -_PITCH_M / 2, _BASE_M + BLOCK_M),
    (0.0, _PITCH_M / 2, _BASE_M + BLOCK_M),
    (0.0, 0.0, _BASE_M + 2 * BLOCK_M),
)


def build(rng: np.random.Generator, variant: Variant) -> Setting:
    """A stand and six blocks of different colours."""
    layout = Layout(rng)
    stand = layout.find(STAND_M[:2])
    colors = [str(name) for name in rng.permutation(variant.colors)[: len(_PLACES)]]
    props, goals = [_stand(stand)], []
    sites = _sites(colors)
    for index, (color, place) in enumerate(zip(colors, _PLACES, strict=True)):
        pose = layout.find((BLOCK_M, BLOCK_M), BLOCK_M / 2)
        props.append(block(f'block_{index}', color, COLOR_RGB[color], pose, BLOCK_M))
        goals.append(
            Goal(
                instruction=f'put the {color} block on {sites[index]}',
                items=(Item(props[-1].name, np.pi / 2),),
                targets=(stand.at(place),),
                worth=1 / len(_PLACES),
            )
        )
    return Setting(tuple(props), tuple(goals), MAX_STEPS)


def _sites(colors: list[str]) -> tuple[str, ...]:
    """What each block goes on, in words."""
    return (
        'the lightest brown block',
        'the middle brown block',
        'the darkest brown block',
        f'the {colors[0]} and {colors[1]} blocks',
        f'the {colors[1]} and {colors[2]} blocks',
        f'the {colors[3]} and {colors[4]} blocks',
    )


def _stand(pose: Pose) -> Prop:
    half = (STAND_M[0] / 2, _PITCH_M / 2, STAND_M[2] / 2)
    shades = (LIGHT_BROWN, BROWN, DARK_BROWN)
    pieces = tuple(
        Piece('box', half, (0.0, (i - 1) * _PITCH_M, half[2]), rgb=shade)
        for i, shade in enumerate(shades)
    )
    return Prop('stand', 'stand', BROWN, pieces, pose, is_fixed=True)
