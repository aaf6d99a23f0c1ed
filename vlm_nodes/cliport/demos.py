"""Demonstrations of the tabletop tasks, recorded from their scripted experts.

    cliport_demos task=put-block-in-bowl-seen-colors n=100 mode=train --workers 2 --out data

writes `data/put-block-in-bowl-seen-colors-train/000000.zip` and so on, one file an episode, named
by its seed. Training takes even seeds, validation odd ones, testing odd ones from 10001. Only
episodes in which the expert did all of the task are kept; seeds go on until there are n. Files
that are there and whole stay, so that the same command goes on where it was stopped. The same seed
gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tqdm import tqdm

from bag_tools.whole_file import write_whole
from vlm_nodes import command_line
from vlm_nodes.cliport.episode import SUFFIX, Calibration, Episode, EpisodeError, Step
from vlm_nodes.cliport.heightmap import Heightmap, View, fuse
from vlm_nodes.cliport.workspace import Workspace

if TYPE_CHECKING:
    from vlm_nodes.simulation.tabletop.cameras import Cameras, TableView
    from vlm_nodes.simulation.tabletop.tabletop import Tabletop
    from vlm_nodes.simulation.tabletop.task import Task

TEST_FROM: Final = 10001
SUCCESS: Final = 0.99
_KEYS: Final = ('task', 'n', 'mode', 'workers', 'out', 'object-dir')
# An expert that fails this often in a row is broken.
_MOST_FAILURES: Final = 50


class ExpertFailsError(ValueError):
    """The expert fails at so many seeds that there will not be enough demonstrations."""


@dataclass(frozen=True)
class Recording:
    """What came of one seed.

    Attributes:
        seed: of the table.
        content: of the episode's file; None if the expert failed.
        steps: of the episode.
        reason: why it failed.
    """

    seed: int
    content: bytes | None
    steps: int = 0
    reason: str = ''


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        folder: with the episodes.
        written: episodes made.
        kept: episodes that were there.
        failed: seeds at which the expert failed, and why.
        steps: of the episodes made.
        file_bytes: of the episodes made.
    """

    folder: Path
    written: int
    kept: int
    failed: tuple[tuple[int, str], ...]
    steps: int
    file_bytes: int


def seed_of(mode: str, index: int) -> int:
    """The seed of a mode's table number `index`: even, odd, or odd from 10001.

    Raises:
        ValueError: there is no such mode, or validation would reach the seeds of testing.
    """
    if mode == 'train':
        return 2 * index
    if mode == 'test':
        return TEST_FROM + 2 * index
    if mode != 'val':
        raise ValueError(f'mode {mode!r} is not known; the modes are: train, val, test')
    if 2 * index + 1 >= TEST_FROM:
        raise ValueError(f'validation has {TEST_FROM // 2} tables; from {TEST_FROM} on they test')
    return 2 * index + 1


def heightmap_of(views: Sequence[TableView], workspace: Workspace) -> Heightmap:
    """The fused views of a simulated table."""
    seen = [View(v.rgb, v.depth_m, v.camera, v.table_from_camera) for v in views]
    return fuse(seen, workspace)


def record(table: Tabletop, workspace: Workspace) -> tuple[Episode, bool]:
    """Let the expert play one episode.

    Args:
        table: is reset first.
        workspace: of the heightmaps.

    Returns:
        The episode, and whether all of the task was done.

    Raises:
        NothingVisibleError: the expert does not see what it should move.
    """
    table.reset()
    views = table.observe()
    cameras = tuple(Calibration(v.name, v.camera, v.table_from_camera) for v in views)
    steps = []
    done = table.is_done
    while not done:
        before = heightmap_of(views, workspace)
        pick, place, instruction = table.oracle()
        reward, done, _ = table.step(pick, place)
        steps.append(Step(before, instruction, pick, place, reward))
        views = table.observe()
    task = table.task
    episode = Episode(
        task.name,
        task.variant.mode,
        table.seed,
        tuple(steps),
        heightmap_of(views, workspace),
        cameras,
        _provenance(),
    )
    return episode, episode.total_reward > SUCCESS


@cache
def _provenance() -> dict[str, str]:
    try:
        version = metadata.version('vlm_nodes')
    except metadata.PackageNotFoundError:
        version = 'not installed'
    return {
        'made_by': 'cliport_demos',
        'vlm_nodes': version,
        'simulator': f'mujoco {metadata.version("mujoco")}',
        'comparable': 'with figures of this simulator only',
    }


def collect(
    task: Task, n: int, out: Path, workspace: Workspace, workers: int = 1, *, quiet: bool = False
) -> Summary:
    """Record n demonstrations of a task in its mode.

    Args:
        task: from `make_task`.
        n: demonstrations to end up with.
        out: the folder TASK-MODE is made here.
        workspace: of the heightmaps.
        workers: processes.
        quiet: without a progress bar.

    Raises:
        ValueError: n or workers is less than 1.
        ExpertFailsError: the expert fails again and again.
    """
    for name, value in (('n', n), ('workers', workers)):
        if value < 1:
            raise ValueError(f'{name} must be at least 1, is {value}')
    mode = task.variant.mode
    folder = out / f'{task.name}-{mode}'
    folder.mkdir(parents=True, exist_ok=True)
    written = kept = steps = file_bytes = 0
    failed: list[tuple[int, str]] = []
    seeds = (seed_of(mode, index) for index in count())
    with (
        tqdm(total=n, desc=folder.name, unit='episode', disable=quiet) as bar,
        _recorder(workers, task, workspace) as recorder,
    ):
        for recording in recorder.in_order(seeds, folder):
            if recording is None:
                kept += 1
            elif recording.content is None:
                failed.append((recording.seed, recording.reason))
                _check_failures(task, failed, written + kept)
                continue
            else:
                write_whole(_file(folder, recording.seed), recording.content)
                written, steps = written + 1, steps + recording.steps
                file_bytes += len(recording.content)
            bar.update()
            if written + kept == n:
                break
    return Summary(folder, written, kept, tuple(failed), steps, file_bytes)


def _check_failures(task: Task, failed: list[tuple[int, str]], done: int) -> None:
    if len(failed) > _MOST_FAILURES + done:
        raise ExpertFailsError(
            f'the expert of {task.name} failed at {len(failed)} of {len(failed) + done} seeds, '
            f'last at {failed[-1][0]}: {failed[-1][1]}'
        )


def _file(folder: Path, seed: int) -> Path:
    return folder / f'{seed:06d}{SUFFIX}'


def _is_whole(path: Path, task: Task, workspace: Workspace) -> bool:
    """Whether a file is an episode as this run would make it."""
    if not path.is_file():
        return False
    try:
        episode = Episode.load(path)
    except EpisodeError:
        return False
    return episode.task == task.name and episode.workspace == workspace


class _Recorder:
    """Records seeds in order, some ahead in other processes."""

    def __init__(
        self, task: Task, workspace: Workspace, pool: ProcessPoolExecutor | None, ahead: int
    ) -> None:
        self._task, self._workspace, self._pool, self._ahead = task, workspace, pool, ahead

    def in_order(self, seeds: Iterator[int], folder: Path) -> Iterator[Recording | None]:
        """A recording a seed; None where a whole file is there already."""
        waiting: deque[Future[Recording] | None] = deque()
        for seed in seeds:
            whole = _is_whole(_file(folder, seed), self._task, self._workspace)
            if self._pool is None:
                yield None if whole else _record_seed(self._task, seed, self._workspace)
                continue
            submit = self._pool.submit
            job = None if whole else submit(_record_seed, self._task, seed, self._workspace)
            waiting.append(job)
            if len(waiting) > self._ahead:
                first = waiting.popleft()
                yield None if first is None else first.result()


@contextmanager
def _recorder(workers: int, task: Task, workspace: Workspace) -> Iterator[_Recorder]:
    if workers == 1:
        try:
            yield _Recorder(task, workspace, None, 0)
        finally:
            _close_cameras()
        return
    pool = ProcessPoolExecutor(workers, get_context('spawn'), _begin_worker)
    try:
        yield _Recorder(task, workspace, pool, 2 * workers)
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    # One process a core: none of them needs more threads.
    for name in ('LP_NUM_THREADS', 'OMP_NUM_THREADS', 'NUMBA_NUM_THREADS'):
        os.environ[name] = '1'


def _record_seed(task: Task, seed: int, workspace: Workspace) -> Recording:
    from vlm_nodes.simulation.tabletop.expert import NothingVisibleError
    from vlm_nodes.simulation.tabletop.layout import NoRoomError
    from vlm_nodes.simulation.tabletop.tabletop import Tabletop

    try:
        episode, is_success = record(Tabletop(task, seed, _cameras()), workspace)
    except (NothingVisibleError, NoRoomError) as error:
        return Recording(seed, None, reason=str(error))
    if not is_success:
        reason = f'{episode.total_reward:.2f} of the task done in {len(episode.steps)} steps'
        return Recording(seed, None, len(episode.steps), reason)
    return Recording(seed, episode.to_bytes(), len(episode.steps))


@cache
def _cameras() -> Cameras:
    """This process's renderer."""
    from vlm_nodes.simulation.tabletop.cameras import Cameras

    return Cameras()


def _close_cameras() -> None:
    if _cameras.cache_info().currsize:
        _cameras().close()
        _cameras.cache_clear()


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='cliport_demos',
        description='Records demonstrations of the tabletop tasks from their scripted experts.',
        epilog='Options may also be given as KEY=VALUE: task=NAME n=100 mode=train.',
    )
    parser.add_argument('--task', help='name of a task or of a set of tasks')
    parser.add_argument('--n', type=int, default=100, help='demonstrations (default: 100)')
    parser.add_argument('--mode', default='train', help='train, val or test (default: train)')
    parser.add_argument('--workers', type=int, default=1, help='processes (default: 1)')
    parser.add_argument('--out', type=Path, default=Path('data'), help='folder (default: data)')
    parser.add_argument('--object-dir', type=Path, help='meshes for the tasks that pack objects')
    parser.add_argument('--list', action='store_true', help='list the tasks and stop')
    parser.add_argument('--json', action='store_true', help='print what was done as JSON')
    return parser.parse_args([word for given in arguments for word in _as_option(given)])


def _as_option(given: str) -> list[str]:
    key, equals, value = given.partition('=')
    if not equals or key.startswith('-'):
        return [given]
    if key.replace('_', '-') not in _KEYS:
        raise ValueError(f'{given!r}: the keys are {", ".join(_KEYS)}')
    return [f'--{key.replace("_", "-")}', value]


def _run() -> int:
    from vlm_nodes.simulation.tabletop.registry import make_task, task_names
    from vlm_nodes.simulation.tabletop.task_sets import task_set_names

    options = _options(sys.argv[1:])
    if options.list:
        command_line.say('\n'.join((*task_names(), *task_set_names())))
        return 0
    if options.task is None:
        raise ValueError('which task? give task=NAME; --list lists them')
    names = _task_names(options.task, options.mode)
    tasks = [make_task(name, mode=options.mode, object_dir=options.object_dir) for name in names]
    for task in tasks:
        _tell(collect(task, options.n, options.out, Workspace(), options.workers), options.json)
    return 0


def _task_names(name: str, mode: str) -> tuple[str, ...]:
    """The tasks of a set, or the one of that name."""
    from vlm_nodes.simulation.tabletop.task_sets import task_set, task_set_names

    return task_set(name, mode).tasks if name in task_set_names() else (name,)


def _tell(summary: Summary, as_json: bool) -> None:
    if as_json:
        command_line.say(json.dumps({**vars(summary), 'folder': str(summary.folder)}))
        return
    command_line.say(
        f'{summary.folder}: {summary.written} episodes recorded, {summary.kept} were there, '
        f'the expert failed at {len(summary.failed)} seeds'
    )
    for seed, reason in summary.failed:
        command_line.say(f'  seed {seed}: {reason}')


def main() -> None:
    """Entry point of `cliport_demos`."""
    sys.exit(command_line.run('cliport_demos', _run))


if __name__ == '__main__':
    main()
