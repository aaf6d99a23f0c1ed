"""What the simulated worlds are made of, and which pairs of it stay unseen.

Every object has a label of a colour and a kind ('red mug'); what belongs to the room itself is
labelled without a colour ('floor'). A fifth of the colour and kind pairs is never shown in
training rooms, so that what a model makes of them measures composition and not memory.
"""

from types import MappingProxyType
from typing import Final

KINDS: Final = (
    'ball', 'box', 'mug', 'bottle', 'chair', 'lamp', 'cone', 'ring', 'bear', 'car', 'duck', 'star',
)  # fmt: skip

COLOUR_RGB: Final = MappingProxyType(
    {
        'red': (0.80, 0.05, 0.06),
        'orange': (0.95, 0.42, 0.03),
        'yellow': (0.93, 0.83, 0.06),
        'green': (0.08, 0.52, 0.12),
        'blue': (0.08, 0.20, 0.80),
        'purple': (0.46, 0.12, 0.62),
        'white': (0.93, 0.93, 0.93),
        'black': (0.05, 0.05, 0.05),
    }
)

COLOURS: Final = tuple(COLOUR_RGB)

ROOM_LABELS: Final = ('floor', 'wall', 'table')

TRAIN_SEEDS: Final = range(1_000_000)
TEST_SEEDS: Final = range(1_000_000, 2_000_000)

UNLABELLED: Final = 0
"""The label id of pixels that show nothing (beyond the walls)."""


def held_out(colour: str, kind: str) -> bool:
    """Whether this pair is kept out of all training rooms.

    The pattern is a Latin one, colour + 2 kind = 0 (mod 5): every colour loses two or three of
    its 12 kinds, every kind one or two of its 8 colours, 19 of 96 pairs in all.

    Raises:
        ValueError: if the colour or the kind is not in the vocabulary.
    """
    return (_index(COLOURS, colour, 'colour') + 2 * _index(KINDS, kind, 'kind')) % 5 == 0


def pairs(*, unseen: bool | None = None) -> tuple[tuple[str, str], ...]:
    """All (colour, kind) pairs, or only those held out of training (True) or not (False)."""
    everything = ((colour, kind) for colour in COLOURS for kind in KINDS)
    return tuple(pair for pair in everything if unseen is None or held_out(*pair) is unseen)


def label_of(colour: str, kind: str) -> str:
    """The label text of an object, such as 'red mug'."""
    _index(COLOURS, colour, 'colour')
    _index(KINDS, kind, 'kind')
    return f'{colour} {kind}'


def caption(label: str) -> str:
    """The label with its article, as in a sentence: 'a red mug', 'an orange ball', 'the floor'."""
    if label in ROOM_LABELS:
        return f'a {label}' if label == 'table' else f'the {label}'
    return f'an {label}' if label[0] in 'aeiou' else f'a {label}'


def _index(words: tuple[str, ...], word: str, what: str) -> int:
    try:
        return words.index(word)
    except ValueError:
        raise ValueError(f'unknown {what} {word!r}; the {what}s are: {", ".join(words)}') from None


LABELS: Final = (*ROOM_LABELS, *(label_of(colour, kind) for colour, kind in pairs()))
"""All label texts; the id of LABELS[i] is i + 1."""

LABEL_IDS: Final = MappingProxyType({label: i + 1 for i, label in enumerate(LABELS)})
