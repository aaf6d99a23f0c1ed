"""An episode written back as a bag, so that a policy can be replayed against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from bag_tools.decode import COMPRESSED_IMAGE, IMAGE
from bag_tools.episode import ACTIONS, JOINTS, STAMPS, VALID, Episode, EpisodeError

JOINT_STATE = 'sensor_msgs/msg/JointState'
# Where the converter looks for these streams first.
TOPICS: Mapping[str, str] = {
    'color': '/camera/color/image_raw',
    'depth': '/camera/depth/image_rect_raw',
    'gelsight1': '/gelsight1/image_raw',
    'gelsight2': '/gelsight2/image_raw',
    JOINTS: '/joint_states',
}
# How image_transport names it: the source's encoding, then the codec and what it was given.
JPEG_FORMAT = 'rgb8; jpeg compressed bgr8'
_JPEG_SUFFIX = '/compressed'
_TRANSPORTS = (_JPEG_SUFFIX, '/compressedDepth')
_JOINT_FIELDS = ('velocity', 'effort')
# Ticks read at once of each stream.
_BLOCK = 8


@dataclass(frozen=True)
class BagConfig:
    """How an episode becomes a bag.

    Attributes:
        topics: Topic of each stream, where it is not the usual one; '' leaves a stream out.
        jpeg_quality: None writes colour raw (rgb8), else as JPEG of this quality, 1 to 100.
        compress: Compress the bag's chunks with zstd.
        held: Write samples that were held, as if they had been measured.

    Raises:
        ValueError: A topic is no absolute name, or the quality is out of its range.
    """

    topics: Mapping[str, str] | None = None
    jpeg_quality: int | None = None
    compress: bool = False
    held: bool = False

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f'jpeg_quality = {self.jpeg_quality} must be from 1 to 100')
        for stream, topic in (self.topics or {}).items():
            if topic and not topic.startswith('/'):
                raise ValueError(f'the topic {topic!r} of {stream} must begin with /')


@dataclass(frozen=True)
class _Stream:
    """One stream on its way to a topic."""

    key: str
    topic: str
    frame_id: str
    msgtype: str
    message: Callable[[Any, NDArray[Any]], Any]


class EpisodeBag:
    """An episode as the messages of a bag.

    Args:
        episode: The episode.
        config: Topics and forms.

    Raises:
        EpisodeError: It has no stamps, or they do not rise, or a stream has no topic or message.
    """

    def __init__(self, episode: Episode, config: BagConfig | None = None) -> None:
        self.episode = episode
        self.config = config or BagConfig()
        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._types = self._store.types
        self.stamps = self._read_stamps()
        self._streams = [stream for key in episode.streams if (stream := self._stream(key))]
        if not self._streams:
            raise EpisodeError(f'{episode.path} has no stream to write: give topics')

    @property
    def topics(self) -> dict[str, str]:
        """Topic that each stream is written to."""
        return {stream.key: stream.topic for stream in self._streams}

    def write(self, path: Path, ticks: Callable[[range], Any] = iter) -> dict[str, int]:
        """Write the bag: an mcap in a folder with its metadata.yaml.

        Messages are stamped, and counted as received, at their tick. Samples that the episode
        marks as not valid are left out, as they were not there.

        Args:
            path: A folder that does not exist yet.
            ticks: Goes around the blocks of ticks, such as a progress bar.

        Returns:
            Messages of each topic.
        """
        counts = {stream.topic: 0 for stream in self._streams}
        writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        if self.config.compress:
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        for key, value in self._custom_data().items():
            writer.set_custom_data(key, value)
        with writer:
            connections = {
                s.topic: writer.add_connection(s.topic, s.msgtype, typestore=self._store)
                for s in self._streams
            }
            for tick, stream, message in self._messages(ticks):
                raw = self._store.serialize_cdr(message, stream.msgtype)
                writer.write(connections[stream.topic], int(self.stamps[tick]), raw)
                counts[stream.topic] += 1
        return counts

    def _custom_data(self) -> dict[str, str]:
        """What was noted at the recording, and which episode this is."""
        noted = self.episode.metadata.get('custom_data') or {}
        return {**{str(k): str(v) for k, v in noted.items()}, 'episode': self.episode.path.name}

    def _messages(self, ticks: Callable[[range], Any]) -> Iterator[tuple[int, _Stream, Any]]:
        blocks = [self.episode.blocks(stream.key, _BLOCK) for stream in self._streams]
        valid = [self._valid(stream.key) for stream in self._streams]
        for start in ticks(range(0, self.episode.steps, _BLOCK)):
            rows = [next(block) for block in blocks]
            for tick in range(start, min(start + _BLOCK, self.episode.steps)):
                for stream, row, good in zip(self._streams, rows, valid, strict=True):
                    if good[tick]:
                        header = self._header(int(self.stamps[tick]), stream.frame_id)
                        yield tick, stream, stream.message(header, row[tick - start])

    def _read_stamps(self) -> NDArray[np.int64]:
        if STAMPS not in self.episode.keys:
            raise EpisodeError(f'{self.episode.path} has no {STAMPS}: when was it?')
        stamps = self.episode.array(STAMPS).astype(np.int64)
        if (falls := np.flatnonzero(np.diff(stamps) <= 0)).size:
            raise EpisodeError(
                f'{self.episode.path}: the stamps do not rise at tick {falls[0] + 1}'
            )
        return stamps

    def _valid(self, key: str) -> NDArray[np.bool_]:
        """(T,) whether a stream was measured at each tick."""
        mask = f'{VALID}_{key}'
        if self.config.held or mask not in self.episode.keys:
            return np.ones(self.episode.steps, dtype=np.bool_)
        valid = self.episode.array(mask).reshape(self.episode.steps, -1).astype(np.bool_)
        return np.asarray(valid.all(axis=1))

    def _topic(self, key: str) -> str:
        """Where a stream is written: as asked, as it was recorded, or where it is usual."""
        asked = (self.config.topics or {}).get(key)
        if asked is not None:
            return asked
        if key == ACTIONS:
            return ''
        topic = str(self.episode.described(key).get('topic') or TOPICS.get(key, ''))
        if not topic:
            raise EpisodeError(
                f'{self.episode.path}: no topic is known for {key}: give one, or an empty one to '
                'leave it out'
            )
        return next((topic.removesuffix(t) for t in _TRANSPORTS if topic.endswith(t)), topic)

    def _stream(self, key: str) -> _Stream | None:
        topic = self._topic(key)
        if not topic:
            return None
        header, frame_id = self.episode.headers[key], f'{key}_optical_frame'
        quality = self.config.jpeg_quality
        if len(header.shape) == 4 and header.shape[3] == 3 and header.dtype == np.uint8:
            if quality is None:
                return _Stream(key, topic, frame_id, IMAGE, partial(self._image, 'rgb8'))
            name = topic if topic.endswith(_JPEG_SUFFIX) else topic + _JPEG_SUFFIX
            return _Stream(key, name, frame_id, COMPRESSED_IMAGE, partial(self._jpeg, quality))
        if len(header.shape) == 3 and header.dtype == np.uint16:
            return _Stream(key, topic, frame_id, IMAGE, partial(self._image, '16UC1'))
        if self._is_joints(key):
            columns = _joint_columns(self.episode.columns(key))
            return _Stream(key, topic, '', JOINT_STATE, partial(self._joints, columns))
        raise EpisodeError(
            f'{self.episode.path}: {key} of shape {header.shape} {header.dtype} is neither colour '
            'nor depth nor of joints with names: leave it out'
        )

    def _is_joints(self, key: str) -> bool:
        known = key in (JOINTS, ACTIONS) or self.episode.described(key).get('kind') == 'joints'
        return known and self.episode.headers[key].shape[1:] == (len(self.episode.columns(key)),)

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        stamp = self._make('builtin_interfaces/msg/Time', sec=seconds, nanosec=nanoseconds)
        return self._make('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id)

    def _image(self, encoding: str, header: Any, image: NDArray[Any]) -> Any:
        pixels = np.ascontiguousarray(image, dtype=image.dtype.newbyteorder('<'))
        return self._make(
            IMAGE,
            header=header,
            height=image.shape[0],
            width=image.shape[1],
            encoding=encoding,
            is_bigendian=0,
            step=pixels.strides[0],
            data=pixels.reshape(-1).view(np.uint8),
        )

    def _jpeg(self, quality: int, header: Any, image: NDArray[Any]) -> Any:
        bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return self._make(
            COMPRESSED_IMAGE, header=header, format=JPEG_FORMAT, data=np.asarray(data).reshape(-1)
        )

    def _joints(
        self, columns: Mapping[str, Mapping[str, int]], header: Any, values: NDArray[Any]
    ) -> Any:
        fields = {
            field: np.array([values[at] for at in places.values()], dtype=np.float64)
            for field, places in columns.items()
        }
        names = list(dict.fromkeys(name for places in columns.values() for name in places))
        return self._make(JOINT_STATE, header=header, name=names, **fields)

    def _make(self, msgtype: str, **fields: Any) -> Any:
        return self._types[msgtype](**fields)


def _joint_columns(names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Columns of JointState's fields, by joint: 'lift' is its position, 'lift/effort' its effort.

    Raises:
        EpisodeError: A field has some of the joints only.
    """
    columns: dict[str, dict[str, int]] = {'position': {}, 'velocity': {}, 'effort': {}}
    for at, name in enumerate(names):
        joint, _, last = name.rpartition('/')
        if joint and last in _JOINT_FIELDS:
            columns[last][joint] = at
        else:
            columns['position'][name] = at
    fullest = max(columns.values(), key=len)
    for field, places in columns.items():
        if places and list(places) != list(fullest):
            raise EpisodeError(
                f'{field} is known of {", ".join(places)}, not of {", ".join(fullest)}: a '
                'JointState has all or none'
            )
    return columns
