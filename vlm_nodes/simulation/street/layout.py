"""Streets from seeds: everything in them follows from the seed, which names a street for good."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from typing import Final

import numpy as np

from vlm_nodes.simulation.looks import jittered
from vlm_nodes.simulation.street.solids import Rgb, Solid, Texture
from vlm_nodes.simulation.street.things import (
    GRASS_M,
    KERB_M,
    Place,
    Thing,
    make_building,
    make_bush,
    make_thing,
    make_tree,
)
from vlm_nodes.simulation.street.vocabulary import TRAIN_SEEDS, VAL_SEEDS
from vlm_nodes.simulation.vocabulary import COLOURS

_SIDE_M: Final = 70.0
_AHEAD_M: Final = 75.0
_DEPTH_M: Final = 0.25
_TRIES: Final = 40
# Half width of what the recording vehicle sweeps.
_LANE_M: Final = 1.3


@dataclass(frozen=True)
class Street:
    """A street.

    Street frame: metres; x along the road, y to the left, z up, the road's surface at z = 0.

    Attributes:
        seed: its name.
        solids: all that is there.
        things: what captions may speak of.
        lane_y: of the recording vehicle's lane.
        sun: direction that the light goes, (3,).
        brightness: of the sun, in [0, 1].
        ambient: of the sky's light, in [0, 1].
        sky_rgb: of the sky above.
    """

    seed: int
    solids: tuple[Solid, ...]
    things: tuple[Thing, ...]
    lane_y: float
    sun: tuple[float, float, float]
    brightness: float
    ambient: float
    sky_rgb: Rgb


@dataclass(frozen=True)
class _Plan:
    """The ground that things are put on."""

    start: float
    end: float
    drive_m: float
    road: float
    pavement: float
    crossing: tuple[float, float] | None

    @property
    def length_factor(self) -> float:
        """Length against that of the street of a 40 m drive, for which counts are given."""
        return (self.end - self.start) / (2 * _AHEAD_M + 40.0)

    def pieces(self) -> list[tuple[float, float]]:
        """Stretches of x beside the road that no crossing takes."""
        if self.crossing is None:
            return [(self.start, self.end)]
        return [(self.start, self.crossing[0]), (self.crossing[1], self.end)]

    def is_crossing(self, x: float, margin: float) -> bool:
        return (
            self.crossing is not None and self.crossing[0] - margin < x < self.crossing[1] + margin
        )


def make_street(seed: int, drive_m: float = 40.0) -> Street:
    """The street of a seed.

    Args:
        seed: of `vocabulary.TRAIN_SEEDS` or `vocabulary.VAL_SEEDS`.
        drive_m: how far a vehicle will drive on it, from x = 0 on; it is free to do so.

    Raises:
        ValueError: the seed is in neither range, or the way is negative.
    """
    if seed not in TRAIN_SEEDS and seed not in VAL_SEEDS:
        raise ValueError(
            f'seed {seed} is neither a training seed {TRAIN_SEEDS} nor a held-out one {VAL_SEEDS}'
        )
    if not (np.isfinite(drive_m) and drive_m >= 0):
        raise ValueError(f'drive_m must be 0 or more, is {drive_m}')
    rng = np.random.default_rng([seed, 30])
    plan = _plan(rng, drive_m)
    builder = _Furnisher(plan, rng)
    builder.add_ground()
    builder.add_buildings()
    builder.add_traffic()
    builder.add_people()
    builder.add_green()
    azimuth, fall = rng.uniform(-np.pi, np.pi), rng.uniform(0.7, 1.6)
    sky: Rgb = (0.35 + rng.uniform(0, 0.25), 0.60 + rng.uniform(-0.05, 0.1), 0.88)
    return Street(
        seed=seed,
        solids=tuple(builder.solids),
        things=tuple(builder.things),
        lane_y=builder.lane_y,
        sun=(float(np.cos(azimuth)), float(np.sin(azimuth)), -float(fall)),
        brightness=float(rng.uniform(0.35, 0.6)),
        ambient=float(rng.uniform(0.40, 0.55)),
        sky_rgb=sky,
    )


def _plan(rng: np.random.Generator, drive_m: float) -> _Plan:
    crossing = None
    if rng.random() < 0.5:
        middle, half = rng.uniform(-25.0, drive_m + 30.0), rng.uniform(3.5, 5.0)
        crossing = (float(middle - half), float(middle + half))
    return _Plan(
        start=-_AHEAD_M,
        end=drive_m + _AHEAD_M,
        drive_m=drive_m,
        road=float(rng.uniform(5.2, 6.6)),
        pavement=float(rng.uniform(2.4, 4.2)),
        crossing=crossing,
    )


class _Furnisher:
    """Puts one kind of thing after the other where there is room."""

    def __init__(self, plan: _Plan, rng: np.random.Generator) -> None:
        self._plan, self._rng = plan, rng
        self.solids: list[Solid] = []
        self.things: list[Thing] = []
        self.lane_y = -float(rng.uniform(1.6, 2.0))
        # (x, y, radius) of what stands on the ground so far.
        self._taken: list[tuple[float, float, float]] = []

    def add_ground(self) -> None:
        """Road, kerbs, pavements and what lies beyond."""
        plan, rng = self._plan, self._rng
        asphalt = jittered(rng, (0.25, 0.25, 0.26))
        stone = jittered(rng, (0.58, 0.55, 0.52))
        grass = jittered(rng, (0.30, 0.42, 0.16))
        whole = (plan.start, plan.end)
        self._slab('road', whole, (-plan.road, plan.road), 0.0, asphalt, 'speckle')
        edge = plan.road + 0.25
        outer = plan.road + plan.pavement
        for side in (-1, 1):
            for x in plan.pieces():
                self._slab('kerb', x, _across(side, plan.road, edge), KERB_M, (0.74, 0.74, 0.72))
                self._slab('pavement', x, _across(side, edge, outer), KERB_M, stone, 'tiles')
                self._slab('grass', x, _across(side, outer, _SIDE_M), GRASS_M, grass, 'speckle')
            if plan.crossing:
                across = _across(side, plan.road, _SIDE_M)
                self._slab('road', plan.crossing, across, 0.0, asphalt, 'speckle')
        for begin in np.arange(plan.start, plan.end - 3.0, 7.0).tolist():
            if not plan.is_crossing(begin, 3.0):
                mark = (begin, begin + 3.0)
                self._slab('road', mark, (-0.08, 0.08), 0.01, (0.9, 0.9, 0.86), depth=0.01)

    def _slab(
        self,
        kind: str,
        x: tuple[float, float],
        y: tuple[float, float],
        top: float,
        rgb: Rgb,
        texture: Texture = 'plain',
        depth: float = 0.0,
    ) -> None:
        low = top - depth if depth else -_DEPTH_M
        if x[1] - x[0] <= 0.1:
            return
        centre = ((x[0] + x[1]) / 2, (y[0] + y[1]) / 2, (low + top) / 2)
        half = ((x[1] - x[0]) / 2, (y[1] - y[0]) / 2, (top - low) / 2)
        self.solids.append(Solid('box', kind, centre, half, 0.0, rgb, 0, texture))

    def add_buildings(self) -> None:
        """Houses along both sides, with gaps."""
        plan, rng = self._plan, self._rng
        for side in (-1, 1):
            x = plan.start
            while x < plan.end:
                half_length, half_depth = rng.uniform(3.5, 8.0), rng.uniform(3.5, 6.0)
                setback = rng.uniform(0.0, 2.5)
                middle = x + half_length
                y = side * (plan.road + plan.pavement + setback + half_depth)
                if rng.random() < 0.85 and not plan.is_crossing(middle, half_length + 0.5):
                    place = Place(float(middle), float(y))
                    self.solids += make_building(place, half_length, half_depth, rng)
                    self._take_box(middle, y, half_length, half_depth)
                x += 2 * half_length + (0.0 if rng.random() < 0.4 else rng.uniform(1.5, 9.0))

    def add_traffic(self) -> None:
        """Parked cars and trucks at the kerbs, others in the lanes."""
        plan, rng = self._plan, self._rng
        count = round((plan.end - plan.start) / 10.0 * rng.uniform(0.9, 2.0))
        for _ in range(count):
            kind = 'truck' if rng.random() < 0.28 else 'car'
            half_width, radius = (1.25, 4.4) if kind == 'truck' else (0.95, 2.4)
            side = -1 if rng.random() < 0.5 else 1
            is_parked = rng.random() < 0.6
            y = side * (plan.road - half_width - 0.25 if is_parked else abs(self.lane_y))
            yaw = (0.0 if side < 0 else np.pi) + rng.normal(0.0, 0.03)
            place = self._free_place(plan.start + 5, plan.end - 5, float(y), radius, half_width)
            if place is not None:
                self._put(kind, Place(place, float(y), 0.0, float(yaw)))
                for shift in (-radius / 2, radius / 2):
                    self._taken.append((place + shift, float(y), radius / 2))

    def _free_place(
        self, low: float, high: float, y: float, radius: float, half_width: float
    ) -> float | None:
        for _ in range(_TRIES):
            x = float(self._rng.uniform(low, high))
            ends = ((x - radius / 2, y), (x + radius / 2, y))
            if any(not self._is_free(*end, radius / 2 + 0.4) for end in ends):
                continue
            if self._is_in_the_way(x, y, radius, half_width):
                continue
            return x
        return None

    def add_people(self) -> None:
        """Most on the pavements, some on the road."""
        plan, rng = self._plan, self._rng
        for _ in range(round(rng.integers(15, 32) * plan.length_factor)):
            for _ in range(_TRIES):
                x = float(rng.uniform(-25.0, plan.drive_m + 30.0))
                side, on_road = (-1 if rng.random() < 0.5 else 1), rng.random() < 0.15
                far = rng.uniform(plan.road + 0.5, plan.road + plan.pavement - 0.3)
                y = side * float(rng.uniform(0.0, plan.road - 0.5) if on_road else far)
                blocked = plan.is_crossing(x, 0.3) and not on_road
                if blocked or self._is_in_the_way(x, y, 0.5, 0.5) or not self._is_free(x, y, 0.4):
                    continue
                place = Place(x, y, 0.0 if on_road else KERB_M, float(rng.uniform(-np.pi, np.pi)))
                self._put('person', place)
                self._taken.append((x, y, 0.4))
                break

    def add_green(self) -> None:
        """Trees on pavements and grass, and bushes on the grass."""
        plan, rng = self._plan, self._rng
        trees = round(rng.integers(10, 24) * plan.length_factor)
        bushes = round(rng.integers(6, 16) * plan.length_factor)
        for number in range(trees + bushes):
            is_tree = number < trees
            for _ in range(_TRIES):
                x = float(rng.uniform(plan.start + 20, plan.end - 20))
                on_pavement = is_tree and rng.random() < 0.6
                outer = plan.road + plan.pavement
                far = plan.road + 0.7 if on_pavement else rng.uniform(outer + 0.8, outer + 12)
                y = float(far) * (-1 if rng.random() < 0.5 else 1)
                radius = 0.5 if on_pavement else 1.9
                if plan.is_crossing(x, 2.0) or not self._is_free(x, y, radius):
                    continue
                place = Place(x, y, KERB_M if on_pavement else GRASS_M)
                self.solids += make_tree(place, rng) if is_tree else make_bush(place, rng)
                self._taken.append((x, y, radius))
                break

    def _put(self, kind: str, place: Place) -> None:
        colour = COLOURS[self._rng.integers(len(COLOURS))]
        thing = Thing(len(self.things) + 1, kind, colour)
        self.things.append(thing)
        self.solids += make_thing(thing, place, self._rng)

    def _is_in_the_way(self, x: float, y: float, along: float, across: float) -> bool:
        """Whether the recording vehicle would run into it."""
        ahead = -4.0 - along < x < self._plan.drive_m + 5.0 + along
        return ahead and abs(y - self.lane_y) < _LANE_M + across

    def _is_free(self, x: float, y: float, radius: float) -> bool:
        # Most are far along the street, which is known without a root.
        return all(
            abs(x - u) > radius + r or hypot(x - u, y - v) > radius + r for u, v, r in self._taken
        )

    def _take_box(self, x: float, y: float, half_length: float, half_depth: float) -> None:
        for u in np.arange(-half_length, half_length + 1.0, 1.5):
            for v in np.arange(-half_depth, half_depth + 1.0, 1.5):
                inside = (min(u, half_length), min(v, half_depth))
                self._taken.append((float(x + inside[0]), float(y + inside[1]), 1.1))


def _across(side: int, near: float, far: float) -> tuple[float, float]:
    return (near, far) if side > 0 else (-far, -near)
