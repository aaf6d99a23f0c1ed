"""What Occ3D's classes look like, in words; each goes through the encoder's own templates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.surround.occupancy import CLASSES

Prompts = Mapping[str, tuple[str, ...]]

OCC3D_PROMPTS: Final[Prompts] = MappingProxyType(
    {
        'others': ('animal', 'rubbish bin', 'stroller', 'wheelchair', 'bicycle rack'),
        'barrier': ('traffic barrier', 'concrete road block', 'construction fence'),
        'bicycle': ('bicycle', 'parked bike'),
        'bus': ('bus', 'coach', 'minibus'),
        'car': ('car', 'sedan', 'van', 'sport utility vehicle'),
        'construction_vehicle': ('excavator', 'bulldozer', 'mobile crane', 'cement mixer'),
        'motorcycle': ('motorcycle', 'motor scooter', 'moped'),
        'pedestrian': ('pedestrian', 'person', 'child', 'construction worker', 'police officer'),
        'traffic_cone': ('traffic cone', 'orange cone'),
        'trailer': ('trailer', 'caravan', 'semi-trailer'),
        'truck': ('truck', 'lorry', 'delivery truck', 'fire engine'),
        'driveable_surface': ('road', 'street', 'asphalt', 'road marking'),
        'other_flat': ('traffic island', 'railway track', 'water surface', 'lake'),
        'sidewalk': ('sidewalk', 'pavement', 'footpath', 'kerb'),
        'terrain': ('grass', 'lawn', 'soil', 'gravel', 'hill'),
        'manmade': ('building', 'house', 'wall', 'street lamp', 'traffic sign', 'fence'),
        'vegetation': ('tree', 'bush', 'hedge', 'vegetation', 'flower bed'),
    }
)
"""Occ3D's 17 classes, free space left out."""

SKY: Final = 'sky'
"""What looks like sky is free, however dense a network made it."""

SEVENTEEN: Final = CLASSES[:-1]
FIFTEEN: Final = tuple(name for name in SEVENTEEN if name not in ('others', 'other_flat'))
"""What newer papers average over."""


def read_prompts(path: Path) -> dict[str, tuple[str, ...]]:
    """Prompts from a JSON file: {"car": ["car", "sedan"], ...}; classes left out never occur.

    Raises:
        LangOccError: The file is missing or broken, or names no class of Occ3D.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        prompts = {str(name): tuple(map(str, texts)) for name, texts in content.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise LangOccError(f'{path} holds no prompts: {error}') from error
    return checked_prompts(prompts, str(path))


def checked_prompts(prompts: Prompts, where: str) -> dict[str, tuple[str, ...]]:
    """Prompts by class, in Occ3D's order.

    Raises:
        LangOccError: A class is not known, or has no prompt.
    """
    unknown = sorted(set(prompts) - set(SEVENTEEN))
    empty = sorted(name for name, texts in prompts.items() if not texts)
    if unknown or empty or not prompts:
        raise LangOccError(f'{where}: unknown classes {unknown}, classes without prompts {empty}')
    return {name: tuple(prompts[name]) for name in SEVENTEEN if name in prompts}
