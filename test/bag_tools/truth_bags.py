"""Bags whose every sample says when it was taken, written in every format and compression."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bag_writing import START_NS, Recorder, jpeg
from mcap.reader import make_reader
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode

MS = 1_000_000
FORMATS = (
    'ros1',
    'ros1_bz2',
    'ros1_lz4',
    'mcap',
    'mcap_zstd',
    'mcap_lz4',
    'mcap_split',
    'sqlite3',
    'sqlite3_zstd',
    'sqlite3_filezstd',
    'sqlite3_split',
)
COLOR, DEPTH = '/camera/color/image_raw', '/camera/depth/image_rect_raw'
GELSIGHTS = ('/gelsight1/raspicam_node/image/compressed', '/gelsight2/image/compressed')
JOINTS = '/joint_states'
ARM = ('pan', 'lift', 'elbow', 'wrist')
GRIPPER = ('left_finger', 'right_finger')
BLOCK, COLUMNS, ROWS = 8, 8, 4
# Latency that is on each stream's stamps, to be taken off by the configuration.
OFFSETS_MS = {COLOR: 0, DEPTH: 12, GELSIGHTS[0]: 40, GELSIGHTS[1]: -25, JOINTS: 0}


def pattern(time_us: int) -> np.ndarray:
    """(32, 64) bool: a field of 8x8 blocks whose phase is the time, readable through JPEG."""
    bits = [(time_us >> i) & 1 for i in range(COLUMNS * ROWS)]
    return np.kron(np.array(bits, bool).reshape(ROWS, COLUMNS), np.ones((BLOCK, BLOCK), bool))


def read_pattern(image: np.ndarray, threshold: float) -> int:
    """The time in microseconds that an image of `pattern` shows."""
    gray = image.mean(axis=2) if image.ndim == 3 else image
    blocks = gray.reshape(ROWS, BLOCK, COLUMNS, BLOCK).mean(axis=(1, 3)) > threshold
    return int(sum(1 << i for i, bit in enumerate(blocks.ravel()) if bit))


def joint_at(name: str, time_us: np.ndarray | float) -> Any:
    number = (*ARM, *GRIPPER).index(name)
    return np.sin(0.5 * np.asarray(time_us) / 1e6 + 0.3 * number)


@dataclass
class Truth:
    """What was written: of every topic, (stamp, receive time, true time in us) as received."""

    path: Path
    samples: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)


def write_truth(
    path: Path,
    kind: str,
    *,
    seconds: float = 3.0,
    seed: int = 0,
    spoil: Callable[[str, int, bytes], bytes] = lambda topic, index, data: data,
) -> Truth:
    """Write a bag of kind 'FORMAT[_COMPRESSION]' and say what is in it.

    Args:
        path: Where, without a suffix.
        kind: One of FORMATS.
        seconds: Length.
        seed: Of jitter, drops and delays.
        spoil: Changes the JPEG that is written as the nth of a topic.
    """
    rng = np.random.default_rng(seed)
    events = sorted(_events(rng, seconds), key=lambda event: event[2])
    if kind == 'mcap_lz4':
        truth = _write(path.with_name(path.name + '_plain'), 'mcap', events, spoil)
        target = path.with_suffix('.mcap')
        _recompress(truth.path, target)
        return Truth(target, truth.samples)
    if kind.endswith('_split'):
        half = len(events) // 2
        base = kind.removesuffix('_split')
        parts = [
            _write(path.with_name(f'{path.name}_{i}'), base, chunk, spoil)
            for i, chunk in enumerate((events[:half], events[half:]))
        ]
        return _join(path, parts)
    return _write(path, kind, events, spoil)


def _events(rng: np.random.Generator, seconds: float) -> list[tuple[str, int, int, int, int]]:
    """Topic, stamp, receive time, true time in us, and number of every message that is kept."""
    events = []
    for topic, offset_ms in OFFSETS_MS.items():
        rate = 100.0 if topic == JOINTS else 30.0
        phase = rng.uniform(0, 1 / rate)
        dropped = 0.0 if topic == JOINTS else 0.08
        for number in range(int(seconds * rate)):
            true_us = round((phase + number / rate + rng.uniform(-0.15, 0.15) / rate) * 1e6)
            # The recorder's clock is 250 ms ahead, and now and then a message is held up.
            delay_us = rng.exponential(4000) + 250_000 + (60_000 if rng.random() < 0.05 else 0)
            if rng.random() >= dropped and true_us > 0:
                stamp = START_NS + true_us * 1000 + offset_ms * MS
                receive = START_NS + int((true_us + delay_us) * 1000)
                events.append((topic, stamp, receive, true_us, number))
    return events


def _write(
    path: Path, kind: str, events: list[Any], spoil: Callable[[str, int, bytes], bytes]
) -> Truth:
    with _recorder(path, kind) as bag:
        truth = Truth(bag.path)
        for topic, stamp, receive, true_us, number in events:
            index = len(truth.samples.setdefault(topic, []))
            message = _message(bag, topic, stamp, true_us, number, index, spoil)
            bag.write(topic, message, receive)
            truth.samples[topic].append((stamp, receive, true_us))
    return truth


def _recorder(path: Path, kind: str) -> Recorder:
    base, _, compression = kind.partition('_')
    if kind in ('ros1', 'mcap', 'sqlite3', 'mcap_zstd', 'sqlite3_zstd'):
        return Recorder(path, kind)
    return _Compressed(path, base, compression)


class _Compressed(Recorder):
    """A recorder with the compressions that are set before the writer opens."""

    def __init__(self, path: Path, base: str, compression: str) -> None:
        before1, before2 = Writer1.open, Recorder.__init__
        if base == 'ros1':

            def open_compressed(writer: Any) -> None:
                writer.set_compression(Writer1.CompressionFormat[compression.upper()])
                before1(writer)

            Writer1.open = open_compressed  # type: ignore[method-assign]
            try:
                before2(self, path, base)
            finally:
                Writer1.open = before1  # type: ignore[method-assign]
            return
        from rosbags.rosbag2 import Writer as Writer2

        before = Writer2.open

        def open_filed(writer: Any) -> None:
            writer.set_compression(CompressionMode.FILE, CompressionFormat.ZSTD)
            before(writer)

        Writer2.open = open_filed  # type: ignore[method-assign]
        try:
            before2(self, path, base)
        finally:
            Writer2.open = before  # type: ignore[method-assign]


def _message(
    bag: Recorder,
    topic: str,
    stamp: int,
    true_us: int,
    number: int,
    index: int,
    spoil: Callable[[str, int, bytes], bytes],
) -> Any:
    if topic == JOINTS:
        return joint_state(bag, stamp, true_us, number)
    bits = pattern(true_us)
    if topic == DEPTH:
        return bag.image(stamp, 'depth', np.where(bits, 3000, 1000).astype(np.uint16), '16UC1')
    # The channels differ, so that swapped colours would be seen.
    rgb = np.stack([bits * 250, bits * 200, bits * 150], axis=2).astype(np.uint8)
    if topic == COLOR:
        return bag.image(stamp, 'color', rgb[..., ::-1], 'bgr8')
    return bag.compressed(stamp, 'gel', spoil(topic, index, jpeg(rgb)), 'jpeg')


def joint_state(bag: Recorder, stamp: int, true_us: int, number: int) -> Any:
    """All joints, but every third message has the arm alone, and every seventh another order."""
    names = ARM if number % 3 == 1 else (*ARM, *GRIPPER)
    names = names[::-1] if number % 7 == 3 else names
    return bag.make(
        'sensor_msgs/msg/JointState',
        header=bag.header(stamp, ''),
        name=list(names),
        position=np.array([joint_at(name, true_us) for name in names]),
        velocity=np.zeros(0),
        effort=np.zeros(0),
    )


def _recompress(folder: Path, target: Path) -> None:
    """The same messages in lz4 chunks, by the mcap package."""
    (source,) = folder.glob('*.mcap')
    with source.open('rb') as file, target.open('wb') as out:
        writer = McapWriter(out, compression=CompressionType.LZ4, chunk_size=200_000)
        writer.start(profile='ros2', library='test')
        channels: dict[int, int] = {}
        for schema, channel, message in make_reader(file).iter_messages():
            assert schema is not None
            if channel.id not in channels:
                number = writer.register_schema(schema.name, schema.encoding, schema.data)
                channels[channel.id] = writer.register_channel(
                    channel.topic, channel.message_encoding, number, dict(channel.metadata)
                )
            writer.add_message(
                channels[channel.id], message.log_time, message.data, message.publish_time
            )
        writer.finish()


def _join(path: Path, parts: list[Truth]) -> Truth:
    """One split bag of several whole ones, as rosbag2 splits them."""
    path.mkdir()
    about: dict[str, Any] = {}
    counts: dict[str, int] = {}
    truth = Truth(path)
    for number, part in enumerate(parts):
        inner = yaml.safe_load((part.path / 'metadata.yaml').read_text())
        info = inner['rosbag2_bagfile_information']
        about = about or inner
        (storage,) = (p for p in part.path.iterdir() if p.suffix in ('.mcap', '.db3'))
        name = f'{path.name}_{number}{storage.suffix}'
        shutil.move(storage, path / name)
        top = about['rosbag2_bagfile_information']
        top['relative_file_paths'] = [*top['relative_file_paths'][:number], name]
        for topic in info['topics_with_message_count']:
            topic_name = topic['topic_metadata']['name']
            counts[topic_name] = counts.get(topic_name, 0) + topic['message_count']
        for topic, samples in part.samples.items():
            truth.samples.setdefault(topic, []).extend(samples)
        shutil.rmtree(part.path)
    top['message_count'] = sum(counts.values())
    for topic in top['topics_with_message_count']:
        topic['message_count'] = counts[topic['topic_metadata']['name']]
    times = [receive for samples in truth.samples.values() for _, receive, _ in samples]
    top['starting_time']['nanoseconds_since_epoch'] = min(times)
    top['duration']['nanoseconds'] = max(times) - min(times)
    top.pop('files', None)
    (path / 'metadata.yaml').write_text(yaml.safe_dump(about))
    return truth
