"""The map seen from above: occupancy grids, masks, and outlines of things in metres."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

UNKNOWN, FREE, OCCUPIED = -1, 0, 100
# A grid of more cells is a mistake in the resolution or a point gone astray.
_MOST_CELLS = 100_000_000


@dataclass(frozen=True)
class OccupancyGrid:
    """What nav_msgs/OccupancyGrid holds.

    Attributes:
        data: (R, C) int8: -1 unknown, 0 free, 100 occupied. Row 0 has the lowest y, column 0 the
            lowest x.
        resolution_m: Edge of a cell.
        origin_m: (2,) float64, map x and y of the outer corner of cell (0, 0).
    """

    data: NDArray[np.int8]
    resolution_m: float
    origin_m: NDArray[np.float64]


@dataclass(frozen=True)
class FloorRegion:
    """A thing's place on the floor, in the map frame.

    Attributes:
        center_m: (2,) float64, centre of the box.
        box_m: (2, 2) float64, lowest and highest x and y.
        contour_m: (K, 2) float64, the outline's vertices, through the centres of its cells.
        area_m2: Area of its cells.
        score: Highest score of its voxels.
    """

    center_m: NDArray[np.float64]
    box_m: NDArray[np.float64]
    contour_m: NDArray[np.float64]
    area_m2: float
    score: float


@dataclass(frozen=True)
class FloorPlan:
    """A raster over points' x and y (REP-103: z is up).

    Attributes:
        shape: Rows (along y) and columns (along x).
        resolution_m: Edge of a cell.
        origin_m: (2,) float64, map x and y of the outer corner of cell (0, 0), a multiple of the
            resolution.
        cells: (N,) int64, each point's flat cell.
    """

    shape: tuple[int, int]
    resolution_m: float
    origin_m: NDArray[np.float64]
    cells: NDArray[np.int64]

    @classmethod
    def of(cls, points: NDArray[np.floating], resolution_m: float) -> FloorPlan:
        """The raster that just covers points (N, 3).

        Raises:
            ValueError: The resolution is not a positive number, or the grid would be enormous.
        """
        if not (math.isfinite(resolution_m) and resolution_m > 0):
            raise ValueError(f'resolution_m = {resolution_m!r} is not a positive number')
        if len(points) == 0:
            return cls((0, 0), resolution_m, np.zeros(2), np.empty(0, dtype=np.int64))
        places = np.floor(points[:, :2].astype(np.float64) / resolution_m).astype(np.int64)
        low = places.min(axis=0)
        cols, rows = (int(n) for n in places.max(axis=0) - low + 1)
        if rows * cols > _MOST_CELLS:
            raise ValueError(f'a grid of {rows} x {cols} cells of {resolution_m} m is too large')
        cells = (places[:, 1] - low[1]) * cols + places[:, 0] - low[0]
        return cls((rows, cols), resolution_m, low * resolution_m, cells)

    def mask(self, selected: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(R, C) cells with at least one selected point; `selected` is (N,)."""
        cells = np.zeros(self.shape, dtype=np.bool_)
        cells.ravel()[self.cells[selected]] = True
        return cells

    def highest(self, values: NDArray[np.floating], fill: float = 0.0) -> NDArray[np.float32]:
        """(R, C) float32, the highest of each cell's values (N,); `fill` where there is none."""
        image = np.full(self.shape, -np.inf, dtype=np.float32)
        np.maximum.at(image.ravel(), self.cells, values.astype(np.float32))
        image[np.isneginf(image)] = fill
        return image

    def occupancy(
        self,
        heights_m: NDArray[np.floating],
        height_band_m: tuple[float, float],
        obstacles: NDArray[np.bool_] | None = None,
        free: NDArray[np.bool_] | None = None,
    ) -> OccupancyGrid:
        """Cells with points in a band of heights are occupied, other cells with points are free.

        Args:
            heights_m: (N,) z.
            height_band_m: Lowest and highest z of what a robot would hit.
            obstacles: (N,) points that are obstacles at any height.
            free: (N,) points that are no obstacle at any height.

        Raises:
            ValueError: The band is empty or not a number.
        """
        low, high = height_band_m
        if not low < high:
            raise ValueError(f'height_band_m = {height_band_m!r} is not lowest < highest')
        blocking = (heights_m >= low) & (heights_m <= high)
        if obstacles is not None:
            blocking |= obstacles
        if free is not None:
            blocking &= ~free
        data = np.full(self.shape, UNKNOWN, dtype=np.int8)
        data[self.mask(np.ones(len(self.cells), dtype=np.bool_))] = FREE
        data[self.mask(blocking)] = OCCUPIED
        return OccupancyGrid(data, self.resolution_m, self.origin_m)

    def regions(
        self, scores: NDArray[np.float32], min_score: float, min_area_m2: float = 0.0
    ) -> list[FloorRegion]:
        """Connected cells whose score reaches a threshold, best first.

        Gaps of one cell are closed, as VLMaps' `get_pos` does; all else is metres.

        Args:
            scores: (N,) float32.
            min_score: In (0, 1].
            min_area_m2: Smaller regions are dropped.
        """
        if 0 in self.shape:
            return []
        heat = self.highest(scores)
        mask = np.pad(heat >= min_score, 1).astype(np.uint8)
        closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))[1:-1, 1:-1]
        count, numbers = cv2.connectedComponents(np.ascontiguousarray(closed), connectivity=8)
        found = [self._region(numbers == number, heat) for number in range(1, count)]
        kept = [region for region in found if region.area_m2 >= min_area_m2]
        return sorted(kept, key=lambda region: (-region.score, -region.area_m2))

    def _region(self, mask: NDArray[np.bool_], heat: NDArray[np.float32]) -> FloorRegion:
        contours, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE
        )
        outline = np.asarray(contours[0], dtype=np.float64).reshape(-1, 2)
        rows, cols = np.nonzero(mask)
        corners = np.array([[cols.min(), rows.min()], [cols.max() + 1, rows.max() + 1]])
        box = self.origin_m + corners * self.resolution_m
        return FloorRegion(
            center_m=box.mean(axis=0),
            box_m=box,
            contour_m=self.origin_m + (outline + 0.5) * self.resolution_m,
            area_m2=float(mask.sum()) * self.resolution_m**2,
            score=float(heat[mask].max()),
        )
