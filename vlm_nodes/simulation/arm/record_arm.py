"""Records demonstrations of the arm: real nodes on a ROS graph, an mcap bag an episode.

    record_arm --episodes 40 --out bags

Each task gets as many episodes; the scenes of a number are the same for all tasks.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from tqdm import tqdm

from vlm_nodes import command_line
from vlm_nodes.command_line import say
from vlm_nodes.graph.node import LiveGraph
from vlm_nodes.graph.processes import NodeFailedError
from vlm_nodes.simulation.arm.recorder.episode_bag import IncompleteError
from vlm_nodes.simulation.arm.recorder.node import ArmStudio
from vlm_nodes.simulation.arm.tasks import LARGEST_SEED, TASKS, check_task

_TRIES: Final = 3
# The scenes of one set are even seeds, or odd ones.
_SEED_STEP: Final = 2


@dataclass(frozen=True)
class Take:
    """An episode to record.

    Attributes:
        path: the bag's folder.
        seed: of the scene.
        task: in words.
    """

    path: Path
    seed: int
    task: str


def takes(out: Path, episodes: int, seed: int, tasks: Sequence[str]) -> list[Take]:
    """What is to be recorded: `episodes` scenes, every second seed, each with every task.

    Raises:
        ValueError: a task is not known, or a seed is out of range.
    """
    last = seed + _SEED_STEP * (episodes - 1)
    if episodes < 1:
        raise ValueError(f'--episodes must be at least 1, is {episodes}')
    if not 0 <= seed <= last <= LARGEST_SEED:
        raise ValueError(f'seeds {seed} to {last} must be from 0 to {LARGEST_SEED}')
    return [
        Take(out / f'{check_task(task).replace(" ", "_")}_{number:07d}', number, task)
        for number in range(seed, last + 1, _SEED_STEP)
        for task in tasks
    ]


def record_all(wanted: Sequence[Take], realtime_factor: float, workers: int) -> list[str]:
    """Record episodes, on several graphs at once.

    Returns:
        What is said of those that the expert did not manage, which are not written.

    Raises:
        NodeFailedError: a node ended, or does not do what it was waited for.
    """
    queue: SimpleQueue[Take] = SimpleQueue()
    for take in wanted:
        queue.put(take)
    stopping = threading.Event()
    failures: list[str] = []
    with ExitStack() as stack, tqdm(total=len(wanted), unit='episode', disable=None) as bar:
        # One after the other: each takes a ROS domain that nobody is in.
        graphs = [stack.enter_context(LiveGraph()) for _ in range(min(workers, len(wanted)))]
        pool = stack.enter_context(ThreadPoolExecutor(len(graphs)))
        stack.callback(stopping.set)

        def work(graph: LiveGraph) -> None:
            studio = ArmStudio(graph, realtime_factor)
            while not stopping.is_set() and not queue.empty():
                take = queue.get()
                if failure := _record(studio, take):
                    failures.append(failure)
                bar.update()

        for future in [pool.submit(work, graph) for graph in graphs]:
            future.result()
    return failures


def _record(studio: ArmStudio, take: Take) -> str:
    """Record one episode; returns what failed, or ''."""
    for _ in range(_TRIES):
        try:
            outcome = studio.record(take.path, take.seed, take.task)
        except IncompleteError as error:
            lost = str(error)
            continue
        return '' if outcome['success'] else f'{take.path.name}: {outcome["reason"]}'
    return f'{take.path.name}: messages were lost {_TRIES} times: {lost}'


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `record_arm`."""
    return command_line.run('record_arm', lambda: _main(_parser().parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='record_arm', description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--out', type=Path, required=True, metavar='DIR', help='folder for the bags')
    add('--episodes', type=int, default=40, metavar='N', help='of each task (default 40)')
    add(
        '--seed',
        type=int,
        default=0,
        help='of the first scene; every second one follows. Even ones below 1000000 are for '
        'training, odd ones from 1000001 on for tests (default 0)',
    )
    add('--task', action='append', metavar='TEXT', help='only this task; may be repeated')
    add('--workers', type=int, default=1, metavar='N', help='graphs at once (default 1)')
    add(
        '--realtime-factor',
        type=float,
        default=30.0,
        metavar='F',
        help='simulated seconds a second, at most (default 30)',
    )
    return parser


def _main(options: argparse.Namespace) -> int:
    if options.workers < 1:
        raise ValueError(f'--workers must be at least 1, is {options.workers}')
    if not 0.01 <= options.realtime_factor <= 100:
        raise ValueError(f'--realtime-factor must be 0.01 to 100, is {options.realtime_factor}')
    wanted = takes(options.out, options.episodes, options.seed, options.task or TASKS)
    there = [take for take in wanted if take.path.exists()]
    if there:
        raise FileExistsError(
            f'{there[0].path} exists already: give another --out, or seeds that are not there'
        )
    try:
        failures = record_all(wanted, options.realtime_factor, options.workers)
    except NodeFailedError as error:
        raise ValueError(str(error)) from error
    for failure in failures:
        say(f'not recorded: {failure}')
    say(f'{len(wanted) - len(failures)} of {len(wanted)} episodes in {options.out}')
    return 1 if failures else 0


if __name__ == '__main__':
    raise SystemExit(main())
