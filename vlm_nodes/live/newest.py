from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar('Item')


class NewestWorker(Generic[Item]):
    """One thread that works on the newest item of each source, the longest waiting source first.

    A slow model thus never delays whoever offers items, and never works through a backlog. One
    thread, always the same, since models are not to be run from several.
    """

    def __init__(
        self,
        work: Callable[[Item], None],
        *,
        on_error: Callable[[Exception], None],
        waiting: int = 1,
        name: str = 'worker',
    ) -> None:
        """Start the thread.

        Args:
            work: Called with one item at a time. What it raises goes to `on_error`, and the thread
                goes on.
            on_error: Called in the worker's thread.
            waiting: Items of one source that may wait; the oldest goes when one more comes. 1
                keeps just the newest.
            name: Of the thread.

        Raises:
            ValueError: `waiting` is less than 1.
        """
        if waiting < 1:
            raise ValueError(f'waiting = {waiting} is not at least 1')
        self._work = work
        self._on_error = on_error
        self._waiting = waiting
        self._queues: OrderedDict[str, deque[Item]] = OrderedDict()
        self._changed = threading.Condition()
        self._busy = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def stopping(self) -> threading.Event:
        """Set once the worker is to stop: what waits inside `work` should look at it."""
        return self._stopping

    def offer(self, source: str, item: Item) -> int:
        """Hand over an item; returns how many older ones of the source were dropped for it."""
        with self._changed:
            queue = self._queues.setdefault(source, deque())
            queue.append(item)
            dropped = max(0, len(queue) - self._waiting)
            for _ in range(dropped):
                queue.popleft()
            self._changed.notify()
            return dropped

    def clear(self) -> int:
        """Drop what waits; returns how many items that were."""
        with self._changed:
            dropped = sum(len(queue) for queue in self._queues.values())
            self._queues.clear()
            return dropped

    def idle(self) -> bool:
        """Whether nothing waits and nothing is being worked on."""
        with self._changed:
            return not self._busy and not self._queues

    def stop(self, timeout_s: float) -> bool:
        """Stop after the item at hand; returns whether the thread ended in time."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while taken := self._take():
            try:
                self._work(*taken)
            except Exception as error:  # a bad item must not end the thread
                self._on_error(error)

    def _take(self) -> tuple[Item] | tuple[()]:
        """The next item, which may be anything, as a tuple; an empty one ends the thread."""
        with self._changed:
            self._busy = False
            while not self._queues:
                if self._stopping.is_set():
                    return ()
                self._changed.wait()
            if self._stopping.is_set():
                return ()
            source, queue = self._queues.popitem(last=False)
            item = queue.popleft()
            if queue:
                self._queues[source] = queue  # behind the others that wait
            self._busy = True
            return (item,)
