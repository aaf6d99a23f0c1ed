"""Occupancy labels in the layout of Occ3D-nuScenes, and the grid that they are given in.

Source: Tian et al., Occ3D: A Large-Scale 3D Occupancy Prediction Benchmark, NeurIPS 2023.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bag_tools.whole_file import whole_file
from vlm_nodes.surround.errors import SurroundError

CLASSES: Final = (
    'others', 'barrier', 'bicycle', 'bus', 'car', 'construction_vehicle', 'motorcycle',
    'pedestrian', 'traffic_cone', 'trailer', 'truck', 'driveable_surface', 'other_flat',
    'sidewalk', 'terrain', 'manmade', 'vegetation', 'free',
)  # fmt: skip
"""Occ3D's names by class number; the last is free space."""

FREE: Final = 17


@dataclass(frozen=True)
class VoxelGrid:
    """Voxels of one size in a keyframe's ego frame; arrays over it are indexed [x, y, z].

    Attributes:
        lower_m: Lower corner (x, y, z).
        upper_m: Upper corner.
        voxel_m: Edge of a voxel.

    Raises:
        ValueError: The edge is not positive, or does not divide the sides.
    """

    lower_m: tuple[float, float, float] = (-40.0, -40.0, -1.0)
    upper_m: tuple[float, float, float] = (40.0, 40.0, 5.4)
    voxel_m: float = 0.4

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        if not (np.isfinite(self.voxel_m) and self.voxel_m > 0):
            raise ValueError(f'voxel_m must be positive, is {self.voxel_m}')
        for axis, low, high in zip('xyz', self.lower_m, self.upper_m, strict=True):
            count = (high - low) / self.voxel_m
            if not np.isfinite(count) or count < 0.5 or abs(count - round(count)) > 1e-6:
                raise ValueError(
                    f'voxels of {self.voxel_m} m do not divide {axis} from {low} to {high} m'
                )

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along x, y and z."""
        sides = np.subtract(self.upper_m, self.lower_m) / self.voxel_m
        x, y, z = (round(float(side)) for side in sides)
        return x, y, z

    def voxel_of(self, points_m: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The voxels that points (..., 3) lie in.

        Returns:
            (..., 3) int64 indices and (...) whether they are inside of the grid.
        """
        points = np.asarray(points_m, np.float64)
        voxels = np.floor((points - self.lower_m) / self.voxel_m).astype(np.int64)
        inside = np.asarray(((voxels >= 0) & (voxels < self.shape)).all(axis=-1))
        return voxels, inside

    def centres(self) -> NDArray[np.float64]:
        """(X, Y, Z, 3) metres, of every voxel."""
        axes = [
            low + (np.arange(count) + 0.5) * self.voxel_m
            for low, count in zip(self.lower_m, self.shape, strict=True)
        ]
        return np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1)


OCC3D_GRID: Final = VoxelGrid()


@dataclass(frozen=True)
class Occupancy:
    """What is where, and what of it can be known.

    Attributes:
        semantics: (X, Y, Z) uint8 numbers of `CLASSES`.
        mask_camera: (X, Y, Z) bool; voxels that a camera's ray runs through or ends in.
        mask_lidar: (X, Y, Z) bool; the same for the LiDAR's rays.
    """

    semantics: NDArray[np.uint8]
    mask_camera: NDArray[np.bool_]
    mask_lidar: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Refuse masks of another shape, and unknown classes."""
        for name in ('mask_camera', 'mask_lidar'):
            if getattr(self, name).shape != self.semantics.shape:
                raise SurroundError(
                    f'{name} is {getattr(self, name).shape}, semantics {self.semantics.shape}'
                )
        if self.semantics.size and self.semantics.max() > FREE:
            raise SurroundError(f'semantics has class {self.semantics.max()}; the last is {FREE}')


def occupancy_path(root: Path, scene: str, token: str) -> Path:
    """Where Occ3D keeps the labels of a keyframe, below the data set's folder."""
    return root / 'gts' / scene / token / 'labels.npz'


def read_occupancy(path: Path) -> Occupancy:
    """Labels from an Occ3D `labels.npz`.

    Raises:
        SurroundError: The file is missing, broken, or lacks an array.
    """
    if not path.is_file():
        raise SurroundError(f'occupancy labels {path} are missing')
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Occupancy(
                arrays['semantics'].astype(np.uint8),
                arrays['mask_camera'].astype(bool),
                arrays['mask_lidar'].astype(bool),
            )
    except (OSError, KeyError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise SurroundError(f'{path} holds no occupancy labels: {error}') from None


def write_occupancy(path: Path, occupancy: Occupancy) -> None:
    """Write an Occ3D `labels.npz`, all or nothing."""
    with whole_file(path) as stream:
        np.savez_compressed(
            stream,
            semantics=occupancy.semantics,
            mask_lidar=occupancy.mask_lidar.astype(np.uint8),
            mask_camera=occupancy.mask_camera.astype(np.uint8),
        )
