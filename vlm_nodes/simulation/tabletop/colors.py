"""The colours of things on the table, and which of them a policy sees in training."""

from types import MappingProxyType
from typing import Final

from vlm_nodes.simulation.room import Rgb
from vlm_nodes.simulation.vocabulary import COLOUR_RGB

# Where the rooms have a colour of that name, it is the same here: what a model learned there holds.
COLOR_RGB: Final = MappingProxyType(
    {
        'blue': COLOUR_RGB['blue'],
        'red': COLOUR_RGB['red'],
        'green': COLOUR_RGB['green'],
        'orange': COLOUR_RGB['orange'],
        'yellow': COLOUR_RGB['yellow'],
        'purple': COLOUR_RGB['purple'],
        'pink': (0.97, 0.52, 0.66),
        'cyan': (0.22, 0.75, 0.78),
        'brown': (0.45, 0.26, 0.12),
        'white': COLOUR_RGB['white'],
        'gray': (0.55, 0.55, 0.56),
    }
)
"""RGB in [0, 1] of every colour name."""

TRAIN_COLORS: Final = ('blue', 'red', 'green', 'yellow', 'brown', 'gray', 'cyan')
EVAL_COLORS: Final = ('blue', 'red', 'green', 'orange', 'purple', 'pink', 'white')
ALL_COLORS: Final = tuple(name for name in COLOR_RGB if name in {*TRAIN_COLORS, *EVAL_COLORS})

SPLITS: Final = ('seen', 'unseen', 'full')
MODES: Final = ('train', 'val', 'test')

# Of containers, stands and kits.
BROWN: Final[Rgb] = (0.45, 0.33, 0.26)
LIGHT_BROWN: Final[Rgb] = (0.74, 0.56, 0.44)
DARK_BROWN: Final[Rgb] = (0.24, 0.17, 0.13)
DARK: Final[Rgb] = (0.10, 0.10, 0.10)


def colors_of(split: str, mode: str) -> tuple[str, ...]:
    """The colour names that instructions of a split may name.

    Args:
        split: 'seen', 'unseen' or 'full'. Unseen colours are unseen in training: there this split
            has the training colours, as the published one has.
        mode: 'train', 'val' or 'test'.

    Raises:
        ValueError: if the split or the mode is not known.
    """
    if split not in SPLITS:
        raise ValueError(f'split {split!r} is not known; the splits are: {", ".join(SPLITS)}')
    if mode not in MODES:
        raise ValueError(f'mode {mode!r} is not known; the modes are: {", ".join(MODES)}')
    if split == 'full':
        return ALL_COLORS
    return EVAL_COLORS if split == 'unseen' and mode != 'train' else TRAIN_COLORS
