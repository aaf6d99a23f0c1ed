"""One recorded episode, as `rosbag2npz` writes it: arrays over the same ticks, read in blocks.

An `.npz` is a zip of `.npy` files. Here an array's shape is read from its header alone and its rows
a block at a time, so that an episode need not fit into memory; a folder of the same `.npy` files
is taken as well.
"""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bag_tools.thumbnails import image_from_png_text

STAMPS = 'stamps'
JOINT_NAMES = 'joint_names'
METADATA = 'metadata'
JOINTS = 'joints_state'
ACTIONS = 'actions'
COLOR = 'color'
VALID = 'valid'
_NOT_OVER_TICKS = (JOINT_NAMES, METADATA)
BLOCK_BYTES = 16 * 2**20
# What a file that is cut short or whose bytes are wrong raises, a pickle in it as well.
_BROKEN = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error)


class EpisodeError(ValueError):
    """An episode cannot be read, or does not fit; the text names the file and the reason."""


@dataclass(frozen=True)
class ArrayHeader:
    """Shape and type of a stored array.

    Attributes:
        shape: Its shape; the first number is ticks.
        dtype: Its type.
        by_column: Whether it is stored column by column, as slices of numpy's often are.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    by_column: bool = False

    @property
    def row_bytes(self) -> int:
        """Bytes of one tick."""
        return self.dtype.itemsize * math.prod(self.shape[1:])


class Episode:
    """An episode's headers, and its arrays on demand.

    Args:
        path: An `.npz`, or a folder of `.npy` files.

    Raises:
        EpisodeError: It cannot be read, holds pickled objects, or its arrays differ in ticks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._members = _members(path)
            self.headers = {key: self._header(key) for key in self._members}
        except _BROKEN as error:
            raise EpisodeError(f'{path} is not a readable episode: {error}') from error
        self.steps = self._count_steps()

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the arrays over ticks, stamps and validity among them, sorted."""
        return tuple(sorted(key for key in self.headers if key not in _NOT_OVER_TICKS))

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the recorded streams: the arrays over ticks but for stamps and validity."""
        return tuple(key for key in self.keys if key != STAMPS and not is_valid_key(key))

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the joints, in the order of the columns.

        Raises:
            EpisodeError: The episode does not say them.
        """
        if JOINT_NAMES not in self.headers:
            raise EpisodeError(f'{self.path} has no {JOINT_NAMES}: which joint is which is unknown')
        return tuple(str(name) for name in self.array(JOINT_NAMES))

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What the converter noted; empty where it noted nothing.

        Raises:
            EpisodeError: It is no JSON object.
        """
        if METADATA not in self.headers:
            return {}
        try:
            values = json.loads(str(self.array(METADATA)))
        except ValueError as error:
            raise EpisodeError(f'{self.path}: {METADATA} is not JSON: {error}') from error
        if not isinstance(values, dict):
            raise EpisodeError(f'{self.path}: {METADATA} is no JSON object')
        return values

    def described(self, key: str) -> dict[str, Any]:
        """What the converter noted of a stream: 'topic', 'kind', 'columns' and so on."""
        streams = self.metadata.get('streams')
        noted = streams.get(key) if isinstance(streams, dict) else None
        return noted if isinstance(noted, dict) else {}

    def columns(self, key: str) -> tuple[str, ...]:
        """Names of a stream's columns; empty where it has none.

        Actions have the names of the stream that they were made of.
        """
        if key == JOINTS:
            return self.joint_names
        width = self.headers[key].shape[1:]
        actions = self.metadata.get('actions') if key == ACTIONS else None
        source = (actions.get('command') or actions.get('source')) if actions else key
        names = self.described(str(source)).get('columns')
        if names is None and key == ACTIONS and width == (len(self.joint_names),):
            return self.joint_names
        return tuple(str(name) for name in names) if names and width == (len(names),) else ()

    def reference(self, key: str) -> NDArray[np.uint8] | None:
        """A stream's image without contact, (H, W, 3) uint8 RGB; None where none was kept."""
        text = self.described(key).get('reference_png')
        return None if text is None else image_from_png_text(text)

    def array(self, key: str) -> NDArray[Any]:
        """One array whole.

        Raises:
            EpisodeError: The file ends early, or is broken.
        """
        try:
            with self._open(key) as file:
                return np.asarray(npy.read_array(file, allow_pickle=False))
        except _BROKEN as error:
            raise EpisodeError(f'{self.path}: {key} cannot be read: {error}') from error

    def blocks(self, key: str, rows: int | None = None) -> Iterator[NDArray[Any]]:
        """One array over ticks in blocks of rows, one in memory at a time.

        Args:
            key: Its name.
            rows: Ticks in a block; by default as many as fit in 16 MB.

        Raises:
            EpisodeError: The file ends early, or is broken.
        """
        header = self.headers[key]
        size = rows or max(1, BLOCK_BYTES // max(1, header.row_bytes))
        if header.by_column:
            whole = self.array(key)
            yield from (whole[at : at + size] for at in range(0, self.steps, size))
            return
        try:
            with self._open(key) as file:
                _read_header(file)
                for at in range(0, self.steps, size):
                    yield _read_rows(file, header, min(size, self.steps - at))
        except _BROKEN as error:
            raise EpisodeError(f'{self.path}: {key} cannot be read: {error}') from error

    @contextmanager
    def _open(self, key: str) -> Iterator[IO[bytes]]:
        if self.path.is_dir():
            with (self.path / self._members[key]).open('rb') as file:
                yield file
            return
        with zipfile.ZipFile(self.path) as archive, archive.open(self._members[key]) as file:
            yield file

    def _header(self, key: str) -> ArrayHeader:
        with self._open(key) as file:
            header = _read_header(file)
        if header.dtype.hasobject:
            raise ValueError(f'{key} holds pickled objects, which are not read')
        return header

    def _count_steps(self) -> int:
        lengths = {key: self.headers[key].shape[:1] for key in self.keys}
        if not lengths:
            raise EpisodeError(f'{self.path} holds no arrays')
        if len(set(lengths.values())) > 1 or () in lengths.values():
            each = ', '.join(
                f'{key} {self.headers[key].shape[0] if shape else "none"}'
                for key, shape in lengths.items()
            )
            raise EpisodeError(f'{self.path}: the arrays differ in ticks: {each}')
        (steps,) = next(iter(lengths.values()))
        if not steps:
            raise EpisodeError(f'{self.path} holds no tick')
        return int(steps)


def is_valid_key(key: str) -> bool:
    """Whether a key names a mask of what was neither held nor missing."""
    return key == VALID or key.startswith(f'{VALID}_')


def find_episodes(paths: list[Path]) -> list[Path]:
    """The episodes that paths name: files, and all of a folder, once each, sorted.

    Raises:
        EpisodeError: A path is absent, or holds no episode.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        for episode in _episodes_at(path):
            found.setdefault(episode.resolve(), episode)
    return sorted(found.values())


def _episodes_at(path: Path) -> list[Path]:
    if path.is_file() or _is_array_folder(path):
        return [path]
    if not path.is_dir():
        raise EpisodeError(f'there is no episode at {path}')
    # A name with a dot before it is that of one which a conversion has not finished.
    names = [p for p in path.iterdir() if not p.name.startswith('.')]
    inside = [p for p in names if p.suffix == '.npz' or _is_array_folder(p)]
    if not inside:
        raise EpisodeError(f'{path} holds no episode: no .npz, and no folder of .npy files')
    return inside


def _is_array_folder(path: Path) -> bool:
    return path.is_dir() and (path / f'{STAMPS}.npy').is_file()


def _members(path: Path) -> dict[str, str]:
    """The `.npy` files of an episode, by the names of their arrays."""
    if path.is_dir():
        names = [file.name for file in path.glob('*.npy')]
    else:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith('.npy')]
    return {name.removesuffix('.npy'): name for name in sorted(names)}


def _read_header(file: IO[bytes]) -> ArrayHeader:
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f'.npy of version {version} is not known')
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return ArrayHeader(shape, dtype, fortran and len(shape) > 1)


def _read_rows(file: IO[bytes], header: ArrayHeader, count: int) -> NDArray[Any]:
    # A buffer of numpy's own: the rows are read into it once, without a copy of bytes.
    rows = np.empty((count, *header.shape[1:]), dtype=header.dtype)
    view = rows.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        got = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError(f'the array ends {len(view) - done} bytes early')
        done += got
    return rows
