"""One episode's messages as an mcap bag, as `ros2 bag record --custom-data` leaves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from bag_tools.whole_folder import whole_folder

BAG_FILES = ('metadata.yaml', '*.mcap')


class IncompleteError(Exception):
    """Messages of an episode are missing; the text says of which topic."""


@dataclass
class EpisodeMessages:
    """Serialized messages as they come in, by topic and stamp.

    Attributes:
        types: message type of each topic, such as 'sensor_msgs/msg/Image'.
    """

    types: Mapping[str, str]
    _messages: dict[str, dict[int, bytes]] = field(init=False)

    def __post_init__(self) -> None:
        """Begin empty."""
        self.clear()

    def clear(self) -> None:
        """Forget all messages."""
        self._messages = {topic: {} for topic in self.types}

    def add(self, topic: str, stamp_ns: int, data: bytes) -> None:
        """Take a message."""
        self._messages[topic][stamp_ns] = data

    def missing(self, begin_ns: int, end_ns: int, count: int) -> str:
        """Which topic has not `count` messages stamped within an episode; '' where all have."""
        for topic, messages in self._messages.items():
            have = sum(begin_ns <= stamp <= end_ns for stamp in messages.copy())
            if have < count:
                return f'{topic} has {have} of {count} messages'
        return ''

    def write(self, path: Path, begin_ns: int, end_ns: int, noted: Mapping[str, str]) -> None:
        """Write what is stamped within an episode; messages count as received at their stamp.

        Args:
            path: the bag's folder, which appears whole.
            begin_ns: stamp of the first tick.
            end_ns: stamp of the last tick.
            noted: custom data, such as the task.

        Raises:
            FileExistsError: the folder is there.
        """
        store = get_typestore(Stores.ROS2_JAZZY)
        with whole_folder(path, overwrite=False, holds=BAG_FILES) as partial:
            writer = Writer(partial, version=9, storage_plugin=StoragePlugin.MCAP)
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            for key, value in noted.items():
                writer.set_custom_data(key, value)
            with writer:
                connections: dict[str, Any] = {
                    topic: writer.add_connection(topic, kind, typestore=store)
                    for topic, kind in self.types.items()
                }
                for stamp, topic, data in self._in_order(begin_ns, end_ns):
                    writer.write(connections[topic], stamp, data)

    def _in_order(self, begin_ns: int, end_ns: int) -> list[tuple[int, str, bytes]]:
        return sorted(
            (stamp, topic, data)
            for topic, messages in self._messages.items()
            # Messages of the ticks after the episode may still come in meanwhile.
            for stamp, data in messages.copy().items()
            if begin_ns <= stamp <= end_ns
        )
