"""Data sets as `make_dataset` writes them, mapped from disk: nothing is read before it is used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bag_tools.episode import COLOR, JOINTS, STAMPS, VALID
from bag_tools.episode_split import SPLITS
from bag_tools.training_set_writer import BOUNDS_FILES, EPISODES, TASK_DICT

LENGTHS, TASKS = 'lengths', 'tasks'


class RecordingsError(ValueError):
    """A data set is missing, incomplete or broken; the text names the file and what to do."""


@dataclass(frozen=True)
class Stream:
    """What a data set says of one of its streams.

    Attributes:
        name: Its name when it was recorded, such as `color` or `joints_state`.
        file: The file of its array in each split.
        shape: Of one tick: (H, W, 3) of colour, (H, W) of depth, (P,) of joints.
        subtracted: Whether a touch sensor's image without contact was taken off already.
    """

    name: str
    file: str
    shape: tuple[int, ...]
    subtracted: bool = False


class Split:
    """The episodes to train on, or those to test on.

    Args:
        folder: `DATA/train` or `DATA/test`.
        streams: Of the data set, by name.
        tasks: Texts of the data set's tasks, by number.

    Raises:
        RecordingsError: There is no episode, or arrays are missing or do not fit together.
    """

    def __init__(
        self, folder: Path, streams: Mapping[str, Stream], tasks: Mapping[int, str]
    ) -> None:
        self.folder = folder
        self._streams = streams
        self.lengths = np.asarray(_load(folder / f'{LENGTHS}.npy'), dtype=np.int64)
        if len(self.lengths) == 0:
            raise RecordingsError(
                f'{folder} holds no episode: record more, or change --test-share of make_dataset'
            )
        numbers = [int(number) for number in _load(folder / f'{TASKS}.npy')]
        if unknown := sorted(set(numbers) - set(tasks)):
            raise RecordingsError(f'{folder / TASKS}.npy has task {unknown[0]}, not in {TASK_DICT}')
        self.tasks = tuple(tasks[number] for number in numbers)
        self._check_lengths()

    def __len__(self) -> int:
        """How many episodes."""
        return len(self.lengths)

    def path(self, stream: str) -> Path:
        """The file of a stream's array.

        Raises:
            RecordingsError: The data set has no such stream.
        """
        if stream not in self._streams:
            raise RecordingsError(
                f'{self.folder.parent} has no stream {stream}; it has {", ".join(self._streams)}'
            )
        return self.folder / self._streams[stream].file

    def array(self, stream: str) -> NDArray[Any]:
        """A stream of all episodes, (N, T, ...), mapped.

        Raises:
            RecordingsError: There is no such stream, or its file does not fit the episodes.
        """
        path = self.path(stream)
        values = _load(path)
        shape = self._streams[stream].shape
        if values.ndim < 2 or len(values) != len(self) or values.shape[2:] != shape:
            raise RecordingsError(
                f'{path} is {values.shape}, but {len(self)} episodes of {shape} were expected: '
                'make the data set again'
            )
        if values.shape[1] < self.lengths.max():
            raise RecordingsError(
                f'{path} has {values.shape[1]} ticks, but an episode has {self.lengths.max()}'
            )
        return values

    def episode(self, stream: str, row: int) -> NDArray[Any]:
        """A stream of one episode without its padding, (T, ...), mapped."""
        return self.array(stream)[row, : self.lengths[row]]

    def valid(self, stream: str, row: int) -> NDArray[np.bool_]:
        """(T,): at which ticks of an episode a stream was measured."""
        path = self.folder / f'{VALID}_{stream}.npy'
        length = self.lengths[row]
        if not path.is_file():
            return np.ones(length, dtype=np.bool_)
        return np.array(_load(path)[row, :length], dtype=np.bool_)

    def reference(self, stream: str, row: int) -> NDArray[np.uint8] | None:
        """(H, W, 3): a touch sensor's image without contact in an episode, where one was kept."""
        path = self.path(stream)
        path = path.with_name(f'{path.stem}_reference.npy')
        return np.array(_load(path)[row], dtype=np.uint8) if path.is_file() else None

    def _check_lengths(self) -> None:
        path = self.folder / f'{LENGTHS}.npy'
        if len(self.tasks) != len(self.lengths):
            raise RecordingsError(
                f'{path} has {len(self.lengths)} episodes, {TASKS}.npy {len(self.tasks)}'
            )
        if self.lengths.min() < 2:
            row = int(self.lengths.argmin())
            raise RecordingsError(
                f'{path}: episode {row} has {self.lengths[row]} tick(s); a next tick is needed'
            )


class Recordings:
    """A data set: its episodes, and what all of them share.

    Args:
        folder: That `make_dataset` wrote.

    Raises:
        RecordingsError: It is missing, incomplete, or has joints that are not finite.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise RecordingsError(f'there is no data set {folder}: make one with make_dataset')
        self.folder = folder
        record = _read_json(folder / EPISODES)
        try:
            self.joint_names = tuple(str(name) for name in record['joint_names'])
            self.streams = {
                str(name): Stream(
                    str(name), said['file'], tuple(said['shape']), bool(said.get('subtracted'))
                )
                for name, said in record['streams'].items()
                if name != STAMPS and not name.startswith(f'{VALID}_')
            }
            self.tasks = {int(n): str(t) for n, t in _read_json(folder / TASK_DICT).items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordingsError(
                f'{folder / EPISODES} does not describe a data set ({error!r}): make it again'
            ) from error
        self.joint_bounds = self._bounds()
        self.train, self.test = (Split(folder / name, self.streams, self.tasks) for name in SPLITS)
        for split in (self.train, self.test):
            _check_finite(split)

    @property
    def task_texts(self) -> tuple[str, ...]:
        """Texts of the tasks, in the order of their numbers."""
        return tuple(self.tasks[number] for number in sorted(self.tasks))

    @property
    def main_camera(self) -> str:
        """The stream that became `images.npy`."""
        named = [name for name, stream in self.streams.items() if stream.file == 'images.npy']
        return named[0] if named else COLOR

    @cached_property
    def rate_hz(self) -> float:
        """Ticks a second, from the stamps of training.

        Raises:
            RecordingsError: There are no stamps, or they do not grow.
        """
        path = self.train.folder / f'{STAMPS}.npy'
        stamps = _load(path)
        steps = [np.diff(stamps[row, :length]) for row, length in enumerate(self.train.lengths)]
        period_ns = float(np.median(np.concatenate(steps)))
        if not period_ns > 0:
            raise RecordingsError(f'{path}: the stamps do not grow')
        return round(1e9 / period_ns, 6)

    def _bounds(self) -> NDArray[np.float32]:
        path = self.folder / BOUNDS_FILES[JOINTS]
        bounds = np.array(_load(path), dtype=np.float32)
        if bounds.shape != (2, len(self.joint_names)) or not (bounds[1] > bounds[0]).all():
            raise RecordingsError(
                f'{path} must hold a least and a greatest value of each of '
                f'{len(self.joint_names)} joints, got {bounds.tolist()}'
            )
        return bounds


def _check_finite(split: Split) -> None:
    values = split.array(JOINTS)
    for row, length in enumerate(split.lengths):
        bad = np.argwhere(~np.isfinite(values[row, :length]))
        if len(bad):
            tick, column = bad[0]
            raise RecordingsError(
                f'{split.path(JOINTS)}: episode {row} has {values[row, tick, column]} at tick '
                f'{tick}, joint {column}: leave that episode out, or repair it'
            )


def _load(path: Path) -> NDArray[Any]:
    try:
        values: NDArray[Any] = np.load(path, mmap_mode='r', allow_pickle=False)
    except FileNotFoundError as error:
        raise RecordingsError(f'there is no file {path}: make the data set again') from error
    except (OSError, ValueError, EOFError) as error:
        raise RecordingsError(f'{path} is not a readable array: {error}') from error
    return values


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise RecordingsError(f'there is no file {path}: is this a data set?') from error
    except ValueError as error:
        raise RecordingsError(f'{path} is not JSON: {error}') from error
    if not isinstance(values, dict):
        raise RecordingsError(f'{path} is no JSON object')
    return values
