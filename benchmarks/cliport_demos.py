"""Demonstrations on the table top: how fast they come, how small they are, how good the experts.

    python benchmarks/cliport_demos.py [--seeds 100] [--tasks NAME ...] [--quick]

The expert of every task plays the test tables of its own split (the first of a task's splits),
seeds odd from 10001, and each episode is recorded as `cliport_demos` records it: three 640x480
views before every action and at the end, fused, compressed, in memory.

    episodes_per_min_core   episodes in a minute of one core's time, the mean over tasks of a task's
                            episodes / its CPU time; the file's bytes included, disk left out
    bytes_per_step          size of all files / actions in them
    oracle_success_min      share of the seeds in which the expert does all of the task, least over
                            the tasks
    oracle_success_mean     the mean over the tasks
    success_TASK            of each task
"""

from __future__ import annotations

import os

# One core, so that its time is what is measured.
os.environ.setdefault('LP_NUM_THREADS', '1')
os.environ.setdefault('OMP_NUM_THREADS', '1')

import argparse
import json
import sys
import time
from dataclasses import dataclass

import numpy as np

from vlm_nodes.cliport.demos import record, seed_of
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.simulation.tabletop import Tabletop, make_task
from vlm_nodes.simulation.tabletop.cameras import Cameras
from vlm_nodes.simulation.tabletop.expert import NothingVisibleError
from vlm_nodes.simulation.tabletop.registry import FAMILIES


@dataclass
class Score:
    """What the seeds of one task came to."""

    seeds: int = 0
    successes: int = 0
    steps: int = 0
    file_bytes: int = 0
    cpu_s: float = 0.0


def play(name: str, seeds: int, cameras: Cameras) -> Score:
    score, task, workspace = Score(), make_task(name, mode='test'), Workspace()
    for index in range(seeds):
        started_s = time.process_time()
        score.seeds += 1
        try:
            episode, is_success = record(Tabletop(task, seed_of('test', index), cameras), workspace)
        except NothingVisibleError:
            continue
        finally:
            score.cpu_s += time.process_time() - started_s
        started_s = time.process_time()
        score.file_bytes += len(episode.to_bytes())
        score.cpu_s += time.process_time() - started_s
        score.steps += len(episode.steps)
        score.successes += is_success
    return score


def run(names: list[str], seeds: int) -> dict[str, float]:
    scores = {}
    with Cameras() as cameras:
        for name in names:
            scores[name] = score = play(name, seeds, cameras)
            print(
                f'{name}: {score.successes} of {score.seeds}, '
                f'{score.cpu_s / score.seeds:.2f} s of a core an episode',
                file=sys.stderr,
                flush=True,
            )
    shares = {name: score.successes / score.seeds for name, score in scores.items()}
    steps = sum(score.steps for score in scores.values())
    return {
        'episodes_per_min_core': float(
            np.mean([60 * score.seeds / score.cpu_s for score in scores.values()])
        ),
        'bytes_per_step': sum(score.file_bytes for score in scores.values()) / max(1, steps),
        'oracle_success_min': min(shares.values()),
        'oracle_success_mean': float(np.mean(list(shares.values()))),
        'seeds': seeds,
        'tasks': len(names),
        **{f'success_{name}': share for name, share in shares.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--seeds', type=int, default=100, help='tables of a task (default: 100)')
    parser.add_argument('--tasks', nargs='+', default=list(FAMILIES), metavar='NAME')
    parser.add_argument('--quick', action='store_true', help='a smoke run: one table of each task')
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f'--seeds {options.seeds} must be at least 1')
    figures = run(options.tasks, 1 if options.quick else options.seeds)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == '__main__':
    main()
