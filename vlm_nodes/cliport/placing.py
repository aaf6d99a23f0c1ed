"""How high to pick and to place: z from a heightmap, which networks of pixels do not give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vlm_nodes.cliport.heightmap import Heightmap
from vlm_nodes.cliport.poses import moved_pixels, pixel_motion


class UnseenError(ValueError):
    """Too little of what a height is read from was seen.

    Attributes:
        share: What share was seen, 0 to 1.
        needed: What share is needed.
    """

    def __init__(self, place: str, share: float, needed: float) -> None:
        """Say what was to be read, and how much of it there is."""
        super().__init__(
            f'only {share:.0%} of {place} was seen and {needed:.0%} is needed: its height would '
            'be a guess; add a view, or pick where the cameras see'
        )
        self.share = share
        self.needed = needed


@dataclass(frozen=True)
class PlacingConfig:
    """How heights are read.

    Attributes:
        patch_radius_m: Disc around the pick whose heights count.
        pick_percentile: Which of them is the top: high enough to pass over what a disc at an edge
            sees of the table, low enough to pass over readings that stick out.
        surround_radius_m: Disc around the pick in which what it stands on is looked for.
        base_percentile: Which height of that disc is what it stands on.
        support_percentile: Which height under the footprint bears the object.
        clearance_m: Kept between what is placed and what it is placed on.
        least_seen: Share of the pixels of each of these that has to be seen.

    Raises:
        ValueError: A value is out of range.
    """

    patch_radius_m: float = 0.008
    pick_percentile: float = 75.0
    surround_radius_m: float = 0.05
    base_percentile: float = 10.0
    support_percentile: float = 95.0
    clearance_m: float = 0.0
    least_seen: float = 0.5

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        for name in ('patch_radius_m', 'surround_radius_m'):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f'{name} = {getattr(self, name)} is not a positive length')
        for name in ('pick_percentile', 'base_percentile', 'support_percentile'):
            if not 0 <= getattr(self, name) <= 100:
                raise ValueError(f'{name} = {getattr(self, name)} is not in 0 to 100')
        if self.surround_radius_m <= self.patch_radius_m:
            raise ValueError(
                f'surround_radius_m = {self.surround_radius_m} is not more than '
                f'patch_radius_m = {self.patch_radius_m}'
            )
        if not 0 < self.least_seen <= 1:
            raise ValueError(f'least_seen = {self.least_seen} is not in 0 to 1')
        if not (np.isfinite(self.clearance_m) and self.clearance_m >= 0):
            raise ValueError(f'clearance_m = {self.clearance_m} is not a length')


@dataclass(frozen=True, eq=False)
class HeldObject:
    """What a pick would lift, as far as a heightmap shows it.

    Attributes:
        pick_z_m: Height of the top where it is picked.
        height_m: From what it stands on to that.
        footprint: (N, 2) int64 of (row, col), the pixels it takes, the picked one among them.
        pick: (row, col) of the pick.
    """

    pick_z_m: float
    height_m: float
    footprint: NDArray[np.int64]
    pick: tuple[int, int]


def pick_height(
    heightmap: Heightmap, row: int, col: int, config: PlacingConfig | None = None
) -> float:
    """Height of the surface at a pick, in metres of the table frame.

    Raises:
        UnseenError: Too little around it was seen.
    """
    config = config or PlacingConfig()
    return _percentile(
        heightmap,
        _disc(heightmap, row, col, config.patch_radius_m),
        config.pick_percentile,
        f'the {2e3 * config.patch_radius_m:.0f} mm around the pick at pixel ({row}, {col})',
        config.least_seen,
    )


def held_object(
    heightmap: Heightmap, row: int, col: int, config: PlacingConfig | None = None
) -> HeldObject:
    """What a pick at a pixel would lift.

    It is taken to reach down to what lies lowest around it, and to be the connected region around
    the pick that rises above half its height. Where nothing rises it has no height and the patch
    of the pick as its footprint.

    Raises:
        UnseenError: Too little around it was seen.
    """
    config = config or PlacingConfig()
    top = pick_height(heightmap, row, col, config)
    around = _disc(heightmap, row, col, config.surround_radius_m)
    base = _percentile(
        heightmap,
        around,
        config.base_percentile,
        f'the {2e3 * config.surround_radius_m:.0f} mm around the pick at pixel ({row}, {col})',
        config.least_seen,
    )
    patch = _disc(heightmap, row, col, config.patch_radius_m)
    rises = np.zeros(heightmap.seen.shape, dtype=bool)
    rises[tuple(_inside(heightmap, around).T)] = True
    rises &= heightmap.seen & (heightmap.height_m > (base + top) / 2)
    regions, _ = ndimage.label(rises, structure=np.ones((3, 3)))
    near = _inside(heightmap, patch)
    own = np.unique(regions[tuple(near.T)])
    mine = np.isin(regions, own[own > 0])
    footprint = np.argwhere(mine) if mine.any() else near
    return HeldObject(top, max(0.0, top - base), footprint.astype(np.int64), (row, col))


def place_height(
    heightmap: Heightmap,
    row: int,
    col: int,
    turn_rad: float,
    held: HeldObject,
    config: PlacingConfig | None = None,
) -> float:
    """Height of the tool at which a held object stands on what is under it.

    Its footprint is moved with the tool. What supports it there is read without the object itself,
    which is gone from where it was picked by then.

    Args:
        heightmap: The table before the pick.
        row: Pixel of the place.
        col: Pixel of the place.
        turn_rad: Turn from the pick to the place.
        held: Of `held_object`, from the same heightmap.
        config: How heights are read.

    Raises:
        UnseenError: Too little under the footprint was seen.
    """
    config = config or PlacingConfig()
    shift = (row - held.pick[0], col - held.pick[1])
    moved = moved_pixels(pixel_motion(held.pick, turn_rad, shift), held.footprint)
    pixels = np.unique(np.rint(moved).astype(np.int64), axis=0)
    emptied = heightmap.height_m.copy()
    emptied[tuple(held.footprint.T)] = held.pick_z_m - held.height_m
    support = _percentile(
        Heightmap(heightmap.color, emptied, heightmap.seen, heightmap.workspace),
        pixels,
        config.support_percentile,
        f'what would lie under the object placed at pixel ({row}, {col})',
        config.least_seen,
    )
    return support + held.height_m + config.clearance_m


def _disc(heightmap: Heightmap, row: int, col: int, radius_m: float) -> NDArray[np.int64]:
    """(N, 2) pixels around one, also beyond the map's edges."""
    if not heightmap.workspace.contains(row, col):
        raise ValueError(f'pixel ({row}, {col}) is outside the map of {heightmap.seen.shape}')
    radius_px = max(0.5, radius_m / heightmap.workspace.pixel_m)
    reach = np.arange(-int(radius_px), int(radius_px) + 1)
    offsets = np.stack(np.meshgrid(reach, reach, indexing='ij'), axis=-1).reshape(-1, 2)
    return np.asarray(offsets[np.hypot(*offsets.T) <= radius_px] + (row, col), dtype=np.int64)


def _inside(heightmap: Heightmap, pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    return pixels[heightmap.workspace.contains(pixels[:, 0], pixels[:, 1])]


def _percentile(
    heightmap: Heightmap,
    pixels: NDArray[np.int64],
    percentile: float,
    place: str,
    least_seen: float,
) -> float:
    """A percentile of the heights seen; what is beyond the map counts as not seen."""
    inside = tuple(_inside(heightmap, pixels).T)
    heights = heightmap.height_m[inside][heightmap.seen[inside]]
    share = len(heights) / len(pixels)
    if share < least_seen:
        raise UnseenError(place, share, least_seen)
    return float(np.percentile(heights, percentile))
