"""A training step of LangOcc at published sizes, and rendering by the largest weights against all.

A step is forward, rendering of 8192 rays, loss, backward, gradient clipping and AdamW for one
moment of six 256x704 pictures, ResNet-50, 200x200x16 voxels and 512-d features; random pictures
and weights, which times and memory do not depend on. It runs in a process of its own, whose peak
resident size, with interpreter and libraries, is taken from Linux; on a GPU (`--device cuda`) the
peak is torch's.

Rendering is compared on the true occupancy of a simulated street, opaque, with a feature a class
and noise on it, seen by the pixels of its six cameras. `topk_speedup` is the time of looking
features up at all 100 samples over that at the 16 of largest weight, forward and backward, both
with hidden features decoded once a ray. `topk_error` is the mean length of the difference of the
rendered features, which are about 1 long, and `topk_error_max` the largest. `topk_speedup_512` is
against 512 numbers at every sample, as published, on an eighth of the rays.

    python benchmarks/langocc_render.py [--threads 2] [--device cpu] [--seed 0] [--quick]

Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from vlm_nodes.langocc.config import LangOccConfig
from vlm_nodes.langocc.lifting import RigView
from vlm_nodes.langocc.losses import LossWeights, ray_losses
from vlm_nodes.langocc.model import LangOcc, Surround
from vlm_nodes.langocc.rays import Rays, pixel_rays, random_pixels
from vlm_nodes.langocc.rendering import Sampling, render
from vlm_nodes.simulation.street.layout import make_street
from vlm_nodes.simulation.street.occupancy import voxelise
from vlm_nodes.simulation.street.rig import MOUNTS, random_drive
from vlm_nodes.surround import CAMERAS
from vlm_nodes.surround.occupancy import FREE

RAYS = 8192
JOBS = ('step', 'top', 'all', 'top512', 'all512')
OPAQUE = 25.0


def configuration(*, quick: bool) -> LangOccConfig:
    if not quick:
        return LangOccConfig()
    return LangOccConfig.small(feature_dim=64, hidden=16, sampling=Sampling(50, 100, 16))


def street_rays(count: int, seed: int) -> Rays:
    """Pixels of the six cameras: (1, count, 3)."""
    rng = np.random.default_rng(seed)
    parts = []
    for name in CAMERAS:
        mount = MOUNTS[name]
        camera = mount.camera(704, 396)
        pixels = random_pixels(camera, -(-count // len(CAMERAS)), rng)
        parts.append(pixel_rays(camera, mount.ego_from_camera, pixels))
    origins = torch.cat([part.origins_m for part in parts])[None, :count]
    return Rays(origins, torch.cat([part.directions for part in parts])[None, :count])


def street_volume(config: LangOccConfig, channels: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Density and unit features of a street's true occupancy."""
    street = make_street(seed, drive_m=40.0)
    drive = random_drive(seed, street.lane_y, (3.0, 8.0))
    pose = drive.street_from_ego(drive.start_ns)
    semantics = torch.from_numpy(voxelise(street.solids, config.grid, pose, 0.03).astype(np.int64))
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(FREE + 1, channels, generator=generator)
    noise = torch.randn(*config.grid.shape, channels, generator=generator)
    features = functional.normalize(classes[semantics] + 0.3 * noise, dim=-1)
    density = OPAQUE * (semantics != FREE).float()
    return density[None, None], features.permute(3, 0, 1, 2)[None].contiguous()


def rendering(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of rendering forward and backward, and what is rendered, for the comparison."""
    config = configuration(quick=options.quick)
    wide = options.job.endswith('512')
    channels = config.feature_dim if wide else config.hidden
    sampling = config.sampling
    if options.job.startswith('all'):
        sampling = replace(sampling, top=sampling.samples)
    density, features = (
        v.to(options.device).requires_grad_() for v in street_volume(config, channels, options.seed)
    )
    rays = street_rays(rays_of(options) // (8 if wide else 1), options.seed).to(options.device)
    seconds = []
    for _ in range(1 + (1 if options.quick else options.repeats)):
        start = time.perf_counter()
        seen = render(density, features, rays, config.grid, sampling)
        seen.features.square().sum().backward()
        synchronise(options)
        seconds.append(time.perf_counter() - start)
    np.save(options.save, seen.features.detach().cpu().numpy())
    return {'s': float(np.median(seconds[1:]))}


def rays_of(options: argparse.Namespace) -> int:
    return 800 if options.quick else RAYS


def synchronise(options: argparse.Namespace) -> None:
    if options.device.startswith('cuda'):
        torch.cuda.synchronize()


def step(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of a training step and the peak of memory."""
    config = configuration(quick=options.quick)
    torch.manual_seed(options.seed)
    model = LangOcc(config).to(options.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    height, width = config.image_size
    mounts = [MOUNTS[name] for name in CAMERAS]
    rig = [RigView(m.camera(width, height), m.ego_from_camera) for m in mounts]
    images = torch.rand(1, len(rig), 3, height, width, device=options.device)
    rays = street_rays(rays_of(options), options.seed).to(options.device)
    target = functional.normalize(torch.randn(1, rays_of(options), config.feature_dim), dim=-1)
    target = target.to(options.device)
    seconds, cpu_seconds = [], []
    for _ in range(1 + (1 if options.quick else options.repeats)):
        start, cpu_start = time.perf_counter(), time.process_time()
        volume = model(Surround(images, [rig]))
        seen = model.render(volume, rays, jitter=True)
        loss = ray_losses(seen, volume, target, LossWeights(), config.grid.voxel_m)['loss']
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        synchronise(options)
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    return {
        's': float(np.median(seconds[1:])),
        'cpu_s': float(np.median(cpu_seconds[1:])),
        'gb': peak_gb(options),
        'millions': millions,
    }


def peak_gb(options: argparse.Namespace) -> float:
    if options.device.startswith('cuda'):
        return torch.cuda.max_memory_allocated() / 1e9
    # Not getrusage: its maximum is inherited from the process that started this one.
    status = Path('/proc/self/status').read_text()
    return int(status.split('VmHWM:')[1].split()[0]) * 1024 / 1e9


def measure(job: str, options: argparse.Namespace, save: Path) -> dict[str, float]:
    command = [sys.executable, __file__, '--job', job, '--save', str(save)]
    for name in ('threads', 'seed', 'repeats', 'device'):
        command += [f'--{name}', str(getattr(options, name))]
    command += ['--quick'] * options.quick
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def report(options: argparse.Namespace) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        files = {job: Path(folder) / f'{job}.npy' for job in JOBS}
        found = {job: measure(job, options, files[job]) for job in JOBS}
        rendered = {job: np.load(files[job], allow_pickle=False) for job in ('top', 'all')}
    gaps = np.linalg.norm(rendered['top'] - rendered['all'], axis=-1)
    result = {
        'step_s': found['step']['s'],
        'step_cpu_s': found['step']['cpu_s'],
        'peak_gb': found['step']['gb'],
        'weights_millions': found['step']['millions'],
        'topk_speedup': found['all']['s'] / found['top']['s'],
        'topk_speedup_512': found['all512']['s'] / found['top512']['s'],
        'topk_error': float(gaps.mean()),
        'topk_error_max': float(gaps.max()),
        'render_topk_s': found['top']['s'],
        'render_all_s': found['all']['s'],
        'threads': options.threads,
        'seed': options.seed,
    }
    return {name: round(value, 5) for name, value in result.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument('--repeats', type=int, default=2, help='after one to warm up')
    parser.add_argument('--quick', action='store_true', help='a smoke run: figures mean nothing')
    parser.add_argument('--job', choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument('--save', type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.job is None:
        figures = report(options)
    else:
        figures = step(options) if options.job == 'step' else rendering(options)
    print(json.dumps(figures))


if __name__ == '__main__':
    main()
