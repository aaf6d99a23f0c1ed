"""Files that are never seen half-written."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file all or nothing: under a temporary name of this process, synced, renamed.

    Raises:
        OSError: the folder is missing, full or read-only; an older file stays as it is.
    """
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        with part.open('wb') as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
