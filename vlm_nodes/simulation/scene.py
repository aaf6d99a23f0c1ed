"""A room as a MuJoCo model, with objects that can be moved."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation import vocabulary
from vlm_nodes.simulation.gl import mujoco
from vlm_nodes.simulation.room import Light, Point, Room, Surface, Table, Thing
from vlm_nodes.simulation.shapes import TINT_RGB, Part, parts, rotation_to
from vlm_nodes.simulation.textures import surface_texture

_SHAPES = {
    'box': mujoco.mjtGeom.mjGEOM_BOX,
    'sphere': mujoco.mjtGeom.mjGEOM_SPHERE,
    'ellipsoid': mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    'capsule': mujoco.mjtGeom.mjGEOM_CAPSULE,
    'cylinder': mujoco.mjtGeom.mjGEOM_CYLINDER,
    'mesh': mujoco.mjtGeom.mjGEOM_MESH,
}


class World:
    """A room that can be rendered and changed.

    Attributes:
        room: what is where now.
        model: MuJoCo's model.
        data: MuJoCo's state, kept up to date with `room`.
        label_of_geom: (ngeom,) uint16 label id of every geom.
    """

    def __init__(self, room: Room) -> None:
        self.room = room
        spec, labels = _build(room)
        self.model: Any = spec.compile()
        self.data: Any = mujoco.MjData(self.model)
        self.label_of_geom = _label_of_geom(self.model, labels)
        self._refresh()

    def place(self, thing: Thing) -> None:
        """Puts the object of that name where and how `thing` says; its shape and colour stay."""
        self.room = self.room.with_thing(thing)
        self._refresh()

    def _refresh(self) -> None:
        for thing in self.room.things:
            mocap = self.model.body(thing.name).mocapid[0]
            self.data.mocap_pos[mocap] = thing.position
            half = thing.yaw_rad / 2
            self.data.mocap_quat[mocap] = (np.cos(half), 0, 0, np.sin(half))
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)


def _build(room: Room) -> tuple[Any, dict[str, str]]:
    """MuJoCo's specification of the room, and the label of every body."""
    spec = mujoco.MjSpec()
    # What is drawn from: 5 cm to 25 m, whatever the extent of the model.
    spec.stat.extent = 1.0
    spec.stat.center = (0.0, 0.0, 1.0)
    spec.visual.map.znear = 0.05
    spec.visual.map.zfar = 25.0
    # Half the side of the square that is in the shadow map.
    spec.visual.map.shadowclip = 4.0
    spec.visual.quality.shadowsize = 1024
    spec.visual.headlight.ambient = (room.ambient,) * 3
    spec.visual.headlight.diffuse = (0.0, 0.0, 0.0)
    spec.visual.headlight.specular = (0.0, 0.0, 0.0)
    labels = {'world': 'floor', 'walls': 'wall'}
    _add_shell(spec, room)
    for table in room.tables:
        _add_table(spec, table)
        labels[table.name] = 'table'
    for thing in room.things:
        _add_thing(spec, thing)
        labels[thing.name] = thing.label
    for light in room.lights:
        _add_light(spec, light)
    return spec, labels


def _label_of_geom(model: Any, labels: dict[str, str]) -> NDArray[np.uint16]:
    bodies = [vocabulary.LABEL_IDS[labels[model.body(i).name]] for i in range(model.nbody)]
    ids: NDArray[np.uint16] = np.array(bodies, np.uint16)[model.geom_bodyid]
    return ids


def _add_shell(spec: Any, room: Room) -> None:
    hx, hy = room.half_extents
    floor = _add_surface(spec, 'floor', room.floor)
    _add_plane(spec.worldbody, (0, 0, 0), (0, 0, 1), (hx, hy), floor)
    walls = spec.worldbody.add_body(name='walls')
    material = _add_surface(spec, 'walls', room.walls)
    middle = room.height_m / 2
    for sign in (-1, 1):
        _add_plane(walls, (sign * hx, 0, middle), (-sign, 0, 0), (hy, middle), material)
        _add_plane(walls, (0, sign * hy, middle), (0, -sign, 0), (hx, middle), material)


def _add_plane(
    body: Any, position: Point, normal: Point, half_size: tuple[float, float], material: str
) -> None:
    """A rectangle; a wall's own y axis points up, so that `half_size` is (along, up)."""
    up = np.array([0.0, 0.0, 1.0]) if normal[2] == 0 else np.array([0.0, 1.0, 0.0])
    R = np.column_stack([np.cross(up, normal), up, normal])
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        pos=position,
        quat=_quaternion(R),
        size=(*half_size, 0.05),
        material=material,
        contype=0,
        conaffinity=0,
    )


def _add_surface(spec: Any, name: str, surface: Surface) -> str:
    image = surface_texture(surface)
    texture = spec.add_texture(name=name, type=mujoco.mjtTexture.mjTEXTURE_2D)
    texture.height, texture.width, texture.nchannel = image.shape
    texture.data = image.tobytes()
    material = spec.add_material(
        name=name,
        texrepeat=(surface.repeat_per_m, surface.repeat_per_m),
        texuniform=True,
        specular=0.1,
        shininess=0.1,
    )
    textures = material.textures
    textures[int(mujoco.mjtTextureRole.mjTEXROLE_RGB)] = name
    material.textures = textures
    return name


def _add_table(spec: Any, table: Table) -> None:
    """A top with two side panels."""
    body = spec.worldbody.add_body(name=table.name, pos=(*table.centre, 0.0))
    material = _add_surface(spec, table.name, table.surface)
    hx, hy = table.half_extents
    side = (0.04, hy * 0.85) if hx > hy else (hx * 0.85, 0.04)
    out = (hx - 0.12, 0.0) if hx > hy else (0.0, hy - 0.12)
    half_height = (table.height_m - 0.06) / 2
    _add_box(body, (0, 0, table.height_m - 0.03), (hx, hy, 0.03), material)
    for sign in (-1, 1):
        place = (sign * out[0], sign * out[1], half_height)
        _add_box(body, place, (*side, half_height), material)


def _add_box(body: Any, position: Point, half_size: Point, material: str) -> None:
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        pos=position,
        size=half_size,
        material=material,
        contype=0,
        conaffinity=0,
    )


def _add_thing(spec: Any, thing: Thing) -> None:
    body = spec.worldbody.add_body(name=thing.name, mocap=True)
    for tint in sorted({part.tint for part in parts(thing.kind)}):
        spec.add_material(
            name=f'{thing.name}_{tint}',
            rgba=(*TINT_RGB.get(tint, thing.rgb), 1.0),
            specular=thing.shininess,
            shininess=thing.shininess,
        )
    for index, part in enumerate(parts(thing.kind)):
        _add_part(spec, body, thing, part, f'{thing.name}_{index}')


def _add_part(spec: Any, body: Any, thing: Thing, part: Part, name: str) -> None:
    size = np.zeros(3)
    size[: len(part.size)] = np.array(part.size) * thing.scale_m
    geom = body.add_geom(
        type=_SHAPES[part.shape],
        pos=np.array(part.position) * thing.scale_m,
        quat=_quaternion(rotation_to(part.axis)),
        size=size,
        material=f'{thing.name}_{part.tint}',
        contype=0,
        conaffinity=0,
    )
    if part.mesh is not None:
        mesh = spec.add_mesh(
            name=name,
            uservert=(part.mesh.vertices * thing.scale_m).ravel(),
            userface=part.mesh.faces.ravel(),
            inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
        )
        geom.meshname = mesh.name


def _add_light(spec: Any, light: Light) -> None:
    spec.worldbody.add_light(
        pos=light.position,
        dir=light.direction,
        diffuse=light.strength,
        ambient=(0.0, 0.0, 0.0),
        specular=tuple(0.4 * s for s in light.strength),
        castshadow=light.casts_shadow,
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
    )


def _quaternion(R: NDArray[np.float64]) -> NDArray[np.float64]:
    """MuJoCo's (w, x, y, z) of a rotation matrix."""
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(R, float).ravel())
    return quaternion
