"""A very small network, pictures for it, and slow forms of what it computes, for tests."""

import numpy as np
import torch
from scipy import ndimage

from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.config import ModelConfig
from vlm_nodes.cliport.model import CliportModel
from vlm_nodes.cliport.samples import Sample, Scene

SENTENCE = 'put the red block in a green bowl'


def small_config(**changes) -> ModelConfig:
    sizes = {
        'rotations': 4,
        'crop_px': 32,
        'output_stride': 2,
        'spatial_widths': (8, 8, 8, 8),
        'semantic_widths': (8, 8, 8, 8, 8),
        'norm_groups': 4,
        'language_width': 8,
        'phrases': 2,
        'words': ('block', 'red'),
    }
    return ModelConfig(**{**sizes, **changes})


def small_model(clip: FrozenClip, seed: int = 0, **changes) -> CliportModel:
    """In evaluation mode; the language layers, which begin as zero, are made to count."""
    torch.manual_seed(seed)
    model = CliportModel(small_config(**changes), clip).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if '.language.' in name:
                parameter.normal_(0, 0.3)
    return model


def picture(shape=(64, 96), seed=0):
    """Colour, height and what was seen, of noise in patches."""
    rng = np.random.default_rng(seed)
    rows, columns = -(-shape[0] // 8), -(-shape[1] // 8)
    color = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    height = rng.uniform(0, 0.1, (rows, columns)).astype(np.float32).repeat(8, 0).repeat(8, 1)
    seen = rng.random((rows, columns)).repeat(8, 0).repeat(8, 1) > 0.1
    whole = color * seen[..., None], height * seen, seen
    return tuple(part[: shape[0], : shape[1]] for part in whole)


def scene(shape=(64, 96), seeds=(0,)) -> Scene:
    return Scene.of([picture(shape, seed) for seed in seeds])


def sample(shape=(64, 96), seed=0, **changes) -> Sample:
    labels = {'instruction': SENTENCE, 'pick': (20.0, 30.0), 'place': (40.0, 70.0)}
    return Sample(*picture(shape, seed), **{**labels, **changes})


def direct_correlation(key: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """What `correlate` documents, term by term: (B, C, H, W), (B, K, C, S, S) -> (B, K, h, w)."""
    size = queries.shape[-1]
    height, width = key.shape[-2] - size, key.shape[-1] - size
    scores = np.zeros((*queries.shape[:2], height, width))
    for b, k, y, x in np.ndindex(scores.shape):
        scores[b, k, y, x] = (key[b, :, y : y + size, x : x + size] * queries[b, k]).sum()
    return scores


def turned_windows(
    maps: np.ndarray, centre: tuple[float, float], count: int, offsets: np.ndarray
) -> np.ndarray:
    """Windows of (C, H, W) maps about a place, one turn after the other: (K, C, S, S).

    What the maps have at an offset u from the centre (row, column), window k has at u turned by
    k 2 pi / K from columns (x) to rows (y); `offsets` are those of the window's rows and columns.
    """
    down, right = np.meshgrid(offsets, offsets, indexing='ij')
    windows = []
    for k in range(count):
        back = -k * 2 * np.pi / count
        x = np.cos(back) * right - np.sin(back) * down
        y = np.sin(back) * right + np.cos(back) * down
        places = [y + centre[0], x + centre[1]]
        windows.append(
            [ndimage.map_coordinates(m, places, order=1, mode='grid-constant') for m in maps]
        )
    return np.array(windows)
