"""Where a conversion's arrays go: .npz, a folder of .npy, or HDF5 in robomimic's layout.

Every writer takes rows in any order, holds none of them, and lets its output appear whole or not
at all.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import h5py  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import DTypeLike, NDArray

from bag_tools.stored_zip import StoredNpz, npy_header, write_all
from bag_tools.whole_file import partial_path, put, remove_partials, sync
from bag_tools.whole_folder import put_folder

SUFFIXES = {'npz': '.npz', 'npy-dir': '', 'hdf5': '.hdf5', 'lerobot': '.lerobot'}
FORMATS = tuple(SUFFIXES)

_COPY_BYTES = 1 << 20


class ArrayWriter(Protocol):
    """Takes arrays by rows; nothing is at its path until `close`."""

    path: Path

    def allocate(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Make room for an array, zero until written; rows lie along its first axis."""

    def write_row(self, name: str, row: int, values: NDArray[Any]) -> None:
        """Write one row, of the shape and type allocated."""

    def write_array(self, name: str, values: NDArray[Any]) -> None:
        """Write a whole array."""

    def close(self) -> None:
        """Let the output appear."""

    def abort(self) -> None:
        """Leave nothing behind."""


class NpzWriter:
    """An uncompressed .npz.

    Args:
        path: Where it is to appear.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = partial_path(path)
        self._archive = StoredNpz(self._partial)
        self.allocate = self._archive.allocate
        self.write_row = self._archive.write_row
        self.write_array = self._archive.write_array

    def close(self) -> None:
        """Let the file appear."""
        self._archive.close()
        put(self._partial, self.path)

    def abort(self) -> None:
        """Leave nothing behind."""
        self._archive.abort()
        self._partial.unlink(missing_ok=True)


class NpyFolderWriter:
    """A folder of .npy files, one an array; numpy can map them into memory.

    Args:
        path: Where it is to appear.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f'{partial_path(path).name}-'
        self.partial = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
        self._rows: dict[str, tuple[Any, int, int]] = {}

    def allocate(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Make room for an array, zero until written; rows lie along its first axis."""
        header = npy_header(shape, np.dtype(dtype))
        row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
        file = (self.partial / f'{name}.npy').open('wb')
        self._rows[name] = (file, len(header), row_bytes)
        write_all(file.fileno(), header, 0)
        file.truncate(len(header) + shape[0] * row_bytes)

    def write_row(self, name: str, row: int, values: NDArray[Any]) -> None:
        """Write one row, of the shape and type allocated."""
        file, start, row_bytes = self._rows[name]
        data = np.ascontiguousarray(values)
        if data.nbytes != row_bytes:
            raise ValueError(f'{name}[{row}] takes {row_bytes} bytes, not {data.nbytes}')
        write_all(file.fileno(), data.reshape(-1).view(np.uint8), start + row * row_bytes)

    def write_array(self, name: str, values: NDArray[Any]) -> None:
        """Write a whole array."""
        np.save(self.partial / f'{name}.npy', values, allow_pickle=False)

    def finish(self) -> None:
        """Write no more."""
        for file, _, _ in self._rows.values():
            file.close()

    def close(self) -> None:
        """Let the folder appear."""
        self.finish()
        replaced = self.partial.with_name(f'{self.partial.name}.replaced')
        put_folder(self.partial, self.path, replaced)
        shutil.rmtree(replaced, ignore_errors=True)

    def abort(self) -> None:
        """Leave nothing behind."""
        self.finish()
        shutil.rmtree(self.partial, ignore_errors=True)


class CompressedNpzWriter:
    """A deflated .npz, made of a folder of .npy files beside it.

    Args:
        path: Where it is to appear.
        level: 1 (quick) to 9 (small).
    """

    def __init__(self, path: Path, level: int) -> None:
        self.path = path
        self._level = level
        self._folder = NpyFolderWriter(path)
        self.allocate = self._folder.allocate
        self.write_row = self._folder.write_row
        self.write_array = self._folder.write_array

    def close(self) -> None:
        """Compress, and let the file appear."""
        self._folder.finish()
        partial = partial_path(self.path)
        with zipfile.ZipFile(
            partial, 'w', zipfile.ZIP_DEFLATED, compresslevel=self._level
        ) as archive:
            for file in sorted(self._folder.partial.iterdir()):
                with (
                    archive.open(file.name, 'w', force_zip64=True) as to,
                    file.open('rb') as source,
                ):
                    shutil.copyfileobj(source, to, _COPY_BYTES)
        self._folder.abort()
        sync(partial)
        put(partial, self.path)

    def abort(self) -> None:
        """Leave nothing behind."""
        self._folder.abort()
        partial_path(self.path).unlink(missing_ok=True)


class RobomimicWriter:
    """One demonstration in robomimic's HDF5 layout.

    `data/demo_0/obs` holds the streams, `next_obs` the same a tick later as views without copies
    (the last repeated), beside them `actions`, `rewards` of 0 and `dones`; what else there is
    (stamps, masks, names) lies in `data/demo_0` itself.

    Args:
        path: Where it is to appear.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = partial_path(path)
        self._file = h5py.File(self._partial, 'w')
        self._demo = self._file.create_group('data/demo_0')
        self._demo.create_group('obs')
        self._streams: list[str] = []

    def allocate(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Make room for a stream, zero until written."""
        self._demo['obs'].create_dataset(name, shape, dtype)
        self._streams.append(name)

    def write_row(self, name: str, row: int, values: NDArray[Any]) -> None:
        """Write one row."""
        self._demo['obs'][name].write_direct(
            np.ascontiguousarray(values)[np.newaxis], dest_sel=np.s_[row : row + 1]
        )

    def write_array(self, name: str, values: NDArray[Any]) -> None:
        """Write a whole array."""
        if name == 'metadata':
            self._demo.attrs['metadata'] = str(values)
        elif name == 'joint_names':
            self._demo.attrs['joint_names'] = [str(value) for value in values]
        elif name in ('actions', 'stamps') or name.startswith('valid_'):
            self._demo[name] = values
        else:
            self._demo['obs'][name] = values
            self._streams.append(name)

    def close(self) -> None:
        """Add what robomimic asks for, and let the file appear."""
        count = len(self._demo['stamps'])
        for name in self._streams:
            _next_view(self._demo, name)
        if 'actions' not in self._demo:
            self._demo['actions'] = np.zeros((count, 0), dtype=np.float32)
        self._demo['rewards'] = np.zeros(count, dtype=np.float32)
        self._demo['dones'] = (np.arange(count) == count - 1).astype(np.int64)
        self._demo.attrs['num_samples'] = count
        self._file['data'].attrs['total'] = count
        self._file['data'].attrs['env_args'] = env_args()
        self._file.close()
        sync(self._partial)
        put(self._partial, self.path)

    def abort(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._partial.unlink(missing_ok=True)


def env_args() -> str:
    """What robomimic wants to know of the environment: it is a real robot."""
    return json.dumps({'env_name': 'recorded', 'env_type': 3, 'type': 3, 'env_kwargs': {}})


def _next_view(demo: Any, name: str) -> None:
    source = demo['obs'][name]
    layout = h5py.VirtualLayout(source.shape, source.dtype)
    view = h5py.VirtualSource('.', source.name, source.shape)
    layout[:-1] = view[1:]
    layout[-1:] = view[-1:]
    demo.require_group('next_obs').create_virtual_dataset(name, layout)


class TeeWriter:
    """Several writers as one.

    Args:
        writers: Where everything goes.
    """

    def __init__(self, writers: list[ArrayWriter]) -> None:
        self.path = writers[0].path
        self._writers = writers

    def allocate(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Make room for an array in each."""
        for writer in self._writers:
            writer.allocate(name, shape, dtype)

    def write_row(self, name: str, row: int, values: NDArray[Any]) -> None:
        """Write one row to each."""
        for writer in self._writers:
            writer.write_row(name, row, values)

    def write_array(self, name: str, values: NDArray[Any]) -> None:
        """Write an array to each."""
        for writer in self._writers:
            writer.write_array(name, values)

    def close(self) -> None:
        """Let each output appear."""
        for writer in self._writers:
            writer.close()

    def abort(self) -> None:
        """Leave nothing behind."""
        for writer in self._writers:
            writer.abort()


def make_writer(out: Path, name: str, formats: tuple[str, ...], compress: int) -> ArrayWriter:
    """The writer of one bag's outputs.

    Args:
        out: Folder of the outputs.
        name: The outputs' name without a suffix.
        formats: Any of FORMATS.
        compress: Level of compression of the .npz, 0 for none.
    """
    from bag_tools.lerobot_writer import LeRobotWriter

    out.mkdir(parents=True, exist_ok=True)
    makers: dict[str, Callable[[Path], ArrayWriter]] = {
        'npz': lambda p: CompressedNpzWriter(p, compress) if compress else NpzWriter(p),
        'npy-dir': NpyFolderWriter,
        'hdf5': RobomimicWriter,
        'lerobot': LeRobotWriter,
    }
    for kind in FORMATS:
        remove_partials(output_path(out, name, kind))
    made: list[ArrayWriter] = []
    try:
        for kind in formats:
            made.append(makers[kind](output_path(out, name, kind)))
    except BaseException:
        for writer in made:
            writer.abort()
        raise
    return made[0] if len(made) == 1 else TeeWriter(made)


def output_path(out: Path, name: str, kind: str) -> Path:
    """Where the output of a format goes."""
    return out / f'{name}{SUFFIXES[kind]}'
