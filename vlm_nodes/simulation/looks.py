"""Random light, floors, walls and colours of rooms."""

from typing import Final, Literal

import numpy as np

from vlm_nodes.simulation.room import Light, Rgb, Surface

Hues = tuple[tuple[float, float], ...]

# Of floors, walls and tables. Those of the training rooms and of the test rooms do not meet.
TRAIN_HUES: Final[Hues] = ((0.02, 0.11), (0.28, 0.36), (0.50, 0.58))
TEST_HUES: Final[Hues] = ((0.12, 0.18), (0.40, 0.48), (0.62, 0.72))


def random_lights(rng: np.random.Generator, half_extents: tuple[float, float]) -> tuple[Light, ...]:
    """One lamp that casts shadows, and weak ones opposite that give form to what is in them."""
    azimuth, total = rng.uniform(-np.pi, np.pi), rng.uniform(0.55, 0.85)
    share = rng.uniform(0.2, 0.4)
    lights = [_light(rng, half_extents, azimuth, total * (1 - share), casts_shadow=True)]
    for _ in range(fills := int(rng.integers(1, 3))):
        side = azimuth + np.pi + rng.uniform(-1.2, 1.2)
        lights.append(_light(rng, half_extents, side, total * share / fills, casts_shadow=False))
    return tuple(lights)


def _light(
    rng: np.random.Generator,
    half_extents: tuple[float, float],
    azimuth_rad: float,
    strength: float,
    casts_shadow: bool,
) -> Light:
    reach = rng.uniform(0.3, 1.0) if casts_shadow else rng.uniform(1.0, 1.6)
    x = half_extents[0] * reach * np.cos(azimuth_rad)
    y = half_extents[1] * reach * np.sin(azimuth_rad)
    warmth = rng.uniform(-0.06, 0.06)
    rgb = strength * np.array([1 + warmth, 1.0, 1 - warmth])
    return Light(
        position=(float(x), float(y), 4.0),
        direction=(float(-x), float(-y), -4.0 if casts_shadow else -2.5),
        strength=(float(rgb[0]), float(rgb[1]), float(rgb[2])),
        casts_shadow=casts_shadow,
    )


def random_surface(
    rng: np.random.Generator, hues: Hues, brightness: tuple[float, float]
) -> Surface:
    """A pattern and its colours from ranges of hues and of brightness, all in [0, 1]."""
    patterns: tuple[Literal['plain', 'tiles', 'planks', 'speckle'], ...] = (
        'plain', 'tiles', 'planks', 'speckle',
    )  # fmt: skip
    hue = rng.uniform(*hues[rng.integers(len(hues))])
    saturation, value = rng.uniform(0.0, 0.30), rng.uniform(*brightness)
    contrast = rng.uniform(0.75, 0.95)
    first = _rgb_from_hsv(hue, saturation, value)
    second = _rgb_from_hsv(hue, min(1.0, saturation * rng.uniform(0.7, 1.3)), value * contrast)
    return Surface(
        pattern=patterns[rng.integers(len(patterns))],
        first=first,
        second=second,
        repeat_per_m=float(rng.uniform(0.6, 2.0)),
        seed=int(rng.integers(2**31)),
    )


def jittered(rng: np.random.Generator, rgb: Rgb) -> Rgb:
    """A colour that is a little different from every other of its name."""
    brightness = rng.uniform(0.85, 1.12)
    shifted = np.clip(np.array(rgb) * brightness + rng.normal(0.0, 0.018, 3), 0.0, 1.0)
    return float(shifted[0]), float(shifted[1]), float(shifted[2])


def _rgb_from_hsv(hue: float, saturation: float, value: float) -> Rgb:
    channel = (np.array([5.0, 3.0, 1.0]) + hue * 6) % 6
    rgb = value - value * saturation * np.clip(np.minimum(channel, 4 - channel), 0, 1)
    return float(rgb[0]), float(rgb[1]), float(rgb[2])
