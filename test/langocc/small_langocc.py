"""Networks and moments that are small enough for tests."""

import numpy as np
import torch

from vlm_nodes.clip.encoder import Encoder
from vlm_nodes.clip.projection import FeatureProjection
from vlm_nodes.langocc.checkpoint import FeatureSpace, save_checkpoint
from vlm_nodes.langocc.config import LangOccConfig
from vlm_nodes.langocc.lifting import RigView
from vlm_nodes.langocc.model import LangOcc, Surround
from vlm_nodes.langocc.rays import Rays
from vlm_nodes.langocc.rendering import Sampling
from vlm_nodes.simulation.street.rig import MOUNTS
from vlm_nodes.surround import CAMERAS, VoxelGrid

GRID = VoxelGrid((-8.0, -8.0, -1.0), (8.0, 8.0, 5.4), 1.6)


def small_config(**changes):
    values = {
        'grid': GRID,
        'margin': 0,
        'image_size': (32, 64),
        'neck': 16,
        'lifted': 8,
        'trunk': (8, 16),
        'hidden': 6,
        'feature_dim': 12,
        'depth_m': (1.0, 13.0, 1.0),
        'sampling': Sampling(8, 12, 4),
    }
    return LangOccConfig.small(**values | changes)


def small_model(seed=0, **changes):
    torch.manual_seed(seed)
    return LangOcc(small_config(**changes))


def rig_of(cameras=CAMERAS, missing=()):
    return [
        None
        if name in missing
        else RigView(MOUNTS[name].camera(64, 32), MOUNTS[name].ego_from_camera)
        for name in cameras
    ]


def random_surround(batch=1, seed=0, missing=(), cameras=CAMERAS):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(batch, len(cameras), 3, 32, 64, generator=generator)
    return Surround(images, [rig_of(cameras, missing)] * batch)


def random_rays(batch=1, count=20, seed=0):
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(batch, count, 3))
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    origins = np.broadcast_to((0.0, 0.0, 1.5), directions.shape)
    return Rays(*(torch.from_numpy(a.astype(np.float32)) for a in (origins, directions)))


def save_small(folder, *, seed=0, **changes):
    """A checkpoint of a small network that was not trained, which reads texts with `tiny`."""
    encoder = Encoder.load('tiny', num_threads=1)
    samples = np.random.default_rng(0).normal(size=(50, encoder.dim))
    projection = FeatureProjection.fit(samples, 12, centred=False)
    space = FeatureSpace('tiny', None, encoder.identity, projection)
    save_checkpoint(folder, small_model(seed, **{'margin': 1} | changes), space)
    return folder
