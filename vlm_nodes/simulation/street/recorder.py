"""What the vehicle's sensors see of a street: pictures, depth, classes, LiDAR, occupancy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import invert, transform_points
from vlm_nodes.simulation.render import Renderer
from vlm_nodes.simulation.scene import World
from vlm_nodes.simulation.street.layout import Street, make_street
from vlm_nodes.simulation.street.occupancy import voxelise
from vlm_nodes.simulation.street.rig import (
    KEYFRAME_NS,
    LIDAR_RANGE_M,
    MOUNTS,
    Drive,
    checked_cameras,
    ego_from_lidar,
    lidar_directions,
    random_drive,
)
from vlm_nodes.simulation.street.solids import first_hits
from vlm_nodes.simulation.street.visibility import seen_voxels
from vlm_nodes.simulation.street.vocabulary import class_number
from vlm_nodes.simulation.street.world import StreetWorld
from vlm_nodes.surround.keyframe import CAMERAS
from vlm_nodes.surround.occupancy import FREE, OCC3D_GRID, Occupancy, VoxelGrid

# How far behind a surface a ray still goes, so that it ends in the voxel of what it has hit.
_BEHIND_M: Final = 0.01
# Of larger pictures not every pixel's ray is walked: 400 in a row are 0.13 m apart at 40 m.
_RAYS_A_ROW: Final = 400


@dataclass(frozen=True)
class Settings:
    """How a street is recorded.

    Attributes:
        width: of the pictures in pixels.
        height: of the pictures.
        cameras: which of the six.
        keyframes: of a drive, half a second apart.
        speed_m_s: range that a drive's speed is drawn from.
        grid: of the occupancy.
        min_fill: share of a voxel that a class must fill to occupy it.
        lidar_steps: azimuths of a LiDAR sweep, with 32 points each.
        samples: a pixel, for smooth edges of the pictures; 0 is fastest.

    Raises:
        ValueError: one of them makes no sense.
    """

    width: int = 160
    height: int = 96
    cameras: tuple[str, ...] = CAMERAS
    keyframes: int = 10
    speed_m_s: tuple[float, float] = (3.0, 8.0)
    grid: VoxelGrid = OCC3D_GRID
    min_fill: float = 0.03
    lidar_steps: int = 360
    samples: int = 4

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        for name in ('width', 'height', 'keyframes', 'lidar_steps'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be at least 1, is {getattr(self, name)}')
        low, high = self.speed_m_s
        if not 0 < low <= high < 50:
            raise ValueError(f'speed_m_s must be a rising range in (0, 50), is {self.speed_m_s}')
        checked_cameras(self.cameras)


@dataclass(frozen=True)
class View:
    """What one camera sees.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth_m: (H, W) float32 along the camera's z; +inf where there is sky.
        semantics: (H, W) uint8 numbers of Occ3D's classes; `FREE` where there is sky.
        things: (H, W) uint16 numbers of the street's things; 0 elsewhere.
        camera: intrinsics.
        ego_from_camera: (4, 4) mounting.
        map_from_ego: (4, 4) where the vehicle was.
        stamp_ns: when.
    """

    rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    semantics: NDArray[np.uint8]
    things: NDArray[np.uint16]
    camera: Camera
    ego_from_camera: NDArray[np.float64]
    map_from_ego: NDArray[np.float64]
    stamp_ns: int


@dataclass(frozen=True)
class Sweep:
    """What the LiDAR sees.

    Attributes:
        points: (N, 5) float32: x, y, z in metres in the LiDAR's frame, intensity, ring.
        semantics: (N,) uint8 numbers of Occ3D's classes.
        ego_from_lidar: (4, 4) mounting.
    """

    points: NDArray[np.float32]
    semantics: NDArray[np.uint8]
    ego_from_lidar: NDArray[np.float64]


@dataclass(frozen=True)
class Recorded:
    """A keyframe.

    Attributes:
        stamp_ns: of the LiDAR, in whose ego frame the occupancy is.
        map_from_ego: (4, 4) where the vehicle was then.
        views: by camera.
        sweep: of the LiDAR.
        occupancy: what is where in the ego frame.
    """

    stamp_ns: int
    map_from_ego: NDArray[np.float64]
    views: Mapping[str, View]
    sweep: Sweep
    occupancy: Occupancy


@dataclass
class Scene:
    """A street and a drive along it.

    Attributes:
        street: what is there.
        drive: how the vehicle goes.
        world: the street to be rendered.
    """

    street: Street
    drive: Drive
    world: StreetWorld = field(init=False)

    def __post_init__(self) -> None:
        """Build what is rendered."""
        self.world = StreetWorld(self.street)


def make_scene(seed: int, settings: Settings | None = None) -> Scene:
    """The scene of a seed.

    Raises:
        ValueError: the seed is in neither range of seeds, or the drive is too long.
    """
    chosen = settings or Settings()
    seconds = chosen.keyframes * KEYFRAME_NS * 1e-9
    street = make_street(seed, drive_m=chosen.speed_m_s[1] * seconds)
    return Scene(street, random_drive(seed, street.lane_y, chosen.speed_m_s))


class Recorder:
    """Records keyframes. Holds GL contexts; use it from one thread at a time.

    Args:
        settings: how.

    Raises:
        RenderingUnavailableError: GL cannot start.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._lidar_rays, self._rings = lidar_directions(self.settings.lidar_steps)
        size = self.settings.width, self.settings.height
        self._exact = Renderer(*size, samples=0)
        samples = self.settings.samples
        # Smooth edges mix depths, so that depth and classes need a renderer of their own.
        self._smooth = Renderer(*size, samples=samples) if samples else self._exact

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees GL; the recorder cannot be used afterwards."""
        self._exact.close()
        self._smooth.close()

    def keyframe(self, scene: Scene, number: int) -> Recorded:
        """A keyframe of a scene; the first is 0."""
        stamp_ns = scene.drive.stamp_ns(number)
        views = {name: self.view(scene, name, stamp_ns) for name in self.settings.cameras}
        sweep = self.sweep(scene, stamp_ns)
        map_from_ego = scene.drive.map_from_ego(stamp_ns)
        grid = self.settings.grid
        occupancy = Occupancy(
            voxelise(
                scene.street.solids,
                grid,
                scene.drive.street_from_ego(stamp_ns),
                self.settings.min_fill,
            ),
            camera_mask(grid, map_from_ego, views),
            lidar_mask(grid, sweep),
        )
        return Recorded(stamp_ns, map_from_ego, views, sweep, occupancy)

    def view(self, scene: Scene, name: str, keyframe_ns: int) -> View:
        """What a camera sees when it is triggered for a keyframe."""
        mount = MOUNTS[name]
        stamp_ns = keyframe_ns + mount.offset_ns
        camera = mount.camera(self.settings.width, self.settings.height)
        street_from_camera = scene.drive.street_from_ego(stamp_ns) @ mount.ego_from_camera
        world = cast(World, scene.world)  # of which renderers use only what both have
        seen = self._exact.render(world, camera, street_from_camera)
        labels = self._exact.render_labels(world, camera, street_from_camera)
        rgb = seen.rgb
        if self._smooth is not self._exact:
            rgb = self._smooth.render(world, camera, street_from_camera).rgb
        classes, things = _tables(scene.street)
        return View(
            rgb=rgb,
            # The sky is drawn as a box far away, which has a depth.
            depth_m=np.where(labels > 0, seen.depth_m, np.float32(np.inf)),
            semantics=classes[labels],
            things=things[labels],
            camera=camera,
            ego_from_camera=mount.ego_from_camera,
            map_from_ego=scene.drive.map_from_ego(stamp_ns),
            stamp_ns=stamp_ns,
        )

    def sweep(self, scene: Scene, stamp_ns: int) -> Sweep:
        """A LiDAR sweep, all of it from where the vehicle is at its stamp."""
        mounting = ego_from_lidar()
        pose = scene.drive.street_from_ego(stamp_ns) @ mounting
        rays = self._lidar_rays @ pose[:3, :3].T
        distance, hit = first_hits(scene.street.solids, pose[:3, 3], rays)
        near = distance < LIDAR_RANGE_M
        classes, _ = _tables(scene.street)
        semantics = classes[hit[near] + 1]
        xyz = self._lidar_rays[near] * distance[near, None]
        brightness = np.array([sum(solid.rgb) / 3 * 255 for solid in scene.street.solids])
        points = np.column_stack([xyz, brightness[hit[near]], self._rings[near]])
        return Sweep(points.astype(np.float32), semantics, mounting)


def _tables(street: Street) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Class and thing of each solid, after those of the sky."""
    classes = [FREE, *(class_number(solid.kind) for solid in street.solids)]
    things = [0, *(solid.thing for solid in street.solids)]
    return np.array(classes, np.uint8), np.array(things, np.uint16)


def camera_mask(
    grid: VoxelGrid, map_from_ego: NDArray[np.float64], views: Mapping[str, View]
) -> NDArray[np.bool_]:
    """The voxels that some pixel's ray runs through or ends in, (X, Y, Z) bool.

    Of pictures over 400 pixels wide every second pixel is taken, every third over 800, and so on.
    """
    seen = np.zeros(grid.shape, bool)
    for view in views.values():
        pose = invert(map_from_ego) @ view.map_from_ego @ view.ego_from_camera
        step = -(-view.camera.width // _RAYS_A_ROW)
        # Of length 1 along the camera's z, so that depth counts in them.
        rays = np.dstack([view.camera.rays(), np.ones_like(view.depth_m)])[::step, ::step]
        rays = rays.reshape(-1, 3)
        lengths = view.depth_m[::step, ::step].reshape(-1) + _BEHIND_M
        seen |= seen_voxels(grid, pose[:3, 3], rays @ pose[:3, :3].T, lengths)
    return seen


def lidar_mask(grid: VoxelGrid, sweep: Sweep) -> NDArray[np.bool_]:
    """The voxels between the LiDAR and its points, and theirs, (X, Y, Z) bool."""
    origin = sweep.ego_from_lidar[:3, 3]
    rays = transform_points(sweep.ego_from_lidar, sweep.points[:, :3]) - origin
    distance = np.maximum(np.linalg.norm(rays, axis=1), 1e-6)
    return seen_voxels(grid, origin, rays / distance[:, None], distance + _BEHIND_M)
