"""Recorded messages without a ROS install: ROS 1 bags, rosbag2 directories, bare .mcap and .db3.

`rosbags` does the parsing. What this adds: one claim-and-count per topic, so that a bag is never
silently short, and errors that name the bag, the topic and how far reading came.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from bag_tools.mcap_stream import DECOMPRESSION_ERRORS, McapStream, McapStreamError, mcap_files

logger = logging.getLogger(__name__)

BAG_FILE_SUFFIXES = ('.bag', '.mcap', '.db3')
DISTROS = tuple(store.value.removeprefix('ros2_') for store in Stores if 'ros2' in store.value)
# The stamp follows 4 bytes: CDR's encapsulation, or ROS 1's sequence number.
_STAMP = {little: struct.Struct(f'{order}4xiI') for little, order in ((True, '<'), (False, '>'))}
_HEADER_TYPE = 'std_msgs/msg/Header'
_ADVICE = {
    'File end magic': 'it was not closed, as when a recorder is killed',
    'disk image is malformed': 'the sqlite file is cut short',
    'Bag index looks damaged': 'it was not closed, as when a recorder is killed',
}


class BagError(Exception):
    """A bag cannot be read, or not as asked; the text names the bag and the reason."""


class UnreadableBagError(BagError):
    """A bag cannot be opened as it is, though something of it may be salvaged."""


class UnknownDefinitionError(BagError):
    """A bag defines a type in a way that the storage library does not know."""


class DamagedBagError(BagError):
    """Reading stopped in the middle of a bag.

    Attributes:
        messages_read: Messages delivered before the damage.
    """

    def __init__(self, text: str, messages_read: int) -> None:
        super().__init__(text)
        self.messages_read = messages_read


# What no salvage helps with.
_KINDS = {'Could not parse': UnknownDefinitionError, 'Serialization format': BagError}


@dataclass(frozen=True)
class Topic:
    """One topic of a bag.

    Attributes:
        name: The topic's name.
        msgtype: Its type, such as 'sensor_msgs/msg/Image' (ROS 1 bags as well).
        claimed: Messages that the bag's index says it holds.
    """

    name: str
    msgtype: str
    claimed: int


@dataclass(frozen=True)
class RawMessage:
    """One message of a bag as it was recorded.

    Attributes:
        topic: Where it was published.
        msgtype: Its type.
        receive_ns: When the recorder received it, in nanoseconds.
        raw: The message serialised, or its beginning where no more is asked for.
    """

    topic: str
    msgtype: str
    receive_ns: int
    raw: bytes | memoryview


@dataclass(frozen=True)
class Message:
    """One message of a bag.

    Attributes:
        topic: Where it was published.
        msgtype: Its type.
        receive_ns: When the recorder received it, in nanoseconds.
        data: The message; arrays in it are read-only views.
    """

    topic: str
    msgtype: str
    receive_ns: int
    data: Any

    @property
    def stamp_ns(self) -> int:
        """The header's stamp in nanoseconds; the receive time where there is no header."""
        header = getattr(self.data, 'header', None)
        return self.receive_ns if header is None else time_to_ns(header.stamp)


def time_to_ns(stamp: Any) -> int:
    """Nanoseconds of a builtin_interfaces/Time (or ROS 1 time)."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def is_bag(path: Path) -> bool:
    """Whether a path looks like a bag: a bag file, or a directory that holds rosbag2 files."""
    if path.is_dir():
        return (path / 'metadata.yaml').is_file() or bool(storage_files(path))
    return path.suffix in BAG_FILE_SUFFIXES


class BagReader:
    """A bag opened for reading; use it as a context manager.

    Args:
        path: A ROS 1 `.bag`, a rosbag2 directory, or a bare `.mcap` or `.db3`.
        distro: ROS 2 release whose message definitions serve bags that hold none of their own.
        message_folders: Folders of further .msg files, as PACKAGE/msg/NAME.msg.
        recover: Read what can be had of a damaged bag; what was done is told in `recovery`.

    Raises:
        BagError: The bag is absent, damaged at its opening, or of an unknown kind.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        distro: str = 'jazzy',
        message_folders: Sequence[Path | str] = (),
        recover: bool = False,
    ) -> None:
        self.path = Path(path)
        self.recover = recover
        self.recovery: tuple[str, ...] = ()
        self._counts: dict[str, int] = {}
        self._problems: list[str] = []
        if distro not in DISTROS:
            raise BagError(f'unknown ROS 2 release {distro!r}; known are {", ".join(DISTROS)}')
        store = get_typestore(Stores(f'ros2_{distro}'))
        store.register(read_definitions(message_folders))
        self._reader: Any
        self._stream: McapStream | None = None
        if recover:
            # Salvage is rare: bags that are whole are read without what it needs.
            from bag_tools.recover import open_salvaged

            self._reader, self.recovery = open_salvaged(self.path, store)
        else:
            self._reader = self._open_whole(store)
            files = mcap_files(self.path) if isinstance(self._reader, AnyReader) else ()
            self._stream = McapStream(files) if files else None
        self.topics = _topics(self._reader)

    def _open_whole(self, store: Any) -> Any:
        try:
            return open_reader(self.path, store)
        except UnknownDefinitionError:
            # One recorded service, and the storage library refuses all topics beside it.
            from bag_tools.recover import open_salvaged

            reader, notes = open_salvaged(self.path, store)
            if notes:
                raise
            return reader

    def __enter__(self) -> BagReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.close()

    @property
    def duration_s(self) -> float:
        """Seconds from the first message to the last; 0 for an empty bag."""
        return max(0.0, float(self._reader.duration) / 1e9)

    @property
    def problems(self) -> tuple[str, ...]:
        """What the passes finished so far found wrong: one line a topic that came out short."""
        return tuple(self._problems)

    def of_type(self, *msgtypes: str) -> list[Topic]:
        """The topics of any of these types, by name."""
        return sorted(
            (topic for topic in self.topics.values() if topic.msgtype in msgtypes),
            key=lambda topic: topic.name,
        )

    def messages(self, topics: Collection[str] | None = None) -> Iterator[Message]:
        """Messages in the order of their receive times, one in memory at a time.

        After the last one the number read of each topic is held against what the bag claims; a
        difference is logged and kept in `problems`.

        Args:
            topics: Names to read; None reads all.

        Raises:
            BagError: A topic is not in the bag.
            DamagedBagError: The bag is damaged in the middle.
        """
        names = self._check_names(topics)
        connections = [c for c in self._reader.connections if c.topic in names]
        counts = dict.fromkeys(sorted(names), 0)
        if connections:
            yield from self._deliver(connections, counts)
        self._compare(counts)

    def raw_messages(
        self, topics: Collection[str] | None = None, heads: Collection[str] = ()
    ) -> Iterator[RawMessage]:
        """Messages not deserialised, in an order that is the same for every pass.

        Args:
            topics: Names to read; None reads all.
            heads: Names of topics of which the header's stamp suffices: the rest of their messages
                may be left unread. It may grow meanwhile.

        Raises:
            BagError: A topic is not in the bag.
            DamagedBagError: The bag is damaged in the middle.
        """
        names = self._check_names(topics)
        connections = [c for c in self._reader.connections if c.topic in names]
        counts = dict.fromkeys(sorted(names), 0)
        if self._stream is not None:
            yield from self._deliver_stream(self._stream, counts, heads)
        elif connections:
            yield from self._deliver_raw(connections, counts)
        self._compare(counts)

    def deserialize(self, message: RawMessage) -> Any:
        """What a raw message says; arrays in it are read-only views of its bytes.

        Raises:
            BagError: Its bytes are no message of its type.
        """
        try:
            return self._reader.deserialize(message.raw, message.msgtype)
        except Exception as error:  # broken bytes raise many kinds
            raise BagError(f'{message.topic}: no {message.msgtype}: {_reason(error)}') from error

    def has_header(self, topic: str) -> bool:
        """Whether a topic's messages begin with a header."""
        definition = self._reader.typestore.fielddefs.get(self.topics[topic].msgtype)
        return bool(definition and definition[1] and definition[1][0][1][1] == _HEADER_TYPE)

    def header_stamp_ns(self, message: RawMessage) -> int:
        """The stamp of a message that begins with a header, without deserialising the rest.

        Raises:
            BagError: The message is too short.
        """
        little = not self._reader.is2 or bool(message.raw[1] & 1)
        try:
            seconds, nanoseconds = _STAMP[little].unpack_from(message.raw)
        except struct.error as error:
            raise BagError(f'{message.topic}: a message of {len(message.raw)} bytes') from error
        return int(seconds) * 1_000_000_000 + int(nanoseconds)

    def _check_names(self, topics: Collection[str] | None) -> set[str]:
        names = set(self.topics if topics is None else topics)
        if missing := names - set(self.topics):
            raise BagError(
                f'{self.path} has no topic {", ".join(sorted(missing))}; '
                f'it has {", ".join(sorted(self.topics)) or "none"}'
            )
        return names

    def _deliver_stream(
        self, stream: McapStream, counts: dict[str, int], heads: Collection[str]
    ) -> Iterator[RawMessage]:
        try:
            for topic, receive_ns, raw in stream.messages(counts, heads):
                counts[topic] += 1
                yield RawMessage(topic, self.topics[topic].msgtype, receive_ns, raw)
        except (McapStreamError, OSError, struct.error, *DECOMPRESSION_ERRORS) as error:
            raise self._damaged(error, counts) from error

    def _deliver(self, connections: list[Any], counts: dict[str, int]) -> Iterator[Message]:
        for message in self._deliver_raw(connections, counts):
            try:
                data = self._reader.deserialize(message.raw, message.msgtype)
            except Exception as error:  # broken bytes raise many kinds
                counts[message.topic] -= 1
                raise self._damaged(error, counts) from error
            yield Message(message.topic, message.msgtype, message.receive_ns, data)

    def _deliver_raw(self, connections: list[Any], counts: dict[str, int]) -> Iterator[RawMessage]:
        stream = self._reader.messages(connections=connections)
        while True:
            try:
                item = next(stream, None)
            except Exception as error:  # the storage libraries raise many kinds
                raise self._damaged(error, counts) from error
            if item is None:
                return
            connection, receive_ns, raw = item
            counts[connection.topic] += 1
            yield RawMessage(connection.topic, connection.msgtype, receive_ns, raw)

    def _damaged(self, error: Exception, counts: dict[str, int]) -> DamagedBagError:
        total, claimed = sum(counts.values()), sum(self.topics[name].claimed for name in counts)
        return DamagedBagError(
            f'{self.path} is damaged: {_reason(error)} (after {total} of {claimed} messages)', total
        )

    def _compare(self, counts: dict[str, int]) -> None:
        for name, count in counts.items():
            claimed = self.topics[name].claimed
            if count == claimed:
                continue
            text = f'{self.path}: {name} claims {claimed} messages, {count} could be read'
            if count == 0 and self.path.is_dir():
                text += (
                    ' (metadata.yaml may describe the topic otherwise than the storage file does: '
                    f'try {_first_storage(self.path)} itself)'
                )
            if text not in self._problems:
                logger.warning(text)
                self._problems.append(text)


def read_definitions(folders: Sequence[Path | str]) -> dict[str, Any]:
    """Message types of .msg files that lie as PACKAGE/msg/NAME.msg below folders.

    Raises:
        BagError: A folder is absent or holds none, or a file is no definition.
    """
    types: dict[str, Any] = {}
    for folder in map(Path, folders):
        files = sorted(folder.rglob('*.msg'))
        if not files:
            raise BagError(f'{folder} holds no .msg files')
        for file in files:
            package = file.parent.parent if file.parent.name == 'msg' else file.parent
            try:
                types.update(
                    get_types_from_msg(
                        file.read_text(encoding='utf-8'),
                        f'{package.resolve().name}/msg/{file.stem}',
                    )
                )
            except Exception as error:  # the parser raises many kinds
                raise BagError(f'{file} is no message definition: {error}') from error
    return types


def storage_files(folder: Path) -> list[Path]:
    """The .mcap and .db3 files of a folder, by name."""
    return sorted(p for suffix in ('*.mcap', '*.db3') for p in folder.glob(suffix))


def _first_storage(folder: Path) -> str:
    files = storage_files(folder)
    return str(files[0]) if files else 'the storage file'


def _reason(error: Exception) -> str:
    # The text of a KeyError is the key alone, that of an assertion mostly nothing.
    return repr(error) if isinstance(error, (KeyError, AssertionError)) else str(error)


def _check_path(path: Path) -> None:
    if not path.exists():
        raise BagError(f'there is no bag at {path}')
    if path.is_dir() and not (path / 'metadata.yaml').is_file():
        files = storage_files(path)
        if not files:
            raise BagError(f'{path} is not a bag: it holds no metadata.yaml, .mcap or .db3')
        raise UnreadableBagError(
            f'{path} has no metadata.yaml, as when a recorder is killed: '
            f'try its storage file {files[0]} itself'
        )
    for file in (path, *storage_files(path)):
        log = file.with_name(f'{file.name}-wal')
        if file.suffix == '.db3' and log.is_file() and log.stat().st_size:
            raise UnreadableBagError(
                f'{file} has a write-ahead log that was never merged ({log.name}), as when a '
                'recorder is killed: what is in it would be missing'
            )
    if path.is_file():
        if path.suffix not in BAG_FILE_SUFFIXES:
            raise BagError(f'{path} is not a bag: its name ends in none of {BAG_FILE_SUFFIXES}')
        if path.stat().st_size == 0:
            raise BagError(f'{path} is empty (0 bytes)')


def open_reader(path: Path, store: Any) -> AnyReader:
    """The storage library's reader of a bag.

    Args:
        path: The bag.
        store: Typestore for bags without definitions of their own.

    Raises:
        BagError: The bag cannot be opened.
    """
    _check_path(path)
    try:
        reader = AnyReader([path], default_typestore=store)
        reader.open()
    except Exception as error:  # the storage libraries raise many kinds
        hint = next((why for text, why in _ADVICE.items() if text in str(error)), '')
        kind = next((k for text, k in _KINDS.items() if text in str(error)), UnreadableBagError)
        reason = _reason(error).partition('\n')[0]
        raise kind(f'{path} cannot be opened: {reason}' + (f' ({hint})' if hint else '')) from error
    return reader


def _topics(reader: AnyReader) -> dict[str, Topic]:
    topics: dict[str, Topic] = {}
    # A ROS 1 bag has one connection a publisher: add up those of one topic.
    for connection in reader.connections:
        before = topics.get(connection.topic)
        claimed = connection.msgcount + (before.claimed if before else 0)
        topics[connection.topic] = Topic(connection.topic, connection.msgtype, claimed)
    return topics
