"""A conversion as a LeRobot dataset (v3), written by the `lerobot` package itself."""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import DTypeLike, NDArray

from bag_tools.bag_files import TASK_KEY
from bag_tools.reader import BagError
from bag_tools.whole_file import partial_path
from bag_tools.whole_folder import put_folder

# Names that LeRobot gives to what it trains on.
STATE, ACTION, IMAGES = 'observation.state', 'action', 'observation.images'
# The conversion's own metadata, beside the package's.
METADATA = 'rosbag2npz.json'
MODULE = 'lerobot.datasets.lerobot_dataset'


def lerobot_dataset() -> Any:
    """The package's dataset class.

    Raises:
        BagError: The package is not installed, or cannot be loaded.
    """
    try:
        return importlib.import_module(MODULE).LeRobotDataset
    except Exception as error:  # what it needs may itself be installed badly
        raise BagError(
            f'--format lerobot needs the lerobot package: pip install lerobot ({error})'
        ) from error


class LeRobotWriter:
    """One episode as a LeRobot dataset.

    The package takes whole frames in order, so the arrays wait on disk until all are there.
    Colour streams become images, everything else keeps its numbers: depth too, as uint16.

    Args:
        path: Folder where the dataset is to appear.

    Raises:
        BagError: The package is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._dataset = lerobot_dataset()
        self.path = path
        prefix = f'{partial_path(path).name}-'
        self._folder = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
        self._streams: dict[str, NDArray[Any]] = {}
        self._whole: dict[str, NDArray[Any]] = {}
        self._names: dict[str, list[str]] = {}

    def allocate(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Make room for a stream, zero until written."""
        file = self._folder / f'{name}.npy'
        self._streams[name] = open_memmap(file, mode='w+', dtype=np.dtype(dtype), shape=shape)

    def write_row(self, name: str, row: int, values: NDArray[Any]) -> None:
        """Write one row."""
        self._streams[name][row] = values

    def write_array(self, name: str, values: NDArray[Any]) -> None:
        """Write a whole array."""
        self._whole[name] = values

    def close(self) -> None:
        """Hand the frames over, and let the dataset appear."""
        made = self._folder / 'dataset'
        columns = self._columns()
        about = json.loads(str(self._whole['metadata']))
        dataset = self._dataset.create(
            repo_id=f'local/{self.path.stem}',
            fps=self._rate(),
            features={n: _feature(n, rows, self._names.get(n)) for n, rows in columns.items()},
            root=made,
            use_videos=False,
        )
        for row in range(len(self._whole['stamps'])):
            frame = {name: np.asarray(rows[row]) for name, rows in columns.items()}
            dataset.add_frame({**frame, 'task': about[TASK_KEY]})
        dataset.save_episode()
        if hasattr(dataset, 'finalize'):
            dataset.finalize()
        (made / 'meta' / METADATA).write_text(json.dumps(about), encoding='utf-8')
        put_folder(made, self.path, self._folder / 'replaced')
        self.abort()

    def abort(self) -> None:
        """Leave nothing behind."""
        self._streams.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _rate(self) -> int:
        periods = np.diff(self._whole['stamps'])
        return max(1, round(1e9 / float(np.median(periods)))) if len(periods) else 1

    def _columns(self) -> dict[str, NDArray[Any]]:
        columns: dict[str, NDArray[Any]] = {}
        masks: dict[str, NDArray[Any]] = {}
        for name, rows in self._streams.items():
            colour = rows.ndim == 4
            columns[f'{IMAGES}.{name}' if colour else f'observation.{name}'] = rows
        for name, rows in self._whole.items():
            if name == 'joints_state':
                columns[STATE] = rows
            elif name == 'actions':
                columns[ACTION] = rows
            elif name.startswith('valid_'):
                masks[name.removeprefix('valid_')] = rows
            elif name not in ('metadata', 'joint_names', 'stamps'):
                columns[f'observation.{name}'] = rows
        # Vectors, for the package's scalars do not survive every numpy: seconds and nanoseconds.
        stamps = self._whole['stamps']
        columns['observation.stamp'] = np.stack([stamps // 10**9, stamps % 10**9], axis=1)
        columns['observation.valid'] = np.stack(list(masks.values()), axis=1)
        self._names = {
            STATE: self._whole['joint_names'].tolist(),
            'observation.stamp': ['seconds', 'nanoseconds'],
            'observation.valid': list(masks),
        }
        return columns


def _feature(name: str, rows: NDArray[Any], names: list[str] | None) -> dict[str, Any]:
    if name.startswith(IMAGES):
        return {
            'dtype': 'image',
            'shape': rows.shape[1:],
            'names': ['height', 'width', 'channels'],
        }
    return {'dtype': rows.dtype.name, 'shape': rows.shape[1:], 'names': names}
