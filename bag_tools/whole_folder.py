"""Folders that appear whole or not at all: written under another name, then renamed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from bag_tools.whole_file import partial_path, put, remove_partials, sync


@contextmanager
def whole_folder(path: Path, *, overwrite: bool, holds: Sequence[str]) -> Iterator[Path]:
    """A path to write a folder at, which becomes `path` when the block ends without an error.

    Args:
        path: Where the folder is to appear.
        overwrite: Replace a folder that is there, if it holds nothing but what `holds` names.
        holds: Patterns of the names that such a folder has in it, so that nothing else is lost.

    Yields:
        A path on the same disk where nothing is yet; the block makes the folder there.

    Raises:
        FileExistsError: The folder is there and is not to be replaced, or holds other things.
    """
    path = path.resolve()
    check_free(path, overwrite=overwrite, holds=holds)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_partials(path)
    partial = Path(tempfile.mkdtemp(prefix=f'{partial_path(path).name}-', dir=path.parent))
    try:
        # The last part of the name is kept: rosbag2 names its files by their folder.
        yield partial / path.name
        put_folder(partial / path.name, path, partial / f'{path.name}.replaced')
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_free(path: Path, *, overwrite: bool, holds: Sequence[str]) -> None:
    """Whether a folder may be written at a path, before hours are spent on what goes into it.

    Raises:
        FileExistsError: As of `whole_folder`.
    """
    if not path.exists():
        return
    if not path.is_dir():
        raise FileExistsError(f'{path} is a file: give another name')
    names = sorted(entry.name for entry in path.iterdir())
    if not names:
        return
    if not overwrite:
        raise FileExistsError(f'{path} exists already: give another name, or --overwrite')
    other = [name for name in names if not any(fnmatchcase(name, pattern) for pattern in holds)]
    if other:
        raise FileExistsError(
            f'{path} holds {", ".join(other[:5])}, which this tool does not write: it is not '
            'replaced, give another name'
        )


def put_folder(new: Path, path: Path, replaced: Path) -> None:
    """Flush a folder to disk and rename it to its name.

    Args:
        new: The folder, whole.
        path: Where it is to appear.
        replaced: Where a folder that is there goes; it comes back where the other cannot appear.
    """
    for root, _, names in os.walk(new):
        for name in names:
            sync(Path(root, name))
    if path.exists():
        path.rename(replaced)
    try:
        put(new, path)
    except OSError:
        if replaced.exists():
            replaced.rename(path)
        raise
