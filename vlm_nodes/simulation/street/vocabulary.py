"""What a street is made of, which occupancy class that is, and which streets are held out."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from vlm_nodes.surround.occupancy import CLASSES

CLASS_OF_KIND: Final = MappingProxyType(
    {
        'road': 'driveable_surface',
        'kerb': 'sidewalk',
        'pavement': 'sidewalk',
        'grass': 'terrain',
        'building': 'manmade',
        'tree': 'vegetation',
        'bush': 'vegetation',
        'car': 'car',
        'truck': 'truck',
        'person': 'pedestrian',
    }
)
"""Occ3D's class name of each kind of thing."""

CLASS_NAMES: Final = tuple(name for name in CLASSES if name in CLASS_OF_KIND.values())
"""The classes that occur in a street, in Occ3D's order."""

NAMED_KINDS: Final = ('car', 'truck', 'person')
"""What captions speak of; each has a colour of `simulation.vocabulary.COLOURS`."""

TRAIN_SEEDS: Final = range(1_000_000)
VAL_SEEDS: Final = range(1_000_000, 2_000_000)
"""Streets that nothing is trained on."""

_SPLITS: Final = MappingProxyType({'train': TRAIN_SEEDS, 'val': VAL_SEEDS})


def class_number(kind: str) -> int:
    """Occ3D's number of a kind's class.

    Raises:
        ValueError: The kind is not known.
    """
    if kind not in CLASS_OF_KIND:
        raise ValueError(f'unknown kind {kind!r}; kinds are {", ".join(CLASS_OF_KIND)}')
    return CLASSES.index(CLASS_OF_KIND[kind])


def scene_seeds(split: str, first: int, count: int) -> range:
    """Seeds of some scenes of a split, counted from the split's own zero.

    Raises:
        ValueError: The split is not known or has no such scenes.
    """
    if split not in _SPLITS:
        raise ValueError(f'unknown split {split!r}; splits are {", ".join(_SPLITS)}')
    seeds = _SPLITS[split]
    if count < 1 or first < 0 or first + count > len(seeds):
        raise ValueError(
            f'{count} scenes from {first} on are not in split {split!r}, which has {len(seeds)}'
        )
    return seeds[first : first + count]
