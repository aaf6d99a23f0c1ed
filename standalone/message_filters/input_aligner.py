"""Messages of several inputs in the order of their stamps."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rclpy.duration import Duration

from message_filters.simple_filter import SimpleFilter
from message_filters.stamps import stamp_ns

NEVER_NS = 2**63 - 1


@dataclass
class QueueStatus:
    """What an input of an ``InputAligner`` is at."""

    active: bool
    queue_size: int
    msgs_processed: int
    msgs_dropped: int


class _InputQueue:
    """The messages of one input that wait, earliest first."""

    def __init__(self) -> None:
        self.period_ns = 0
        self.active = False
        self.processed = 0
        self.dropped = 0
        self._waiting: list[tuple[int, int, Any]] = []
        self._pushed = 0
        self._next_expected_ns = NEVER_NS

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, time_ns: int, msg: Any) -> None:
        # The count keeps messages of one stamp in the order of their arrival.
        heapq.heappush(self._waiting, (time_ns, self._pushed, msg))
        self._pushed += 1

    def pop(self) -> Any:
        self.processed += 1
        return heapq.heappop(self._waiting)[2]

    def first_ns(self) -> int:
        """Return the stamp of the next message: of one that waits, or of the one expected."""
        if self._waiting:
            first = self._waiting[0][0]
            self._next_expected_ns = first + self.period_ns
            self.active = True
            return first
        return self._next_expected_ns if self.active else NEVER_NS


class InputAligner(SimpleFilter):
    """Puts out the messages of several inputs, each to callbacks of its own, in order of stamps.

    A message is held until no input can be expected to bring an earlier one: an input that has
    brought messages is expected to bring the next one a period after its last, and is counted out
    once ``timeout`` worth of stamps has gone by without.

    Args:
        timeout: How far the newest stamp may run ahead of an input that is silent.
        *inputs: The input filters, one by one or as one sequence.
        filters: The input filters as a sequence.
    """

    def __init__(
        self, timeout: Duration, *inputs: Any, filters: Sequence[SimpleFilter] = ()
    ) -> None:
        super().__init__()
        self.timeout = timeout
        self.name = ''
        self.lock = threading.Lock()
        self.event_queues: list[_InputQueue] = []
        self.input_connections: list[tuple[SimpleFilter, int]] = []
        self.dispatch_timer: Any = None
        self._outputs: list[SimpleFilter] = []
        self._newest_in_ns = 0
        self._last_out_ns = 0
        if inputs or filters:
            self.connectInput(*inputs, filters=filters)

    def connectInput(self, *inputs: Any, filters: Sequence[SimpleFilter] = ()) -> None:
        """Replace the inputs, and with them what waits and the callbacks of their outputs."""
        sources = list(filters)
        for item in inputs:
            sources.extend(item if isinstance(item, Sequence) else [item])
        with self.lock:
            self.disconnectAll()
            self.event_queues = [_InputQueue() for _ in sources]
            self._outputs = [SimpleFilter() for _ in sources]
            self.input_connections = [
                (source, source.registerCallback(self.add, index))
                for index, source in enumerate(sources)
            ]

    def disconnectAll(self) -> None:
        """Stop listening to the inputs."""
        for source, connection in self.input_connections:
            source.unregisterCallback(connection)
        self.input_connections = []

    def registerCallback(  # type: ignore[override]  # upstream's signature
        self, index: int, callback: Callable[..., Any], *args: Any
    ) -> int:
        """Have ``callback`` called with every message of the input ``index``, then ``args``."""
        return self._outputs[index].registerCallback(callback, *args)

    def setName(self, name: str) -> None:
        """Name the aligner."""
        self.name = name

    def getName(self) -> str:
        """Return the aligner's name, '' unless set."""
        return self.name

    def add(self, msg: Any, queue_index: int) -> None:
        """Take a message of an input; one earlier than what has been put out is dropped."""
        time_ns = stamp_ns(msg.header.stamp)
        with self.lock:
            queue = self.event_queues[queue_index]
            if time_ns < self._last_out_ns:
                queue.dropped += 1
                return
            self._newest_in_ns = max(self._newest_in_ns, time_ns)
            queue.push(time_ns, msg)

    def setInputPeriod(self, index: int, period: Duration) -> None:
        """Tell how far apart the stamps of an input are; 0 unless set."""
        self.event_queues[index].period_ns = period.nanoseconds

    def getQueueStatus(self, index: int) -> QueueStatus:
        """Return what the input ``index`` is at."""
        queue = self.event_queues[index]
        return QueueStatus(queue.active, len(queue), queue.processed, queue.dropped)

    def setupDispatchTimer(self, node: Any, update_rate: Duration) -> None:
        """Have a timer of ``node`` dispatch every ``update_rate``."""
        period_s = update_rate.nanoseconds / 1e9
        self.dispatch_timer = node.create_timer(period_s, self.dispatchMessages)

    def dispatchMessages(self) -> None:
        """Put out every message that no earlier one can be expected to precede."""
        with self.lock:
            if not any(self.event_queues):
                return
            while self._dispatch_first():
                pass

    def _dispatch_first(self) -> bool:
        times_ns = [queue.first_ns() for queue in self.event_queues]
        first_ns = min(times_ns)
        index = times_ns.index(first_ns)
        queue = self.event_queues[index]
        if queue:
            self._last_out_ns = first_ns
            self._outputs[index].signalMessage(queue.pop())
            return True
        if self._newest_in_ns - first_ns >= self.timeout.nanoseconds:
            queue.active = False
            return True
        return False
