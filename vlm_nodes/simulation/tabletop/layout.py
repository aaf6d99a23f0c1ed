"""Free places on the table for things that must not touch each other."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation.tabletop.props import Pose

X_RANGE_M: Final = (0.25, 0.75)
Y_RANGE_M: Final = (-0.5, 0.5)
PIXEL_M: Final = 0.003125


class NoRoomError(RuntimeError):
    """The table has no free place for a thing of that size."""


class Layout:
    """Which parts of the table are taken.

    A thing is given a place in which it may turn freely, as published: the square around it whose
    side is its diagonal is free of all that was put there before.

    Args:
        rng: of the places.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        rows = round((Y_RANGE_M[1] - Y_RANGE_M[0]) / PIXEL_M)
        columns = round((X_RANGE_M[1] - X_RANGE_M[0]) / PIXEL_M)
        self._free: NDArray[np.uint8] = np.ones((rows, columns), np.uint8)

    def find(self, size_m: tuple[float, float], z: float = 0.0) -> Pose:
        """A random free place for a thing of that length and width; takes it.

        Args:
            size_m: along the thing's own x and y.
            z: of the pose to be returned.

        Raises:
            NoRoomError: if there is none.
        """
        side = int(np.ceil(np.hypot(*size_m) / PIXEL_M))
        framed = cv2.copyMakeBorder(self._free, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        kernel = np.ones((side | 1, side | 1), np.uint8)
        places = np.flatnonzero(cv2.erode(framed, kernel, borderValue=0)[1:-1, 1:-1])
        if not len(places):
            raise NoRoomError(f'no free place on the table for a thing of {size_m} m')
        place = int(places[self._rng.integers(len(places))])
        row, column = divmod(place, self._free.shape[1])
        within = self._rng.random(2)
        pose = Pose(
            X_RANGE_M[0] + (column + float(within[0])) * PIXEL_M,
            Y_RANGE_M[0] + (row + float(within[1])) * PIXEL_M,
            z,
            float(self._rng.uniform(0, 2 * np.pi)),
        )
        self.take(pose, size_m)
        return pose

    def take(self, pose: Pose, size_m: tuple[float, float]) -> None:
        """Marks the rectangle of a thing as taken."""
        half_x, half_y = size_m[0] / 2, size_m[1] / 2
        corners = np.array(
            [[-half_x, -half_y], [half_x, -half_y], [half_x, half_y], [-half_x, half_y]]
        )
        on_table = corners @ pose.matrix()[:2, :2].T + (pose.x, pose.y)
        pixels = (on_table - (X_RANGE_M[0], Y_RANGE_M[0])) / PIXEL_M
        # One more pixel around, for what the rounding to pixels loses.
        outline = np.round(pixels).astype(np.int32).reshape(-1, 1, 2)
        cv2.fillPoly(self._free, [outline], 0)
        cv2.polylines(self._free, [outline], True, 0, thickness=2)
