"""Squares where each camera has at most one thing before it, so that captions are sure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot
from types import MappingProxyType
from typing import Final

import numpy as np

from vlm_nodes.simulation.street.captions import Sighting, sightings
from vlm_nodes.simulation.street.layout import Street, make_street
from vlm_nodes.simulation.street.recorder import Recorder, Scene, View
from vlm_nodes.simulation.street.rig import MOUNTS, random_drive
from vlm_nodes.simulation.street.solids import Solid
from vlm_nodes.simulation.street.things import Place, Thing, make_thing
from vlm_nodes.simulation.street.vocabulary import NAMED_KINDS
from vlm_nodes.simulation.vocabulary import COLOURS

_EMPTY: Final = 0.1
"""Share of the cameras that have nothing before them."""
_CLEAR_M: Final = 20.0
"""How far around the vehicle no house or tree stands."""
_TRIES: Final = 20
# Metres ahead of the camera, and degrees to either side, so that a thing stays in one picture.
_WHERE: Final = MappingProxyType(
    {'car': ((8.5, 12.0), 6.0), 'truck': ((12.0, 16.0), 4.0), 'person': ((3.5, 7.0), 12.0)}
)


@dataclass(frozen=True)
class Square:
    """A square, recorded.

    Attributes:
        seed: Of its street.
        seen: What each camera sees, at most one thing.
        views: The pictures.
    """

    seed: int
    seen: Mapping[str, Sequence[Sighting]]
    views: Mapping[str, View]


def sparse_street(seed: int, cameras: Sequence[str], attempt: int = 0) -> Street:
    """The street of a seed, its things replaced by at most one before each camera at its start.

    Args:
        seed: Of the street.
        cameras: Names of `rig.MOUNTS`.
        attempt: Another one of the same seed.
    """
    street = make_street(seed, drive_m=5.0)
    rng = np.random.default_rng([seed, 32, attempt])
    solids = [solid for solid in street.solids if _stays(solid, street.lane_y)]
    things: list[Thing] = []
    for camera in cameras:
        if rng.random() < _EMPTY:
            continue
        kind = NAMED_KINDS[rng.integers(len(NAMED_KINDS))]
        colour = COLOURS[rng.integers(len(COLOURS))]
        things.append(Thing(len(things) + 1, kind, colour))
        solids += make_thing(things[-1], _place(camera, kind, street.lane_y, rng), rng)
    return replace(street, solids=tuple(solids), things=tuple(things))


def _stays(solid: Solid, lane_y: float) -> bool:
    if solid.thing:
        return False
    if solid.kind not in ('building', 'tree', 'bush'):
        return True
    x, y, _ = solid.centre
    return hypot(x, y - lane_y) - solid.reach_m > _CLEAR_M


def _place(camera: str, kind: str, lane_y: float, rng: np.random.Generator) -> Place:
    mount, (distance, turn_deg) = MOUNTS[camera], _WHERE[kind]
    ahead = rng.uniform(*distance)
    angle = np.radians(mount.yaw_deg + rng.uniform(-turn_deg, turn_deg))
    x, y = mount.position[0] + ahead * np.cos(angle), mount.position[1] + ahead * np.sin(angle)
    return Place(float(x), float(lane_y + y), 0.0, float(rng.uniform(-np.pi, np.pi)))


def record_sparse(recorder: Recorder, seeds: Sequence[int]) -> Iterator[Square]:
    """Record squares in which no camera sees two things.

    What a camera sees is looked up in the rendered pictures, and where two things got into one,
    another attempt is made.

    Raises:
        RuntimeError: No attempt of a seed succeeds.
    """
    cameras = recorder.settings.cameras
    for seed in seeds:
        for attempt in range(_TRIES):
            street = sparse_street(seed, cameras, attempt)
            scene = Scene(street, random_drive(seed, street.lane_y, (3.0, 3.0)))
            stamp_ns = scene.drive.stamp_ns(0)
            views = {name: recorder.view(scene, name, stamp_ns) for name in cameras}
            seen = {name: sightings(view.things, street.things) for name, view in views.items()}
            if _is_plain(seen, street):
                yield Square(seed, seen, views)
                break
        else:
            raise RuntimeError(f'no square of seed {seed} keeps its things apart')


def _is_plain(seen: Mapping[str, Sequence[Sighting]], street: Street) -> bool:
    counts = [len(found) for found in seen.values()]
    return max(counts) <= 1 and sum(counts) == len(street.things)
