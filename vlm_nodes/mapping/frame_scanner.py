"""From a frame to sums by voxel, on several threads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry import Camera, RgbdFrame
from vlm_nodes.mapping.config import VoxelMapConfig
from vlm_nodes.mapping.fusion import Band, Scan
from vlm_nodes.mapping.jit import Workers
from vlm_nodes.mapping.projection_table import ProjectionTable
from vlm_nodes.mapping.registration import color_pixels, is_registered

# Cameras whose calibration changes with every message must not pile up.
_MOST_CAMERAS = 16


class FrameScanner:
    """Gathers a frame's pixels by voxel.

    Attributes:
        bands: One per thread, each with the sums of some image rows.
    """

    def __init__(self, config: VoxelMapConfig, workers: Workers) -> None:
        self.bands = [Band() for _ in range(workers.count)]
        self._config = config
        self._workers = workers
        self._tables: dict[Camera, ProjectionTable] = {}
        self._cameras: dict[Camera, Camera] = {}

    def scan(self, frame: RgbdFrame, origin: NDArray[np.int64], grid: tuple[int, int]) -> int:
        """Fill the bands from one frame.

        Args:
            frame: The frame.
            origin: (3,) the voxel of key coordinates 0.
            grid: Rows and columns of the patch grid; (0, 0) for no features.

        Returns:
            Number of depth pixels fused.
        """
        scan = self._describe(frame, origin, grid)
        edges = np.linspace(0, frame.depth_m.shape[0], len(self.bands) + 1).astype(int)
        self._workers.map(
            lambda i: self.bands[i].scan(scan, int(edges[i]), int(edges[i + 1])),
            range(len(self.bands)),
        )
        return sum(band.pixels_used for band in self.bands)

    def _describe(self, frame: RgbdFrame, origin: NDArray[np.int64], grid: tuple[int, int]) -> Scan:
        config, rays = self._config, self._rays(frame.depth_camera)
        pixels = np.empty((0, 1, 2), dtype=np.float32)
        if not is_registered(frame):
            table = self.table(frame.color_camera)
            pixels = color_pixels(frame, rays, table, config.voxel_size_m)
        numbers = [
            config.voxel_size_m,
            config.min_depth_m,
            config.max_depth_m,
            config.weight_distance_m,
            config.edge_jump,
        ]
        return Scan(
            depth_m=np.ascontiguousarray(frame.depth_m),
            rays=rays,
            rgb=np.ascontiguousarray(frame.rgb),
            color_pixels=pixels,
            pose=np.ascontiguousarray(frame.map_from_depth, dtype=np.float64),
            numbers=np.array(numbers),
            origin=origin,
            patch_rows=grid[0],
            patch_cols=grid[1],
        )

    def _rays(self, camera: Camera) -> NDArray[np.float32]:
        # Equal cameras of different frames share the rays that the first one computed.
        if camera not in self._cameras:
            if len(self._cameras) >= _MOST_CAMERAS:
                self._cameras.clear()
            self._cameras[camera] = camera
        return self._cameras[camera].rays()

    def table(self, camera: Camera) -> ProjectionTable:
        """The camera's projection table, made once."""
        if camera not in self._tables:
            if len(self._tables) >= _MOST_CAMERAS:
                self._tables.clear()
            self._tables[camera] = ProjectionTable.of(camera)
        return self._tables[camera]
