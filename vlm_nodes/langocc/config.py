"""What a LangOcc network is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Final

import numpy as np

from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.rendering import Sampling
from vlm_nodes.surround import CAMERAS, VoxelGrid

BACKBONES: Final = ('small', 'resnet50')
LIFTS: Final = ('pull', 'push')
STRIDES: Final = (4, 8, 16)


@dataclass(frozen=True)
class LangOccConfig:
    """Sizes of a network; the defaults are the published ones, `small` is for a CPU.

    Attributes:
        grid: Voxels in the vehicle's frame.
        margin: Voxels more at each side of the grid and on top, which are no part of the answer.
            Rays are followed beyond what there is voxels for, through what the outermost say, so
            that these are filled with all that lies behind them.
        cameras: Names, in the order that pictures come in.
        image_size: Height and width that pictures are resized to.
        backbone: `resnet50`, or `small`, seven residual blocks.
        stride: Pixels of a resized picture in a feature.
        neck: Channels of the pyramid at that stride.
        lift: `push` splats features along depth bins, `pull` looks up at voxels' centres.
        depth_m: First and last distance along a camera's axis, and the step of its bins.
        lifted: Channels of lifted features.
        trunk: Channels of the 3D trunk at strides 1, 2, 4, ...
        fine: Parts of a voxel along x, y and z that have a density of their own. Rays that graze
            the ground need thin layers: they would enter a thick one long before they hit the
            ground in it.
        hidden: Channels of the features in space; no more than `feature_dim`.
        feature_dim: Numbers of a feature that rays are compared in: CLIP's, or fewer where a
            projection reduces them.
        previous: Whether an earlier keyframe is fused.
        sampling: How rays are sampled.

    Raises:
        LangOccError: A value is out of its range; the message holds it.
    """

    grid: VoxelGrid = field(default_factory=VoxelGrid)
    margin: int = 1
    cameras: tuple[str, ...] = CAMERAS
    image_size: tuple[int, int] = (256, 704)
    backbone: str = 'resnet50'
    stride: int = 16
    neck: int = 256
    lift: str = 'push'
    depth_m: tuple[float, float, float] = (1.0, 45.0, 0.5)
    lifted: int = 32
    trunk: tuple[int, ...] = (32, 64, 128)
    fine: tuple[int, int, int] = (1, 1, 1)
    hidden: int = 64
    feature_dim: int = 512
    previous: bool = False
    sampling: Sampling = field(default_factory=lambda: Sampling(beyond_m=20.0))

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        for name, known in (('backbone', BACKBONES), ('lift', LIFTS), ('stride', STRIDES)):
            if getattr(self, name) not in known:
                raise LangOccError(f'{name} must be one of {known}, is {getattr(self, name)!r}')
        if not self.cameras or len(set(self.cameras)) < len(self.cameras):
            raise LangOccError(f'cameras must be different names, are {self.cameras}')
        if any(side < 32 or side % 32 for side in self.image_size):
            raise LangOccError(f'image_size must be multiples of 32, is {self.image_size}')
        sizes = (self.neck, self.lifted, self.hidden, *self.trunk)
        if min(sizes) < 1 or not self.trunk:
            raise LangOccError(f'channels must be at least 1, are {sizes}')
        if any(width % 8 for width in (self.lifted, *self.trunk)):
            raise LangOccError(
                f'lifted and trunk must be multiples of 8, are {self.lifted}, {self.trunk}'
            )
        if len(self.fine) != 3 or min(self.fine) < 1:
            raise LangOccError(f'fine must be three numbers of at least 1, is {self.fine}')
        if self.hidden > self.feature_dim:
            raise LangOccError(f'hidden {self.hidden} exceeds feature_dim {self.feature_dim}')
        near, far, step = self.depth_m
        if not (np.isfinite(self.depth_m).all() and 0 < near < far and 0 < step <= far - near):
            raise LangOccError(f'depth_m must be near < far and a step, is {self.depth_m}')
        if not 0 <= self.margin <= 100:
            raise LangOccError(f'margin must be 0 to 100 voxels, is {self.margin}')
        shrink = 2 ** (len(self.trunk) - 1)
        if min(self.grid.shape) < shrink:
            raise LangOccError(f'a trunk of {len(self.trunk)} levels needs {shrink} voxels a side')

    @classmethod
    def small(cls, **changes: Any) -> LangOccConfig:
        """A network that trains on a CPU in minutes, 16 m about the vehicle in voxels of 0.8 m."""
        values: dict[str, Any] = {
            'grid': VoxelGrid((-16.0, -16.0, -1.0), (16.0, 16.0, 5.4), 0.8),
            'image_size': (96, 160),
            'backbone': 'small',
            'stride': 8,
            'neck': 48,
            'lift': 'pull',
            'depth_m': (0.8, 24.0, 0.8),
            'lifted': 24,
            'trunk': (24, 48),
            'fine': (1, 1, 4),
            'hidden': 24,
            'feature_dim': 32,
            'sampling': Sampling(24, 40, 12, beyond_m=8.0),
        }
        return cls(**{**values, **changes})

    @cached_property
    def space(self) -> VoxelGrid:
        """The grid with its margin: what is lifted, refined and rendered."""
        if not self.margin:
            return self.grid
        (x, y, z), upper = self.grid.lower_m, self.grid.upper_m
        more = self.margin * self.grid.voxel_m
        above = (upper[0] + more, upper[1] + more, upper[2] + more)
        return VoxelGrid((x - more, y - more, z), above, self.grid.voxel_m)

    @property
    def bins(self) -> int:
        """Number of depth bins."""
        near, far, step = self.depth_m
        return max(1, round((far - near) / step))

    @property
    def feature_size(self) -> tuple[int, int]:
        """Height and width of a picture's feature map."""
        return self.image_size[0] // self.stride, self.image_size[1] // self.stride

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LangOccConfig:
        """Inverse of `to_dict`, also after JSON made lists of tuples.

        Raises:
            LangOccError: A value is missing, unknown or out of its range.
        """
        names = {f.name for f in fields(cls)}
        if set(values) != names:
            raise LangOccError(
                f'a configuration has {sorted(names)}; differing: {sorted(set(values) ^ names)}'
            )
        plain: dict[str, Any] = _tuples(values)
        try:
            plain['grid'] = VoxelGrid(**_tuples(plain['grid']))
            plain['sampling'] = Sampling(**plain['sampling'])
            return cls(**plain)
        except (TypeError, AttributeError) as error:
            raise LangOccError(f'a configuration is broken: {error}') from error


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
