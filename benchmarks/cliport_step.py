"""Time, memory and size of CLIPort at full size: one answer, one step of training.

The configuration is the published one in channels and pictures: RN50 as CLIP's image tower, a
residual hourglass of 64 to 1024 channels, 320 x 160 pixels, 36 rotations of a 64 x 64 query. Unlike
the published one it has one pair of streams for pick, key and query, and turns features instead of
crops; `infer_crop_s_*` are of turned crops through the same streams. Its weights are random: the
CLIP is the architecture RN50 drawn from a seed, built here for this benchmark and for nothing else.
Latency and memory do not depend on weights.

An answer is pick and place for a new picture and a known sentence. A step is forward, both losses,
backward, gradient clipping and AdamW. Each is measured in a process of its own, whose peak resident
size, with interpreter and libraries, is taken from Linux. bf16 is autocast (`--precision bf16` of
the tools); `bf16_error` is the largest difference of its probabilities from those of fp32, as a
share of the largest one.

    python benchmarks/cliport_step.py [--threads 2] [--seed 0] [--quick]

Prints one JSON object; keys that end in `_fp32` or `_bf16` are of that precision, times without it
of the faster one. `peak_gb` is of a step at batch 1 in the faster precision.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vlm_nodes.clip.weights import build_model, find_config, make_tokenizer
from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.checkpoint import WEIGHTS_NAME, save_checkpoint
from vlm_nodes.cliport.config import ModelConfig
from vlm_nodes.cliport.losses import map_cross_entropy
from vlm_nodes.cliport.model import CliportModel
from vlm_nodes.cliport.samples import Scene

SENTENCE = 'put the red blocks in a green bowl'
SHAPE, QUICK_SHAPE = (320, 160), (64, 64)
PICK, PLACE, ANGLE = (25, 20), (30, 40), 7
JOBS = ('infer', 'infer_crop', 'train_b1', 'train_b4')
PRECISIONS = ('fp32', 'bf16')


def untrained_clip(seed: int, *, quick: bool) -> FrozenClip:
    """RN50 with random weights from a seed, named so; a thin one for smoke runs."""
    source = find_config('RN50')
    config = dict(source.config)
    if quick:
        config['vision_cfg'] = {**config['vision_cfg'], 'layers': [1, 1, 1, 1], 'width': 16}
        config['text_cfg'] = {**config['text_cfg'], 'layers': 1}
    torch.manual_seed(seed)
    return FrozenClip(
        build_model(config), make_tokenizer(config), source.preprocess, f'RN50/untrained {seed}'
    )


def untrained_model(options: argparse.Namespace) -> CliportModel:
    config = ModelConfig(
        words=tuple(sorted(SENTENCE.split())),
        query_form='crop' if options.job == 'infer_crop' else 'rotate',
    )
    if options.quick:
        config = replace(config, spatial_widths=(8,) * 5, semantic_widths=(8,) * 6, rotations=4)
    clip = untrained_clip(options.seed, quick=options.quick)
    torch.manual_seed(options.seed)
    return CliportModel(config, clip)


def random_scene(batch: int, options: argparse.Namespace) -> Scene:
    height, width = QUICK_SHAPE if options.quick else SHAPE
    generator = torch.Generator().manual_seed(options.seed)
    return Scene(
        torch.rand(batch, 3, height, width, generator=generator),
        0.1 * torch.rand(batch, height, width, generator=generator),
        torch.ones(batch, height, width, dtype=torch.bool),
    )


def precision(name: str) -> AbstractContextManager[object]:
    return torch.autocast('cpu', torch.bfloat16) if name == 'bf16' else nullcontext()


def answer(model: CliportModel, scene: Scene, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of pick and of the place for the best pick."""
    with torch.inference_mode(), precision(kind):
        seen = model.look(scene, model.embed([SENTENCE]))
        flat = int(seen.pick_logits[0].amax(dim=0).argmax())
        cell = torch.tensor([divmod(flat, seen.pick_logits.shape[-1])])
        return seen.pick_logits, model.place(seen, cell)


def trainer(model: CliportModel, scene: Scene, kind: str) -> Callable[[], None]:
    """One step of training, to be called."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    batch = len(scene.color)
    picks, places = (torch.tensor([cell] * batch) for cell in (PICK, PLACE))
    zeros = torch.zeros(batch, dtype=torch.long)
    angle = 0 if model.config.rotations <= ANGLE else ANGLE

    def step() -> None:
        with precision(kind):
            pick, place = model(scene, model.embed([SENTENCE] * batch), picks)
        loss = map_cross_entropy(pick, zeros, picks)
        loss = loss + map_cross_entropy(place, zeros + angle, places)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def job(options: argparse.Namespace) -> dict[str, float]:
    """One of `JOBS`: the median seconds and the peak of memory."""
    torch.set_num_threads(options.threads)
    model = untrained_model(options)
    kind = options.precision
    scene = random_scene(4 if options.job == 'train_b4' else 1, options)
    if options.job in ('infer', 'infer_crop'):
        model.eval()

        def work() -> object:
            return answer(model, scene, kind)
    else:
        work = trainer(model, scene, kind)
    times, cpu_times = [], []
    for _ in range(1 + (1 if options.quick else options.repeats)):
        start, cpu_start = time.perf_counter(), time.process_time()
        work()
        times.append(time.perf_counter() - start)
        cpu_times.append(time.process_time() - cpu_start)
    figures = {
        's': float(np.median(times[1:])),
        'cpu_s': float(np.median(cpu_times[1:])),
        'gb': peak_gb(),
    }
    if options.job == 'infer' and kind == 'bf16':
        figures['error'] = difference(answer(model, scene, 'fp32'), answer(model, scene, 'bf16'))
    if options.job == 'infer' and kind == 'fp32':
        figures |= sizes(model)
    return figures


def difference(exact: tuple[torch.Tensor, ...], rough: tuple[torch.Tensor, ...]) -> float:
    """Of probabilities, as a share of the largest; the worse of pick and place."""
    pairs = [
        (one.flatten().softmax(0), other.flatten().softmax(0))
        for one, other in zip(exact, rough, strict=True)
    ]
    return max(float((one - other).abs().max() / one.max()) for one, other in pairs)


def sizes(model: CliportModel) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        megabytes = {}
        for name, half in (('checkpoint_mb', False), ('checkpoint_half_mb', True)):
            save_checkpoint(model, Path(folder), half=half)
            megabytes[name] = (Path(folder) / WEIGHTS_NAME).stat().st_size / 1e6
    weights = sum(parameter.numel() for parameter in model.parameters())
    return {**megabytes, 'trained_millions': weights / 1e6}


def peak_gb() -> float:
    # Not getrusage: its maximum is inherited from the process that started this one.
    status = Path('/proc/self/status').read_text()
    return int(status.split('VmHWM:')[1].split()[0]) * 1024 / 1e9


def measure(name: str, kind: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, '--job', name, '--precision', kind]
    command += ['--threads', str(options.threads), '--seed', str(options.seed)]
    command += ['--repeats', str(options.repeats)] + ['--quick'] * options.quick
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def report(options: argparse.Namespace) -> dict[str, float]:
    result: dict[str, float] = {'threads': options.threads, 'seed': options.seed}
    names = {
        'infer': 'infer_s',
        'infer_crop': 'infer_crop_s',
        'train_b1': 'train_s_b1',
        'train_b4': 'train_s_per_sample_b4',
    }
    peaks: dict[str, dict[str, float]] = {kind: {} for kind in PRECISIONS}
    for kind in PRECISIONS:
        for name in JOBS:
            figures = measure(name, kind, options)
            samples = 4 if name == 'train_b4' else 1
            result[f'{names[name]}_{kind}'] = figures.pop('s') / samples
            result[f'{names[name].replace("_s", "_cpu_s", 1)}_{kind}'] = (
                figures.pop('cpu_s') / samples
            )
            peaks[kind][name] = figures.pop('gb')
            result |= {'bf16_error' if key == 'error' else key: v for key, v in figures.items()}
        for name, peak in peaks[kind].items():
            result[f'peak_gb_{name}_{kind}'] = peak
    for name in names.values():
        result[name] = min(result[f'{name}_{kind}'] for kind in PRECISIONS)
    faster = min(PRECISIONS, key=lambda kind: result[f'train_s_b1_{kind}'])
    result['peak_gb'] = peaks[faster]['train_b1']
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--repeats', type=int, default=3, help='after one to warm up')
    parser.add_argument('--quick', action='store_true', help='a smoke run: figures mean nothing')
    parser.add_argument('--job', choices=JOBS, help=argparse.SUPPRESS)
    parser.add_argument('--precision', choices=PRECISIONS, default='fp32', help=argparse.SUPPRESS)
    options = parser.parse_args()
    figures = job(options) if options.job else report(options)
    print(json.dumps({name: round(value, 5) for name, value in figures.items()}))


if __name__ == '__main__':
    main()
