"""A room, a camera on its way through it, and a clock: all that `sim_node` shows, without ROS."""

from dataclasses import dataclass
from types import TracebackType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry import Camera
from vlm_nodes.simulation.paths import MastPose, Still, Tour
from vlm_nodes.simulation.render import Renderer, View
from vlm_nodes.simulation.room import Room
from vlm_nodes.simulation.scene import World
from vlm_nodes.simulation.truth import RoomTruth, room_truth
from vlm_nodes.simulation.worlds import find_place, make_room

PATHS: Final = ('tour', 'still')
JOINTS: Final = ('camera_lift', 'camera_pan', 'camera_tilt')
SECOND_NS: Final = 1_000_000_000

# A moved object has to be gone from where it was: nearer, old and new place could be taken for
# each other.
_LEAST_MOVE_M: Final = 0.8
_MOVE_TRIES: Final = 50


@dataclass(frozen=True)
class SimulatorSettings:
    """What is simulated.

    Attributes:
        seed: of the room.
        width: image width in pixels.
        height: image height in pixels.
        fovy_deg: vertical field of view in degrees.
        rate_hz: pictures per simulated second.
        path: 'tour' or 'still'.
        path_duration_s: simulated seconds of one round of the path.
        loop: whether the camera goes round again; otherwise it stays where the round ended.
        samples: per pixel for smooth edges of the colour image; 0 is fastest, and exact in depth
            at edges.
    """

    seed: int = 1_000_000
    width: int = 640
    height: int = 480
    fovy_deg: float = 55.0
    rate_hz: float = 5.0
    path: str = 'tour'
    path_duration_s: float = 40.0
    loop: bool = True
    samples: int = 4

    def __post_init__(self) -> None:
        """Check the values that nothing below checks, and name the bad one."""
        if self.path not in PATHS:
            raise ValueError(f'path must be one of {PATHS}, is {self.path!r}')
        if not 1.0 <= self.fovy_deg <= 150.0:
            raise ValueError(f'fovy_deg must be between 1 and 150, is {self.fovy_deg}')
        if not (np.isfinite(self.rate_hz) and self.rate_hz > 0):
            raise ValueError(f'rate_hz must be positive, is {self.rate_hz}')
        if self.samples < 0:
            raise ValueError(f'samples must not be negative, is {self.samples}')


class Simulator:
    """A room seen by a camera that moves as simulated time goes on.

    Holds a GL context: use it from one thread at a time.

    Attributes:
        settings: what is simulated.
        camera: the camera of colour and depth.
        world: the room as it is now.
        stamp_ns: simulated time since the start.

    Raises:
        ValueError: if a setting is out of range; the message names it.
        RenderingUnavailableError: if GL cannot start.
    """

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings
        self.world = World(make_room(settings.seed))
        self.camera = Camera.from_fov(
            settings.width, settings.height, np.radians(settings.fovy_deg)
        )
        tour = Tour(self.world.room.half_extents, settings.path_duration_s)
        self._path = tour if settings.path == 'tour' else Still(tour.at(0.0))
        self._renderer = Renderer(settings.width, settings.height, settings.samples)
        self._steps = 0
        self._moves = 0
        self._seen: tuple[MastPose, Room, View] | None = None

    def __enter__(self) -> 'Simulator':
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

    @property
    def stamp_ns(self) -> int:
        """Simulated time since the start; whole steps, so that it does not drift."""
        return round(self._steps * SECOND_NS / self.settings.rate_hz)

    def step(self) -> None:
        """Lets one picture's time go by."""
        self._steps += 1

    def reset(self) -> None:
        """Time 0 again and every object back in its place, as a simulator's stop and play do."""
        self._steps = 0
        self._moves = 0
        for thing in make_room(self.settings.seed).things:
            self.world.place(thing)

    def pose(self) -> MastPose:
        """Where the camera is now."""
        return self._pose_at(self.stamp_ns)

    def joint_positions(self) -> NDArray[np.float64]:
        """(3,) of `JOINTS`: metres and radians."""
        return _joints(self.pose())

    def joint_velocities(self) -> NDArray[np.float64]:
        """(3,) of `JOINTS` per second, over the time of one picture."""
        ahead = self._pose_at(round((self._steps + 1) * SECOND_NS / self.settings.rate_hz))
        change: NDArray[np.float64] = _joints(ahead) - self.joint_positions()
        # The pan turns without end: its shortest change counts.
        change[1:] = (change[1:] + np.pi) % (2 * np.pi) - np.pi
        return change * self.settings.rate_hz

    def view(self) -> View:
        """Colour and depth that the camera sees now; not rendered again while nothing changes."""
        pose, room = self.pose(), self.world.room
        if self._seen is None or self._seen[:2] != (pose, room):
            view = self._renderer.render(self.world, self.camera, pose.map_from_camera())
            self._seen = (pose, room, view)
        return self._seen[2]

    def labels(self) -> NDArray[np.uint16]:
        """Label ids that the camera sees now, (H, W)."""
        return self._renderer.render_labels(self.world, self.camera, self.pose().map_from_camera())

    def truth(self) -> RoomTruth:
        """Every object's pose, size and label now."""
        return room_truth(self.world.room)

    def move_objects(self, count: int = 2) -> list[str]:
        """Moves some objects to other free places at least 0.8 m away; all follows from the seed.

        Args:
            count: how many to move.

        Returns:
            The names of those moved: fewer than `count` where there is no room for more.
        """
        self._moves += 1
        rng = np.random.default_rng([self.settings.seed, 22, self._moves])
        names = [thing.name for thing in self.world.room.things]
        moved: list[str] = []
        for index in rng.permutation(len(names)):
            if len(moved) < count and self._move(names[index], rng):
                moved.append(names[index])
        return moved

    def _move(self, name: str, rng: np.random.Generator) -> bool:
        thing = self.world.room.thing(name)
        for _ in range(_MOVE_TRIES):
            place = find_place(self.world.room, thing, rng)
            if place is None:
                return False
            if np.hypot(*np.subtract(place.position, thing.position)[:2]) >= _LEAST_MOVE_M:
                self.world.place(place)
                return True
        return False

    def _pose_at(self, stamp_ns: int) -> MastPose:
        time_s = stamp_ns / SECOND_NS
        if not self.settings.loop:
            time_s = min(time_s, self.settings.path_duration_s)
        return self._path.at(time_s)


def _joints(pose: MastPose) -> NDArray[np.float64]:
    return np.array([pose.lift_m, pose.pan_rad, pose.tilt_rad])
