"""Turned and shifted copies of a labelled picture of the table, and other lights.

How far pictures are turned is a matter of the task: where a sentence says 'left', a turned picture
belies it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vlm_nodes.cliport.poses import moved_pixels, pixel_motion
from vlm_nodes.cliport.samples import Sample

ATTEMPTS = 100
"""Motions drawn before the picture is left as it is."""


@dataclass(frozen=True)
class Augmentation:
    """How far a picture is moved and relit; the first two as published.

    Attributes:
        turn_rad: Standard deviation of the turn about the picture's centre; 0 for tasks whose
            sentences speak of left and right.
        shift_px: Standard deviation of the shift along each axis.
        light: Greatest relative change of brightness.
        tint: Greatest relative change of each colour channel; keep it small, sentences name
            colours.

    Raises:
        ValueError: A value is negative, not finite, or light and tint would black a picture out.
    """

    turn_rad: float = math.radians(60)
    shift_px: float = 26.7
    light: float = 0.0
    tint: float = 0.0

    def __post_init__(self) -> None:
        """Check every value."""
        for name in ('turn_rad', 'shift_px', 'light', 'tint'):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f'{name} must not be negative, got {value}')
        if self.light + self.tint >= 1:
            raise ValueError(f'light + tint must be below 1, got {self.light} + {self.tint}')


def augment(sample: Sample, config: Augmentation, rng: np.random.Generator) -> Sample:
    """A moved and relit copy whose pick and place both lie in the picture.

    What comes in from outside is a hole. The place's angle is relative to the pick's and stays.

    Args:
        sample: Left as it is.
        config: How far.
        rng: Draws the motion.
    """
    return relight(move(sample, config, rng), config, rng)


def move(sample: Sample, config: Augmentation, rng: np.random.Generator) -> Sample:
    """The turn and the shift of `augment`."""
    if config.turn_rad == 0 and config.shift_px == 0:
        return sample
    shape = sample.seen.shape
    centre = ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
    for _ in range(ATTEMPTS):
        angle = rng.normal(0, config.turn_rad)
        down, right = rng.normal(0, config.shift_px, 2)
        motion = pixel_motion(centre, angle, (down, right))
        pick, place = moved_pixels(motion, [sample.pick, sample.place])
        if _inside(pick, shape) and _inside(place, shape):
            return replace(
                sample,
                color=_warp(sample.color, motion, cv2.INTER_LINEAR),
                height_m=_warp(sample.height_m, motion, cv2.INTER_NEAREST),
                seen=_warp(sample.seen.astype(np.uint8), motion, cv2.INTER_NEAREST).astype(bool),
                pick=(float(pick[0]), float(pick[1])),
                place=(float(place[0]), float(place[1])),
                pick_angle_rad=sample.pick_angle_rad + angle,
            )
    return sample


def relight(sample: Sample, config: Augmentation, rng: np.random.Generator) -> Sample:
    """The other light of `augment`."""
    if config.light == 0 and config.tint == 0:
        return sample
    gain = 1 + rng.uniform(-config.light, config.light) + rng.uniform(-config.tint, config.tint, 3)
    lit = np.clip(sample.color * gain.astype(np.float32) + np.float32(0.5), 0, 255)
    return replace(sample, color=lit.astype(np.uint8))


def _inside(label: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    return bool((label >= 0).all() and (label <= np.asarray(shape) - 1).all())


def _warp(image: NDArray[Any], motion: NDArray[np.float64], how: int) -> NDArray[Any]:
    height, width = image.shape[:2]
    by_column = motion[[1, 0]][:, [1, 0, 2]]  # OpenCV takes (column, row)
    warped: NDArray[Any] = cv2.warpAffine(image, by_column, (width, height), flags=how)
    return warped
