"""What stands on the table, as plain data: bodies of a few primitives each.

Table frame: metres, z up, the table's top at z = 0. A body's own frame is upright.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation.room import Point, Rgb
from vlm_nodes.simulation.shapes import Mesh

Shape = Literal['box', 'cylinder', 'sphere', 'ellipsoid', 'capsule', 'mesh']


@dataclass(frozen=True)
class Pose:
    """Where a body stands, upright.

    Attributes:
        x: metres.
        y: metres.
        z: metres, of the body's origin above the table.
        yaw_rad: about z, from x to y.
    """

    x: float
    y: float
    z: float = 0.0
    yaw_rad: float = 0.0

    def matrix(self) -> NDArray[np.float64]:
        """(4, 4) table_from_body."""
        c, s = np.cos(self.yaw_rad), np.sin(self.yaw_rad)
        return np.array([[c, -s, 0, self.x], [s, c, 0, self.y], [0, 0, 1, self.z], [0, 0, 0, 1.0]])

    def at(self, point: Point, yaw_rad: float = 0.0) -> Pose:
        """The pose of something that stands at a point of this body's frame, turned in it."""
        x, y, z = (self.matrix() @ np.array([*point, 1.0]))[:3]
        return Pose(float(x), float(y), float(z), self.yaw_rad + yaw_rad)


@dataclass(frozen=True)
class Piece:
    """One primitive of a body.

    Attributes:
        shape: MuJoCo's geom.
        size: half sizes: box and ellipsoid three, sphere one, cylinder and capsule (radius, half
            height); none of a mesh.
        position: centre in the body's frame.
        yaw_rad: in the body's frame.
        axis: where its own z axis points; with another than z, `yaw_rad` is not looked at.
        rgb: colour; None takes the body's.
        is_solid: whether things touch it.
        is_visible: whether cameras see it.
        mesh: for shape 'mesh'; touched as its convex hull.
    """

    shape: Shape
    size: tuple[float, ...] = ()
    position: Point = (0.0, 0.0, 0.0)
    yaw_rad: float = 0.0
    axis: Point = (0.0, 0.0, 1.0)
    rgb: Rgb | None = None
    is_solid: bool = True
    is_visible: bool = True
    mesh: Mesh | None = None


@dataclass(frozen=True)
class Prop:
    """A body on the table.

    Attributes:
        name: unique on the table.
        label: what it is, such as 'red block'.
        rgb: main colour.
        pieces: in the body's frame.
        pose: where it stands at first.
        is_fixed: whether nothing moves it.
        mass_kg: of all of it, if it is not fixed.
        friction: sliding friction.
    """

    name: str
    label: str
    rgb: Rgb
    pieces: tuple[Piece, ...]
    pose: Pose
    is_fixed: bool = False
    mass_kg: float = 0.1
    friction: float = 1.0


@dataclass(frozen=True)
class Joint:
    """Two bodies that hang together at a point, as the beads of a rope do.

    Attributes:
        first: name of a body.
        second: name of the other.
        anchor: the point, in the first body's frame.
    """

    first: str
    second: str
    anchor: Point


def block(name: str, color: str, rgb: Rgb, pose: Pose, side_m: float = 0.04) -> Prop:
    """A cube; its origin is its middle."""
    half = side_m / 2
    return Prop(name, f'{color} block', rgb, (Piece('box', (half, half, half)),), pose)
