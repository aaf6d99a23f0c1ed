"""Things with names for the packing tasks: our own shapes, or the meshes of a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation import shapes, vocabulary
from vlm_nodes.simulation.gl import mujoco
from vlm_nodes.simulation.room import Rgb
from vlm_nodes.simulation.shapes import TINT_RGB, Mesh
from vlm_nodes.simulation.tabletop.colors import COLOR_RGB
from vlm_nodes.simulation.tabletop.props import Piece, Pose, Prop

MESH_SUFFIXES: Final = ('.obj', '.stl')
UNSEEN_FILE: Final = 'unseen.txt'
# Of a folder that does not say which of its meshes training must not show: every third.
_UNSEEN_EVERY: Final = 3
_KINDS: Final = ('ball', 'mug', 'bottle', 'cone', 'ring', 'bear', 'car', 'duck', 'star')
# Black is too near to the table.
_COLORS: Final = tuple(color for color in vocabulary.COLOURS if color != 'black')


@dataclass(frozen=True, eq=False)
class Model:
    """A thing that can stand on the table.

    Attributes:
        name: in instructions.
        is_seen: whether training shows it.
        rgb: main colour.
        bounds: (2, 3) the box round it at unit size.
        draw: its pieces in units of its size, given a prefix for names of meshes and the size.
    """

    name: str
    is_seen: bool
    rgb: Rgb
    bounds: NDArray[np.float64]
    draw: Callable[[str, float], tuple[Piece, ...]]

    def size_m(self, scale_m: float) -> NDArray[np.float64]:
        """(3,) of the box round it."""
        extent: NDArray[np.float64] = (self.bounds[1] - self.bounds[0]) * scale_m
        return extent

    def prop(self, name: str, pose: Pose, scale_m: float) -> Prop:
        """The thing on the table; the pose is that of the middle of the box round it."""
        return Prop(name, self.name, self.rgb, self.draw(name, scale_m), pose)

    def scale_to(self, largest_m: float) -> float:
        """The scale at which the largest side of the box round it is as long as said."""
        return largest_m / float(np.max(self.bounds[1] - self.bounds[0]))


def models(object_dir: Path | None) -> tuple[Model, ...]:
    """The things of a folder, or our own where there is none.

    Raises:
        ValueError: the folder has no mesh, or one that cannot be read.
    """
    return _own() if object_dir is None else _of_folder(object_dir)


@cache
def _own() -> tuple[Model, ...]:
    found = []
    for color in _COLORS:
        for kind in _KINDS:
            label = vocabulary.label_of(color, kind)
            is_seen = not vocabulary.held_out(color, kind)
            bounds = np.stack(shapes.bounds(kind))
            found.append(Model(label, is_seen, COLOR_RGB[color], bounds, _drawer(kind)))
    return tuple(found)


def _drawer(kind: str) -> Callable[[str, float], tuple[Piece, ...]]:
    def draw(prefix: str, scale_m: float) -> tuple[Piece, ...]:
        middle = np.mean(shapes.bounds(kind), axis=0)
        return tuple(
            _piece(part, middle, scale_m, f'{prefix}_{index}')
            for index, part in enumerate(shapes.parts(kind))
        )

    return draw


def _piece(part: shapes.Part, middle: NDArray[np.float64], scale_m: float, name: str) -> Piece:
    x, y, z = (float(value) for value in (np.array(part.position) - middle) * scale_m)
    mesh = part.mesh and Mesh(name, part.mesh.vertices * scale_m, part.mesh.faces)
    return Piece(
        part.shape,
        tuple(side * scale_m for side in part.size),
        (x, y, z),
        rgb=TINT_RGB.get(part.tint),
        axis=part.axis,
        mesh=mesh,
    )


@cache
def _of_folder(folder: Path) -> tuple[Model, ...]:
    files = sorted(path for path in folder.glob('*') if path.suffix.lower() in MESH_SUFFIXES)
    if not files:
        kinds = ' or '.join(MESH_SUFFIXES)
        raise ValueError(f'no meshes ({kinds}) in {folder}: each file is a thing, named as it')
    unseen = _unseen_names(folder, [path.stem for path in files])
    colors = tuple(COLOR_RGB.values())
    return tuple(
        _of_mesh(path, path.stem not in unseen, colors[index % len(colors)])
        for index, path in enumerate(files)
    )


def _unseen_names(folder: Path, names: list[str]) -> set[str]:
    listed = folder / UNSEEN_FILE
    if not listed.is_file():
        return set(names[_UNSEEN_EVERY - 1 :: _UNSEEN_EVERY])
    unseen = {line.strip() for line in listed.read_text().splitlines() if line.strip()}
    if strangers := sorted(unseen - set(names)):
        raise ValueError(f'{listed} names {strangers}, of which there is no mesh beside it')
    return unseen


def _of_mesh(path: Path, is_seen: bool, rgb: Rgb) -> Model:
    mesh = _read_mesh(path)
    bounds = np.stack([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)])

    def draw(prefix: str, scale_m: float) -> tuple[Piece, ...]:
        vertices = (mesh.vertices - bounds.mean(axis=0)) * scale_m
        return (Piece('mesh', mesh=Mesh(f'{prefix}_mesh', vertices, mesh.faces)),)

    return Model(path.stem.replace('_', ' '), is_seen, rgb, bounds, draw)


def _read_mesh(path: Path) -> Mesh:
    """Vertices and faces of a file, as they stand in it."""
    spec = mujoco.MjSpec()
    spec.add_mesh(name='mesh', file=str(path.resolve()))
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname='mesh')
    try:
        model = spec.compile()
    except ValueError as error:
        raise ValueError(f'{path} is not a mesh: {error}') from error
    R = np.zeros(9)
    mujoco.mju_quat2Mat(R, model.mesh_quat[0])
    vertices = model.mesh_vert.astype(np.float64) @ R.reshape(3, 3).T + model.mesh_pos[0]
    return Mesh(path.stem, vertices, model.mesh_face.astype(np.int32))
