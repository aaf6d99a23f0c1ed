"""Files that appear whole or not at all: written under another name, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def partial_path(path: Path) -> Path:
    """The name under which a file is written until it is whole."""
    return path.with_name(f'.{path.name}.partial-{os.getpid()}')


def remove_partials(path: Path) -> None:
    """Remove what killed runs left of an output; what a living process writes stays."""
    begin = f'.{path.name}.partial-'
    for left in [p for p in path.parent.iterdir() if p.name.startswith(begin)]:
        process = left.name.removeprefix(begin).partition('-')[0]
        if process.isdigit() and not _is_alive(int(process)):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which appears at `path` once all is written and synced.

    Raises:
        OSError: the folder is missing, full or read-only. Then, and where anything else is raised
            meanwhile, an older file stays as it is.
    """
    # Threads of a process may write the same file at once.
    partial = path.with_name(f'{partial_path(path).name}-{os.urandom(4).hex()}')
    try:
        with partial.open('xb') as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        put(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file all or nothing.

    Raises:
        OSError: as `whole_file` does.
    """
    with whole_file(path) as stream:
        stream.write(content)


def put(partial: Path, path: Path) -> None:
    """Rename what is whole to its name, and make the name last."""
    partial.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file or a folder's names to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
