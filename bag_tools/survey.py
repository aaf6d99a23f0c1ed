"""The first pass over a bag: every stream's stamps and numbers, and no images held."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from bag_tools.decode import COMPRESSED_IMAGE, IMAGE, DecodeError
from bag_tools.images import ImageMaker
from bag_tools.joints import JOINT_TYPES, NumberSeries, NumbersError, field_values, joint_values
from bag_tools.reader import BagError, BagReader, RawMessage, Topic, UnreadableBagError
from bag_tools.settings import Settings, StreamSettings
from bag_tools.stamps import GAP_FACTOR, StreamStamps, sort_stamps

TYPES_BY_KIND = {
    'color': (IMAGE, COMPRESSED_IMAGE),
    'depth': (IMAGE, COMPRESSED_IMAGE),
    'joints': JOINT_TYPES,
}


# Spread of a stream's skew from which on its clock drifts.
_DRIFT_S = 0.1
# Header stamps of two streams may lie as differently against receipt; more is no latency.
_CLOCKS_APART_S = 0.5


@dataclass
class SurveyedStream:
    """What the first pass knows of one stream.

    Attributes:
        name: Its name in the output.
        settings: Its settings.
        topic: The topic chosen.
        use: 'header' or 'receive': which stamps it goes by.
        maker: For images.
        series: For numbers.
        stamped: Its usable stamps, once the pass is over.
        bad: Ordinals of messages that could not be decoded, so far.
    """

    name: str
    settings: StreamSettings
    topic: Topic
    use: str
    maker: ImageMaker | None = None
    series: NumberSeries | None = None
    header_ns: array[int] = field(default_factory=lambda: array('q'))
    receive_ns: array[int] = field(default_factory=lambda: array('q'))
    stamped: StreamStamps | None = None
    bad: dict[int, str] = field(default_factory=dict)

    @property
    def stamps(self) -> StreamStamps:
        """Its usable stamps."""
        if self.stamped is None:
            raise RuntimeError(f'{self.name} has not been surveyed to the end')
        return self.stamped

    def stamp_of(self) -> NDArray[np.int64]:
        """(N,) int64 stamp of each message by its ordinal, -1 for those that are not used."""
        stamps = np.full(len(self.header_ns), -1, dtype=np.int64)
        stamps[self.stamps.order] = self.stamps.stamps
        return stamps


@dataclass
class Survey:
    """What the first pass over a bag found.

    Attributes:
        streams: By name, in the order of the settings.
        absent: Streams that the bag does not have, and why.
        problems: What is wrong, in sentences.
        recovery: What salvage did.
        topics: All topics of the bag.
        read: Messages read of each topic that is used.
        duration_s: From the bag's first message to its last.
    """

    streams: dict[str, SurveyedStream]
    absent: dict[str, str]
    topics: dict[str, Topic]
    duration_s: float
    problems: list[str] = field(default_factory=list)
    recovery: tuple[str, ...] = ()
    read: dict[str, int] = field(default_factory=dict)


def survey(
    bag: BagReader, settings: Settings, progress: Callable[[int], None] = lambda count: None
) -> Survey:
    """Read a bag once for stamps and numbers.

    Args:
        bag: An open bag.
        settings: Streams wanted.
        progress: Called with the number of messages read since the last call.

    Raises:
        BagError: A required stream is absent, a topic is of the wrong type, or a stream is of no
            use: none of its images can be decoded, or none of its stamps is set.
        DamagedBagError: The bag is damaged in the middle.
    """
    streams, absent = _find_streams(bag, settings)
    found = Survey(streams, absent, dict(bag.topics), bag.duration_s, recovery=bag.recovery)
    by_topic: dict[str, list[SurveyedStream]] = {}
    for stream in streams.values():
        by_topic.setdefault(stream.topic.name, []).append(stream)
    headed = {topic: bag.has_header(topic) for topic in by_topic}
    heads: set[str] = set()
    for message in bag.raw_messages(by_topic, heads):
        stamp = bag.header_stamp_ns(message) if headed[message.topic] else message.receive_ns
        for stream in by_topic[message.topic]:
            _take(bag, stream, message, stamp)
        if all(s.maker is not None and s.maker.shape for s in by_topic[message.topic]):
            # Of images nothing but stamps is needed any more.
            heads.add(message.topic)
        progress(1)
    if bag.problems and not bag.recover:
        raise UnreadableBagError('; '.join(bag.problems))
    for stream in streams.values():
        _finish(bag, stream, settings, found)
        found.read[stream.topic.name] = len(stream.header_ns)
    found.problems.extend(_clocks_apart(list(streams.values())))
    found.problems.extend(bag.problems)
    return found


def _find_streams(
    bag: BagReader, settings: Settings
) -> tuple[dict[str, SurveyedStream], dict[str, str]]:
    streams: dict[str, SurveyedStream] = {}
    absent: dict[str, str] = {}
    for name, wanted in settings.streams.items():
        topic, reason = _find_topic(bag, wanted)
        if topic is None:
            absent[name] = reason
            continue
        _check_type(bag, name, wanted, topic)
        streams[name] = SurveyedStream(name, wanted, topic, wanted.stamp or settings.clock.stamp)
        if wanted.is_image:
            streams[name].maker = ImageMaker(wanted)
        else:
            streams[name].series = NumberSeries()
    _check_needed(bag, settings, streams, absent)
    return streams, absent


def _find_topic(bag: BagReader, wanted: StreamSettings) -> tuple[Topic | None, str]:
    silent = []
    for pattern in wanted.topics:
        for name in sorted(bag.topics):
            if fnmatchcase(name, pattern):
                if bag.topics[name].claimed:
                    return bag.topics[name], ''
                silent.append(name)
    if silent:
        return None, f'{", ".join(silent)} holds no messages'
    more = f' (nor {len(wanted.topics) - 1} others)' if len(wanted.topics) > 1 else ''
    return None, f'no topic {wanted.topics[0]}{more}'


def _check_type(bag: BagReader, name: str, wanted: StreamSettings, topic: Topic) -> None:
    types = TYPES_BY_KIND.get(wanted.kind)
    if types and topic.msgtype not in types:
        raise BagError(
            f'{bag.path}: stream {name} is of kind {wanted.kind}, but {topic.name} is of type '
            f'{topic.msgtype}, not {" or ".join(types)}'
        )


def _check_needed(
    bag: BagReader,
    settings: Settings,
    streams: dict[str, SurveyedStream],
    absent: dict[str, str],
) -> None:
    needed = {name for name, wanted in settings.streams.items() if wanted.required}
    if settings.clock.reference:
        needed.add(settings.clock.reference)
    missing = [f'{name}: {absent[name]}' for name in sorted(needed) if name in absent]
    if missing or not streams:
        why = '; '.join(missing or [f'{name}: {reason}' for name, reason in absent.items()])
        has = ', '.join(f'{t.name} ({t.claimed} {t.msgtype})' for t in bag.topics.values())
        raise BagError(
            f'{bag.path} lacks what the configuration needs ({why}); it has {has or "no topics"}. '
            '--scaffold writes a configuration from what a bag has'
        )


def _take(bag: BagReader, stream: SurveyedStream, message: RawMessage, stamp_ns: int) -> None:
    ordinal = len(stream.header_ns)
    stream.header_ns.append(stamp_ns)
    stream.receive_ns.append(message.receive_ns)
    try:
        if stream.maker is not None:
            if stream.maker.shape is None:
                stream.maker.learn(bag.deserialize(message))
        elif stream.series is not None:
            stream.series.add(ordinal, *_numbers(stream.settings, bag.deserialize(message)))
    except (BagError, DecodeError, NumbersError) as error:
        stream.bad[ordinal] = str(error)


def _numbers(settings: StreamSettings, data: object) -> tuple[tuple[str, ...], list[float]]:
    if settings.kind == 'joints':
        return joint_values(data, settings.values)
    return field_values(data, settings.fields)


def _finish(bag: BagReader, stream: SurveyedStream, settings: Settings, found: Survey) -> None:
    header = np.frombuffer(stream.header_ns, dtype=np.int64)
    receive = np.frombuffer(stream.receive_ns, dtype=np.int64)
    clock = settings.clock
    stream.stamped = sort_stamps(header, receive, use=stream.use, jump_s=clock.jump_s)
    _shift(stream.stamped, round(stream.settings.offset_s * 1e9))
    report, name = stream.stamped.report, f'{stream.name} ({stream.topic.name})'
    if len(header) and not report.used:
        raise BagError(
            f'{bag.path}: no message of {name} has its stamp set; use stamp: receive for it'
        )
    empty = stream.maker is not None and stream.maker.shape is None
    if empty or (stream.series is not None and not stream.series.names):
        first = next(iter(stream.bad.values()), 'there is none')
        raise BagError(f'{bag.path}: none of the {len(header)} messages of {name} is good: {first}')
    if report.jumps and clock.jumps == 'refuse':
        raise BagError(f'{bag.path}: the header clock of {name} jumps {report.jumps} times')
    found.problems.extend(f'{name}: {text}' for text in _complaints(stream))


def _shift(stamped: StreamStamps, offset_ns: int) -> None:
    if offset_ns:
        stamped.stamps[:] -= offset_ns


def _complaints(stream: SurveyedStream) -> list[str]:
    report = stream.stamps.report
    texts = []
    if report.jumps:
        left_out = f', {report.beyond_jumps} messages beyond are left out'
        texts.append(
            f'its header clock jumps {report.jumps} times'
            + (left_out if stream.use == 'header' else '')
        )
    if report.unstamped:
        texts.append(f'{report.unstamped} messages without a stamp are left out')
    if report.out_of_order:
        texts.append(f'{report.out_of_order} messages came out of order and were sorted')
    if report.gaps:
        texts.append(
            f'{report.gaps} gaps of more than {GAP_FACTOR} times the usual interval, the longest '
            f'{report.longest_gap_s:.3f} s'
        )
    if report.skew_spread_s > _DRIFT_S:
        texts.append(
            f'header stamps and receive times drift apart: 90 % lie within '
            f'{report.skew_spread_s:.3f} s around {report.skew_median_s:.3f} s'
        )
    return texts


def _clocks_apart(streams: list[SurveyedStream]) -> list[str]:
    """Streams whose header clock is another than that of the stream stamped nearest to receipt."""
    skews = {
        s.name: s.stamps.report.skew_median_s - s.settings.offset_s
        for s in streams
        if s.use == 'header' and s.stamps.report.skew_spread_s <= _DRIFT_S
    }
    best = min(skews, key=lambda name: abs(skews[name]), default='')
    return [
        f'{name}: its header stamps lie {skew:+.3f} s from receipt, those of {best} '
        f'{skews[best]:+.3f} s: if their clocks differ, set its offset_s, or stamp: receive'
        for name, skew in skews.items()
        if abs(skew - skews[best]) > _CLOCKS_APART_S
    ]
