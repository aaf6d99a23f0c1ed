from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry.camera import Camera
from vlm_nodes.geometry.rigid import is_rigid


@dataclass(frozen=True)
class RgbdFrame:
    """One colour image and one depth image with their cameras and poses.

    The two need not be registered: they may differ in size, intrinsics, pose and stamp. Where they
    are registered both cameras and both poses are equal.

    Attributes:
        stamp_ns: Stamp of the colour image in nanoseconds.
        rgb: (H, W, 3) uint8, RGB.
        depth_m: (h, w) float32, metres along z; NaN where there is no reading.
        color_camera: Intrinsics of `rgb`.
        depth_camera: Intrinsics of `depth_m`.
        map_from_color: (4, 4) float64, colour optical frame to map, at the colour image's stamp.
        map_from_depth: (4, 4) float64, depth optical frame to map, at the depth image's stamp.

    Raises:
        ValueError: An array's shape or type does not fit, or a pose is not a rigid transform.
    """

    stamp_ns: int
    rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    color_camera: Camera
    depth_camera: Camera
    map_from_color: NDArray[np.float64]
    map_from_depth: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Check that images, cameras and poses fit together."""
        expected = (self.color_camera.height, self.color_camera.width, 3)
        if self.rgb.shape != expected or self.rgb.dtype != np.uint8:
            raise ValueError(
                f'colour image is {self.rgb.shape} {self.rgb.dtype}, '
                f'its camera_info says {expected} uint8'
            )
        expected_depth = (self.depth_camera.height, self.depth_camera.width)
        if self.depth_m.shape != expected_depth or self.depth_m.dtype != np.float32:
            raise ValueError(
                f'depth image is {self.depth_m.shape} {self.depth_m.dtype}, '
                f'its camera_info says {expected_depth} float32'
            )
        for name in ('map_from_color', 'map_from_depth'):
            if not is_rigid(getattr(self, name)):
                raise ValueError(f'{name} is not a rigid transform:\n{getattr(self, name)}')
