"""What a soft fingertip camera sees: a picture of a gel pad, lit from the sides, that is pressed.

As in GelSight sensors (Yuan, Dong and Adelson, Sensors 17, 2762, 2017): the pad is lit by lamps of
three colours from three sides, so that the slope of its surface shows as colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDTH: Final = 64
HEIGHT: Final = 48

FULL_FORCE_N: Final = 8.0
"""Force at which the pad is pressed in as far as it shows."""

# The pad covers the left and lower side of the fingertip; its middle looks down at 45 degrees.
_AXIS: Final = np.array([0.0, -1.0, -1.0]) / np.sqrt(2)
_RIGHT: Final = np.array([-1.0, 0.0, 0.0])
_DOWN: Final = np.cross(_AXIS, _RIGHT)
_HALF_HEIGHT_RAD: Final = np.radians(85.0)
_SLOPE: Final = 1.0
_LIGHT_ELEVATION_RAD: Final = np.radians(35.0)
_LIGHT_AZIMUTHS_RAD: Final = np.radians([90.0, 210.0, 330.0])
_GAIN: Final = 150.0
_BASE_RGB: Final = np.array([96.0, 104.0, 112.0])
_VIGNETTE: Final = 0.25
_SHEAR_SHIFT: Final = 0.12
_WIDTH_RANGE: Final = (0.16, 0.30)


@dataclass(frozen=True)
class Press:
    """Something pressing on the pad.

    Attributes:
        at: (u, v) in [-1, 1]: across and down the picture's height, from its middle.
        force_n: along the pad's normal.
        shear_n: (2,) along the pad, to the picture's right and down.

    Raises:
        ValueError: a number is not finite or the force is negative.
    """

    at: tuple[float, float]
    force_n: float
    shear_n: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        if not np.isfinite([*self.at, self.force_n, *self.shear_n]).all():
            raise ValueError(f'a press must be finite, is {self}')
        if self.force_n < 0:
            raise ValueError(f'force_n must not be negative, is {self.force_n}')


def press_from_contact(direction: ArrayLike, force_n: ArrayLike) -> Press | None:
    """How a contact presses on the pad.

    Args:
        direction: (3,) from the fingertip's centre to the contact, in the finger's axes (x away
            from the base, y to the robot's left, z up).
        force_n: (3,) newton on the fingertip, same axes.

    Returns:
        None where the contact is on the side that the pad does not cover, or pulls.
    """
    outward = np.asarray(direction, np.float64)
    outward = outward / np.linalg.norm(outward)
    force = np.asarray(force_n, np.float64)
    normal = -float(force @ outward)
    angle = float(np.arccos(np.clip(outward @ _AXIS, -1.0, 1.0)))
    if normal <= 0 or angle > np.pi / 2:
        return None
    across = np.array([outward @ _RIGHT, outward @ _DOWN])
    length = np.linalg.norm(across)
    at = across / length * angle / _HALF_HEIGHT_RAD if length > 1e-9 else across
    along = force + normal * outward
    return Press(
        at=(float(at[0]), float(at[1])),
        force_n=normal,
        shear_n=(float(along @ _RIGHT), float(along @ _DOWN)),
    )


def height_map(presses: Sequence[Press]) -> NDArray[np.float64]:
    """How deep the pad is pressed in, (HEIGHT, WIDTH) in [0, 1]; 1 at `FULL_FORCE_N` and above."""
    u, v = _grid()
    depth = np.zeros((HEIGHT, WIDTH))
    for press in presses:
        share = min(press.force_n / FULL_FORCE_N, 1.0)
        width = _WIDTH_RANGE[0] + (_WIDTH_RANGE[1] - _WIDTH_RANGE[0]) * np.sqrt(share)
        shift = np.tanh(np.array(press.shear_n) / FULL_FORCE_N) * _SHEAR_SHIFT
        middle = np.array(press.at) + shift
        square = ((u - middle[0]) ** 2 + (v - middle[1]) ** 2) / width**2
        depth = np.maximum(depth, share * np.exp(-square / 2))
    return depth


def tactile_image(presses: Sequence[Press]) -> NDArray[np.uint8]:
    """The picture of the pad, (HEIGHT, WIDTH, 3) uint8 RGB; the same for every free pad."""
    u, v = _grid()
    depth = height_map(presses)
    step = u[0, 1] - u[0, 0]
    slope_v, slope_u = np.gradient(depth, step)
    # A dent of depth d(u, v): its surface is z = -d, its normal (d_u, d_v, 1).
    normal = np.dstack([_SLOPE * slope_u, _SLOPE * slope_v, np.ones_like(depth)])
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    light = normal @ _lights().T
    flat = np.sin(_LIGHT_ELEVATION_RAD)
    shade = _BASE_RGB * (1 - _VIGNETTE * (u**2 + v**2)[..., None] / 2)
    rgb = shade + _GAIN * (light - flat) - 40.0 * depth[..., None]
    image: NDArray[np.uint8] = np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
    return image


def _grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(u, v) of every pixel, each (HEIGHT, WIDTH); v is -1 to 1 over the height."""
    row, column = np.indices((HEIGHT, WIDTH))
    half = HEIGHT / 2
    u = np.asarray((column + 0.5 - WIDTH / 2) / half, np.float64)
    v = np.asarray((row + 0.5 - half) / half, np.float64)
    return u, v


def _lights() -> NDArray[np.float64]:
    """(3, 3) directions to the red, the green and the blue lamp."""
    c, s = np.cos(_LIGHT_ELEVATION_RAD), np.sin(_LIGHT_ELEVATION_RAD)
    return np.array([[c * np.cos(a), c * np.sin(a), s] for a in _LIGHT_AZIMUTHS_RAD])
