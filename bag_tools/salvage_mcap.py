"""Messages of an mcap file that was not closed or is damaged: read without its index."""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import lz4.frame  # type: ignore[import-untyped]
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, Schema, Statistics

MAGIC = b'\x89MCAP0\r\n'
_RECORD = struct.Struct('<BQ')
# Channel, sequence, log time and publish time before a message's bytes.
_MESSAGE = struct.Struct('<HIQQ')
# Start, end and uncompressed size, CRC, and the length of the compression's name.
_CHUNK_HEADER_BYTES = 32


@dataclass
class SalvagedMcap:
    """What can be read of one mcap file.

    Args:
        path: The file.

    Attributes:
        channels: Topic and type by channel.
        definitions: Encoding and text of each type's definition.
        counts: Messages by topic.
        first_ns: Earliest receive time.
        last_ns: Latest receive time.
        notes: What was wrong with the file; none where it is whole.
    """

    path: Path
    channels: dict[int, tuple[str, str]] = field(default_factory=dict)
    definitions: dict[str, tuple[str, str]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    first_ns: int = 2**63 - 1
    last_ns: int = 0
    notes: list[str] = field(default_factory=list)
    ros1: bool = False

    def __post_init__(self) -> None:
        """Read the file once to know what it holds."""
        self._schemas: dict[int, Schema] = {}
        self._bad_chunks = 0
        self._closed = False
        self._statistics: Statistics | None = None
        self._cut_at: int | None = None
        for topic, receive_ns, _ in self.messages(None):
            self.counts[topic] = self.counts.get(topic, 0) + 1
            self.first_ns = min(self.first_ns, receive_ns)
            self.last_ns = max(self.last_ns, receive_ns)
        self._note()

    def messages(self, topics: set[str] | None) -> Iterator[tuple[str, int, bytes]]:
        """Topic, receive time and bytes of each message that is whole, in the file's order."""
        self._bad_chunks, self._cut_at = 0, None
        with (
            self.path.open('rb') as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            if data[: len(MAGIC)] != MAGIC:
                self._cut_at = 0
                return
            yield from self._records(data, len(MAGIC), topics)

    def _records(
        self, data: mmap.mmap | bytes, start: int, topics: set[str] | None
    ) -> Iterator[tuple[str, int, bytes]]:
        for opcode, at, end in self._walk(data, start):
            if opcode == Opcode.CHUNK:
                yield from self._chunk(data, at, end, topics)
            elif end > len(data):
                return
            elif opcode == Opcode.MESSAGE:
                channel, _, receive_ns, _ = _MESSAGE.unpack_from(data, at)
                topic = self.channels.get(channel, ('', ''))[0]
                if topic and (topics is None or topic in topics):
                    yield topic, receive_ns, data[at + _MESSAGE.size : end]
            else:
                self._learn(opcode, data[at:end])

    def _walk(self, data: mmap.mmap | bytes, start: int) -> Iterator[tuple[int, int, int]]:
        """Opcode, begin and end of each record; of one that is cut short as well."""
        position, size = start, len(data)
        while position + _RECORD.size <= size and data[position : position + 8] != MAGIC:
            opcode, length = _RECORD.unpack_from(data, position)
            begin = position + _RECORD.size
            position = begin + length
            if position > size:
                self._cut_at = begin
            yield opcode, begin, position
        if isinstance(data, mmap.mmap):
            self._closed = position + len(MAGIC) == size

    def _learn(self, opcode: int, record: bytes) -> None:
        stream = ReadDataStream(BytesIO(record))
        if opcode == Opcode.SCHEMA:
            schema = Schema.read(stream)
            self._schemas[schema.id] = schema
            self.definitions[schema.name] = (schema.encoding, schema.data.decode())
        elif opcode == Opcode.CHANNEL:
            channel = Channel.read(stream)
            schema_of = self._schemas.get(channel.schema_id)
            if schema_of is not None:
                self.channels[channel.id] = (channel.topic, schema_of.name)
        elif opcode == Opcode.STATISTICS:
            self._statistics = Statistics.read(stream)

    def _chunk(
        self, data: mmap.mmap | bytes, at: int, end: int, topics: set[str] | None
    ) -> Iterator[tuple[str, int, bytes]]:
        whole = end <= len(data)
        inner = _whole_chunk(data[at:end]) if whole else _partial_chunk(data[at:])
        self._bad_chunks += inner is None
        if inner:
            yield from self._records(inner, 0, topics)

    def _note(self) -> None:
        total = sum(self.counts.values())
        if self._bad_chunks:
            self.notes.append(
                f'{self.path.name}: {self._bad_chunks} damaged chunks were left out, '
                f'{total} messages were read'
            )
        if not self._closed:
            self.notes.append(
                f'{self.path.name} was not closed, as when a recorder is killed: {total} messages '
                'were read as a stream'
                + ('; the last record is cut short' if self._cut_at is not None else '')
            )
        if self._statistics is not None and self._statistics.message_count != total:
            self.notes.append(
                f'{self.path.name} claims {self._statistics.message_count} messages, {total} '
                'could be read'
            )


def _whole_chunk(record: bytes) -> bytes | None:
    """A chunk's records, or None where they are damaged."""
    try:
        chunk = Chunk.read(ReadDataStream(BytesIO(record)))
        inner = _decompress(chunk)
    except Exception:  # the decompressors raise many kinds
        return None
    crc = chunk.uncompressed_crc
    return inner if not crc or zlib.crc32(inner) == crc else None


def _decompress(chunk: Chunk) -> bytes:
    if chunk.compression == 'zstd':
        return zstandard.ZstdDecompressor().decompress(
            chunk.data, max_output_size=chunk.uncompressed_size
        )
    if chunk.compression == 'lz4':
        return bytes(lz4.frame.decompress(chunk.data))
    return chunk.data


def _partial_chunk(record: bytes) -> bytes:
    """What can be had of the records of a chunk whose end is missing."""
    if len(record) < _CHUNK_HEADER_BYTES + 8:
        return b''
    (length,) = struct.unpack_from('<I', record, 28)
    compression = record[32 : 32 + length]
    body = record[32 + length + 8 :]
    if compression == b'':
        return body
    return _partial_zstd(body) if compression == b'zstd' else b''


def _partial_zstd(body: bytes) -> bytes:
    made = bytearray()
    reader = zstandard.ZstdDecompressor().stream_reader(BytesIO(body))
    try:
        while block := reader.read1(1 << 16):
            made += block
    except zstandard.ZstdError:
        pass
    return bytes(made)
