"""Half precision, and several devices at once: two processes on the CPU stand for two GPUs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_langocc import GRID, random_rays, random_surround, small_model

from vlm_nodes.langocc import extract
from vlm_nodes.langocc.checkpoint import load_checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
OPTIONS = [
    *('--size', 'small', '--hidden', '8', '--image-size', '32', '64', '--rays', '60'),
    *('--before', '1', '--after', '1', '--batch', '1', '--lr', '5e-3', '--ema', '0.5'),
    *('--lower', '-8', '-8', '-1', '--upper', '8', '8', '5.4', '--voxel', '1.6'),
    *('--threads', '1', '--accelerator', 'cpu', '--steps', '3', '--keep-every', '1'),
]


@pytest.mark.parametrize('lift', ['push', 'pull'])
def test_half_precision_says_about_the_same(lift):
    model = small_model(lift=lift).eval()
    surround, rays = random_surround(), random_rays()
    with torch.no_grad():
        exact = model(surround)
        with torch.autocast('cpu', torch.bfloat16):
            half = model(surround)
            seen = model.render(half, rays)
    torch.testing.assert_close(half.density.float(), exact.density, atol=0.02, rtol=0.1)
    assert torch.isfinite(seen.features).all()


def test_two_devices_train_one_network_in_half_precision(street, tmp_path):
    store, out = tmp_path / 'rays', tmp_path / 'run'
    rays = ['--clip-size', '32', '--threads', '1', '--feature-dim', '16', '--rays-a-camera', '60']
    assert extract.main([str(street), '--out', str(store), *rays]) == 0
    command = [sys.executable, '-m', 'vlm_nodes.langocc.train', str(street), '--val', str(street)]
    command += ['--store', str(store), '--out', str(out), *OPTIONS]
    command += ['--devices', '2', '--precision', 'bf16']
    done = subprocess.run(
        command, cwd=REPOSITORY, env=os.environ, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-2000:]
    checkpoint = load_checkpoint(out, GRID)
    assert checkpoint.training['step'] == 3
    assert (out / 'epoch-001').is_dir()
    # Six keyframes between two: three steps are an epoch.
    assert done.stdout.count('val_loss') == 1
