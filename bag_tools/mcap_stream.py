"""Messages of whole .mcap files in the file's order, without copies of what is not wanted.

The storage library copies every message of a chunk, wanted or not. To survey stamps only the first
bytes of an image are needed, so of chunks that are neither compressed nor checksummed nothing else
is read; where whole messages are wanted they are views of their chunk.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import lz4.frame  # type: ignore[import-untyped]
import yaml
import zstandard

MAGIC = b'\x89MCAP0\r\n'
_CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 4, 5, 6, 15
_RECORD = struct.Struct('<BQ')
_HEAD = struct.Struct('<BQHIQQ')
# Start and end time, uncompressed size, CRC-32 and length of the compression's name.
_CHUNK_HEAD = struct.Struct('<QQQII')
_NAME_BYTES = 64
# What a header's stamp lies in.
STAMP_BYTES = 12

Raw = bytes | memoryview
DECOMPRESSION_ERRORS = (zstandard.ZstdError, RuntimeError, UnicodeDecodeError)


class McapStreamError(Exception):
    """An .mcap file is damaged."""


class McapStream:
    """Files that make one recording, read one after another.

    Args:
        paths: The files in order.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = tuple(paths)

    def messages(
        self, topics: Collection[str], heads: Collection[str]
    ) -> Iterator[tuple[str, int, Raw]]:
        """Topic, receive time and bytes of each message.

        Args:
            topics: Those wanted.
            heads: Those of which the first STAMP_BYTES suffice; it may grow meanwhile.

        Raises:
            McapStreamError: A file is damaged.
        """
        for path in self._paths:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                yield from _File(descriptor, topics, heads).messages()
            finally:
                os.close(descriptor)


class _File:
    def __init__(self, descriptor: int, topics: Collection[str], heads: Collection[str]) -> None:
        self._descriptor = descriptor
        self._topics, self._heads = topics, heads
        self._size = os.fstat(descriptor).st_size
        self._channels: dict[int, str] = {}

    def messages(self) -> Iterator[tuple[str, int, Raw]]:
        position = len(MAGIC)
        while position + _RECORD.size <= self._size:
            opcode, length = _RECORD.unpack(self._read(position, _RECORD.size))
            body = position + _RECORD.size
            if opcode == _DATA_END:
                return
            if body + length > self._size:
                raise McapStreamError(f'a record at {position} is cut short')
            if opcode == _CHUNK:
                yield from self._chunk(body, length)
            elif opcode == _CHANNEL:
                self._learn(self._read(body, length))
            elif opcode == _MESSAGE:
                yield from self._on_disk(position, body + length)
            position = body + length

    def _read(self, position: int, count: int) -> bytes:
        data = os.pread(self._descriptor, count, position)
        if len(data) < count:
            raise McapStreamError(f'{count} bytes are wanted at {position}, {len(data)} are there')
        return data

    def _learn(self, record: Raw) -> None:
        (length,) = struct.unpack_from('<I', record, 4)
        number = struct.unpack_from('<H', record)[0]
        self._channels[number] = bytes(record[8 : 8 + length]).decode()

    def _chunk(self, body: int, length: int) -> Iterator[tuple[str, int, Raw]]:
        head = self._read(body, min(length, _CHUNK_HEAD.size + _NAME_BYTES))
        _, _, size, crc, name_bytes = _CHUNK_HEAD.unpack_from(head)
        name = head[_CHUNK_HEAD.size : _CHUNK_HEAD.size + name_bytes].decode()
        begin = body + _CHUNK_HEAD.size + name_bytes + 8
        if not name and not crc and self._heads:
            yield from self._on_disk(begin, body + length)
            return
        data = _decompress(self._read(begin, body + length - begin), name, size)
        if len(data) != size:
            raise McapStreamError(f'a chunk at {body} holds {len(data)} bytes, not {size}')
        if crc and zlib.crc32(data) != crc:
            raise McapStreamError(f'Chunk checksum mismatch at {body}')
        yield from self._in_memory(memoryview(data))

    def _on_disk(self, position: int, end: int) -> Iterator[tuple[str, int, Raw]]:
        """Records that lie in the file as they are: no more is read of each than is wanted."""
        while position < end:
            count = min(_HEAD.size + STAMP_BYTES, end - position)
            head = self._read(position, count)
            opcode, length = _RECORD.unpack_from(head)
            body = position + _RECORD.size
            position = body + length
            if position > end:
                raise McapStreamError(f'a record at {body} is cut short')
            if opcode == _CHANNEL:
                self._learn(self._read(body, length))
            elif opcode == _MESSAGE:
                _, _, channel, _, receive_ns, _ = _HEAD.unpack_from(head)
                topic = self._topic(channel)
                if topic in self._heads and topic in self._topics:
                    yield topic, receive_ns, head[_HEAD.size :]
                elif topic in self._topics:
                    start = body + _HEAD.size - _RECORD.size
                    yield topic, receive_ns, self._read(start, position - start)

    def _in_memory(self, data: memoryview) -> Iterator[tuple[str, int, Raw]]:
        position = 0
        while position < len(data):
            opcode, length = _RECORD.unpack_from(data, position)
            body = position + _RECORD.size
            end = body + length
            if end > len(data):
                raise McapStreamError('a record of a chunk is cut short')
            if opcode == _CHANNEL:
                self._learn(data[body:end])
            elif opcode == _MESSAGE:
                _, _, channel, _, receive_ns, _ = _HEAD.unpack_from(data, position)
                topic = self._topic(channel)
                if topic in self._topics:
                    yield topic, receive_ns, data[position + _HEAD.size : end]
            position = end

    def _topic(self, channel: int) -> str:
        if channel not in self._channels:
            raise McapStreamError(f'a message of channel {channel}, which is not there')
        return self._channels[channel]


def _decompress(data: bytes, name: str, size: int) -> bytes:
    if name == '':
        return data
    if name == 'zstd':
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    if name == 'lz4':
        return bytes(lz4.frame.decompress(data))
    raise McapStreamError(f'a chunk is compressed as {name!r}, which is not known')


def mcap_files(path: Path) -> tuple[Path, ...]:
    """The plain .mcap files of a bag that can be opened, in order; none for one of another kind.

    Args:
        path: A bag file, or a folder of rosbag2's.
    """
    if path.is_file():
        return (path,) if path.suffix == '.mcap' else ()
    text = (path / 'metadata.yaml').read_text(encoding='utf-8')
    about = yaml.safe_load(text)['rosbag2_bagfile_information']
    plain = (about.get('compression_mode') or '').lower() in ('', 'none', 'storage')
    files = tuple(path / Path(name).name for name in about['relative_file_paths'])
    return files if plain and all(file.suffix == '.mcap' for file in files) else ()
