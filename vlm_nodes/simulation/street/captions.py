"""What is to be said of a keyframe: which colour and thing each camera sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation.street.things import Thing

MIN_SHARE: Final = 0.004
"""Share of a picture's pixels from which a thing is spoken of."""
MOST: Final = 2
"""How many colours and kinds are named for a camera: those of the largest things, each once."""


@dataclass(frozen=True)
class Sighting:
    """A thing in a picture.

    Attributes:
        thing: which.
        share: of the picture's pixels that show it.
    """

    thing: Thing
    share: float


def sightings(numbers: NDArray[np.uint16], things: Sequence[Thing]) -> list[Sighting]:
    """The things that a picture shows well, the largest first.

    Args:
        numbers: (H, W) of things, 0 for others.
        things: of the street.
    """
    pixels = np.bincount(numbers.ravel(), minlength=len(things) + 1)
    found = [Sighting(thing, float(pixels[thing.number] / numbers.size)) for thing in things]
    seen = [sighting for sighting in found if sighting.share >= MIN_SHARE]
    return sorted(seen, key=lambda sighting: (-sighting.share, sighting.thing.number))


def describe_view(seen: Sequence[Sighting]) -> str:
    """The largest things in words: 'a red car and a person in blue', or 'an empty street'."""
    words = list(dict.fromkeys(sighting.thing.text for sighting in seen))
    return ' and '.join(words[:MOST]) or 'an empty street'


def view_name(camera: str) -> str:
    """A camera's name in words: 'front left' of 'CAM_FRONT_LEFT'."""
    return camera.removeprefix('CAM_').replace('_', ' ').lower()


def describe_scene(views: Mapping[str, Sequence[Sighting]]) -> str:
    """One sentence a camera: 'The front view shows a red car. The back view shows ...'."""
    return ' '.join(
        f'The {view_name(camera)} view shows {describe_view(seen)}.'
        for camera, seen in views.items()
    )
