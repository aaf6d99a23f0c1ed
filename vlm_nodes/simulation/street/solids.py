"""The solids that a street is built of, all upright: boxes turned about z, and cylinders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlm_nodes.simulation.street.vocabulary import class_number

Rgb = tuple[float, float, float]
Texture = Literal['plain', 'speckle', 'tiles']
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Solid:
    """A box or an upright cylinder.

    Attributes:
        shape: 'box' or 'cylinder'.
        kind: a key of `vocabulary.CLASS_OF_KIND`.
        centre: metres, street frame.
        half: half sides along its own x, y, z; of a cylinder radius, radius, half height.
        yaw_rad: its x axis about z.
        rgb: in [0, 1].
        thing: number of the thing that it is a part of, from 1; 0 for what is not counted.
        texture: 'plain', 'speckle' or 'tiles'.

    Raises:
        ValueError: a size is not positive, a cylinder is not round, or the kind is not known.
    """

    shape: Literal['box', 'cylinder']
    kind: str
    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    yaw_rad: float
    rgb: Rgb
    thing: int = 0
    texture: Texture = 'plain'

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        if min(self.half) <= 0:
            raise ValueError(f'{self.kind} has half sides {self.half}, which are not positive')
        if self.shape == 'cylinder' and self.half[0] != self.half[1]:
            raise ValueError(f'{self.kind} is a cylinder with two radii {self.half[:2]}')
        class_number(self.kind)

    @property
    def reach_m(self) -> float:
        """Radius of the circle about its footprint."""
        return self.half[0] if self.shape == 'cylinder' else float(np.hypot(*self.half[:2]))

    def covers(self, x: Floats, y: Floats) -> NDArray[np.bool_]:
        """Which of some places of the ground lie below it; any shape, street frame."""
        dx, dy = x - self.centre[0], y - self.centre[1]
        if self.shape == 'cylinder':
            return np.asarray(dx * dx + dy * dy <= self.half[0] ** 2)
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        along, across = cos * dx + sin * dy, cos * dy - sin * dx
        return np.asarray((np.abs(along) <= self.half[0]) & (np.abs(across) <= self.half[1]))

    def enters(self, origin: Floats, directions: Floats) -> Floats:
        """How far along rays from one place it is hit from outside; +inf where it is not.

        Args:
            origin: (3,) metres, street frame.
            directions: (N, 3) unit vectors.

        Returns:
            (N,) metres.
        """
        cos, sin = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
        start, along = turn @ (origin - np.array(self.centre)), directions @ turn.T
        with np.errstate(divide='ignore', invalid='ignore'):
            if self.shape == 'box':
                low, high = _slab(start, along, np.array(self.half))
            else:
                low, high = _cylinder(start, along, self.half[0], self.half[2])
        return np.where((low <= high) & (low > 0), low, np.inf)


def _slab(start: Floats, along: Floats, half: Floats) -> tuple[Floats, Floats]:
    """Where rays come into and go out of a box about the origin."""
    first, second = (-half - start) / along, (half - start) / along
    # A ray within a face's plane divides 0 by 0: it is inside of that pair of faces.
    low = np.nan_to_num(np.minimum(first, second), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    high = np.nan_to_num(np.maximum(first, second), nan=np.inf, posinf=np.inf, neginf=-np.inf)
    return low.max(axis=1), high.min(axis=1)


def _cylinder(start: Floats, along: Floats, radius: float, half_z: float) -> tuple[Floats, Floats]:
    """Where rays come into and go out of an upright cylinder about the origin."""
    low, high = _slab(start[2:], along[:, 2:], np.array([half_z]))
    a = (along[:, :2] ** 2).sum(axis=1)
    b = along[:, :2] @ start[:2]
    c = float(start[:2] @ start[:2]) - radius**2
    root = np.sqrt(b * b - a * c)
    near, far = (-b - root) / a, (-b + root) / a
    # A vertical ray is inside of the mantle all the way, or never.
    upright = a < 1e-12
    near = np.where(upright, -np.inf if c <= 0 else np.inf, near)
    far = np.where(upright, np.inf if c <= 0 else -np.inf, far)
    missed = np.isnan(root) & ~upright
    return (
        np.where(missed, np.inf, np.maximum(low, near)),
        np.where(missed, -np.inf, np.minimum(high, far)),
    )


def first_hits(
    solids: Sequence[Solid], origin: ArrayLike, directions: ArrayLike
) -> tuple[Floats, NDArray[np.int64]]:
    """What rays from one place hit first.

    Args:
        solids: all that is there.
        origin: (3,) metres, street frame.
        directions: (N, 3) unit vectors.

    Returns:
        (N,) metres, +inf where nothing is hit, and (N,) int64 places in `solids`, -1 there.
    """
    start = np.asarray(origin, np.float64)
    rays = np.asarray(directions, np.float64)
    distance = np.full(len(rays), np.inf)
    hit = np.full(len(rays), -1, np.int64)
    for place, solid in enumerate(solids):
        to_centre = np.array(solid.centre) - start
        reach = float(np.linalg.norm((solid.reach_m, solid.half[2])))
        away = float(np.linalg.norm(to_centre))
        near: NDArray[np.int64] = np.arange(len(rays))
        if away > reach:
            # Only rays within the cone about the solid's sphere can hit it.
            near = np.flatnonzero(rays @ (to_centre / away) >= np.sqrt(1 - (reach / away) ** 2))
        found = solid.enters(start, rays[near])
        closer = found < distance[near]
        distance[near[closer]] = found[closer]
        hit[near[closer]] = place
    return distance, hit
