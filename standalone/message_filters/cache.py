from __future__ import annotations

from typing import Any

from rclpy.time import Time

from message_filters.simple_filter import SimpleFilter
from message_filters.stamps import arrival_time, as_time, header_stamp, warn_of_headerless


class Cache(SimpleFilter):
    """The last ``cache_size`` messages, to be looked up by time.

    Messages are kept in the order of their arrival, as upstream does, whatever their stamps.
    Times are rclpy Times, and comparing those of different clock types is a TypeError. A stamp
    that comes as a message counts as ROS time.

    Args:
        f: The filter whose output is kept.
        cache_size: How many messages to keep; the oldest arrival leaves first.
        allow_headerless: Whether a message without ``header.stamp`` is kept under the ROS time of
            its arrival. Otherwise it is dropped with a warning.
    """

    def __init__(self, f: Any, cache_size: int = 1, allow_headerless: bool = False) -> None:
        super().__init__()
        self.cache_size = cache_size
        self.cache_msgs: list[Any] = []
        self.cache_times: list[Time] = []
        self.allow_headerless = allow_headerless
        self.connectInput(f)

    def connectInput(self, f: Any) -> None:
        """Take the output of ``f`` as input."""
        self.incoming_connection = f.registerCallback(self.add)

    def add(self, msg: Any) -> None:
        """Keep a message, drop the oldest where there are too many, and pass the message on."""
        stamp = header_stamp(msg)
        if stamp is None and not self.allow_headerless:
            warn_of_headerless('message_filters_cache')
            return
        self.cache_times.append(arrival_time() if stamp is None else as_time(stamp))
        self.cache_msgs.append(msg)
        if len(self.cache_msgs) > self.cache_size:
            del self.cache_msgs[0], self.cache_times[0]
        self.signalMessage(msg)

    def getInterval(self, from_stamp: Time, to_stamp: Time) -> list[Any]:
        """Return the messages from ``from_stamp`` to ``to_stamp``, both included.

        Raises:
            AssertionError: ``from_stamp`` is later than ``to_stamp``.
        """
        if not from_stamp <= to_stamp:
            raise AssertionError(f'interval ends before it begins: {from_stamp} > {to_stamp}')
        return [
            msg
            for msg, time in zip(self.cache_msgs, self.cache_times, strict=True)
            if from_stamp <= time <= to_stamp
        ]

    def getElemAfterTime(self, stamp: Time) -> Any:
        """Return the first message at or after ``stamp``; None where there is none."""
        pairs = zip(self.cache_msgs, self.cache_times, strict=True)
        return next((msg for msg, time in pairs if time >= stamp), None)

    def getElemBeforeTime(self, stamp: Time) -> Any:
        """Return the last message at or before ``stamp``; None where there is none."""
        pairs = zip(reversed(self.cache_msgs), reversed(self.cache_times), strict=True)
        return next((msg for msg, time in pairs if time <= stamp), None)

    def getLastestTime(self) -> Time | None:
        """Return the stamp of the last message; None while empty. The name is upstream's."""
        return self.cache_times[-1] if self.cache_times else None

    def getOldestTime(self) -> Time | None:
        """Return the stamp of the first message; None while empty."""
        return self.cache_times[0] if self.cache_times else None

    def getLast(self) -> Any:
        """Return the first message at or after the last one's stamp; None while empty."""
        latest = self.getLastestTime()
        return None if latest is None else self.getElemAfterTime(latest)
