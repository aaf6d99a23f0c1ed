"""Messages of an sqlite bag whose write-ahead log was never merged, or that is cut short."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import zstandard

_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
# After unreadable rows reading goes on this many rows further, twice as far each time.
_SKIPS = 40


class SalvagedSqlite:
    """What can be read of one .db3 file; attributes as of SalvagedMcap.

    Args:
        path: The file. It is never written to: a write-ahead log beside it is merged on a copy.
    """

    ros1 = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self.counts: dict[str, int] = {}
        self.first_ns, self.last_ns = 2**63 - 1, 0
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._database = f'file:{path.resolve()}?immutable=1'
        log = path.with_name(f'{path.name}-wal')
        self._merged = log.is_file() and log.stat().st_size > 0
        if self._merged:
            self._duplicate(path.stat().st_size, log)
        elif rest := path.stat().st_size % _page_bytes(path):
            # A page that is cut short would be filled up with zeros, as if they had been recorded.
            self._duplicate(path.stat().st_size - rest, None)
        self._damaged = False
        self._topics: dict[int, str] = {}
        self.channels: dict[int, tuple[str, str]] = {}
        self.definitions: dict[str, tuple[str, str]] = {}
        self._read_topics()
        for topic, receive_ns, _ in self.messages(None):
            self.counts[topic] = self.counts.get(topic, 0) + 1
            self.first_ns = min(self.first_ns, receive_ns)
            self.last_ns = max(self.last_ns, receive_ns)
        self._note(log)

    def messages(self, topics: set[str] | None) -> Iterator[tuple[str, int, bytes]]:
        """Topic, receive time and bytes of each message that is whole, as they were written."""
        wanted = {i: name for i, name in self._topics.items() if topics is None or name in topics}
        last, skip, tries = 0, 1, 0
        while tries < _SKIPS:
            try:
                for row, topic_id, receive_ns, data in self._rows(last):
                    if row <= last:
                        # A broken tree leads back to rows that were read already.
                        raise sqlite3.DatabaseError(f'row {row} comes after row {last}')
                    last = row
                    if topic_id in wanted:
                        yield wanted[topic_id], receive_ns, _plain(data)
                return
            except (sqlite3.DatabaseError, zstandard.ZstdError):
                self._damaged = True
                last, skip, tries = last + skip, skip * 2, tries + 1

    def _rows(self, after: int) -> Iterator[tuple[int, int, int, bytes]]:
        with closing(self._connect()) as database:
            yield from database.execute(
                'SELECT id, topic_id, timestamp, data FROM messages WHERE id > ? ORDER BY id',
                (min(after, 2**62),),
            )

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._database, uri=True)
        # Without this a file shorter than its header says is refused as a whole.
        database.execute('PRAGMA writable_schema=ON')
        return database

    def _duplicate(self, size: int, log: Path | None) -> None:
        """Go on with a copy of the file's first bytes, and of its log."""
        self._copy = tempfile.TemporaryDirectory(prefix='rosbag2npz-')
        target = Path(self._copy.name, self.path.name)
        shutil.copyfile(self.path, target)
        os.truncate(target, size)
        if log is not None:
            shutil.copyfile(log, target.with_name(log.name))
        self._database = f'file:{target}'

    def _read_topics(self) -> None:
        try:
            with closing(self._connect()) as database:
                rows = list(database.execute('SELECT id, name, type FROM topics'))
                tables = {
                    name
                    for (name,) in database.execute(
                        "SELECT name FROM sqlite_master WHERE type = 'table'"
                    )
                }
                if 'message_definitions' in tables:
                    query = (
                        'SELECT topic_type, encoding, encoded_message_definition '
                        'FROM message_definitions'
                    )
                    self.definitions = {t: (e, text) for t, e, text in database.execute(query)}
        except sqlite3.DatabaseError as error:
            self.notes.append(f'{self.path.name}: its topics cannot be read: {error}')
            return
        self._topics = {number: name for number, name, _ in rows}
        self.channels = {number: (name, msgtype) for number, name, msgtype in rows}

    def _note(self, log: Path) -> None:
        total = sum(self.counts.values())
        if self._merged:
            self.notes.append(
                f'{log.name} was never merged, as when a recorder is killed: merged on a copy, '
                f'{total} messages were read'
            )
        if self._damaged:
            self.notes.append(f'{self.path.name} is damaged: {total} messages could be read')


def _page_bytes(path: Path) -> int:
    """The size of a database's pages, of which its file is a whole number."""
    with path.open('rb') as file:
        header = file.read(18)
    size = int.from_bytes(header[16:18], 'big')
    return 65536 if size == 1 else max(size, 1)


def _plain(data: bytes) -> bytes:
    """A message, decompressed where rosbag2 compressed it: CDR never begins so."""
    if data[:4] != _ZSTD_MAGIC:
        return bytes(data)
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)
