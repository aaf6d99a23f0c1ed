"""What can be had of a damaged bag, behind the same interface as the storage library's reader.

Nothing here is used unless it is asked for, and everything done is told in notes.
"""

from __future__ import annotations

import heapq
import logging
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
import zstandard
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from bag_tools.bag_files import COMPRESSED_SUFFIXES
from bag_tools.reader import BAG_FILE_SUFFIXES, BagError, storage_files
from bag_tools.salvage_mcap import SalvagedMcap
from bag_tools.salvage_ros1 import SalvagedRos1
from bag_tools.salvage_sqlite import SalvagedSqlite

logger = logging.getLogger(__name__)

Part = SalvagedMcap | SalvagedSqlite | SalvagedRos1
PARTS: dict[str, type[Any]] = {'.mcap': SalvagedMcap, '.db3': SalvagedSqlite, '.bag': SalvagedRos1}


def open_salvaged(path: Path, store: Any) -> tuple[SalvagedBag, tuple[str, ...]]:
    """A reader of what can be had of a bag, and notes on what was wrong; none for a whole bag.

    Args:
        path: The bag.
        store: Typestore for bags without definitions of their own.

    Raises:
        BagError: There is no bag, or nothing can be had of it.
    """
    if not path.exists():
        raise BagError(f'there is no bag at {path}')
    bag = SalvagedBag(path, store)
    if not sum(connection.msgcount for connection in bag.connections) and bag.notes:
        bag.close()
        raise BagError(f'{path}: nothing can be salvaged ({"; ".join(bag.notes)})')
    return bag, tuple(bag.notes)


class SalvagedBag:
    """Messages of all parts of a bag that can be read.

    Has what `BagReader` uses of the storage library's reader: `connections`, `messages`,
    `deserialize`, `typestore`, `is2`, `duration`, `close`.

    Args:
        path: A bag file, or a folder of rosbag2's with or without metadata.yaml.
        store: Typestore for bags without definitions of their own.
    """

    def __init__(self, path: Path, store: Any) -> None:
        self.notes: list[str] = []
        self._temporary = tempfile.TemporaryDirectory(prefix='rosbag2npz-')
        files = [path] if path.is_file() else self._files(path)
        self._parts = [part for file in files if (part := self._part(file)) is not None]
        if not self._parts:
            self.close()
            raise BagError(f'{path}: nothing can be salvaged ({"; ".join(self.notes)})')
        for part in self._parts:
            self.notes.extend(part.notes)
        if path.is_dir():
            self._compare(path)
        self.is2 = not self._parts[0].ros1
        self.typestore = self._typestore(store)
        self.connections = self._connections()
        first = min(part.first_ns for part in self._parts)
        self.duration = max(0, max(part.last_ns for part in self._parts) - first)

    def messages(self, connections: Collection[Any]) -> Iterator[tuple[Any, int, bytes]]:
        """Connection, receive time and bytes of each message, by receive time across parts."""
        by_topic = {connection.topic: connection for connection in connections}
        streams = [part.messages(set(by_topic)) for part in self._parts]
        for topic, receive_ns, raw in heapq.merge(*streams, key=lambda item: item[1]):
            yield by_topic[topic], receive_ns, raw

    def deserialize(self, raw: bytes, msgtype: str) -> Any:
        """What a message says."""
        store = self.typestore
        read = store.deserialize_cdr if self.is2 else store.deserialize_ros1
        return read(raw, msgtype)

    def close(self) -> None:
        """Remove what was unpacked."""
        self._temporary.cleanup()

    def _part(self, file: Path) -> Part | None:
        kind = PARTS.get(file.suffix)
        if kind is None:
            raise BagError(f'{file} is not a bag: its name ends in none of {BAG_FILE_SUFFIXES}')
        if not file.stat().st_size:
            self.notes.append(f'{file.name} is empty (0 bytes)')
            return None
        part: Part = kind(file)
        return part

    def _files(self, folder: Path) -> list[Path]:
        files = storage_files(folder)
        for packed in sorted(p for p in folder.iterdir() if p.name.endswith(COMPRESSED_SUFFIXES)):
            files.append(self._unpack(packed))
        if not files:
            raise BagError(f'{folder} is not a bag: it holds no .mcap or .db3')
        return files

    def _unpack(self, packed: Path) -> Path:
        target = Path(self._temporary.name, packed.stem)
        with packed.open('rb') as source, target.open('wb') as made:
            try:
                with zstandard.ZstdDecompressor().stream_reader(source) as reader:
                    shutil.copyfileobj(reader, made)
            except zstandard.ZstdError as error:
                self.notes.append(f'{packed.name} is damaged: {error}')
        return target

    def _compare(self, folder: Path) -> None:
        """Hold what was read against what metadata.yaml says."""
        try:
            text = (folder / 'metadata.yaml').read_text(encoding='utf-8')
            about = yaml.safe_load(text)['rosbag2_bagfile_information']
            named = [Path(name).name for name in about['relative_file_paths']]
            claims = {
                t['topic_metadata']['name']: int(t['message_count'])
                for t in about['topics_with_message_count']
            }
        except FileNotFoundError:
            self.notes.append('there is no metadata.yaml, as when a recorder is killed')
            return
        except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            self.notes.append(f'metadata.yaml cannot be read: {error!r}')
            return
        missing = [name for name in named if not (folder / name).is_file()]
        if missing:
            self.notes.append(f'files are missing: {", ".join(missing)}')
        counts = self._counts()
        for topic, claimed in claims.items():
            if counts.get(topic, 0) != claimed:
                self.notes.append(
                    f'{topic}: metadata.yaml claims {claimed} messages, '
                    f'{counts.get(topic, 0)} could be read'
                )

    def _counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for part in self._parts:
            for topic, count in part.counts.items():
                counts[topic] = counts.get(topic, 0) + count
        return counts

    def _connections(self) -> list[Any]:
        counts = self._counts()
        types = {topic: msgtype for p in self._parts for topic, msgtype in p.channels.values()}
        return [
            SimpleNamespace(topic=topic, msgtype=types[topic], msgcount=counts.get(topic, 0))
            for topic in sorted(types)
        ]

    def _typestore(self, store: Any) -> Any:
        types: dict[str, Any] = {}
        for part in self._parts:
            for msgtype, (encoding, text) in part.definitions.items():
                types.update(_definitions(msgtype, encoding, text))
        if not types:
            return store
        made = get_typestore(Stores.EMPTY)
        made.register(types)
        return made


def _definitions(msgtype: str, encoding: str, text: str) -> dict[str, Any]:
    """Types that a definition defines; none where it is not understood, as of services."""
    try:
        if encoding == 'ros2msg' and text:
            return dict(get_types_from_msg(text, msgtype))
        if encoding in ('ros2idl', 'omgidl') and text:
            return dict(get_types_from_idl(text))
    except Exception:  # the parser raises many kinds
        logger.debug('the definition of %s is not understood', msgtype)
    return {}
