from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry import Camera, RgbdFrame
from vlm_nodes.live.keyframes import KeyframeConfig, Keyframes
from vlm_nodes.live.statistics import Statistics
from vlm_nodes.mapping.config import VoxelMapConfig
from vlm_nodes.mapping.fusion_report import FusionReport
from vlm_nodes.mapping.map_file import MapFileError
from vlm_nodes.mapping.text_encoder import DenseEncoder
from vlm_nodes.mapping.voxel_map import VoxelMap


class Mapper:
    """A map that grows from frames, and the encoder that sees for it.

    One thread fuses; any thread may ask, save, load or reset beside it.

    Attributes:
        map: The map as it is. Loading or resetting puts another one in its place.
        newest_stamp_ns: Stamp of the newest frame fused; 0 before the first.
        generation: How often another map was put in place.
    """

    def __init__(
        self,
        config: VoxelMapConfig,
        *,
        frame_id: str,
        encoder: DenseEncoder | None,
        keyframes: KeyframeConfig,
        statistics: Statistics,
    ) -> None:
        """Begin with an empty map.

        Args:
            config: Of the map.
            frame_id: The map's frame.
            encoder: None maps geometry and colour only.
            keyframes: Which frames are worth fusing.
            statistics: Gets times and counts.
        """
        self._config = config
        self._frame_id = frame_id
        self._encoder = encoder
        self._keyframe_config = keyframes
        self._keyframes: dict[str, Keyframes] = {}
        self._statistics = statistics
        self._swapping = threading.Lock()
        self.map = self._empty()
        self.newest_stamp_ns = 0
        self.generation = 0
        self._warm_up()

    def wants(self, camera: str, stamp_ns: int, map_from_camera: NDArray[np.float64]) -> bool:
        """Whether a frame of a camera is a keyframe, if it is fused."""
        gate = self._keyframes.get(camera)
        return gate is None or gate.wants(stamp_ns, map_from_camera)

    def fuse(self, camera: str, frame: RgbdFrame) -> FusionReport | None:
        """Encode a frame and add it to the map.

        Returns:
            What it did to the map, or None if the map was reset or another loaded meanwhile.

        Raises:
            ValueError: The frame cannot be fused; the map is as before.
        """
        start = time.perf_counter()
        generation = self.generation
        features = self._encoder.encode_dense(frame.rgb) if self._encoder else None
        encoded = time.perf_counter()
        with self._swapping:
            if self.generation != generation:
                return None
            report = self.map.integrate(frame, features)
            self.newest_stamp_ns = max(self.newest_stamp_ns, frame.stamp_ns)
            if report.points:
                gate = self._keyframes.setdefault(camera, Keyframes(self._keyframe_config))
                gate.take(frame.stamp_ns, frame.map_from_color)
        self._statistics.time('encode', (encoded - start) * 1e3)
        self._statistics.time('fuse', (time.perf_counter() - encoded) * 1e3)
        self._statistics.count('voxels forgotten', report.cleared)
        return report

    def restart(self) -> None:
        """Time began anew: the next frame of every camera counts, the map stays."""
        self._keyframes.clear()

    def reset(self) -> None:
        """Begin with an empty map again."""
        with self._swapping:
            self._replace(self._empty(), 0)

    def load(self, path: Path) -> VoxelMap:
        """Put a saved map in place of this one.

        Raises:
            MapFileError: It cannot be used; the map is as before.
        """
        loaded = VoxelMap.load(path, self._encoder, threads=self._config.threads)
        if loaded.frame_id != self._frame_id:
            raise MapFileError(
                f'{path}: the map is in frame {loaded.frame_id!r}, this node maps in '
                f'{self._frame_id!r}: set the parameter map_frame'
            )
        with self._swapping:
            self._replace(loaded, int(loaded.last_seen_ns.max()) if len(loaded) else 0)
        return loaded

    def _replace(self, another: VoxelMap, newest_stamp_ns: int) -> None:
        self.map = another
        self.newest_stamp_ns = newest_stamp_ns
        self.generation += 1
        self.restart()

    def _warm_up(self) -> None:
        """Compile and load all that the first frame and the first query would wait for."""
        side = 8
        camera = Camera(side, side, side, side, side / 2, side / 2)
        depth_m = np.ones((side, side), dtype=np.float32)
        rgb = np.zeros((side, side, 3), dtype=np.uint8)
        scratch = self._empty()
        for shift_m in (0.0, 0.05):  # registered, then not
            moved = np.eye(4)
            moved[0, 3] = shift_m
            frame = RgbdFrame(1, rgb, depth_m, camera, camera, moved, np.eye(4))
            features = None
            if self._encoder is not None:
                features = np.full((2, 2, self._encoder.dim), 1.0, dtype=np.float32)
            scratch.integrate(frame, features)
        if self._encoder is not None:
            scratch.query('object', negatives=('thing',))

    def _empty(self) -> VoxelMap:
        return VoxelMap(self._config, frame_id=self._frame_id, encoder=self._encoder)
