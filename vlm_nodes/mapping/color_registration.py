"""Does colour lie where depth says? Colour of one place held against itself in two frames.

Where colour is taken from the wrong pixels, two frames that see one place from different sides take
it from different things. So image detail correlates best between frames where the colour camera is
right, and a colour camera can be fitted by making it so. What counts is the correlation beyond that
of two pixels of one and the same image as far apart as the place moved: else a camera of no focal
length, which takes all colour from one pixel, would be the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import fmin

from vlm_nodes.geometry.camera import Camera
from vlm_nodes.geometry.frame import RgbdFrame
from vlm_nodes.geometry.rigid import invert, transform_points
from vlm_nodes.mapping.datasets import Correction
from vlm_nodes.mapping.reprojection import (
    AGREEMENT,
    FramePair,
    carried_depth,
    relative_pose,
    sampled_points,
)

# Detail is what is finer than this and coarser than noise, as shares of the image's width.
_COARSE, _FINE = 20 / 640, 2 / 640
# Scales tried before the fit; a colour camera of another lens lies between these.
_SCALES = (0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4)
_MIN_POINTS = 200


@dataclass(frozen=True)
class ColorCamera:
    """A colour camera that may be right.

    Attributes:
        camera: Intrinsics of the colour image.
        shares_depth_pose: The camera stands where the depth camera does; else where the frames say.
    """

    camera: Camera
    shares_depth_pose: bool = False


@dataclass(frozen=True)
class ColorFit:
    """How well colour fits between frames under one colour camera.

    Attributes:
        correlation: Of image detail at places that both frames see; 1 is perfect. NaN where there
            is too little to see.
        gain: The same less what pixels correlate in one image at the same distances. 0 where
            following the place helps nothing, as with a camera that does not move.
        shift_px: How far, in median, colour moves in the image against the camera as given.
    """

    correlation: float
    gain: float
    shift_px: float


@dataclass(frozen=True)
class _Places:
    """Places that both frames of a pair see, in their colour cameras' frames, and image detail."""

    points: tuple[NDArray[np.float64], NDArray[np.float64]]
    depth_points: tuple[NDArray[np.float64], NDArray[np.float64]]
    details: tuple[NDArray[np.float32], NDArray[np.float32]]


class ColorCheck:
    """Pairs of frames whose colours are compared under one colour camera after another.

    Args:
        pairs: The pairs; at least one.
        correction: What makes their depth fit; colour poses are put right by it as well.
        points: Depth readings of a frame that are tried, about.
    """

    def __init__(self, pairs: Sequence[FramePair], correction: Correction, points: int) -> None:
        if not pairs:
            raise ValueError('no pair of frames to hold against each other')
        self.given = ColorCamera(pairs[0].first.color_camera)
        self.depth_camera = pairs[0].first.depth_camera
        self._places = [_places(pair, correction, points) for pair in pairs]

    def fit(self, camera: ColorCamera) -> ColorFit:
        """How well colour fits if this is the colour camera."""
        rows = []
        for places in self._places:
            pixels = [self._pixels(camera, places, i) for i in range(2)]
            correlations = _correlations(places.details, pixels)
            if correlations is None:
                continue
            followed, stayed = correlations
            before = self._pixels(self.given, places, 0)
            shift = np.nanmedian(np.linalg.norm(pixels[0] - before, axis=1))
            rows.append((followed, followed - stayed, shift))
        if not rows:
            return ColorFit(float('nan'), float('nan'), float('nan'))
        followed, gain = np.mean([row[:2] for row in rows], axis=0)
        return ColorFit(float(followed), float(gain), float(np.median([row[2] for row in rows])))

    def registered(self) -> ColorCamera:
        """Colour as if registered to depth: the depth camera, resized to the colour image."""
        width, height = self.given.camera.width, self.given.camera.height
        return ColorCamera(self.depth_camera.resized(width, height), shares_depth_pose=True)

    def fitted(self) -> ColorCamera:
        """The colour camera under which colours fit best: the given one, scaled and shifted."""
        best = max(_SCALES, key=lambda s: self._score(np.array([s, 0.0, 0.0])))
        start = np.array([best, 0.0, 0.0])
        simplex = start + np.array([[0, 0, 0], [0.05, 0, 0], [0, 0.02, 0], [0, 0, 0.02]])
        found = fmin(
            self._cost,
            start,
            initial_simplex=simplex,
            xtol=1e-3,
            ftol=1e-4,
            maxiter=150,
            disp=False,
        )
        return ColorCamera(_altered(self.given.camera, np.asarray(found, dtype=np.float64)))

    def _cost(self, change: NDArray[np.float64]) -> float:
        return -self._score(change)

    def _score(self, change: NDArray[np.float64]) -> float:
        if not 0.5 < change[0] < 2:
            return -1.0
        gain = self.fit(ColorCamera(_altered(self.given.camera, change))).gain
        return gain if np.isfinite(gain) else -1.0

    def _pixels(self, camera: ColorCamera, places: _Places, index: int) -> NDArray[np.float64]:
        points = places.depth_points if camera.shares_depth_pose else places.points
        return camera.camera.project(points[index])


def _altered(camera: Camera, change: NDArray[np.float64]) -> Camera:
    """A camera of another focal length and principal point.

    Args:
        camera: Where to start.
        change: (3,) scale of the focal lengths, shift of the principal point in u and in v, both
            as shares of the image's width.
    """
    scale, du, dv = (float(value) for value in change)
    return replace(
        camera,
        fx=camera.fx * scale,
        fy=camera.fy * scale,
        cx=camera.cx + du * camera.width,
        cy=camera.cy + dv * camera.width,
    )


def _places(pair: FramePair, correction: Correction, points: int) -> _Places:
    """Places of a pair that depth says both frames see."""
    first = sampled_points(pair.first, points) * correction.depth_scale
    step = relative_pose(pair, correction)
    second_scaled = replace(pair.second, depth_m=correction.depth(pair.second.depth_m))
    carried, measured = carried_depth(first, second_scaled, step)
    with np.errstate(invalid='ignore'):
        agree = np.abs(carried - measured) < AGREEMENT * measured
    depth_points = (first[agree], transform_points(step, first[agree]))
    frames = (pair.first, pair.second)
    in_color = [
        transform_points(_color_from_depth(frame, correction), of_frame)
        for frame, of_frame in zip(frames, depth_points, strict=True)
    ]
    return _Places(
        points=(in_color[0], in_color[1]),
        depth_points=depth_points,
        details=(_detail(pair.first), _detail(pair.second)),
    )


def _color_from_depth(frame: RgbdFrame, correction: Correction) -> NDArray[np.float64]:
    return invert(correction.pose(frame.map_from_color)) @ correction.pose(frame.map_from_depth)


def _detail(frame: RgbdFrame) -> NDArray[np.float32]:
    """(H, W) float32 of an image's detail: neither its brightness, which exposure changes."""
    gray = cv2.cvtColor(frame.rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    width = frame.rgb.shape[1]
    fine = cv2.GaussianBlur(gray, (0, 0), _FINE * width)
    return np.asarray(fine - cv2.GaussianBlur(fine, (0, 0), _COARSE * width), dtype=np.float32)


def _sample(image: NDArray[np.float32], pixels: NDArray[np.float64]) -> NDArray[np.float32]:
    """Bilinear samples at (N, 2) pixels; NaN outside of the image."""
    columns = pixels.astype(np.float32).reshape(-1, 1, 2)
    if not len(columns):
        return np.empty(0, dtype=np.float32)
    sampled = cv2.remap(
        image,
        columns,
        None,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=float('nan'),
    )
    return np.asarray(sampled, dtype=np.float32)[:, 0]


def _correlations(
    details: Sequence[NDArray[np.float32]], pixels: Sequence[NDArray[np.float64]]
) -> tuple[float, float] | None:
    """How detail correlates from image to image at the two pixels of each place, and within one.

    Returns:
        None where too few places lie in both images.
    """
    samples = [[_sample(detail, at) for at in pixels] for detail in details]
    known = np.isfinite(samples).all(axis=(0, 1))
    if known.sum() < _MIN_POINTS:
        return None
    (a_here, a_there), (b_here, b_there) = ([s[known] for s in row] for row in samples)
    stayed = (_correlation(a_here, a_there) + _correlation(b_here, b_there)) / 2
    # Where a pattern repeats the second may be below 0, which is no merit of the camera.
    return _correlation(a_here, b_there), max(0.0, stayed)


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    if a.std() < 1e-6 or b.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
