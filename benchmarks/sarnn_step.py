"""A tick of the policy in closed loop: batch 1, one thread, the next image decoded, without CLIP.

Half of each input is the model's own prediction, so that all that a closed loop does is done. Times
are CPU time of the thread, since other work on the machine is no property of the policy; wall times
come beside them. The reference has the layers and sizes of the published SARNN (34,515 numbers with
5 keypoints and 8 joints), untrained, in the same run.

    python benchmarks/sarnn_step.py [--steps 10000] [--seed 0] [--quick]

Prints one JSON object: p99_over_median and rss_growth_mb are the worse of both image sizes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vlm_nodes.sarnn import ClipBranchConfig, DepthConfig, Observation, Sarnn, SarnnConfig

JOINTS, KEYPOINTS, TEXT_DIM, MEASURED = 8, 8, 128, 0.5
CLIP = ClipBranchConfig('tiny', None, 'naclip', 'tiny', TEXT_DIM, (16, 16), None, (64, 64))
FULL = {
    'clip': CLIP,
    'text_dim': TEXT_DIM,
    'tactile': ('gelsight1', 'gelsight2'),
    'depth': DepthConfig(),
}
MIB = 2**20


class Published(nn.Module):
    """Layers and sizes of the published SARNN: unpadded convolutions over whole images."""

    def __init__(self, side: int, k: int = 5, hidden: int = 50) -> None:
        super().__init__()
        self.points, self.features = (self._convolutions([3, 16, 32, k]) for _ in range(2))
        self.decoder = nn.Sequential(
            *(
                layer
                for a, b in ((k, 32), (32, 16), (16, 3))
                for layer in (nn.ConvTranspose2d(a, b, 3), nn.LeakyReLU(0.3))
            )
        )
        self.cell = nn.LSTMCell(JOINTS + 2 * k, hidden)
        self.to_joints, self.to_points = nn.Linear(hidden, JOINTS), nn.Linear(hidden, 2 * k)
        places = torch.linspace(0, 1, side - 6)
        self.register_buffer('grid', torch.cartesian_prod(places, places))

    @staticmethod
    def _convolutions(channels: list[int]) -> nn.Sequential:
        pairs = pairwise(channels)
        return nn.Sequential(
            *(layer for a, b in pairs for layer in (nn.Conv2d(a, b, 3), nn.LeakyReLU(0.3)))
        )

    def forward(
        self, image: Tensor, joints: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """(1, 3, S, S) and (1, P) -> the next ones, and the state."""
        maps = self.points(image)
        keys = functional.softmax(maps.flatten(2) / 1e-4, dim=-1) @ self.grid
        hidden, cell = self.cell(torch.cat([keys.flatten(1), joints], 1), state)
        predicted = self.to_points(hidden).unflatten(1, (-1, 2))
        distance = (predicted[:, :, None] - self.grid).square().sum(-1)
        window = torch.exp(-distance / 0.1).view_as(maps)
        return (
            self.decoder(window * self.features(image)),
            self.to_joints(hidden),
            (hidden, cell),
        )


def policy_ticks(seed: int, side: int, **changes: object) -> Callable[[], None]:
    """What runs one tick of a policy after the last."""
    torch.manual_seed(seed)
    bounds = ((0.0,) * JOINTS, (1.0,) * JOINTS)
    names = tuple(f'joint_{i}' for i in range(JOINTS))
    config = SarnnConfig(names, bounds, image_size=(side, side), k_dim=KEYPOINTS, **changes)
    model = Sarnn(config).eval()
    clip, depth = config.clip, config.depth
    seen = Observation(
        joints=torch.rand(1, JOINTS),
        images={'color': torch.rand(1, 3, side, side)},
        depth=torch.rand(1, 1, *depth.size) if depth else None,
        tactile={name: torch.rand(1, 3, *config.tactile_size) for name in config.tactile},
        clip={'color': torch.randn(1, clip.dim, *clip.grid)} if clip else {},
    )
    task = torch.randn(1, config.text_dim) if config.text_dim else None
    state = model.initial_state(1)

    def tick() -> None:
        nonlocal state
        _, state = model.step(seen, task, state, measured=MEASURED)

    return tick


def published_ticks(seed: int, side: int) -> Callable[[], None]:
    """The same of the published layers."""
    torch.manual_seed(seed)
    model = Published(side).eval()
    seen, measured = torch.rand(1, 3, side, side), torch.rand(1, JOINTS)
    state, image, joints = (torch.zeros(1, 50), torch.zeros(1, 50)), seen, measured

    def tick() -> None:
        nonlocal state, image, joints
        fed = MEASURED * seen + (1 - MEASURED) * image
        image, joints, state = model(fed, MEASURED * measured + (1 - MEASURED) * joints, state)

    return tick


def resident_mb() -> float:
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * 4096 / MIB


def measure(tick: Callable[[], None], steps: int) -> dict[str, float]:
    for _ in range(max(steps // 10, 5)):
        tick()
    cpu, wall = np.empty(steps), np.empty(steps)
    before = resident_mb()
    for i in range(steps):
        wall_start, cpu_start = time.perf_counter(), time.thread_time()
        tick()
        cpu[i], wall[i] = time.thread_time() - cpu_start, time.perf_counter() - wall_start
    return {
        'ms': 1e3 * float(np.median(cpu)),
        'p99': 1e3 * float(np.quantile(cpu, 0.99)),
        'wall': 1e3 * float(np.median(wall)),
        'wall_p99': 1e3 * float(np.quantile(wall, 0.99)),
        'growth_mb': resident_mb() - before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--steps', type=int, default=10_000)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--quick', action='store_true', help='a smoke run: figures mean nothing')
    options = parser.parse_args()
    torch.set_num_threads(1)
    steps = 20 if options.quick else options.steps
    short = max(steps // 10, 10)
    with torch.inference_mode():
        small, large = (measure(policy_ticks(options.seed, side), steps) for side in (64, 128))
        clip = measure(policy_ticks(options.seed, 64, clip=CLIP, text_dim=TEXT_DIM), short)
        full = measure(policy_ticks(options.seed, 64, **FULL), short)
        published = [measure(published_ticks(options.seed, side), short) for side in (64, 128)]
    result = {
        'ms_64': small['ms'],
        'ms_128': large['ms'],
        'p99_over_median': max(run['p99'] / run['ms'] for run in (small, large)),
        'rss_growth_mb': max(run['growth_mb'] for run in (small, large)),
        'wall_ms_64': small['wall'],
        'wall_ms_128': large['wall'],
        'wall_p99_over_median': max(run['wall_p99'] / run['wall'] for run in (small, large)),
        'ms_64_cached_clip': clip['ms'],
        'ms_64_cached_clip_touch_depth': full['ms'],
        'published_ms_64': published[0]['ms'],
        'published_ms_128': published[1]['ms'],
        'steps': steps,
        'threads': torch.get_num_threads(),
        'seed': options.seed,
    }
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == '__main__':
    main()
