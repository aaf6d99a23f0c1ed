"""A small policy of every modality, and random batches for it."""

from __future__ import annotations

import torch

from vlm_nodes.sarnn.batch import JOINTS, Batch
from vlm_nodes.sarnn.config import ClipBranchConfig, DepthConfig, SarnnConfig
from vlm_nodes.sarnn.model import Sarnn
from vlm_nodes.sarnn.observation import Observation

TEXT_DIM = 6
CLIP = ClipBranchConfig('tiny', None, 'naclip', 'tiny/0/value', 5, (3, 4), None, (16, 20), 2)
CONFIG = SarnnConfig(
    joint_names=('a', 'b'),
    joint_bounds=((0.0, -1.0), (2.0, 1.0)),
    image_size=(16, 20),
    depth=DepthConfig('depth', (8, 8)),
    tactile=('gelsight1',),
    tactile_size=(8, 12),
    clip=CLIP,
    tasks=('go left', 'go right'),
    text_dim=TEXT_DIM,
    k_dim=3,
    rec_dim=10,
    stem_dim=4,
    trunk_dim=6,
)


def small_policy(seed: int = 0) -> Sarnn:
    torch.manual_seed(seed)
    return Sarnn(CONFIG)


def random_batch(batch: int = 2, ticks: int = 9, seed: int = 0) -> Batch:
    """Random inputs, some ticks not valid, the second sequence two ticks shorter."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(batch, ticks, *shape, generator=generator)

    observations = Observation(
        joints=draw(2),
        images={'color': draw(3, 16, 20)},
        depth=draw(1, 8, 8),
        tactile={'gelsight1': draw(3, 8, 12) - 0.5},
        clip={'color': draw(5, 3, 4)},
    )
    counts = {name: draw() < 0.8 for name in ('color', 'gelsight1', 'depth')}
    counts[JOINTS] = torch.ones(batch, ticks, dtype=torch.bool)
    for mask in counts.values():
        mask[1, ticks - 2 :] = False
    task = torch.randn(batch, TEXT_DIM, generator=generator)
    return Batch(observations, observations.joints, task, counts)
