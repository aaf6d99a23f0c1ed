"""The part of the table that a heightmap shows, and where its pixels lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

# A range counts as a whole number of pixels where it misses one by no more of a pixel than this.
_WHOLE_PX = 1e-3


@dataclass(frozen=True)
class Workspace:
    """A box over a table and the grid of square pixels that covers it from above.

    The table frame is in metres with z up. Rows run along y, columns along x: pixel (row, col) is
    the square [row, row + 1) x [col, col + 1) of the grid, and its centre lies at
    x = x_min + (col + 0.5) pixel_m, y = y_min + (row + 0.5) pixel_m. An angle counterclockwise
    about z (x to y) therefore turns columns towards rows.

    The bounds and the pixel are the published ones (arXiv 2109.12098) but for z, which begins
    below the table: noise puts half of a table's own points under it, and they count.

    Attributes:
        x_range_m: Least and greatest x.
        y_range_m: Least and greatest y.
        z_range_m: Least and greatest z; points outside are not seen.
        pixel_m: Side of a pixel; both ranges are a whole number of pixels.

    Raises:
        ValueError: A range is empty or not finite, or is no whole number of pixels.
    """

    x_range_m: tuple[float, float] = (0.25, 0.75)
    y_range_m: tuple[float, float] = (-0.5, 0.5)
    z_range_m: tuple[float, float] = (-0.02, 0.28)
    pixel_m: float = 0.003125

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        if not (np.isfinite(self.pixel_m) and self.pixel_m > 0):
            raise ValueError(f'pixel_m = {self.pixel_m} is not a positive length')
        for name in ('x_range_m', 'y_range_m', 'z_range_m'):
            low, high = self._checked_range(name)
            pixels = (high - low) / self.pixel_m
            if name != 'z_range_m' and abs(pixels - max(1, round(pixels))) > _WHOLE_PX:
                raise ValueError(
                    f'{name} = {(low, high)} spans {pixels:g} pixels of {self.pixel_m} m, '
                    'which is not a whole number: move one bound, or change pixel_m'
                )

    def _checked_range(self, name: str) -> tuple[float, float]:
        """The range as a tuple of floats, so that equal workspaces compare and hash equal."""
        values = tuple(float(value) for value in getattr(self, name))
        if len(values) != 2 or not np.isfinite(values).all() or values[0] >= values[1]:
            raise ValueError(f'{name} = {values} is not a least and a greatest value')
        object.__setattr__(self, name, values)
        return values[0], values[1]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (along y) and columns (along x)."""
        return (
            round((self.y_range_m[1] - self.y_range_m[0]) / self.pixel_m),
            round((self.x_range_m[1] - self.x_range_m[0]) / self.pixel_m),
        )

    def pixels(self, points: ArrayLike) -> NDArray[np.float64]:
        """Where points of the table frame lie on the grid.

        Args:
            points: (N, 2) or (N, 3) metres; z is not looked at.

        Returns:
            (N, 2) float64 of (row, col), which may lie outside the grid; the floor of both is the
            pixel, and the centre of pixel (0, 0) is (0.5, 0.5).
        """
        xy = np.asarray(points, dtype=np.float64)
        if xy.ndim != 2 or xy.shape[1] not in (2, 3):
            raise ValueError(f'points have shape {xy.shape}, not (N, 2) or (N, 3)')
        low = (self.y_range_m[0], self.x_range_m[0])
        return np.asarray((xy[:, 1::-1] - low) / self.pixel_m)

    def points(self, rows: ArrayLike, cols: ArrayLike) -> NDArray[np.float64]:
        """Centres (x, y) of pixels in metres, (N, 2) float64, from N rows and N columns."""
        row, col = np.atleast_1d(
            np.asarray(rows, dtype=np.float64), np.asarray(cols, dtype=np.float64)
        )
        x = self.x_range_m[0] + (col + 0.5) * self.pixel_m
        y = self.y_range_m[0] + (row + 0.5) * self.pixel_m
        return np.stack([x, y], axis=-1)

    def contains(self, rows: ArrayLike, cols: ArrayLike) -> NDArray[np.bool_]:
        """Whether places on the grid, as of `pixels`, lie within it."""
        row, col = np.asarray(rows), np.asarray(cols)
        height, width = self.shape
        return np.asarray((row >= 0) & (row < height) & (col >= 0) & (col < width))
