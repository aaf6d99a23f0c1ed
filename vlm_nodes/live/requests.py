"""Requests one after another in a worker's thread, while whoever asked waits. No ROS."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from vlm_nodes.live.newest import NewestWorker

POLL_S: Final = 0.01
MOST_REQUESTS: Final = 2
"""One is worked on and one waits; each holds a thread of who asks."""

Answer = TypeVar('Answer')


class CancelledError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(eq=False, kw_only=True)
class Request(Generic[Answer]):
    """A question under way, and what came of it once it is done; rooms add what is asked.

    Attributes:
        asked_ns: When, on the clock of images.
        asked_s: When, on the steady clock.
        stages: That began and were not told yet.
        cancelled: Set by who asked.
        done: Set once there is an answer, or nobody waits for one.
        answer: None until then.
        stamp_ns: Of the oldest image used; 0 where there is none.
    """

    asked_ns: int
    asked_s: float
    stages: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    answer: Answer | None = None
    stamp_ns: int = 0


Asked = TypeVar('Asked', bound=Request[Any])


class Requests(Generic[Asked, Answer]):
    """Has requests worked on, `MOST_REQUESTS` at most; others are told that it is busy."""

    def __init__(
        self,
        worker: NewestWorker[Callable[[], None]],
        work: Callable[[Asked], Answer],
        log_error: Callable[[str], object],
        refuse: Callable[[str, str], Answer],
    ) -> None:
        """Work on requests.

        Args:
            worker: Whose thread works; may have other work as well.
            work: Called there. It calls `begin` or `check` now and then.
            log_error: Takes what `work` failed with, which becomes the answer.
            refuse: Makes an answer of why there is none, and of the kind of reason in a word.
        """
        self._worker, self._do, self._log_error = worker, work, log_error
        self._refuse = refuse
        self._places = threading.BoundedSemaphore(MOST_REQUESTS)

    def follow(self, request: Asked, meanwhile: Callable[[], None]) -> None:
        """Have a request worked on, until it is done or the worker ends.

        Args:
            request: Its `answer` is there afterwards, None if it was cancelled.
            meanwhile: Called again and again while waiting, and once after.
        """
        if not self._places.acquire(blocking=False):
            request.answer = self._refuse(
                f'busy: {MOST_REQUESTS} requests are under way, ask again when they are done',
                'busy',
            )
            return
        try:
            self._worker.offer(f'request {id(request)}', lambda: self._work(request))
            while not request.done.wait(POLL_S) and not self._worker.stopping.is_set():
                meanwhile()
            meanwhile()
        finally:
            self._places.release()

    def begin(self, request: Asked, stage: str) -> None:
        """Say that a stage begins. Raises CancelledError."""
        self.check(request)
        request.stages.put(stage)

    def check(self, request: Asked) -> None:
        """Raises CancelledError where nobody waits for the answer."""
        if self.is_over(request):
            raise CancelledError

    def is_over(self, request: Asked) -> bool:
        """Whether nobody waits for the answer."""
        return request.cancelled.is_set() or self._worker.stopping.is_set()

    def wait(self, request: Asked, is_so: Callable[[], bool], deadline_s: float) -> bool:
        """Wait until something is so, or a time on the steady clock. Raises CancelledError."""
        while not is_so() and time.monotonic() < deadline_s:
            self.check(request)
            time.sleep(POLL_S)
        return is_so()

    def _work(self, request: Asked) -> None:
        try:
            request.answer = self._do(request)
        except CancelledError:
            pass
        except Exception as error:  # a request must never end the thread
            said = f'{type(error).__name__}: {error}'
            self._log_error(said)
            request.answer = self._refuse(said, 'error')
        finally:
            request.done.set()
