"""Random cameras that look at the objects of a room, for training pictures."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry import Camera
from vlm_nodes.simulation.paths import look_at
from vlm_nodes.simulation.room import Room, Thing

_TRIES: Final = 100
_WALL_GAP_M: Final = 0.1


@dataclass(frozen=True)
class ViewRange:
    """What random views are drawn from.

    Attributes:
        size: image width and height in pixels.
        fovy_deg: smallest and largest vertical field of view.
        fill: smallest and largest share of the image's height that the object looked at fills.
        distance_m: smallest and largest distance to it.
        elevation_deg: smallest and largest height of the camera above it, as an angle.
    """

    size: int = 128
    fovy_deg: tuple[float, float] = (35.0, 70.0)
    fill: tuple[float, float] = (0.35, 1.7)
    distance_m: tuple[float, float] = (0.4, 4.0)
    elevation_deg: tuple[float, float] = (5.0, 50.0)

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.size < 8:
            raise ValueError(f'size must be at least 8 pixels, is {self.size}')
        for name in ('fovy_deg', 'fill', 'distance_m', 'elevation_deg'):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f'{name} must be a rising positive range, is {(low, high)}')


def random_view(
    room: Room, rng: np.random.Generator, views: ViewRange
) -> tuple[Camera, NDArray[np.float64]]:
    """A camera that looks at a random object from a free place.

    Returns:
        The camera and its pose, `map_from_camera` (4, 4).

    Raises:
        RuntimeError: if the room has no place to look from.
    """
    for _ in range(_TRIES):
        thing = room.things[rng.integers(len(room.things))]
        fovy = np.radians(rng.uniform(*views.fovy_deg))
        fill = np.exp(rng.uniform(*np.log(views.fill)))
        distance = thing.scale_m / (2 * np.tan(fovy / 2) * fill)
        distance = float(np.clip(distance, *views.distance_m))
        target = _aim(thing, rng)
        position = target + distance * _direction(rng, views.elevation_deg)
        if _is_free(room, position):
            return Camera.from_fov(views.size, views.size, fovy), look_at(position, target)
    raise RuntimeError(f'no free viewpoint in room {room.seed} after {_TRIES} tries')


def _aim(thing: Thing, rng: np.random.Generator) -> NDArray[np.float64]:
    """A point about the middle of the object, which is not always in the picture's middle."""
    low, high = thing.box()
    aim: NDArray[np.float64] = (low + high) / 2 + rng.normal(0, 0.3, 3) * thing.scale_m
    return aim


def _direction(rng: np.random.Generator, elevation_deg: tuple[float, float]) -> NDArray[np.float64]:
    azimuth, elevation = rng.uniform(-np.pi, np.pi), np.radians(rng.uniform(*elevation_deg))
    flat = np.cos(elevation)
    return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])


def _is_free(room: Room, position: NDArray[np.float64]) -> bool:
    if np.any(np.abs(position[:2]) > np.array(room.half_extents) - _WALL_GAP_M):
        return False
    if not 0.15 < position[2] < room.height_m - 0.2:
        return False
    for thing in room.things:
        low, high = thing.box()
        if np.all((position > low - 0.2) & (position < high + 0.2)):
            return False
    return not any(
        np.all(np.abs(position[:2] - table.centre) < np.array(table.half_extents) + 0.05)
        and position[2] < table.height_m + 0.1
        for table in room.tables
    )
