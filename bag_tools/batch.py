"""Many bags: one after another, over processes, or over machines by an engine that exists."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from typing import Any

from bag_tools.convert import Job, convert
from bag_tools.reader import BagError, DamagedBagError, UnreadableBagError

logger = logging.getLogger(__name__)

EXECUTORS = ('local', 'ray', 'dask')
Result = dict[str, Any]
# Number of the job, messages read, messages to read.
Progress = Callable[[int, int, int], None]
_POLL_S = 0.2
_REPORT_EVERY = 50
_updates: Any = None


def run_job(job: Job, progress: Callable[[int, int], None] = lambda done, total: None) -> Result:
    """Convert one bag; what goes wrong with a bag becomes its result, so that others go on.

    Returns:
        The summary, or `bag`, `name`, `status` 'failed', `error` and `salvageable`.
    """
    try:
        return dict(convert(job, progress))
    except (BagError, OSError, MemoryError, ValueError) as error:
        salvageable = isinstance(error, (DamagedBagError, UnreadableBagError)) and not job.recover
        text = str(error) or type(error).__name__
        if salvageable:
            text += '; --recover salvages what can be had'
        return {**_failure(job, text), 'salvageable': salvageable}
    except Exception as error:  # a library's own failure must not take the other bags with it
        logger.exception('%s', job.bag)
        return _failure(job, f'{job.bag}: {type(error).__name__}: {error}')


def _failure(job: Job, text: str) -> Result:
    return {
        'bag': str(job.bag),
        'name': job.name,
        'status': 'failed',
        'error': text,
        'salvageable': False,
    }


def run_all(
    jobs: Sequence[Job], workers: int, executor: str, progress: Progress
) -> Iterator[Result]:
    """Convert bags; results come in the order of the jobs, however many run at once.

    Args:
        jobs: What to do.
        workers: Processes; 1 runs them here.
        executor: 'local', or 'ray' or 'dask', which hand the same function to a running cluster
            or, without one, to this machine.
        progress: Called as messages are read ('local' only).

    Raises:
        BagError: The executor's package is not installed.
    """
    if executor != 'local':
        yield from _ENGINES[executor](jobs, workers)
    elif workers == 1 or len(jobs) < 2:
        for number, job in enumerate(jobs):
            yield run_job(job, partial(progress, number))
    else:
        yield from _over_processes(jobs, workers, progress)


def _over_processes(jobs: Sequence[Job], workers: int, progress: Progress) -> Iterator[Result]:
    # Spawned, not forked: the libraries here hold threads and locks.
    context = multiprocessing.get_context('spawn')
    updates = context.Queue()
    with ProcessPoolExecutor(workers, context, _start_worker, (updates,)) as pool:
        futures = [pool.submit(_run_numbered, number, job) for number, job in enumerate(jobs)]
        for job, future in zip(jobs, futures, strict=True):
            while not wait([future], _POLL_S, FIRST_COMPLETED).done:
                _drain(updates, progress)
            _drain(updates, progress)
            yield _result(job, future)


def _result(job: Job, future: Future[Result]) -> Result:
    try:
        return future.result()
    except Exception as error:  # a worker that dies takes its bag's result with it
        return _failure(job, f'{job.bag}: its worker ended: {error or type(error).__name__}')


def _start_worker(updates: Any) -> None:
    global _updates
    _updates = updates


def _run_numbered(number: int, job: Job) -> Result:
    def report(done: int, total: int) -> None:
        if done % _REPORT_EVERY == 0 or done == total:
            _updates.put((number, done, total))

    return run_job(job, report)


def _drain(updates: Any, progress: Progress) -> None:
    while True:
        try:
            progress(*updates.get_nowait())
        except queue.Empty:
            return


def import_engine(name: str) -> Any:
    """The package behind an executor.

    Raises:
        BagError: It is not installed.
    """
    module, package = {'ray': ('ray', 'ray'), 'dask': ('distributed', 'dask[distributed]')}[name]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BagError(
            f'--executor {name} needs the {module} package: pip install "{package}"'
        ) from error


def _over_ray(jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    ray = import_engine('ray')
    if not ray.is_initialized():
        try:
            ray.init('auto', log_to_driver=False)
        except ConnectionError:  # there is no cluster: one of this machine's own
            ray.init('local', num_cpus=workers, log_to_driver=False)
    remote = ray.remote(num_cpus=1)(run_job)
    for reference in [remote.remote(job) for job in jobs]:
        yield ray.get(reference)


def _over_dask(jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    distributed = import_engine('dask')
    # Its workers' comings and goings are not what the user asked for.
    logging.getLogger('distributed').setLevel(logging.WARNING)
    try:
        client = distributed.get_client()
    except ValueError:
        address = importlib.import_module('dask').config.get('scheduler-address', None)
        own = {} if address else {'n_workers': workers, 'threads_per_worker': 1}
        client = distributed.Client(**own)
    with client:
        for future in [client.submit(run_job, job, pure=False) for job in jobs]:
            yield future.result()


_ENGINES = {'ray': _over_ray, 'dask': _over_dask}
