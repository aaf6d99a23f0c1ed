"""What one frame did to the map."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class FusionReport:
    """What one frame did to the map.

    Attributes:
        points: Depth pixels fused.
        touched: Voxels that got a point.
        new: Voxels that were not there before.
        cleared: Voxels forgotten because the frame saw through them once too often.
        voxels: Voxels in the map now.
        ms: Milliseconds by stage: 'features', 'scan', 'commit', 'clear'.
    """

    points: int
    touched: int
    new: int
    cleared: int
    voxels: int
    ms: dict[str, float] = field(default_factory=dict)


class Stopwatch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """End a stage and begin the next."""
        now = time.perf_counter()
        self.ms[name] = (now - self._last) * 1e3
        self._last = now
