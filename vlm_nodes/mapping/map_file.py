"""Maps on disk: one npz file that is either whole or not there."""

from __future__ import annotations

import json
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bag_tools.whole_file import remove_partials, whole_file
from vlm_nodes.mapping.voxel_store import CHUNK_ROWS, COLUMNS, Chunk

FORMAT = 'vlm_nodes voxel map'
VERSION = 1
_HEADER = 'header.json'
# What zipfile and numpy raise of bytes that are not as they were written.
_DAMAGE = (ValueError, KeyError, TypeError, RuntimeError, tokenize.TokenError, zlib.error)


class MapFileError(Exception):
    """A map file cannot be written or read; the message names the file and the reason."""


@dataclass(frozen=True)
class MapFile:
    """What a map file holds.

    Attributes:
        header: Format, version, frame id, encoder identity, configuration and counts.
        keys: (N,) int64 packed voxel keys, by row.
        chunks: The rows' data; the last chunk is filled up to N.
        projection: Arrays of the feature projection; empty where features are whole.
    """

    header: dict[str, Any]
    keys: NDArray[np.int64]
    chunks: list[Chunk]
    projection: dict[str, NDArray[np.float32]]


def write_map(path: Path, content: MapFile) -> None:
    """Write a map under a temporary name in the same folder, sync it, and rename it to `path`.

    Features are stored as they are: float32 noise does not compress, and deflating it would take
    a core for seconds. The rest is compressed. Memory beyond the map's own is one chunk.

    Raises:
        MapFileError: The folder is missing, the disk is full, or the like; what was at `path`
            before is untouched.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise MapFileError(f'{path}: cannot save the map: folder {path.parent} does not exist')
    try:
        remove_partials(path)
        with whole_file(path) as stream:
            _write_archive(stream, content)
    except OSError as error:
        raise MapFileError(f'{path}: cannot save the map: {error.strerror or error}') from error


def read_map(path: Path) -> MapFile:
    """Read and check a map file; nothing in it is executed.

    Raises:
        MapFileError: The file is missing, truncated, damaged, not a map, or of another version.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(path, archive)
    except FileNotFoundError:
        raise MapFileError(f'{path}: there is no such map file') from None
    except (OSError, EOFError) as error:
        raise MapFileError(f'{path}: cannot read the map: {error}') from error
    except zipfile.BadZipFile as error:
        raise MapFileError(
            f'{path}: not a map file, or a truncated or damaged one ({error})'
        ) from error
    except _DAMAGE as error:
        raise MapFileError(f'{path}: the map file is damaged: {error}') from error


def _write_archive(stream: IO[bytes], content: MapFile) -> None:
    with zipfile.ZipFile(stream, 'w', zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(_HEADER, json.dumps(content.header, indent=1))
        _write_array(archive, 'keys', content.keys.shape, content.keys.dtype, [content.keys])
        for name, array in content.projection.items():
            _write_array(archive, f'projection_{name}', array.shape, array.dtype, [array])
        rows = content.keys.size
        template = content.chunks[0] if content.chunks else Chunk.empty(0)
        for name in COLUMNS:
            column = getattr(template, name)
            parts = [getattr(chunk, name)[:n] for chunk, n in _used(content.chunks, rows)]
            _write_array(archive, name, (rows, *column.shape[1:]), column.dtype, parts)


def _used(chunks: list[Chunk], rows: int) -> Iterator[tuple[Chunk, int]]:
    for index, chunk in enumerate(chunks):
        yield chunk, min(CHUNK_ROWS, rows - index * CHUNK_ROWS)


def _write_array(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    parts: list[NDArray[Any]],
) -> None:
    member = zipfile.ZipInfo(f'{name}.npy')
    member.compress_type = zipfile.ZIP_STORED if name == 'features' else zipfile.ZIP_DEFLATED
    with archive.open(member, 'w', force_zip64=True) as stream:
        header = {'descr': np.lib.format.dtype_to_descr(dtype), 'fortran_order': False}
        np.lib.format.write_array_header_1_0(stream, {**header, 'shape': shape})
        for part in parts:
            stream.write(np.ascontiguousarray(part).data.cast('B') if part.size else b'')


def _read_archive(path: Path, archive: zipfile.ZipFile) -> MapFile:
    header = _read_header(path, archive)
    rows, feature_dim = int(header['voxels']), int(header['feature_dim'])
    keys = np.empty(rows, dtype=np.int64)
    _read_array(archive, 'keys', [keys], rows)
    chunks = [Chunk.empty(feature_dim) for _ in range(0, rows, CHUNK_ROWS)]
    for name in COLUMNS:
        parts = [getattr(chunk, name)[:n] for chunk, n in _used(chunks, rows)]
        _read_array(archive, name, parts or [getattr(Chunk.empty(feature_dim), name)[:0]], rows)
    for chunk, n in _used(chunks, rows):
        for name in ('features', 'feature_weight', 'offset', 'weight'):
            if not np.isfinite(getattr(chunk, name)[:n]).all():
                raise ValueError(f'array {name} holds numbers that are not finite')
    return MapFile(header, keys, chunks, _read_projection(archive, header))


def _read_header(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    if _HEADER not in archive.namelist():
        raise MapFileError(f'{path}: not a map file: it has no {_HEADER}')
    header = json.loads(archive.read(_HEADER))
    if not isinstance(header, dict) or header.get('format') != FORMAT:
        raise MapFileError(f'{path}: not a map file: its {_HEADER} is not of a {FORMAT}')
    if header.get('version') != VERSION:
        raise MapFileError(
            f'{path}: map format version {header.get("version")}, this program reads {VERSION}'
        )
    return header


def _read_projection(
    archive: zipfile.ZipFile, header: Mapping[str, Any]
) -> dict[str, NDArray[np.float32]]:
    arrays = {}
    for name, shape in header['projection'].items():
        array = np.empty(tuple(shape), dtype=np.float32)
        _read_array(archive, f'projection_{name}', [array], len(array))
        arrays[name] = array
    return arrays


def _read_array(archive: zipfile.ZipFile, name: str, parts: list[NDArray[Any]], rows: int) -> None:
    """Fill `parts`, pieces of one array, from a member that must have their type and shape."""
    expected = (rows, *parts[0].shape[1:])
    with archive.open(f'{name}.npy') as stream:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError(f'array {name} is of an unknown npy version')
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        if (shape, fortran, dtype) != (expected, False, parts[0].dtype):
            raise ValueError(f'array {name} is {shape} {dtype}, not {expected} {parts[0].dtype}')
        for part in parts:
            _read_exactly(stream, part, name)
        if stream.read(1):
            raise ValueError(f'array {name} is longer than its shape')


def _read_exactly(stream: IO[bytes], part: NDArray[Any], name: str) -> None:
    content = np.empty(part.shape, dtype=part.dtype)  # columns of a chunk are not contiguous
    view = content.data.cast('B') if content.size else memoryview(bytearray())
    done = 0
    while done < len(view):
        count = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f'array {name} ends early')
        done += count
    part[...] = content
