"""Changes to a training picture that keep what its labels say: place, scale, light and noise.

Hue stays, since colour words are labels, but for pictures that are recoloured on purpose.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = tuple[NDArray[np.uint8], NDArray[np.uint16]]
"""(H, W, 3) uint8 RGB and (H, W) uint16 label ids."""


@dataclass(frozen=True)
class Augmentation:
    """Ranges that changes are drawn from.

    Attributes:
        scale: zoom, smallest and largest.
        rotation_deg: largest rotation either way.
        mosaic: share of pictures made of four, each at half the size: small things in clutter.
        gamma: smallest and largest exponent of brightness.
        gain: smallest and largest factor of brightness.
        tint: largest relative change of one colour channel against the others.
        noise: largest standard deviation of pixel noise, in steps of 255.
        blur: share of pictures that are blurred, by up to one pixel and a half.
        recolour: share of pictures whose hues are turned at random; of their labels only the last
            words count ('mug' of 'red mug'), so that shapes are learned whatever their colour.
    """

    scale: tuple[float, float] = (0.7, 1.3)
    rotation_deg: float = 8.0
    mosaic: float = 0.1
    gamma: tuple[float, float] = (0.75, 1.35)
    gain: tuple[float, float] = (0.65, 1.35)
    tint: float = 0.06
    noise: float = 8.0
    blur: float = 0.2
    recolour: float = 0.0

    def __post_init__(self) -> None:
        """Check every range.

        Raises:
            ValueError: a range falls or a share is not one; the message holds it.
        """
        for name in ('scale', 'gamma', 'gain'):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f'{name} must be a rising positive range, got {(low, high)}')
        for name in ('mosaic', 'blur', 'tint', 'recolour'):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f'{name} must be between 0 and 1, got {getattr(self, name)}')
        if self.noise < 0 or self.rotation_deg < 0:
            raise ValueError(f'noise and rotation_deg must not be negative, got {self}')


def fit(picture: Picture, size: tuple[int, int]) -> Picture:
    """A picture resized to (height, width), labels by nearest."""
    rgb, labels = picture
    height, width = size
    if rgb.shape[:2] == size:
        return picture
    shrinks = rgb.shape[0] > height
    smooth = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA if shrinks else 1)
    return (
        smooth.astype(np.uint8),
        cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.uint16),
    )


def move(
    picture: Picture, size: tuple[int, int], settings: Augmentation, rng: np.random.Generator
) -> Picture:
    """Randomly zoomed, turned, shifted and mirrored; beyond its edges the picture is reflected.

    Args:
        picture: any size; it is stretched to `size` first.
        size: (height, width) of the result.
        settings: ranges.
        rng: draws from them.
    """
    rgb, labels = fit(picture, size)
    height, width = size
    low, high = np.log(settings.scale)
    zoom = float(np.exp(rng.uniform(low, high)))
    angle = rng.uniform(-settings.rotation_deg, settings.rotation_deg)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom)
    slack = abs(1 - 1 / zoom) / 2 * zoom
    matrix[:, 2] += rng.uniform(-slack, slack, 2) * (width, height)
    if rng.random() < 0.5:
        matrix[0] = -matrix[0]
        matrix[0, 2] += width - 1
    border = cv2.BORDER_REFLECT_101
    moved = cv2.warpAffine(rgb, matrix, (width, height), flags=1, borderMode=border)
    ids = cv2.warpAffine(labels, matrix, (width, height), flags=0, borderMode=border)
    return moved.astype(np.uint8), ids.astype(np.uint16)


def tile(pictures: list[Picture]) -> Picture:
    """Four pictures of one size side by side, two by two."""
    (a, b, c, d), (e, f, g, h) = zip(*pictures, strict=True)
    return np.block([[[a], [b]], [[c], [d]]]), np.block([[e, f], [g, h]])


def relight(
    rgb: NDArray[np.uint8], settings: Augmentation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Random brightness, gamma, slight tint, blur and noise: (H, W, 3) uint8 -> the same."""
    levels = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    tint = 1 + rng.uniform(-settings.tint, settings.tint, 3)
    curve = rng.uniform(*settings.gain) * tint * levels ** rng.uniform(*settings.gamma)
    table = (255 * np.clip(curve, 0, 1)).round().astype(np.uint8)
    lit = cv2.LUT(rgb, np.ascontiguousarray(table[None].transpose(1, 0, 2)))
    if rng.random() < settings.blur:
        lit = cv2.GaussianBlur(lit, (0, 0), rng.uniform(0.4, 1.5))
    sigma = rng.uniform(0, settings.noise)
    noise = rng.standard_normal(lit.shape, dtype=np.float32) * np.float32(sigma)
    noisy: NDArray[np.uint8] = np.clip(lit + noise, 0, 255).astype(np.uint8)
    return noisy


def recolour(rgb: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """All hues turned by one random angle, colourfulness changed: (H, W, 3) uint8 -> the same."""
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV).astype(np.int16)
    hsv[..., 0] = (hsv[..., 0] + rng.integers(180)) % 180  # OpenCV halves degrees
    hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0, 1.5), 0, 255)
    turned: NDArray[np.uint8] = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    return turned
