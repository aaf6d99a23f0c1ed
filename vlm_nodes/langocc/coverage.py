"""Which part of the grid cameras look at, whatever stands in between."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry.rigid import invert, transform_points
from vlm_nodes.langocc.lifting import Rig, RigView
from vlm_nodes.surround import VoxelGrid

_KEPT: Final = 4


class Coverage:
    """Columns of a grid that cameras look at, computed once a calibration.

    Attributes:
        made: How often they were computed.
    """

    def __init__(self, grid: VoxelGrid) -> None:
        self._grid = grid
        self._kept: OrderedDict[tuple[object, ...], NDArray[np.bool_]] = OrderedDict()
        self.made = 0

    def of(self, rig: Rig) -> NDArray[np.bool_]:
        """(X, Y) whether some camera sees the middle of a voxel of the column."""
        key = tuple(view.key() if view else None for view in rig)
        if key not in self._kept:
            self._kept[key] = self._columns([view for view in rig if view])
            self.made += 1
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]

    def _columns(self, views: list[RigView]) -> NDArray[np.bool_]:
        centres = self._grid.centres().reshape(-1, 3)
        seen = np.zeros(len(centres), bool)
        for view in views:
            points = transform_points(invert(view.ego_from_camera), centres)
            across = view.camera.project(points) + 0.5
            # Behind the camera is NaN, which compares as False.
            with np.errstate(invalid='ignore'):
                size = (view.camera.width, view.camera.height)
                seen |= ((across >= 0) & (across < size)).all(axis=1)
        return np.asarray(seen.reshape(self._grid.shape).any(axis=2))
