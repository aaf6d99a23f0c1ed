"""A very small network and pictures for it, for tests."""

import numpy as np
import torch

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
