"""The table and what stands on it, as a MuJoCo model that moves in steps of equal length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation.gl import mujoco
from vlm_nodes.simulation.shapes import rotation_to
from vlm_nodes.simulation.tabletop.props import Joint, Piece, Prop

STEP_S: Final = 0.002
TABLE_RGB: Final = (0.21, 0.21, 0.22)
TOOLS: Final = ('suction', 'blade')
# Out of the cameras' sight and of everything's way.
HOME: Final = {'suction': (-0.5, 0.0, 0.5), 'blade': (-0.7, 0.0, 0.5)}
BLADE_HALF_M: Final = (0.003, 0.06, 0.03)

_TYPES: Final = {
    'box': mujoco.mjtGeom.mjGEOM_BOX,
    'cylinder': mujoco.mjtGeom.mjGEOM_CYLINDER,
    'sphere': mujoco.mjtGeom.mjGEOM_SPHERE,
    'ellipsoid': mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    'capsule': mujoco.mjtGeom.mjGEOM_CAPSULE,
    'mesh': mujoco.mjtGeom.mjGEOM_MESH,
}
# Of geoms; MuJoCo draws the first three of its groups.
_THINGS, _TOOLS, _HIDDEN = 0, 1, 3
_RAY_GROUPS: Final = np.array([1, 0, 0, 0, 0, 0], np.uint8)
_RAY_FROM_M: Final = 1.0
# A body that is slower than this in everything rests.
_STILL: Final = 4e-3


class TableWorld:
    """A table with bodies on it, and two tools: a suction cup and a blade.

    Table frame: metres, z up, the table's top at z = 0.

    Attributes:
        props: the bodies, as they stood at first.
        model: MuJoCo's model.
        data: MuJoCo's state.
        label_of_geom: (ngeom,) uint16; the number of the prop that a geom belongs to, from 1, in
            the order of `props`; 0 for table and tools.
        after_step: called after every step, for films; it must not change anything.
    """

    def __init__(self, props: Sequence[Prop], joints: Sequence[Joint] = ()) -> None:
        self.props = tuple(props)
        self.after_step: Callable[[], None] | None = None
        spec = _spec(self.props, joints)
        self.model: Any = spec.compile()
        self.data: Any = mujoco.MjData(self.model)
        self._body = {prop.name: int(self.model.body(prop.name).id) for prop in self.props}
        self._mocap = {name: int(self.model.body(name).mocapid[0]) for name in TOOLS}
        self._name_of = {number: name for name, number in self._body.items()}
        number = np.zeros(self.model.nbody, np.uint16)
        for index, prop in enumerate(self.props):
            number[self._body[prop.name]] = index + 1
        self.label_of_geom: NDArray[np.uint16] = number[self.model.geom_bodyid]
        self.forward()

    def forward(self) -> None:
        """Brings everything that follows from positions up to date, as before a picture."""
        mujoco.mj_forward(self.model, self.data)

    def pose(self, name: str) -> NDArray[np.float64]:
        """(4, 4) table_from_body."""
        body, matrix = self._body[name], np.eye(4)
        matrix[:3, :3] = self.data.xmat[body].reshape(3, 3)
        matrix[:3, 3] = self.data.xpos[body]
        return matrix

    def step(self) -> None:
        """Lets one step's time go by."""
        mujoco.mj_step(self.model, self.data)
        if self.after_step is not None:
            self.after_step()

    def settle(self, at_least: int, at_most: int) -> None:
        """Lets time go by until everything rests, in steps."""
        for count in range(at_most):
            self.step()
            if count >= at_least and count % 10 == 0 and self._is_still():
                break
        self.forward()

    def _is_still(self) -> bool:
        return bool(self.model.nv == 0 or np.abs(self.data.qvel).max() < _STILL)

    def highest(self, points: NDArray[np.float64]) -> tuple[float, str | None]:
        """What a tool that comes down from above touches first.

        Args:
            points: (N, 2) x and y in metres of the tool's underside.

        Returns:
            The height, and the name of the body there: None for the table, or where nothing is.
        """
        best_z, best_name = -np.inf, None
        number = np.zeros(1, np.int32)
        for x, y in points:
            start = np.array([x, y, _RAY_FROM_M])
            distance = mujoco.mj_ray(
                self.model, self.data, start, (0.0, 0.0, -1.0), _RAY_GROUPS, 1, -1, number
            )
            if distance >= 0 and _RAY_FROM_M - distance > best_z:
                best_z = _RAY_FROM_M - distance
                best_name = self._name_of.get(int(self.model.geom_bodyid[number[0]]))
        return float(best_z), best_name

    def is_movable(self, name: str) -> bool:
        """Whether the body can be picked up."""
        return not self.props[self._index(name)].is_fixed

    def move_tool(self, tool: str, position: NDArray[np.float64], yaw_rad: float) -> None:
        """Puts a tool somewhere, upright."""
        mocap = self._mocap[tool]
        self.data.mocap_pos[mocap] = position
        self.data.mocap_quat[mocap] = (np.cos(yaw_rad / 2), 0.0, 0.0, np.sin(yaw_rad / 2))

    def hold(self, name: str) -> None:
        """Fastens a body to the suction cup, as both are now."""
        mujoco.mj_kinematics(self.model, self.data)
        weld = self.model.equality(f'hold_{name}').id
        cup, body = int(self.model.body('suction').id), self._body[name]
        relation = self.model.eq_data[weld]
        inverse, position, turn = np.zeros(4), np.zeros(3), np.zeros(4)
        mujoco.mju_negQuat(inverse, self.data.xquat[cup])
        offset = self.data.xpos[body] - self.data.xpos[cup]
        mujoco.mju_rotVecQuat(position, offset, inverse)
        mujoco.mju_mulQuat(turn, inverse, self.data.xquat[body])
        relation[:3], relation[3:6], relation[6:10], relation[10] = 0.0, position, turn, 1.0
        self.data.eq_active[weld] = 1

    def release(self, name: str) -> None:
        """Lets go of a body."""
        self.data.eq_active[self.model.equality(f'hold_{name}').id] = 0

    def touches(self, name: str) -> bool:
        """Whether a body touches anything."""
        count = self.data.ncon
        if not count:
            return False
        bodies = self.model.geom_bodyid[self.data.contact.geom[:count]]
        mine = (bodies == self._body[name]).any(axis=1)
        return bool((mine & (self.data.contact.dist[:count] <= 0)).any())

    def _index(self, name: str) -> int:
        return next(i for i, prop in enumerate(self.props) if prop.name == name)


def _spec(props: Sequence[Prop], joints: Sequence[Joint]) -> Any:
    spec = mujoco.MjSpec()
    spec.option.timestep = STEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    # What is drawn from and to; everything else follows from it in MuJoCo as well.
    spec.stat.extent = 1.0
    spec.stat.center = (0.5, 0.0, 0.0)
    spec.visual.map.znear = 0.02
    spec.visual.map.zfar = 30.0
    spec.visual.headlight.ambient = (0.45,) * 3
    spec.visual.headlight.diffuse = (0.0,) * 3
    spec.visual.headlight.specular = (0.0,) * 3
    spec.worldbody.add_light(
        pos=(0.9, 0.3, 2.0),
        dir=(-0.25, -0.2, -1.0),
        diffuse=(0.55,) * 3,
        ambient=(0.0,) * 3,
        specular=(0.0,) * 3,
        castshadow=False,
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
    )
    spec.worldbody.add_geom(
        name='table',
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(3.0, 3.0, 0.05),
        rgba=(*TABLE_RGB, 1.0),
        group=_THINGS,
    )
    _add_tools(spec)
    for prop in props:
        _add_prop(spec, prop)
    for joint in joints:
        _add_joint(spec, joint)
    return spec


def _add_tools(spec: Any) -> None:
    cup = spec.worldbody.add_body(name='suction', mocap=True, pos=HOME['suction'])
    cup.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=(0.008, 0.05, 0.0),
        pos=(0.0, 0.0, 0.05),
        rgba=(0.1, 0.1, 0.1, 1.0),
        contype=0,
        conaffinity=0,
        group=_TOOLS,
    )
    blade = spec.worldbody.add_body(name='blade', mocap=True, pos=HOME['blade'])
    blade.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=BLADE_HALF_M,
        pos=(0.0, 0.0, BLADE_HALF_M[2]),
        rgba=(0.3, 0.3, 0.3, 1.0),
        group=_TOOLS,
    )


def _add_prop(spec: Any, prop: Prop) -> None:
    half = prop.pose.yaw_rad / 2
    body = spec.worldbody.add_body(
        name=prop.name,
        pos=(prop.pose.x, prop.pose.y, prop.pose.z),
        quat=(np.cos(half), 0.0, 0.0, np.sin(half)),
    )
    solid_m3 = sum(_volume_m3(piece) for piece in prop.pieces if piece.is_solid)
    for piece in prop.pieces:
        share = _volume_m3(piece) / solid_m3 if piece.is_solid else 0.0
        _add_piece(spec, body, prop, piece, share * prop.mass_kg)
    if prop.is_fixed:
        return
    body.add_freejoint()
    weld = spec.add_equality(
        name=f'hold_{prop.name}',
        type=mujoco.mjtEq.mjEQ_WELD,
        objtype=mujoco.mjtObj.mjOBJ_BODY,
        name1='suction',
        name2=prop.name,
        active=False,
    )
    weld.solref[:] = (0.01, 1.0)


def _add_piece(spec: Any, body: Any, prop: Prop, piece: Piece, mass_kg: float) -> None:
    size = np.zeros(3)
    size[: len(piece.size)] = piece.size
    geom = body.add_geom(
        type=_TYPES[piece.shape],
        size=size,
        pos=piece.position,
        quat=_quaternion(piece),
        rgba=(*(piece.rgb or prop.rgb), 1.0),
        contype=int(piece.is_solid),
        conaffinity=int(piece.is_solid),
        group=_THINGS if piece.is_visible else _HIDDEN,
        mass=mass_kg,
        friction=(prop.friction, 0.005, 0.0001),
    )
    if piece.mesh is not None:
        if spec.mesh(piece.mesh.name) is None:
            spec.add_mesh(
                name=piece.mesh.name,
                uservert=piece.mesh.vertices.ravel(),
                userface=piece.mesh.faces.ravel(),
                inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
            )
        geom.meshname = piece.mesh.name


def _quaternion(piece: Piece) -> NDArray[np.float64]:
    """MuJoCo's (w, x, y, z) of a piece in its body."""
    if piece.axis == (0.0, 0.0, 1.0):
        return np.array([np.cos(piece.yaw_rad / 2), 0.0, 0.0, np.sin(piece.yaw_rad / 2)])
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation_to(piece.axis)).ravel())
    return quaternion


def _add_joint(spec: Any, joint: Joint) -> None:
    link = spec.add_equality(
        type=mujoco.mjtEq.mjEQ_CONNECT,
        objtype=mujoco.mjtObj.mjOBJ_BODY,
        name1=joint.first,
        name2=joint.second,
    )
    link.data[:3] = joint.anchor
    spec.add_exclude(bodyname1=joint.first, bodyname2=joint.second)


def _volume_m3(piece: Piece) -> float:
    """Of the piece; of a mesh, of the box around it."""
    if piece.mesh is not None:
        return float(np.prod(np.ptp(piece.mesh.vertices, axis=0)))
    if piece.shape == 'box':
        return float(8 * np.prod(piece.size))
    if piece.shape in ('sphere', 'ellipsoid'):
        return float(4 / 3 * np.pi * np.prod(piece.size * (3 // len(piece.size))))
    return float(2 * np.pi * piece.size[0] ** 2 * piece.size[1])
