"""One robomimic dataset over the episodes of a folder, by links and without copies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py  # type: ignore[import-untyped]

from bag_tools.whole_file import partial_path, put, sync
from bag_tools.writers import env_args

INDEX = 'dataset.hdf5'


def write_index(out: Path, names: Sequence[str]) -> Path | None:
    """Write `dataset.hdf5`: demo_0, demo_1, ... link to the episodes' files beside it, in order.

    Returns:
        Its path, or None where there is no episode.
    """
    files = [out / f'{name}.hdf5' for name in names]
    files = [file for file in files if file.is_file()]
    if not files:
        return None
    path = out / INDEX
    partial = partial_path(path)
    total = 0
    with h5py.File(partial, 'w') as index:
        data = index.create_group('data')
        for number, file in enumerate(files):
            with h5py.File(file, 'r') as episode:
                total += int(episode['data'].attrs['total'])
            data[f'demo_{number}'] = h5py.ExternalLink(file.name, '/data/demo_0')
        data.attrs['total'] = total
        data.attrs['env_args'] = env_args()
    sync(partial)
    put(partial, path)
    return path
