"""The arm's physics: joint targets in, joints, touch and places out. Draws nothing."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlm_nodes.simulation.arm import model as names
from vlm_nodes.simulation.arm.kinematics import JOINTS, TIP_RADIUS_M, Limits, joints_for_tip
from vlm_nodes.simulation.arm.placement import ArmScene
from vlm_nodes.simulation.arm.rules import Moment
from vlm_nodes.simulation.arm.tactile import Press, press_from_contact
from vlm_nodes.simulation.arm.tasks import GREEN_BOX
from vlm_nodes.simulation.gl import mujoco

_STEPS_A_MOMENT: Final = 5
MOMENT_S: Final = _STEPS_A_MOMENT * names.TIMESTEP_S

# Below this the springs of a free fingertip are only shaken by the arm's own motion.
_TOUCH_N: Final = 0.05


class ArmWorld:
    """A scene that goes on in time.

    Attributes:
        scene: what was where at the start.
        model: MuJoCo's model.
        data: MuJoCo's state.

    Args:
        scene: to begin with.
        look_seed: of the table's and the floor's look.
    """

    def __init__(self, scene: ArmScene, look_seed: int) -> None:
        self.model: Any = names.make_model(look_seed)
        self.data: Any = mujoco.MjData(self.model)
        self._limits = Limits()
        self._qpos = self._addresses(JOINTS)
        self._tip_qpos = self._addresses(names.TIP_AXES)
        self._rail_qpos = int(self._addresses((names.RAIL,))[0])
        self._tip_body = self.model.body(names.TIP).id
        self._tip_geom = self.model.geom(names.TIP).id
        self._wrist_body = self.model.body(names.WRIST).id
        self.place(scene)

    def _addresses(self, joints: tuple[str, ...]) -> NDArray[np.intp]:
        return np.array([int(self.model.joint(name).qposadr[0]) for name in joints])

    def place(self, scene: ArmScene) -> None:
        """Everything as it is at the start of a scene, at rest.

        Raises:
            UnreachableError: the fingertip cannot be at `scene.start_tip`.
        """
        start = joints_for_tip(scene.start_tip)
        self.scene = scene
        for label, centre in (*scene.balls.items(), (GREEN_BOX, scene.box)):
            self.model.body(label).pos = centre
        self.model.joint(names.RAIL).range[1] = scene.stop_m
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._qpos] = start
        self.data.ctrl[:] = start
        mujoco.mj_forward(self.model, self.data)

    def advance(self, targets: ArrayLike) -> None:
        """Let `MOMENT_S` go by.

        Args:
            targets: (4,) radians, in the order of `JOINTS`; kept within the joints' limits.
        """
        self.data.ctrl[:] = self._limits.clip(np.asarray(targets, np.float64))
        mujoco.mj_step(self.model, self.data, nstep=_STEPS_A_MOMENT)

    def joint_positions(self) -> NDArray[np.float64]:
        """(4,) radians, in the order of `JOINTS`."""
        return np.array(self.data.qpos[self._qpos])

    def joint_velocities(self) -> NDArray[np.float64]:
        """(4,) radians a second."""
        return np.array(self.data.qvel[self._qpos])

    def box_centre(self) -> NDArray[np.float64]:
        """(3,) metres, of the green box."""
        return np.array(self.scene.box) - (0.0, self._pushed_m(), 0.0)

    def moment(self) -> Moment:
        """What a task is judged by, now."""
        tip = np.array(self.data.xpos[self._tip_body]) - (0.0, 0.0, TIP_RADIUS_M)
        force = float(np.linalg.norm(self.tip_force()))
        return Moment(tip=tip, pushed_m=self._pushed_m(), force_n=force)

    def tip_force(self) -> NDArray[np.float64]:
        """(3,) newton on the fingertip in the finger's axes, by how far its springs give."""
        if not self._contact_points():
            return np.zeros(3)
        force: NDArray[np.float64] = names.TIP_STIFFNESS_N_M * self.data.qpos[self._tip_qpos]
        return force if np.linalg.norm(force) >= _TOUCH_N else np.zeros(3)

    def presses(self) -> list[Press]:
        """What presses on the fingertip's pad; contacts share the force alike."""
        points, force = self._contact_points(), self.tip_force()
        if not points or not force.any():
            return []
        rotation = self.data.xmat[self._wrist_body].reshape(3, 3)
        centre = self.data.xpos[self._tip_body]
        found = [
            press_from_contact(rotation.T @ (point - centre), force / len(points))
            for point in points
        ]
        return [press for press in found if press is not None]

    def _contact_points(self) -> list[NDArray[np.float64]]:
        """Where the fingertip touches something, each (3,) metres in `base_link`."""
        contact = self.data.contact
        touching = (contact.geom == self._tip_geom).any(axis=1)
        return list(np.array(contact.pos[touching]))

    def _pushed_m(self) -> float:
        return float(self.data.qpos[self._rail_qpos])
