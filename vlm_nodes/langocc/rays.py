"""Rays of pixels in a vehicle's frame, of its own pictures and of those of keyframes about it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import invert, transform_points
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.grid_tensors import corners
from vlm_nodes.surround import Keyframe, SurroundImage, VoxelGrid

Matrix = NDArray[np.float64]
Pixels = NDArray[np.int64]


@dataclass(frozen=True)
class Rays:
    """Lines of sight.

    Attributes:
        origins_m: (..., R, 3) float32 where the cameras were.
        directions: (..., R, 3) float32 unit vectors.
    """

    origins_m: Tensor
    directions: Tensor

    def __post_init__(self) -> None:
        """Check shapes and units of length.

        Raises:
            LangOccError: Shapes differ or a direction is no unit vector.
        """
        if self.origins_m.shape != self.directions.shape or self.origins_m.shape[-1] != 3:
            raise LangOccError(
                f'origins {tuple(self.origins_m.shape)} and directions '
                f'{tuple(self.directions.shape)} must both be (..., R, 3)'
            )
        lengths = torch.linalg.vector_norm(self.directions, dim=-1)
        if not bool(((lengths - 1).abs() < 1e-3).all()):
            raise LangOccError('directions must be unit vectors')

    def mirrored(self, axis: int) -> Rays:
        """The rays behind a mirror through the origin across an axis (0 is x, 1 is y)."""
        sign = torch.ones(3, device=self.origins_m.device)
        sign[axis] = -1
        return Rays(self.origins_m * sign, self.directions * sign)

    def to(self, device: torch.device | str) -> Rays:
        """The same on another device."""
        return Rays(self.origins_m.to(device), self.directions.to(device))


def pixel_rays(camera: Camera, ego_from_camera: Matrix, pixels: Pixels) -> Rays:
    """Rays through pixels' centres.

    Args:
        camera: The picture's.
        ego_from_camera: (4, 4) to the frame that rays are wanted in.
        pixels: (R, 2) whole numbers (u, v).

    Raises:
        LangOccError: A pixel is not in the picture.
    """
    inside = (pixels >= 0).all(1) & (pixels < (camera.width, camera.height)).all(1)
    if not inside.all():
        raise LangOccError(
            f'pixel {pixels[~inside][0].tolist()} is not in a picture of '
            f'{camera.width}x{camera.height}'
        )
    flat = camera.rays()[pixels[:, 1], pixels[:, 0]].astype(np.float64)
    seen = np.column_stack([flat, np.ones(len(flat))]) @ ego_from_camera[:3, :3].T
    directions = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    origins = np.broadcast_to(ego_from_camera[:3, 3], directions.shape)
    return Rays(
        torch.from_numpy(origins.astype(np.float32)),
        torch.from_numpy(directions.astype(np.float32)),
    )


def ego_from_view(now: Keyframe, image: SurroundImage) -> Matrix:
    """(4, 4) from a camera, of any keyframe of the drive, to the ego frame of the keyframe `now`.

    This is what makes rays of earlier and later pictures into rays about the vehicle now.
    """
    return invert(now.map_from_ego) @ image.map_from_camera


def random_pixels(camera: Camera, count: int, rng: np.random.Generator) -> Pixels:
    """Pixels drawn evenly, sky included: (count, 2) of (u, v)."""
    return rng.integers((0, 0), (camera.width, camera.height), size=(count, 2), dtype=np.int64)


@dataclass(frozen=True)
class LidarPixels:
    """Where LiDAR points fall in a picture.

    Attributes:
        pixels: (R, 2) whole (u, v).
        depth_m: (R,) float32 distance from the camera, along the ray.
        kept: (N,) bool; which of the points these are, in order.
    """

    pixels: Pixels
    depth_m: NDArray[np.float32]
    kept: NDArray[np.bool_]


def lidar_pixels(
    keyframe: Keyframe, name: str, points: NDArray[np.float32], grid: VoxelGrid | None = None
) -> LidarPixels:
    """The pixels of a camera that LiDAR points fall on: what LangOcc was published with.

    Args:
        keyframe: With a sweep.
        name: Of the camera.
        points: (N, 3 or more) metres in the LiDAR's frame. Those within 1 m of the camera are of
            the vehicle itself and are left out.
        grid: Leave out points that lie outside of it.

    Raises:
        LangOccError: The keyframe has no sweep.
    """
    if keyframe.lidar is None:
        raise LangOccError(f'keyframe {keyframe.token!r} has no LiDAR sweep: rays need one')
    image, sweep = keyframe.cameras[name], keyframe.lidar
    in_map = transform_points(sweep.map_from_ego @ sweep.ego_from_lidar, points[:, :3])
    seen = transform_points(invert(image.map_from_camera), in_map)
    uv = image.camera.project(seen)
    # Not in front of the camera is NaN, which compares as False.
    size = (image.camera.width - 0.5, image.camera.height - 0.5)
    kept = (uv >= -0.5).all(1) & (uv < size).all(1) & (seen[:, 2] > 1.0)
    if grid is not None:
        kept &= grid.voxel_of(transform_points(invert(keyframe.map_from_ego), in_map))[1]
    pixels = np.floor(uv[kept] + 0.5).astype(np.int64)
    return LidarPixels(pixels, np.linalg.norm(seen[kept], axis=1).astype(np.float32), kept)


def box_span(
    rays: Rays, grid: VoxelGrid, near_m: float = 0.0, beyond_m: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave the grid's box (slab method, Kay and Kajiya 1986).

    Args:
        rays: (..., R).
        grid: The box.
        near_m: Rays begin so far from their origins.
        beyond_m: The box is so much larger on all sides but the floor's.

    Returns:
        (..., R) metres along each ray, from and to; both 0 where a ray misses the box.
    """
    lower, upper = corners(grid, rays.origins_m)
    lower = lower - lower.new_tensor((beyond_m, beyond_m, 0.0))
    upper = upper + beyond_m
    # A ray along a slab is in it all the way or never: 1e-9 makes that +-infinity in effect.
    slow = torch.where(rays.directions < 0, -1e-9, 1e-9)
    speed = torch.where(rays.directions.abs() < 1e-9, slow, rays.directions)
    one, other = (lower - rays.origins_m) / speed, (upper - rays.origins_m) / speed
    enter = torch.minimum(one, other).amax(-1).clamp(min=near_m)
    leave = torch.maximum(one, other).amin(-1)
    hits = leave > enter
    zero = torch.zeros_like(enter)
    return torch.where(hits, enter, zero), torch.where(hits, leave, zero)
