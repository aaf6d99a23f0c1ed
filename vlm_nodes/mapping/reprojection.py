"""Does posed depth fit together? Depth of one frame carried into another and held against it.

Everything here compares two frames of one recording only, so a pose of the whole recording, such as
which way is up, cannot be told by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry.frame import RgbdFrame
from vlm_nodes.geometry.rigid import invert, transform_points
from vlm_nodes.mapping.datasets import Correction

Matrix = NDArray[np.float64]

# A depth that differs by less than this share of itself agrees: depth cameras err by about 1 % and
# poses add to it.
AGREEMENT = 0.02
# Share of the motion asked for that is rounding of poses.
_STANDSTILL = 1e-3


@dataclass(frozen=True)
class PairConfig:
    """Which frames are held against each other.

    Attributes:
        min_angle_rad: A pair is formed as soon as the camera turned by this much,
        min_distance_m: or moved by this much.
        max_pairs: Pairs kept at most, spread over the recording.
        points: Depth readings of a frame that are tried, about.
    """

    min_angle_rad: float = 0.12
    min_distance_m: float = 0.12
    max_pairs: int = 16
    points: int = 5000

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        for name in ('min_angle_rad', 'min_distance_m', 'max_pairs', 'points'):
            if not getattr(self, name) > 0:
                raise ValueError(f'{name} = {getattr(self, name)} must be positive')


@dataclass(frozen=True)
class FramePair:
    """Two frames of a recording and their places in it."""

    first: RgbdFrame
    second: RgbdFrame
    first_index: int
    second_index: int


@dataclass(frozen=True)
class Fit:
    """How well depth fits between frames.

    Attributes:
        median_error_m: Median absolute difference of depth carried over and depth measured.
        median_share: The same as a share of the depth measured: free of units.
        overlap: Share of the first frames' readings that meet a reading of the second.
        agreement: Share of the first frames' readings that meet one and agree to 2 % with it.
        median_depth_m: Median depth of the readings.
    """

    median_error_m: float
    median_share: float
    overlap: float
    agreement: float
    median_depth_m: float


def motion(first: Matrix, second: Matrix) -> tuple[float, float]:
    """Angle in radians and distance in metres between two (4, 4) poses."""
    step = invert(first) @ second
    cosine = np.clip((np.trace(step[:3, :3]) - 1) / 2, -1.0, 1.0)
    return float(np.arccos(cosine)), float(np.linalg.norm(step[:3, 3]))


def choose_pairs(frames: Iterable[RgbdFrame], config: PairConfig) -> list[FramePair]:
    """Pairs of frames some motion apart, spread over the recording, which is read once.

    A camera that moves less than asked for in all gives the one pair that is farthest apart.
    """
    pairs: list[FramePair] = []
    anchor: tuple[int, RgbdFrame] | None = None
    farthest: tuple[float, FramePair] | None = None
    stride, formed = 1, 0
    for index, frame in enumerate(frames):
        if anchor is None:
            anchor = (index, frame)
            continue
        moved = _moved(anchor[1], frame, config)
        pair = FramePair(anchor[1], frame, anchor[0], index)
        if not pairs and moved > (farthest[0] if farthest else _STANDSTILL):
            farthest = (moved, pair)
        if moved < 1:
            continue
        if formed % stride == 0:
            pairs.append(pair)
        formed += 1
        anchor = (index, frame)
        if len(pairs) >= 2 * config.max_pairs:
            pairs, stride = pairs[::2], stride * 2
    if not pairs:
        return [farthest[1]] if farthest else []
    return pairs[:: -(-len(pairs) // config.max_pairs)]


def _moved(first: RgbdFrame, second: RgbdFrame, config: PairConfig) -> float:
    """Motion between two frames; 1 is as much as is asked for."""
    angle, distance = motion(first.map_from_depth, second.map_from_depth)
    return max(angle / config.min_angle_rad, distance / config.min_distance_m)


def sampled_points(frame: RgbdFrame, count: int) -> NDArray[np.float64]:
    """About `count` of a frame's depth readings: (N, 3) metres in the depth camera's frame."""
    stride = max(1, round((frame.depth_m.size / count) ** 0.5))
    depth = frame.depth_m[::stride, ::stride]
    rays = frame.depth_camera.rays()[::stride, ::stride]
    known = np.isfinite(depth)
    z = depth[known].astype(np.float64)
    return np.column_stack([rays[known] * z[:, None], z])


def pixel_index(
    pixels: NDArray[np.float64], width: int, height: int
) -> tuple[NDArray[np.bool_], NDArray[np.intp], NDArray[np.intp]]:
    """Which (N, 2) pixels lie in an image, and the rows and columns of those, rounded."""
    with np.errstate(invalid='ignore'):
        inside = (
            (pixels[:, 0] > -0.5)
            & (pixels[:, 0] < width - 0.5)
            & (pixels[:, 1] > -0.5)
            & (pixels[:, 1] < height - 0.5)
        )
    chosen = np.rint(pixels[inside]).astype(np.intp)
    return inside, chosen[:, 1], chosen[:, 0]


def carried_depth(
    points: NDArray[np.float64], second: RgbdFrame, second_from_first: Matrix
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Depth of points carried into the second frame, and what the second measured there.

    Args:
        points: (N, 3) metres in the first depth camera's frame.
        second: The frame carried into.
        second_from_first: (4, 4), first depth camera to second depth camera.

    Returns:
        (N,) carried and (N,) measured metres; measured is NaN where there is no reading.
    """
    moved = transform_points(second_from_first, points)
    camera = second.depth_camera
    inside, rows, columns = pixel_index(camera.project(moved), camera.width, camera.height)
    measured = np.full(len(points), np.nan)
    measured[inside] = second.depth_m[rows, columns]
    return moved[:, 2], measured


def relative_pose(pair: FramePair, correction: Correction) -> Matrix:
    """`second_from_first` (4, 4) of the depth cameras under a correction of the stored poses."""
    return invert(correction.pose(pair.second.map_from_depth)) @ correction.pose(
        pair.first.map_from_depth
    )


class DepthCheck:
    """Pairs of frames whose depth is carried over under one correction after another.

    Args:
        pairs: The pairs; at least one.
        points: Depth readings of a frame that are tried, about.
    """

    def __init__(self, pairs: Sequence[FramePair], points: int) -> None:
        if not pairs:
            raise ValueError('no pair of frames to hold against each other')
        self.pairs = list(pairs)
        self._points = [sampled_points(pair.first, points) for pair in self.pairs]

    def fit(self, correction: Correction) -> Fit:
        """How well depth fits when poses and depth are put right so."""
        carried, measured = self._carry(correction)
        met = np.isfinite(measured)
        count = max(1, len(carried))
        if not met.any():
            return Fit(np.nan, np.nan, 0.0, 0.0, float('nan'))
        error = np.abs(carried[met] - measured[met])
        share = error / measured[met]
        scale = correction.depth_scale
        return Fit(
            median_error_m=float(np.median(error)) * scale,
            median_share=float(np.median(share)),
            overlap=float(met.sum() / count),
            agreement=float((share < AGREEMENT).sum() / count),
            median_depth_m=float(np.median(measured[met])) * scale,
        )

    def _carry(self, correction: Correction) -> tuple[Matrix, Matrix]:
        # Depth scaled by s with poses as they are, is depth as it is with distances scaled by 1/s:
        # depth images then need no copy.
        parts = []
        for pair, points in zip(self.pairs, self._points, strict=True):
            step = relative_pose(pair, correction)
            step[:3, 3] /= correction.depth_scale
            parts.append(carried_depth(points, pair.second, step))
        return (
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts]),
        )
