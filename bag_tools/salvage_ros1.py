"""Messages of a ROS 1 bag that was not closed: its records read one after another."""

from __future__ import annotations

import bz2
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

import lz4.frame  # type: ignore[import-untyped]

MAGIC = b'#ROSBAG V2.0\n'
_MESSAGE, _BAG_HEADER, _CHUNK, _CHUNK_INFO, _CONNECTION = 2, 3, 5, 6, 7
_LENGTH = struct.Struct('<I')


class SalvagedRos1:
    """What can be read of one .bag file; attributes as of SalvagedMcap.

    Args:
        path: The file.
    """

    ros1 = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.channels: dict[int, tuple[str, str]] = {}
        self.definitions: dict[str, tuple[str, str]] = {}
        self.counts: dict[str, int] = {}
        self.first_ns, self.last_ns = 2**63 - 1, 0
        self.notes: list[str] = []
        self._unlisted = -1
        self._bad_chunks = 0
        for topic, receive_ns, _ in self.messages(None):
            self.counts[topic] = self.counts.get(topic, 0) + 1
            self.first_ns = min(self.first_ns, receive_ns)
            self.last_ns = max(self.last_ns, receive_ns)
        total = sum(self.counts.values())
        if self._bad_chunks:
            self.notes.append(
                f'{path.name}: {self._bad_chunks} damaged chunks were left out, {total} messages '
                'were read'
            )
        if self._unlisted:
            self.notes.append(
                f'{path.name} was not closed, as when a recorder is killed: {total} messages were '
                'read one after another'
            )

    def messages(self, topics: set[str] | None) -> Iterator[tuple[str, int, bytes]]:
        """Topic, receive time and bytes of each message that is whole, in the file's order."""
        self._bad_chunks = 0
        with (
            self.path.open('rb') as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            if data[: len(MAGIC)] == MAGIC:
                yield from self._records(data, len(MAGIC), topics)

    def _records(
        self, data: mmap.mmap | bytes, start: int, topics: set[str] | None
    ) -> Iterator[tuple[str, int, bytes]]:
        for fields, begin, end in _walk(data, start):
            kind = fields.get(b'op', b'\0')[0]
            if kind == _CHUNK:
                inner = _open_chunk(data[begin:end], fields.get(b'compression', b'none'))
                self._bad_chunks += inner is None
                yield from self._records(inner or b'', 0, topics)
            elif end > len(data):
                return
            elif kind == _CONNECTION:
                self._learn(fields, data[begin:end])
            elif kind == _BAG_HEADER:
                (index_at,) = struct.unpack('<Q', fields[b'index_pos'])
                # The index lists every chunk at the end of the file; it must be there whole.
                self._unlisted = _LENGTH.unpack(fields[b'chunk_count'])[0] if index_at else -1
            elif kind == _CHUNK_INFO:
                self._unlisted -= 1
            elif kind == _MESSAGE:
                number = _LENGTH.unpack(fields[b'conn'])[0]
                topic = self.channels.get(number, ('', ''))[0]
                seconds, nanoseconds = struct.unpack('<II', fields[b'time'])
                if topic and (topics is None or topic in topics):
                    yield topic, seconds * 10**9 + nanoseconds, data[begin:end]

    def _learn(self, fields: dict[bytes, bytes], record: bytes) -> None:
        about = _fields(record)
        package, _, name = about[b'type'].decode().partition('/')
        msgtype = f'{package}/msg/{name}'
        number = _LENGTH.unpack(fields[b'conn'])[0]
        self.channels[number] = (fields[b'topic'].decode(), msgtype)
        self.definitions[msgtype] = ('ros2msg', about[b'message_definition'].decode())


def _walk(data: mmap.mmap | bytes, start: int) -> Iterator[tuple[dict[bytes, bytes], int, int]]:
    """Header fields, begin and end of the data of each record; of one cut short as well."""
    position = start
    while position + 4 <= len(data):
        (header_bytes,) = _LENGTH.unpack_from(data, position)
        body = position + 4 + header_bytes
        if body + 4 > len(data):
            return
        fields = _fields(data[position + 4 : body])
        (data_bytes,) = _LENGTH.unpack_from(data, body)
        position = body + 4 + data_bytes
        yield fields, body + 4, position


def _fields(header: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    position = 0
    while position + 4 <= len(header):
        (length,) = _LENGTH.unpack_from(header, position)
        name, _, value = header[position + 4 : position + 4 + length].partition(b'=')
        found[name] = value
        position += 4 + length
    return found


def _open_chunk(record: bytes, compression: bytes) -> bytes | None:
    """A chunk's records, of one cut short those before the cut; None where nothing can be had."""
    try:
        if compression == b'bz2':
            return bz2.BZ2Decompressor().decompress(record)
        if compression == b'lz4':
            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(record))
    except (OSError, EOFError, RuntimeError):
        return None
    return record
