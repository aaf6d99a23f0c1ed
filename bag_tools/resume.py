"""What an earlier run has left: episodes that need not be made again."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import h5py  # type: ignore[import-untyped]
import numpy as np

from bag_tools.bag_files import fingerprint
from bag_tools.convert import Job
from bag_tools.lerobot_writer import METADATA
from bag_tools.writers import output_path

logger = logging.getLogger(__name__)


def existing(job: Job) -> list[Path]:
    """The outputs of a job that are there."""
    paths = (output_path(job.out, job.name, kind) for kind in job.formats)
    return [path for path in paths if path.exists()]


def finished(job: Job) -> dict[str, Any] | None:
    """The result of a job that an earlier run did, or None where it must be done (again).

    An output counts if it is of the same bag, unchanged since by size and time, and of the same
    settings.
    """
    paths = [output_path(job.out, job.name, kind) for kind in job.formats]
    for path in paths:
        try:
            metadata = read_metadata(path)
        except (OSError, ValueError, KeyError):
            return None
        same = (
            metadata.get('fingerprint') == fingerprint(job.bag)
            and metadata.get('settings_sha256') == job.settings.digest()
            and (job.recover or not metadata.get('recovery'))
        )
        if not same:
            logger.info('%s: the bag or the settings have changed, it is made again', path.name)
            return None
    return _result(job, paths, metadata)


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of an episode of any format.

    Raises:
        OSError, ValueError, KeyError: It is no episode.
    """
    if (path / 'meta' / METADATA).is_file():
        text = (path / 'meta' / METADATA).read_text(encoding='utf-8')
    elif path.is_dir():
        text = str(np.load(path / 'metadata.npy', allow_pickle=False))
    elif path.suffix == '.hdf5':
        with h5py.File(path, 'r') as file:
            text = str(file['data/demo_0'].attrs['metadata'])
    else:
        with np.load(path, allow_pickle=False) as arrays:
            text = str(arrays['metadata'])
    return dict(json.loads(text))


def _result(job: Job, paths: list[Path], metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        'bag': str(job.bag),
        'name': job.name,
        'outputs': [str(path) for path in paths],
        'status': 'resumed',
        'ticks': metadata['ticks'],
        'rate_hz': metadata['rate_hz'] or 0.0,
        'duration_s': 0.0,
        'bag_duration_s': 0.0,
        'bytes': sum(_size(path) for path in paths),
        'streams': {},
        'absent': metadata['absent'],
        'problems': metadata['problems'],
        'recovery': metadata['recovery'],
        'sha256': metadata['sha256'],
        'joint_names': metadata['joint_names'],
    }


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
