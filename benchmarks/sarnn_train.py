"""A training step of CLIP-SARNN: CPU seconds and peak memory, batch 5, 187 ticks, 1 thread.

Each case is a process of its own that trains on one random batch as `train_clip_sarnn` would, noise
and optimiser included. `cpu_s_per_batch` and `peak_gb` are of what EIPL's SARNN does: 64x64
images and joints, gradients through the whole sequence, every image decoded. `_default` is the same
with the defaults of `train_clip_sarnn` (windows of 64 ticks, a share of the images), `_128` has
128x128 images, all decoded, in windows of 64 ticks. Peaks are of the whole process.

    python benchmarks/sarnn_train.py [--seed 0] [--steps 3] [--quick]

Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from typing import Any

BATCH, TICKS, JOINTS = 5, 187, 8
CASES = {
    '': {'size': 64, 'tbptt': 0, 'image_share': 1.0},
    '_default': {'size': 64, 'tbptt': None, 'image_share': None},
    '_128': {'size': 128, 'tbptt': 64, 'image_share': 1.0},
}


def random_batch(size: int, ticks: int, seed: int) -> Any:
    import torch

    from vlm_nodes.sarnn import Observation
    from vlm_nodes.sarnn.batch import JOINTS as JOINTS_KEY
    from vlm_nodes.sarnn.batch import Batch

    generator = torch.Generator().manual_seed(seed)
    joints = torch.rand(BATCH, ticks, JOINTS, generator=generator)
    images = torch.rand(BATCH, ticks, 3, size, size, generator=generator)
    counts = torch.ones(BATCH, ticks, dtype=torch.bool)
    observations = Observation(joints, {'color': images})
    return Batch(observations, joints, None, {'color': counts, JOINTS_KEY: counts})


def run_case(name: str, ticks: int, steps: int, seed: int) -> dict[str, float]:
    """Train in this process; CPU seconds of a step, and the process's peak."""
    import torch
    from torch.utils.data import DataLoader

    from vlm_nodes.clip.training_backend import lightning
    from vlm_nodes.sarnn import Sarnn, SarnnConfig
    from vlm_nodes.sarnn.train_options import make_parser, training_config
    from vlm_nodes.sarnn.training import SarnnTraining

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    options, case = make_parser().parse_args(['--tag', 'benchmark']), CASES[name]
    for key in ('tbptt', 'image_share'):
        if case[key] is not None:
            setattr(options, key, case[key])
    names = tuple(f'joint{n}' for n in range(JOINTS))
    size = int(case['size'] or 0)
    config = SarnnConfig(names, ((0.0,) * JOINTS, (1.0,) * JOINTS), image_size=(size, size))
    seconds: list[float] = []

    class Clock(lightning.Callback):  # type: ignore[misc]
        def on_train_batch_start(self, *_: Any) -> None:
            self.begin = time.process_time()

        def on_train_batch_end(self, *_: Any) -> None:
            seconds.append(time.process_time() - self.begin)

    trainer = lightning.Trainer(
        accelerator='cpu',
        devices=1,
        max_epochs=1,
        callbacks=[Clock()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    # The first step makes what the others find made.
    data = [random_batch(size, ticks, seed)] * (1 + steps)
    module = SarnnTraining(Sarnn(config), training_config(options, steps=1000))
    trainer.fit(module, DataLoader(data, batch_size=None))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {'cpu_s_per_batch': statistics.median(seconds[1:]), 'peak_gb': peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--steps', type=int, default=3, help='steps timed, after one that is not')
    parser.add_argument('--quick', action='store_true', help='few ticks; the figures mean nothing')
    parser.add_argument('--case', choices=sorted(CASES), help='run one case in this process')
    options = parser.parse_args()
    ticks, steps = (6, 1) if options.quick else (TICKS, options.steps)
    if options.case is not None:
        logging.getLogger('lightning.pytorch').setLevel(logging.ERROR)
        warnings.filterwarnings('ignore')
        print(json.dumps(run_case(options.case, ticks, steps, options.seed)))
        return
    figures: dict[str, float] = {}
    for name in CASES:
        command = [sys.executable, __file__, '--seed', str(options.seed), '--steps', str(steps)]
        command += ['--case', name, *(['--quick'] if options.quick else [])]
        environment = os.environ | {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        said = json.loads(done.stdout.splitlines()[-1])
        figures |= {f'{key}{name}': round(value, 3) for key, value in said.items()}
    print(json.dumps(figures | {'ticks': ticks, 'batch': BATCH, 'threads': 1}))


if __name__ == '__main__':
    main()
