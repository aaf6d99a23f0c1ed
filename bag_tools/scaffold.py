"""A configuration to begin with, written from what a bag holds."""

from __future__ import annotations

import re
from typing import Any

from bag_tools.decode import COMPRESSED_IMAGE, IMAGE
from bag_tools.joints import JOINT_TYPES
from bag_tools.reader import BagReader, Topic
from bag_tools.settings import Settings

# Topics that say the same as another, or nothing to train on.
_TRANSPORTS = ('compressed', 'compressedDepth', 'theora', 'zstd')


def scaffold(bag: BagReader, defaults: Settings) -> str:
    """A configuration, as YAML with comments, of every stream that the bag holds.

    Streams that the defaults name keep their names there; others are named by their topic. What
    cannot become a stream is listed in comments.
    """
    streams, left = _streams(bag, defaults)
    reference = next(
        (n for n, (k, _) in streams.items() if k == 'color'), next(iter(streams), None)
    )
    lines = [f'# Made from {bag.path.name}, {bag.duration_s:.1f} s. Everything may be edited.']
    if reference is not None:
        lines += ['clock:', f'  reference: {reference}  # ticks at its samples; or rate_hz: 30']
    lines += ['streams:' if streams else 'streams: {}  # the bag holds nothing to train on']
    for name, (kind, topic) in streams.items():
        lines += _stream_lines(bag, name, kind, topic)
    joints = next((n for n, (kind, _) in streams.items() if kind == 'joints'), None)
    lines += ['actions:', f'  source: {joints or "null"}  # actions[t] = {joints}[t + 1]']
    lines += [f'# not used: {topic.name} ({topic.claimed} {topic.msgtype})' for topic in left]
    return '\n'.join(lines) + '\n'


def _streams(
    bag: BagReader, defaults: Settings
) -> tuple[dict[str, tuple[str, Topic]], list[Topic]]:
    streams: dict[str, tuple[str, Topic]] = {}
    left: list[Topic] = []
    names = sorted(bag.topics)
    for topic in (bag.topics[name] for name in names):
        kind = _kind(topic)
        if (
            kind is None
            or not topic.claimed
            or (_base(topic.name) != topic.name and (_base(topic.name) in bag.topics))
        ):
            left.append(topic)
            continue
        streams[_name(topic, kind, streams, defaults)] = (kind, topic)
    order = {name: i for i, name in enumerate(defaults.streams)}
    ordered = sorted(streams.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
    return dict(ordered), left


def _kind(topic: Topic) -> str | None:
    if topic.msgtype in (IMAGE, COMPRESSED_IMAGE):
        return 'depth' if 'depth' in topic.name.lower() else 'color'
    return 'joints' if topic.msgtype in JOINT_TYPES else None


def _base(topic: str) -> str:
    parent, _, last = topic.rpartition('/')
    return parent if last in _TRANSPORTS else topic


def _name(topic: Topic, kind: str, taken: dict[str, Any], defaults: Settings) -> str:
    for name, stream in defaults.streams.items():
        if topic.name in stream.topics and stream.kind == kind and name not in taken:
            return name
    words = re.sub(r'\W+', '_', _base(topic.name)).strip('_').lower() or 'stream'
    name = words if not words[0].isdigit() else f'stream_{words}'
    while name in taken:
        name += '_'
    return name


def _stream_lines(bag: BagReader, name: str, kind: str, topic: Topic) -> list[str]:
    rate = topic.claimed / bag.duration_s if bag.duration_s else 0.0
    tolerance = min(0.5, max(0.01, round(1 / rate, 3))) if rate else 0.05
    lines = [
        f'  {name}:',
        f'    topics: [{topic.name}]  # {topic.claimed} {topic.msgtype}, {rate:.1f} a second',
        f'    kind: {kind}',
        f'    policy: {"linear" if kind == "joints" else "nearest"}',
        f'    tolerance_s: {tolerance}',
        '    missing: mark  # or drop the tick, or refuse the bag',
    ]
    if kind in ('color', 'depth'):
        lines.append('    # resize: [192, 192]')
    return lines
