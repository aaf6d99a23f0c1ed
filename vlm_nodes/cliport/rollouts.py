"""A policy on simulated tables, closed loop: look, plan, act, until the episode is over."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.cliport.demos import heightmap_of
from vlm_nodes.cliport.heightmap import Heightmap
from vlm_nodes.cliport.policy import CliportPolicy, Plan
from vlm_nodes.cliport.poses import poses_of_labels
from vlm_nodes.cliport.workspace import Workspace

if TYPE_CHECKING:
    from vlm_nodes.simulation.tabletop.cameras import Cameras
    from vlm_nodes.simulation.tabletop.tabletop import Tabletop


class Plans(Protocol):
    """What a roll-out asks of a policy."""

    def plan(self, heightmap: Heightmap, instruction: str, count: int = 1) -> Plan:
        """Where to pick and where to place."""
        ...


@dataclass(frozen=True)
class EpisodeResult:
    """What came of one episode.

    Attributes:
        seed: Of the table.
        reward: Sum over the actions; 1 where all was done.
        success: Whether all that was asked for was done.
        steps: Actions.
        instructions: What was asked for at each action.
        picked: Name of the body that each action picked up; None where it was none.
    """

    seed: int
    reward: float
    success: bool
    steps: int
    instructions: tuple[str, ...]
    picked: tuple[str | None, ...]


@dataclass(frozen=True, eq=False)
class Action:
    """One action of a roll-out, for those who watch.

    Attributes:
        heightmap: Before it.
        instruction: What was asked for.
        plan: What the policy answered.
        pick: (4, 4) table_from_tool.
        place: (4, 4) table_from_tool.
        reward: What the action gained; NaN before it is done.
    """

    heightmap: Heightmap
    instruction: str
    plan: Plan
    pick: NDArray[np.float64]
    place: NDArray[np.float64]
    reward: float


class Watcher(Protocol):
    """Sees a roll-out."""

    def begin(self, table: Tabletop) -> None:
        """The table is set."""

    def planned(self, action: Action) -> None:
        """An action is about to be done."""

    def done(self, action: Action) -> None:
        """It is done, and gained `action.reward`."""

    def end(self, result: EpisodeResult) -> None:
        """The episode is over."""


def roll_out(
    policy: Plans,
    table: Tabletop,
    workspace: Workspace,
    watchers: Sequence[Watcher] = (),
    say: Callable[[str], str] = lambda instruction: instruction,
) -> EpisodeResult:
    """Play one episode to its end.

    Simulated tools find the height by contact, so that the poses' z is left at 0.

    Args:
        policy: That plans.
        table: Is reset first.
        workspace: Of the heightmaps, as in training.
        watchers: Told of everything.
        say: What the policy is told in place of the table's instruction.
    """
    table.reset()
    for watcher in watchers:
        watcher.begin(table)
    total, instructions, picked = 0.0, [], []
    success = False
    while not table.is_done:
        heightmap = heightmap_of(table.observe(), workspace)
        instruction = say(table.instruction)
        plan = policy.plan(heightmap, instruction)
        poses = poses_of_labels(workspace, plan.best.pick, plan.best.place)
        for watcher in watchers:
            watcher.planned(Action(heightmap, instruction, plan, *poses, np.nan))
        reward, _, info = table.step(*poses)
        for watcher in watchers:
            watcher.done(Action(heightmap, instruction, plan, *poses, reward))
        total, success = total + reward, info.is_success
        instructions.append(instruction)
        picked.append(info.picked)
    result = EpisodeResult(
        table.seed,
        round(float(total), 6),
        success,
        len(picked),
        tuple(instructions),
        tuple(picked),
    )
    for watcher in watchers:
        watcher.end(result)
    return result


@dataclass(frozen=True)
class Job:
    """An episode to play.

    Attributes:
        checkpoint: Folder of the policy.
        task: Full name.
        mode: val or test.
        seed: Of the table.
        object_dir: Meshes for the tasks that pack objects.
        device: Of torch.
        precision: Of the network.
        weights_dir: Where the weights of its CLIP are looked for.
        film: File to film it to.
        pictures: Folder for pictures of every action.
    """

    checkpoint: Path
    task: str
    mode: str
    seed: int
    object_dir: Path | None = None
    device: str = 'cpu'
    precision: str = 'fp32'
    weights_dir: Path | None = None
    film: Path | None = None
    pictures: Path | None = None


def play(job: Job) -> EpisodeResult:
    """Play an episode in this process.

    Raises:
        CheckpointError: The policy cannot be loaded.
        ValueError: There is no such task.
    """
    from vlm_nodes.cliport.record_video import Film, PictureBook
    from vlm_nodes.simulation.tabletop.registry import make_task
    from vlm_nodes.simulation.tabletop.tabletop import Tabletop

    policy = _policy(job.checkpoint, job.device, job.precision, job.weights_dir)
    task = make_task(job.task, mode=job.mode, object_dir=job.object_dir)
    watchers: list[Watcher] = []
    if job.film:
        watchers.append(Film(job.film))
    if job.pictures:
        watchers.append(PictureBook(job.pictures))
    return roll_out(policy, Tabletop(task, job.seed, _cameras()), Workspace(), watchers)


def play_all(jobs: Sequence[Job], workers: int = 1) -> Iterator[tuple[Job, EpisodeResult]]:
    """Play episodes, in order; those of one checkpoint should follow each other.

    Args:
        jobs: To play.
        workers: Processes.

    Raises:
        ValueError: workers is below 1, or a job cannot be played.
    """
    if workers < 1:
        raise ValueError(f'workers must be at least 1, got {workers}')
    if workers == 1 or len(jobs) < 2:
        yield from ((job, play(job)) for job in jobs)
        return
    pool = ProcessPoolExecutor(workers, get_context('spawn'), _begin_worker)
    waiting: deque[tuple[Job, Future[EpisodeResult]]] = deque()
    try:
        for job in jobs:
            waiting.append((job, pool.submit(play, job)))
            if len(waiting) > 2 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    # One process a core: none of them needs more threads.
    for name in ('LP_NUM_THREADS', 'OMP_NUM_THREADS', 'NUMBA_NUM_THREADS'):
        os.environ[name] = '1'
    import torch

    torch.set_num_threads(1)


@lru_cache(maxsize=1)
def _policy(
    checkpoint: Path, device: str, precision: str, weights_dir: Path | None
) -> CliportPolicy:
    return CliportPolicy.load(checkpoint, device, precision, weights_dir=weights_dir)


@cache
def _cameras() -> Cameras:
    """This process's renderer."""
    from vlm_nodes.simulation.tabletop.cameras import Cameras

    return Cameras()
