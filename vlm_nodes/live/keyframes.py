from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation


@dataclass(frozen=True)
class KeyframeConfig:
    """When a frame is worth its cost. With all three 0 every frame is.

    Attributes:
        translation_m: A frame counts once the camera moved this far since the last that counted.
        rotation_deg: Or turned this far.
        interval_s: Or once this much time passed.
    """

    translation_m: float = 0.0
    rotation_deg: float = 0.0
    interval_s: float = 0.0

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        for name in ('translation_m', 'rotation_deg', 'interval_s'):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f'{name} = {getattr(self, name)} is not zero or positive')


class Keyframes:
    """Picks the frames of one camera that are worth fusing."""

    def __init__(self, config: KeyframeConfig) -> None:
        self._config = config
        self._last: tuple[int, NDArray[np.float64]] | None = None

    def wants(self, stamp_ns: int, map_from_camera: NDArray[np.float64]) -> bool:
        """Whether this frame is a keyframe."""
        return self._last is None or self._moved(stamp_ns, map_from_camera, *self._last)

    def take(self, stamp_ns: int, map_from_camera: NDArray[np.float64]) -> None:
        """This frame was used: the next ones are measured from it."""
        self._last = (stamp_ns, map_from_camera)

    def _moved(
        self,
        stamp_ns: int,
        pose: NDArray[np.float64],
        last_stamp_ns: int,
        last_pose: NDArray[np.float64],
    ) -> bool:
        config = self._config
        if config == KeyframeConfig():
            return True
        if config.interval_s and abs(stamp_ns - last_stamp_ns) >= config.interval_s * 1e9:
            return True
        if config.translation_m:
            moved = float(np.linalg.norm(pose[:3, 3] - last_pose[:3, 3]))
            if moved >= config.translation_m:
                return True
        turn = Rotation.from_matrix(last_pose[:3, :3].T @ pose[:3, :3])
        return bool(config.rotation_deg and math.degrees(turn.magnitude()) >= config.rotation_deg)
