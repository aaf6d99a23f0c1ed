"""What a bag holds and how well: counts, rates, gaps, clock jumps and damage of each topic."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bag_tools.reader import BagError, BagReader, RawMessage, Topic
from bag_tools.settings import ClockSettings
from bag_tools.stamps import count_gaps, find_jumps

_JUMP_S = ClockSettings.jump_s


@dataclass(frozen=True)
class TopicHealth:
    """One topic as it was read.

    Times are those of the headers where messages have one, else of receipt.

    Attributes:
        name: The topic.
        msgtype: Its type.
        claimed: Messages that the bag says it holds.
        read: Messages that could be read.
        rate_hz: Messages a second from the first to the last; None below two messages.
        longest_gap_s: The longest interval; None below two messages.
        gaps: Intervals of more than 1.5 times the usual one: a message or more is missing.
        out_of_order: Stamps before the one of a message that was received before.
        jumps: Jumps of the header clock, as the converter counts them.
        skew_median_s: Median of header stamp less receive time; None without headers.
        skew_spread_s: Central 90 % of it; None without headers.
        first_ns: Earliest stamp; None without messages.
        last_ns: Latest stamp; None without messages.
    """

    name: str
    msgtype: str
    claimed: int
    read: int
    rate_hz: float | None = None
    longest_gap_s: float | None = None
    gaps: int = 0
    out_of_order: int = 0
    jumps: int = 0
    skew_median_s: float | None = None
    skew_spread_s: float | None = None
    first_ns: int | None = None
    last_ns: int | None = None


@dataclass(frozen=True)
class BagHealth:
    """A bag as it was read.

    Attributes:
        path: The bag.
        duration_s: From the first message received to the last, as the bag claims.
        topics: Each topic, by name.
        damage: One line for each thing that is broken or missing; empty for a whole bag.
    """

    path: Path
    duration_s: float
    topics: tuple[TopicHealth, ...]
    damage: tuple[str, ...]


def examine(bag: BagReader, messages: Iterable[RawMessage] | None = None) -> BagHealth:
    """Read a bag from end to end and say how well it is.

    A bag that is damaged in the middle is examined up to there. Messages are not deserialised, so
    that types without a definition count as well.

    Args:
        bag: An open bag.
        messages: All of its raw messages, where a progress bar is to go around them.
    """
    receive = {name: array('q') for name in bag.topics}
    header = {name: array('q') for name in bag.topics if bag.has_header(name)}
    damage = [f'recovered: {text}' for text in bag.recovery]
    try:
        for message in bag.raw_messages() if messages is None else messages:
            receive[message.topic].append(message.receive_ns)
            if message.topic in header:
                header[message.topic].append(bag.header_stamp_ns(message))
    except BagError as error:
        damage.append(str(error))
    damage += bag.problems
    topics = tuple(
        _topic_health(bag.topics[name], receive[name], header.get(name))
        for name in sorted(bag.topics)
    )
    return BagHealth(bag.path, bag.duration_s, topics, tuple(damage))


def unreadable(path: Path, error: BagError) -> BagHealth:
    """The health of a bag that cannot even be opened."""
    return BagHealth(path, 0.0, (), (str(error),))


def _topic_health(
    topic: Topic, receive_ns: array[int], header_ns: array[int] | None
) -> TopicHealth:
    receive = np.frombuffer(receive_ns, dtype=np.int64)
    if header_ns is None:
        figures = _intervals(receive)
    else:
        header = np.frombuffer(header_ns, dtype=np.int64)
        figures = {**_intervals(header), **_clock(header, receive[: len(header)])}
    return TopicHealth(topic.name, topic.msgtype, topic.claimed, len(receive), **figures)  # type: ignore[arg-type]


def _intervals(stamps: NDArray[np.int64]) -> dict[str, float | int | None]:
    if not len(stamps):
        return {}
    ends = {'first_ns': int(stamps.min()), 'last_ns': int(stamps.max())}
    if len(stamps) < 2:
        return dict(ends)
    in_order = np.sort(stamps)
    steps = np.diff(in_order).astype(np.float64) / 1e9
    mean = float(steps.mean())
    return {
        **ends,
        'rate_hz': 1 / mean if mean > 0 else None,
        'longest_gap_s': float(steps.max()),
        'gaps': count_gaps(in_order),
    }


def _clock(header: NDArray[np.int64], receive: NDArray[np.int64]) -> dict[str, float | int | None]:
    if not len(header):
        return {}
    jumps, _ = find_jumps(header, receive, _JUMP_S)
    low, middle, high = np.percentile((header - receive) / 1e9, [5, 50, 95])
    return {
        'out_of_order': int((header < np.maximum.accumulate(header)).sum()),
        'jumps': jumps,
        'skew_median_s': float(middle),
        'skew_spread_s': float(high - low),
    }
