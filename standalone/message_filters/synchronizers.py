"""Sets of messages, one of each input, that belong to one time."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from rclpy.duration import Duration

from message_filters.simple_filter import SimpleFilter
from message_filters.stamps import arrival_time, header_stamp, stamp_ns, warn_of_headerless

Queue = dict[int, Any]  # stamp in nanoseconds -> message


class TimeSynchronizer(SimpleFilter):
    """Puts out sets of messages whose stamps are equal.

    Callbacks receive one message of each input, in the order of ``fs``, and run under ``lock``.
    A message with the stamp of one that waits replaces it. The input that completes a set forgets
    what it brought with earlier stamps: it has gone past them. What the other inputs hold waits
    on, for a message that overtook its forerunners. Upstream's releases differ here: until 4.11.9
    no input forgets, from 4.11.10 all do. Inputs that come in order show no difference.

    Args:
        fs: The input filters.
        queue_size: How many messages of each input may wait; the earliest stamp leaves first.
    """

    def __init__(self, fs: Sequence[Any], queue_size: int) -> None:
        super().__init__()
        self.queue_size = queue_size
        self.lock = threading.Lock()
        self.connectInput(fs)

    def connectInput(self, fs: Sequence[Any]) -> None:
        """Take the outputs of ``fs`` as inputs, each with an empty queue of its own."""
        self.queues: list[Queue] = [{} for _ in fs]
        self.input_connections = [
            f.registerCallback(self.add, queue, index)
            for index, (f, queue) in enumerate(zip(fs, self.queues, strict=True))
        ]

    def add(self, msg: Any, my_queue: Queue, my_queue_index: int | None = None) -> None:
        """Take a message of the input whose queue is ``my_queue``; put out the set it completes.

        Raises:
            AttributeError: The message has no ``header.stamp``.
        """
        stamp = stamp_ns(msg.header.stamp)
        with self.lock:
            self._enqueue(my_queue, stamp, msg)
            if all(stamp in queue for queue in self.queues):
                self._signal_set([stamp] * len(self.queues))
                for earlier in [waiting for waiting in my_queue if waiting < stamp]:
                    del my_queue[earlier]

    def _enqueue(self, queue: Queue, stamp: int, msg: Any) -> None:
        queue[stamp] = msg
        while len(queue) > self.queue_size:
            del queue[min(queue)]

    def _signal_set(self, stamps: Sequence[int]) -> None:
        # Taken out first, so that a callback that raises is not handed the same set again.
        messages = [queue.pop(stamp) for queue, stamp in zip(self.queues, stamps, strict=True)]
        self.signalMessage(*messages)


class ApproximateTimeSynchronizer(TimeSynchronizer):
    """Puts out sets of messages whose stamps lie within ``slop`` of each other.

    Every arrival is matched with what waits, nearest stamp first; a set needs its latest and
    earliest stamps to differ by strictly less than ``slop``, so a slop of 0 never yields one.
    Messages left behind stay until the queue pushes them out.

    Args:
        fs: The input filters.
        queue_size: How many messages of each input may wait; the earliest stamp leaves first.
        slop: The greatest spread of stamps within a set, in seconds.
        allow_headerless: Whether a message without ``header.stamp`` takes the ROS time of its
            arrival. Otherwise it is dropped with a warning.
        sync_arrival_time: Whether every message takes the ROS time of its arrival.
    """

    def __init__(
        self,
        fs: Sequence[Any],
        queue_size: int,
        slop: float,
        allow_headerless: bool = False,
        sync_arrival_time: bool = False,
    ) -> None:
        self.slop = Duration(seconds=slop)
        self.allow_headerless = allow_headerless
        self.sync_arrival_time = sync_arrival_time
        super().__init__(fs, queue_size)

    def add(self, msg: Any, my_queue: Queue, my_queue_index: int | None = None) -> None:
        """Take a message of the input whose queue is ``my_queue``; put out the set it completes.

        Without ``my_queue_index`` the set need not hold the message that arrived.
        """
        stamp = self._stamp_ns(msg)
        if stamp is None:
            return
        with self.lock:
            self._enqueue(my_queue, stamp, msg)
            stamps = self._matching_stamps(stamp, my_queue_index)
            if stamps is not None:
                self._signal_set(stamps)

    def _stamp_ns(self, msg: Any) -> int | None:
        stamp = None if self.sync_arrival_time else header_stamp(msg)
        if stamp is not None:
            return stamp_ns(stamp)
        if not (self.allow_headerless or self.sync_arrival_time):
            warn_of_headerless('message_filters_approx')
            return None
        return int(arrival_time().nanoseconds)

    def _matching_stamps(self, stamp: int, index: int | None) -> list[int] | None:
        slop = self.slop.nanoseconds
        candidates: list[list[int]] = []
        for queue_index, queue in enumerate(self.queues):
            if queue_index == index:
                near = [stamp] if stamp in queue else []
            else:
                near = [waiting for waiting in queue if abs(waiting - stamp) <= slop]
                near.sort(key=lambda waiting: abs(waiting - stamp))
            if not near:
                return None
            candidates.append(near)
        return next(_combinations_within(candidates, slop), None)


def _combinations_within(
    candidates: Sequence[Sequence[int]], slop: int, chosen: tuple[int, ...] = ()
) -> Iterator[list[int]]:
    """Yield one stamp of each input, spread by less than ``slop``, earlier candidates first.

    The order is that of itertools.product, from which it differs by giving up a beginning that
    is too wide already.
    """
    if chosen and max(chosen) - min(chosen) >= slop:
        return
    if len(chosen) == len(candidates):
        yield list(chosen)
        return
    for stamp in candidates[len(chosen)]:
        yield from _combinations_within(candidates, slop, (*chosen, stamp))
