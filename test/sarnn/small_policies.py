"""Small policies of every kind and random inputs for them, from explicit seeds."""

import torch

from vlm_nodes.sarnn import (
    ClipBranchConfig,
    DepthConfig,
    Observation,
    Sarnn,
    SarnnConfig,
    TextConfig,
)

CLIP = ClipBranchConfig('tiny', None, 'naclip', 'tiny/0/naclip', 16, (4, 6), None, (24, 36), 3)
TEXT = TextConfig('tiny', None, 'tiny/0')
TEXT_DIM = 12


def config(**changes):
    given = {
        'joint_names': ('base', 'shoulder', 'elbow'),
        'joint_bounds': ((-1.0, -2.0, 0.0), (1.0, 2.0, 3.0)),
        'image_size': (16, 24),
        'k_dim': 4,
        'rec_dim': 16,
    }
    return SarnnConfig(**given | changes)


def everything(**changes):
    given = {
        'cameras': ('color', 'wrist'),
        'depth': DepthConfig(size=(8, 12)),
        'tactile': ('gelsight1', 'gelsight2'),
        'tactile_size': (12, 16),
        'clip': CLIP,
        'tasks': ('reach the red ball', 'reach the blue ball'),
        'text_dim': TEXT_DIM,
    }
    return config(**given | changes)


def policy(made, seed=0):
    torch.manual_seed(seed)
    return Sarnn(made)


def observation(made, *leading, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*leading, *shape, generator=generator)

    clip = made.clip
    return Observation(
        joints=draw(made.joint_dim),
        images={name: draw(3, *made.image_size) for name in made.cameras},
        depth=draw(1, *made.depth.size) if made.depth else None,
        tactile={name: draw(3, *made.tactile_size) - 0.5 for name in made.tactile},
        clip={name: draw(clip.dim, *clip.grid) - 0.5 for name in made.cameras} if clip else {},
    )


def task(made, batch, seed=0):
    if not made.text_dim:
        return None
    generator = torch.Generator().manual_seed(seed)
    texts = torch.randn(batch, made.text_dim, generator=generator)
    return torch.nn.functional.normalize(texts, dim=1)
