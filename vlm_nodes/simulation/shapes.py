"""The object kinds as a few primitives each, at unit size.

The largest side is about 1, the base stands on z = 0.

Kinds are chunky and differ in silhouette, so that a 128x128 picture from some metres away shows
what they are. The front of a thing with a front (car, duck, bear, chair) looks along +x.

To add a kind: its builder and its range of sizes here, its name in `vocabulary.KINDS`. All models
trained on these worlds must then be trained again, since label ids and held-out pairs shift.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Tint = Literal['main', 'dark', 'light', 'beak']
TINT_RGB: Final = MappingProxyType(
    {'dark': (0.08, 0.08, 0.08), 'light': (0.85, 0.82, 0.76), 'beak': (0.90, 0.55, 0.08)}
)
"""Of all tints but 'main', which takes the object's own colour."""


@dataclass(frozen=True)
class Mesh:
    """A closed triangle mesh.

    Attributes:
        name: unique name; parts with the same name share the mesh.
        vertices: (N, 3) float64.
        faces: (M, 3) int32, anticlockwise seen from outside.
    """

    name: str
    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]


@dataclass(frozen=True)
class Part:
    """One primitive of an object.

    Attributes:
        shape: 'box', 'sphere', 'ellipsoid', 'capsule', 'cylinder' (MuJoCo's geoms) or 'mesh'.
        size: MuJoCo's half sizes: box and ellipsoid three, sphere one, capsule and cylinder
            (radius, half length).
        position: centre of the part.
        axis: where the part's own z axis points.
        tint: 'main' takes the object's colour, the others are fixed.
        mesh: for shape 'mesh'.
    """

    shape: Literal['box', 'sphere', 'ellipsoid', 'capsule', 'cylinder', 'mesh']
    size: tuple[float, ...] = ()
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    tint: Tint = 'main'
    mesh: Mesh | None = None


def lathe(name: str, profile: tuple[tuple[float, float], ...], segments: int = 24) -> Mesh:
    """A solid of revolution about z.

    Args:
        name: name of the mesh.
        profile: (radius, height) points, from the axis at the bottom around the outside back to
            the axis; the first and the last radius are 0.
        segments: number of slices.

    Raises:
        ValueError: if the profile does not start and end on the axis.
    """
    if profile[0][0] != 0.0 or profile[-1][0] != 0.0:
        raise ValueError(f'profile of {name!r} must start and end at radius 0, has {profile}')
    turns = np.arange(segments) * (2 * np.pi / segments)
    rings = [
        np.column_stack([r * np.cos(turns), r * np.sin(turns), np.full(segments, z)])
        for r, z in profile[1:-1]
    ]
    poles = np.array([[0.0, 0.0, profile[0][1]], [0.0, 0.0, profile[-1][1]]])
    bottom, top = segments * len(rings), segments * len(rings) + 1
    faces: list[tuple[int, int, int]] = []
    for i in range(segments):
        j = (i + 1) % segments
        faces.append((bottom, j, i))
        faces.append((top, bottom - segments + i, bottom - segments + j))
        for ring in range(len(rings) - 1):
            a, b = ring * segments, (ring + 1) * segments
            faces += [(a + i, a + j, b + j), (a + i, b + j, b + i)]
    return Mesh(name, np.vstack([*rings, poles]), np.array(faces, np.int32))


def torus(name: str, major: float, minor: float, segments: int = 28, sides: int = 14) -> Mesh:
    """A ring that stands upright on z = 0 in the y-z plane."""
    turn = np.repeat(np.arange(segments) * (2 * np.pi / segments), sides)
    side = np.tile(np.arange(sides) * (2 * np.pi / sides), segments)
    radius = major + minor * np.cos(side)
    vertices = np.column_stack(
        [minor * np.sin(side), radius * np.cos(turn), radius * np.sin(turn) + major + minor]
    )
    i, k = np.divmod(np.arange(segments * sides), sides)
    i2, k2 = (i + 1) % segments, (k + 1) % sides
    a, b, c, d = i * sides + k, i2 * sides + k, i2 * sides + k2, i * sides + k2
    faces = np.vstack([np.column_stack([a, b, c]), np.column_stack([a, c, d])])
    return Mesh(name, vertices, faces.astype(np.int32))


def star_prism(name: str, outer: float, inner: float, half_depth: float, points: int = 5) -> Mesh:
    """A star that stands upright on two of its points in the y-z plane."""
    angle = np.pi / 2 + np.arange(2 * points) * np.pi / points
    radius = np.where(np.arange(2 * points) % 2 == 0, outer, inner)
    rim = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    rim[:, 1] -= rim[:, 1].min()
    middle = np.array([[0.0, outer * np.cos(np.pi / points)]])
    n = 2 * points
    # The faces bulge towards the middle, as a cushion star's do: it reads as a star from the side
    # as well.
    front = np.column_stack([np.full(n, half_depth * 0.6), rim])
    back = np.column_stack([np.full(n, -half_depth * 0.6), rim])
    hubs = np.array([[half_depth, *middle[0]], [-half_depth, *middle[0]]])
    i = np.arange(n)
    j = (i + 1) % n
    faces = np.vstack(
        [
            np.column_stack([np.full(n, 2 * n), i, j]),
            np.column_stack([np.full(n, 2 * n + 1), j + n, i + n]),
            np.column_stack([i, i + n, j + n]),
            np.column_stack([i, j + n, j]),
        ]
    )
    return Mesh(name, np.vstack([front, back, hubs]), faces.astype(np.int32))


def _ball() -> tuple[Part, ...]:
    return (Part('sphere', (0.5,), (0, 0, 0.5)),)


def _box() -> tuple[Part, ...]:
    return (
        Part('box', (0.46, 0.40, 0.34), (0, 0, 0.34)),
        Part('box', (0.50, 0.44, 0.08), (0, 0, 0.70)),
    )


def _mug() -> tuple[Part, ...]:
    profile = ((0, 0), (0.36, 0), (0.40, 0.84), (0.33, 0.84), (0.29, 0.12), (0, 0.12))
    return (
        Part('mesh', mesh=lathe('mug', profile)),
        Part('capsule', (0.07, 0.12), (0.48, 0, 0.66), (1, 0, 0)),
        Part('capsule', (0.07, 0.20), (0.60, 0, 0.46)),
        Part('capsule', (0.07, 0.12), (0.48, 0, 0.26), (1, 0, 0)),
    )


def _bottle() -> tuple[Part, ...]:
    profile = ((0, 0), (0.23, 0), (0.23, 0.52), (0.18, 0.62), (0.09, 0.70), (0.09, 0.92), (0, 0.92))
    return (
        Part('mesh', mesh=lathe('bottle', profile)),
        Part('cylinder', (0.11, 0.05), (0, 0, 0.95)),
    )


def _chair() -> tuple[Part, ...]:
    legs = tuple(
        Part('box', (0.07, 0.07, 0.19), (x, y, 0.19)) for x in (-0.25, 0.25) for y in (-0.25, 0.25)
    )
    return (
        Part('box', (0.32, 0.32, 0.07), (0, 0, 0.44)),
        Part('box', (0.07, 0.32, 0.27), (-0.25, 0, 0.75)),
        *legs,
    )


def _lamp() -> tuple[Part, ...]:
    shade = ((0, 0.5), (0.40, 0.5), (0.20, 1.0), (0, 1.0))
    return (
        Part('cylinder', (0.24, 0.05), (0, 0, 0.05)),
        Part('cylinder', (0.07, 0.22), (0, 0, 0.30)),
        Part('mesh', mesh=lathe('lamp', shade)),
    )


def _cone() -> tuple[Part, ...]:
    return (
        Part('box', (0.40, 0.40, 0.05), (0, 0, 0.05)),
        Part('mesh', mesh=lathe('cone', ((0, 0.1), (0.31, 0.1), (0.05, 1.0), (0, 1.0)))),
    )


def _ring() -> tuple[Part, ...]:
    return (Part('mesh', mesh=torus('ring', 0.35, 0.15)),)


def _bear() -> tuple[Part, ...]:
    limbs = tuple(
        part
        for y in (-1, 1)
        for part in (
            Part('ellipsoid', (0.20, 0.11, 0.11), (0.22, 0.20 * y, 0.11)),
            Part('ellipsoid', (0.12, 0.18, 0.10), (0.12, 0.30 * y, 0.44)),
            Part('sphere', (0.09,), (0, 0.17 * y, 0.94)),
            Part('sphere', (0.03,), (0.20, 0.08 * y, 0.83), tint='dark'),
        )
    )
    return (
        Part('ellipsoid', (0.25, 0.27, 0.30), (0, 0, 0.30)),
        Part('sphere', (0.23,), (0.02, 0, 0.77)),
        Part('ellipsoid', (0.08, 0.09, 0.07), (0.22, 0, 0.72), tint='light'),
        *limbs,
    )


def _car() -> tuple[Part, ...]:
    wheels = tuple(
        Part('cylinder', (0.14, 0.06), (x, y, 0.14), (0, 1, 0), 'dark')
        for x in (-0.29, 0.29)
        for y in (-0.24, 0.24)
    )
    return (
        Part('box', (0.50, 0.25, 0.13), (0, 0, 0.25)),
        Part('box', (0.27, 0.21, 0.12), (-0.06, 0, 0.50)),
        *wheels,
    )


def _duck() -> tuple[Part, ...]:
    return (
        Part('ellipsoid', (0.44, 0.30, 0.26), (-0.02, 0, 0.26)),
        Part('sphere', (0.22,), (0.22, 0, 0.66)),
        Part('ellipsoid', (0.20, 0.14, 0.09), (-0.40, 0, 0.42), (0.5, 0, 1)),
        Part('ellipsoid', (0.14, 0.11, 0.05), (0.47, 0, 0.63), tint='beak'),
        Part('sphere', (0.035,), (0.38, 0.12, 0.75), tint='dark'),
        Part('sphere', (0.035,), (0.38, -0.12, 0.75), tint='dark'),
    )


def _star() -> tuple[Part, ...]:
    return (Part('mesh', mesh=star_prism('star', 0.53, 0.27, 0.20)),)


_BUILDERS: Final[dict[str, Callable[[], tuple[Part, ...]]]] = {
    'ball': _ball,
    'box': _box,
    'mug': _mug,
    'bottle': _bottle,
    'chair': _chair,
    'lamp': _lamp,
    'cone': _cone,
    'ring': _ring,
    'bear': _bear,
    'car': _car,
    'duck': _duck,
    'star': _star,
}

SIZE_RANGE_M: Final[dict[str, tuple[float, float]]] = {
    'ball': (0.25, 0.45),
    'box': (0.28, 0.50),
    'mug': (0.28, 0.45),
    'bottle': (0.40, 0.68),
    'chair': (0.45, 0.70),
    'lamp': (0.42, 0.70),
    'cone': (0.40, 0.65),
    'ring': (0.30, 0.55),
    'bear': (0.38, 0.62),
    'car': (0.40, 0.65),
    'duck': (0.32, 0.58),
    'star': (0.36, 0.60),
}
"""Smallest and largest scale of each kind in metres per unit size."""


@cache
def parts(kind: str) -> tuple[Part, ...]:
    """The primitives of a kind at unit size.

    Raises:
        ValueError: if the kind has no shape.
    """
    if kind not in _BUILDERS:
        raise ValueError(f'no shape for kind {kind!r}; there are: {", ".join(_BUILDERS)}')
    return _BUILDERS[kind]()


@cache
def bounds(kind: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper corner, each (3,), of the box around a kind at unit size."""
    corners = [_part_bounds(part) for part in parts(kind)]
    return np.min([low for low, _ in corners], axis=0), np.max(
        [high for _, high in corners], axis=0
    )


def rotation_to(axis: tuple[float, float, float]) -> NDArray[np.float64]:
    """(3, 3) rotation that turns z into `axis` (any length) the shortest way."""
    z = np.asarray(axis, float) / np.linalg.norm(axis)
    helper = np.array([1.0, 0.0, 0.0]) if abs(z[0]) < 0.9 else np.array([0.0, 1.0, 0.0])
    y = np.cross(z, helper)
    y /= np.linalg.norm(y)
    return np.column_stack([np.cross(y, z), y, z])


def _part_bounds(part: Part) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if part.mesh is not None:
        return part.mesh.vertices.min(axis=0), part.mesh.vertices.max(axis=0)
    R = rotation_to(part.axis)
    size = part.size
    if part.shape == 'box':
        half = np.abs(R) @ np.array(size)
    elif part.shape in ('sphere', 'ellipsoid'):
        half = np.sqrt((R**2) @ np.array(size * 3 if len(size) == 1 else size) ** 2)
    elif part.shape == 'capsule':
        half = size[0] + np.abs(R[:, 2]) * size[1]
    else:
        half = size[0] * np.sqrt(1 - R[:, 2] ** 2) + np.abs(R[:, 2]) * size[1]
    return np.array(part.position) - half, np.array(part.position) + half
