"""Compiled kernels: one place that says how numba is used here."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numba

Function = TypeVar('Function', bound=Callable[..., Any])

# Sums may be reordered so that they vectorise; NaN and infinity keep their meaning.
_FAST_MATH = {'reassoc', 'contract', 'nsz'}


def kernel(function: Function) -> Function:
    """Compile a function on first use, without the GIL, and keep the result on disk.

    Parallel loops are left to `Workers`: numba's own threading layers either end the process when
    two Python threads enter them at once (workqueue) or do not survive a fork (OpenMP), and a query
    must run beside fusion.
    """
    options = {'nogil': True, 'fastmath': _FAST_MATH, 'error_model': 'numpy'}
    try:
        compiled = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package nor the user's cache folder can be written
        compiled = numba.njit(cache=False, **options)(function)
    return cast(Function, compiled)


class Workers:
    """A few threads that run kernels side by side; safe to use from several threads at once."""

    def __init__(self, threads: int = 0) -> None:
        """Start no thread yet: they come with the first work.

        Args:
            threads: How many; 0 takes the number of cores, 4 at most.
        """
        self.count = threads if threads > 0 else min(4, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(self.count, thread_name_prefix='voxel_map')

    def map(self, function: Callable[[int], Any], jobs: Sequence[int] | range) -> list[Any]:
        """Results of `function(job)` in the order of jobs; the first error is raised."""
        if self.count == 1 or len(jobs) <= 1:
            return [function(job) for job in jobs]
        return list(self._pool.map(function, jobs))

    def map_strided(self, function: Callable[[int], Any], count: int) -> list[Any]:
        """Like `map` over range(count), with each thread taking every `self.count`-th job."""

        def stride(worker: int) -> list[Any]:
            return [function(job) for job in range(worker, count, self.count)]

        parts = self.map(stride, range(min(self.count, count)))
        results: list[Any] = [None] * count
        for worker, part in enumerate(parts):
            results[worker :: self.count] = part
        return results
