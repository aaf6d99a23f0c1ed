"""What surround cameras saw at the moments that a table of captions names."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bag_tools.caption_table import CaptionRow
from bag_tools.decode import (
    COMPRESSED_IMAGE,
    IMAGE,
    DecodeError,
    color_pixels,
    is_cut_jpeg,
    is_jpeg,
)
from bag_tools.overlap_writer import jpeg_of_pixels
from bag_tools.reader import BagError, BagReader, RawMessage
from bag_tools.resample import Stamps, match_nearest
from vlm_nodes.clip_vlm.samples import Tally

NOT_NEAR: Final = 'a camera has no picture near the stamp'
UNSTAMPED: Final = 'pictures without a stamp, at their receive time'


@dataclass(frozen=True)
class Moment:
    """A row of a table, and the messages that show what it speaks of.

    Attributes:
        row: The row.
        ordinals: Of each camera's message among those of its topic, as they were received.
    """

    row: CaptionRow
    ordinals: Mapping[str, int]


@dataclass
class _Stamps:
    """Stamps of a topic's messages as they were received, in nanoseconds."""

    values: array[int]
    unstamped: int = 0


def find_moments(
    bag: BagReader,
    topics: Mapping[str, str],
    rows: Sequence[CaptionRow],
    slop_s: float,
    tally: Tally,
) -> list[Moment]:
    """The rows of which all cameras have a picture near, with the nearest of each, by time.

    Stamps alone are read.

    Args:
        bag: An open bag.
        topics: Of each camera, by its name.
        rows: Of the table.
        slop_s: Furthest that a picture's stamp may be from a row's.
        tally: Rows that are left out are counted here.

    Raises:
        BagError: A topic is not in the bag or not of pictures, or there is no picture at all.
    """
    for name, topic in topics.items():
        _check_topic(bag, name, topic)
    stamps, start_ns = _read_stamps(bag, topics)
    tally.notes[UNSTAMPED] += sum(found.unstamped for found in stamps.values())
    rows = sorted(rows, key=lambda row: row.seen.stamp_ns(start_ns))
    ticks = np.array([row.seen.stamp_ns(start_ns) for row in rows], np.int64)
    slop_ns = round(slop_s * 1e9)
    nearest = {name: _nearest(found, ticks, slop_ns) for name, found in stamps.items()}
    moments = []
    for place, row in enumerate(rows):
        ordinals = {name: int(found[place]) for name, found in nearest.items()}
        if min(ordinals.values()) < 0:
            tally.skipped[NOT_NEAR] += 1
        else:
            moments.append(Moment(row, ordinals))
    return moments


def read_moments(
    bag: BagReader, topics: Mapping[str, str], moments: Sequence[Moment]
) -> Iterator[tuple[Moment, dict[str, bytes] | str]]:
    """The pictures of moments, in the order in which the last of each comes.

    Yields:
        A moment, and a JPEG by camera, or why one of its pictures is broken.

    Raises:
        BagError: The bag is damaged in the middle.
    """
    wanted: dict[tuple[str, int], list[int]] = {}
    for place, moment in enumerate(moments):
        for name, ordinal in moment.ordinals.items():
            wanted.setdefault((topics[name], ordinal), []).append(place)
    found: dict[int, dict[str, bytes | None]] = {}
    for message, ordinal in _numbered(bag, topics):
        places = wanted.pop((message.topic, ordinal), ())
        jpeg = _jpeg(bag, message) if places else None
        for place in places:
            found.setdefault(place, {})[message.topic] = jpeg
            if len(found[place]) == len(topics):
                yield moments[place], _complete(topics, found.pop(place))
        if not wanted:
            return


def _nearest(stamps: _Stamps, ticks: Stamps, slop_ns: int) -> NDArray[np.int64]:
    """(T,) ordinal of the message nearest to each tick, -1 where none is near."""
    values = np.array(stamps.values, np.int64)
    order = np.argsort(values, kind='stable')
    match = match_nearest(values[order], ticks, slop_ns)
    found = np.full(len(ticks), -1, np.int64)
    found[match.valid] = order[match.index[match.valid]]
    return found


def _complete(
    topics: Mapping[str, str], by_topic: Mapping[str, bytes | None]
) -> dict[str, bytes] | str:
    broken = [topic for topic, jpeg in by_topic.items() if jpeg is None]
    if broken:
        return f'a picture of {", ".join(broken)} is broken'
    return {name: by_topic[topic] or b'' for name, topic in topics.items()}


def _numbered(bag: BagReader, topics: Mapping[str, str]) -> Iterator[tuple[RawMessage, int]]:
    counts = dict.fromkeys(topics.values(), 0)
    for message in bag.raw_messages(counts):
        yield message, counts[message.topic]
        counts[message.topic] += 1


def _read_stamps(bag: BagReader, topics: Mapping[str, str]) -> tuple[dict[str, _Stamps], int]:
    """The stamps by camera, and that of the first picture."""
    name_of = {topic: name for name, topic in topics.items()}
    found = {name: _Stamps(array('q')) for name in topics}
    start_ns: int | None = None
    for message in bag.raw_messages(name_of, name_of):
        stamp_ns = bag.header_stamp_ns(message)
        stamps = found[name_of[message.topic]]
        if stamp_ns == 0:
            stamps.unstamped += 1
            stamp_ns = message.receive_ns
        stamps.values.append(stamp_ns)
        start_ns = stamp_ns if start_ns is None else start_ns
    if start_ns is None:
        raise BagError(f'{bag.path} holds no picture of {", ".join(topics.values())}')
    return found, start_ns


def _check_topic(bag: BagReader, name: str, topic: str) -> None:
    pictures = [t.name for t in bag.topics.values() if t.msgtype in (IMAGE, COMPRESSED_IMAGE)]
    if topic not in pictures:
        what = f'of {bag.topics[topic].msgtype}' if topic in bag.topics else 'not there'
        raise BagError(
            f'{bag.path}: topic {topic} of camera {name} is {what}; '
            f'its pictures are {", ".join(sorted(pictures)) or "none"}'
        )


def _jpeg(bag: BagReader, message: RawMessage) -> bytes | None:
    """A picture as JPEG, as it was recorded where it is one; None where it is broken."""
    try:
        data: Any = bag.deserialize(message)
        content = bytes(data.data) if hasattr(data, 'format') else b''
        if is_jpeg(content) and not is_cut_jpeg(content):
            return content
        return jpeg_of_pixels(color_pixels(data))
    except (BagError, DecodeError):
        return None
