"""The arm with its camera, its fingertip's camera and its task: all that the node shows.

Without ROS:

    with ArmSimulator() as simulator:
        simulator.reset(seed=0, task='reach the red ball')
        while not simulator.outcome().success:
            simulator.step(policy(simulator.observe()))
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import look_at
from vlm_nodes.simulation.arm.kinematics import JOINTS, Limits
from vlm_nodes.simulation.arm.placement import ArmScene, make_scene
from vlm_nodes.simulation.arm.rules import Judge, Outcome
from vlm_nodes.simulation.arm.tactile import tactile_image
from vlm_nodes.simulation.arm.tasks import TASKS, check_task
from vlm_nodes.simulation.arm.world import MOMENT_S, ArmWorld
from vlm_nodes.simulation.render import Renderer, View

SECOND_NS: Final = 1_000_000_000

CAMERA_EYE: Final = (0.96, 0.0, 0.68)
CAMERA_TARGET: Final = (0.37, 0.0, 0.07)
BASE_FROM_CAMERA: Final = look_at(CAMERA_EYE, CAMERA_TARGET)


@dataclass(frozen=True)
class ArmSettings:
    """What is simulated.

    Attributes:
        width: image width in pixels.
        height: image height in pixels.
        fovy_deg: vertical field of view in degrees.
        rate_hz: control ticks a simulated second.
        look_seed: of the table's and the floor's look.
        samples: per pixel for smooth edges of the colour image; 0 is fastest.

    Raises:
        ValueError: a value is out of its range; the text names it.
    """

    width: int = 128
    height: int = 128
    fovy_deg: float = 36.0
    rate_hz: float = 10.0
    look_seed: int = 8
    samples: int = 0

    def __post_init__(self) -> None:
        """Check the values that nothing below checks, and name the bad one."""
        if not 1.0 <= self.fovy_deg <= 150.0:
            raise ValueError(f'fovy_deg must be between 1 and 150, is {self.fovy_deg}')
        if not 1.0 <= self.rate_hz <= 50.0:
            raise ValueError(f'rate_hz must be between 1 and 50, is {self.rate_hz}')
        if self.look_seed < 0:
            raise ValueError(f'look_seed must not be negative, is {self.look_seed}')
        if self.samples < 0:
            raise ValueError(f'samples must not be negative, is {self.samples}')


@dataclass(frozen=True)
class ArmObservation:
    """What the robot senses at one tick.

    Attributes:
        stamp_ns: simulated time since the start of the episode.
        rgb: (H, W, 3) uint8.
        depth_m: (H, W) float32 metres along the camera's z.
        tactile: (48, 64, 3) uint8 RGB, the fingertip camera.
        joint_positions: (4,) radians, in the order of `JOINTS`.
        joint_velocities: (4,) radians a second.
    """

    stamp_ns: int
    rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    tactile: NDArray[np.uint8]
    joint_positions: NDArray[np.float64]
    joint_velocities: NDArray[np.float64]


class ArmSimulator:
    """An episode after the other, a control tick at a time; all follows from seeds and commands.

    Holds a GL context: use it from one thread at a time.

    Attributes:
        settings: what is simulated.
        camera: of colour and depth.
        world: the physics.
        seed: of the scene; None for one that was given.
        task: what the robot is told to do.
        tick: control ticks since the start of the episode.

    Args:
        settings: the defaults where none are given.

    Raises:
        ValueError: a setting is out of range.
        RenderingUnavailableError: GL cannot start.
    """

    def __init__(self, settings: ArmSettings | None = None) -> None:
        self.settings = settings or ArmSettings()
        self.camera = Camera.from_fov(
            self.settings.width, self.settings.height, np.radians(self.settings.fovy_deg)
        )
        self._renderer = Renderer(self.settings.width, self.settings.height, self.settings.samples)
        self._limits = Limits()
        self.world = ArmWorld(make_scene(0), self.settings.look_seed)
        self.reset(0, TASKS[0])

    def __enter__(self) -> ArmSimulator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the renderer."""
        self._renderer.close()

    def reset(self, seed: int, task: str) -> None:
        """Begin an episode.

        Raises:
            ValueError: there is no such task, or no such seed.
        """
        check_task(task)
        self.place(make_scene(seed), task, seed)

    def place(self, scene: ArmScene, task: str, seed: int | None = None) -> None:
        """Begin an episode in a scene of one's own; `seed` is what it is told to be of.

        Raises:
            ValueError: there is no such task, or the arm cannot be where it is to start.
        """
        judge = Judge(scene, task)
        self.world.place(scene)
        self.seed = seed
        self.task = task
        self.tick = 0
        self._judge = judge
        self._command = self.world.joint_positions()

    @property
    def stamp_ns(self) -> int:
        """Simulated time since the start of the episode; whole ticks, so that it does not drift."""
        return round(self.tick * SECOND_NS / self.settings.rate_hz)

    def step(self, joint_targets: ArrayLike | None = None) -> None:
        """Let one control tick go by, in which the targets go straight to the new ones.

        Args:
            joint_targets: (4,) radians, in the order of `JOINTS`, kept within the joints' limits;
                the last ones where None are given.

        Raises:
            ValueError: they are not four finite numbers.
        """
        before = self._command
        if joint_targets is not None:
            self._command = self._limits.clip(checked_targets(joint_targets))
        count = max(1, round(1 / (self.settings.rate_hz * MOMENT_S)))
        for number in range(1, count + 1):
            share = number / count
            self.world.advance(before * (1 - share) + self._command * share)
            self._judge.watch(self.world.moment(), MOMENT_S)
        self.tick += 1

    def observe(self) -> ArmObservation:
        """What the robot senses now."""
        view = self._view()
        return ArmObservation(
            stamp_ns=self.stamp_ns,
            rgb=view.rgb,
            depth_m=view.depth_m,
            tactile=tactile_image(self.world.presses()),
            joint_positions=self.world.joint_positions(),
            joint_velocities=self.world.joint_velocities(),
        )

    def outcome(self) -> Outcome:
        """How the task stands."""
        return self._judge.outcome()

    def truth(self) -> dict[str, Any]:
        """Where everything truly is, as plain JSON data; metres in `base_link`."""
        moment = self.world.moment()
        return {
            'seed': self.seed,
            'task': self.task,
            'tick': self.tick,
            'joints': dict(zip(JOINTS, self.world.joint_positions().tolist(), strict=True)),
            'fingertip': moment.tip.tolist(),
            'fingertip_force_n': moment.force_n,
            'balls': {label: list(centre) for label, centre in self.world.scene.balls.items()},
            'box': self.world.box_centre().tolist(),
            'stop_m': self.world.scene.stop_m,
            'pushed_m': moment.pushed_m,
        }

    def _view(self) -> View:
        return self._renderer.render(self.world, self.camera, BASE_FROM_CAMERA)


def checked_targets(values: ArrayLike) -> NDArray[np.float64]:
    """Joint targets as an array.

    Raises:
        ValueError: They are not four finite numbers.
    """
    targets = np.asarray(values, np.float64)
    if targets.shape != (len(JOINTS),) or not np.isfinite(targets).all():
        raise ValueError(f'joint targets must be {len(JOINTS)} finite numbers, are {values!r}')
    return targets
