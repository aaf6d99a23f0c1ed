"""Small tileable pictures for floors, walls and tables."""

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation.room import Surface

_SIZE = 64


def surface_texture(surface: Surface) -> NDArray[np.uint8]:
    """The picture of a surface, (64, 64, 3) uint8 RGB; it can be repeated side by side.

    Raises:
        ValueError: if the pattern is not known.
    """
    rng = np.random.default_rng(surface.seed)
    share = _second_share(surface.pattern, rng)[..., None]
    grain = 1 + rng.normal(0.0, 0.02, (_SIZE, _SIZE, 1))
    rgb = (np.array(surface.first) * (1 - share) + np.array(surface.second) * share) * grain
    picture: NDArray[np.uint8] = np.clip(rgb * 255, 0, 255).astype(np.uint8)
    return picture


def _second_share(pattern: str, rng: np.random.Generator) -> NDArray[np.float64]:
    """How much of the second colour there is, (64, 64) in [0, 1]."""
    row, column = np.indices((_SIZE, _SIZE))
    half, plank = _SIZE // 2, _SIZE // 4
    if pattern == 'plain':
        return np.zeros((_SIZE, _SIZE))
    if pattern == 'tiles':
        return ((row < half) ^ (column < half)).astype(float)
    if pattern == 'planks':
        tone: NDArray[np.float64] = rng.random(4)[row // plank]
        return np.where(row % plank < 2, 1.0, tone)
    if pattern == 'speckle':
        return (rng.random((_SIZE, _SIZE)) < 0.25).astype(float)
    raise ValueError(f'unknown surface pattern {pattern!r}')
