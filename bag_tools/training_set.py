"""Episodes of one robot as padded arrays to train on, written as they are read."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from bag_tools.episode import (
    ACTIONS,
    COLOR,
    JOINTS,
    STAMPS,
    VALID,
    ArrayHeader,
    Episode,
    EpisodeError,
    is_valid_key,
)
from bag_tools.whole_folder import whole_folder

TRAIN, TEST = 'train', 'test'
SPLITS = (TRAIN, TEST)
TASK_DICT, EPISODES = 'task_dict.json', 'episodes.json'
BOUNDS = {JOINTS: 'joint_bounds.npy', ACTIONS: 'action_bounds.npy'}
HOLDS = (*SPLITS, TASK_DICT, EPISODES, *BOUNDS.values())
_OWN_FILES = ('tasks', 'lengths')


@dataclass(frozen=True)
class SetConfig:
    """How episodes become a training set.

    Attributes:
        images: The stream that becomes `images.npy`.
        streams: Streams to take; None takes what the first episode has.
        test_share: Share of each task's episodes that is kept for testing.
        seed: Of the draw of those episodes.
        still_range: A joint that moves less than this over all of training never moves.

    Raises:
        ValueError: A number is out of its range.
    """

    images: str = COLOR
    streams: tuple[str, ...] | None = None
    test_share: float = 0.2
    seed: int = 0
    still_range: float = 1e-4

    def __post_init__(self) -> None:
        """Check the numbers and name the bad one."""
        if not 0 <= self.test_share < 1:
            raise ValueError(f'test_share = {self.test_share} must be at least 0 and below 1')
        if not self.still_range >= 0:
            raise ValueError(f'still_range = {self.still_range} must be 0 or more')
        if self.seed < 0:
            raise ValueError(f'seed = {self.seed} must be 0 or more')


@dataclass(frozen=True)
class Bounds:
    """The range of each joint.

    Attributes:
        low_high: (2, P) float32, each joint's least and greatest value; `high > low` always.
        still: Whether each of them never moves: its bounds are its value minus and plus a half.
    """

    low_high: NDArray[np.float32]
    still: NDArray[np.bool_]

    @classmethod
    def of(cls, low: NDArray[Any], high: NDArray[Any], still_range: float) -> Bounds:
        """The bounds of what was measured, (P,) least and (P,) greatest, none of them of no width.

        A joint that moves by `still_range` or less would have its sensor's noise blown up to the
        whole range, or divide by zero.
        """
        still = (high.astype(np.float64) - low) <= still_range
        middle = (low.astype(np.float64) + high) / 2
        half = np.maximum(0.5, np.abs(middle) * 1e-6)  # wide enough for float32
        bounds = np.stack(
            [np.where(still, middle - half, low), np.where(still, middle + half, high)]
        )
        return cls(bounds.astype(np.float32), still)


class TrainingSet:
    """What a training set will hold, known from the episodes' headers alone.

    Args:
        episodes: In the order of their rows.
        tasks: The text of each one's task.
        config: Streams and split.

    Raises:
        EpisodeError: An episode lacks a stream or joint that others have, or differs in shape.
    """

    def __init__(
        self, episodes: Sequence[Episode], tasks: Sequence[str], config: SetConfig
    ) -> None:
        if not episodes:
            raise EpisodeError('there is no episode to make a data set of')
        self.config = config
        self.episodes = tuple(episodes)
        self.tasks = tuple(tasks)
        self.task_texts = tuple(sorted(set(tasks)))
        self.joint_names = episodes[0].joint_names
        self._refuse_twins()
        self.streams, self.keys = self._find_keys()
        # Names first: 'has no elbow' says more than 'has one joint less'.
        self._orders = [self._order(episode) for episode in episodes]
        for episode in episodes:
            self._check_shapes(episode)
            self._check_references(episode)
        self.is_test = split_by_task(tasks, config.test_share, config.seed)

    def rows(self, split: str) -> list[int]:
        """The episodes of a split, by their place in `episodes`; the place here is their row."""
        return [i for i, test in enumerate(self.is_test) if test == (split == TEST)]

    def shape(self, split: str, key: str) -> tuple[int, ...]:
        """Shape of a stream's array: episodes, longest episode, and what each tick has."""
        rows = self.rows(split)
        longest = max((self.episodes[i].steps for i in rows), default=0)
        return (len(rows), longest, *self._first(key).shape[1:])

    @property
    def bytes(self) -> int:
        """Size of all arrays of streams."""
        return sum(
            math.prod(self.shape(split, key)) * self._first(key).dtype.itemsize
            for split in SPLITS
            for key in self.keys
        )

    @property
    def padding(self) -> float:
        """Share of all ticks that is padding."""
        ticks = sum(math.prod(self.shape(split, STAMPS)[:2]) for split in SPLITS)
        return 1 - sum(episode.steps for episode in self.episodes) / ticks

    @property
    def reordered(self) -> list[Path]:
        """Episodes whose joints come in another order than the first one's."""
        return [e.path for e, order in zip(self.episodes, self._orders, strict=True) if order]

    @property
    def untested_tasks(self) -> list[str]:
        """Tasks of which no episode is kept for testing."""
        tested = {self.tasks[i] for i in self.rows(TEST)}
        return [text for text in self.task_texts if text not in tested]

    @cached_property
    def bounds(self) -> dict[str, Bounds]:
        """Bounds of joints and actions over the valid ticks of training alone.

        Raises:
            EpisodeError: A joint is not finite, or was nowhere measured in training.
        """
        return {key: self._bounds(key) for key in BOUNDS if key in self.keys}

    def write(self, path: Path, *, overwrite: bool, progress: Iterable[int] | None = None) -> None:
        """Write it whole; no more than some ticks of one stream are in memory at a time.

        Args:
            path: The folder.
            overwrite: Replace a training set that is there.
            progress: `range(len(episodes))` or a progress bar around it.

        Raises:
            OSError: The folder is there, or the disk is too small.
            EpisodeError: An episode is broken.
        """
        bounds = self.bounds
        with whole_folder(path, overwrite=overwrite, holds=HOLDS) as folder:
            self._check_disk(folder.parent)
            for split in SPLITS:
                (folder / split).mkdir(parents=True)
                self._lay_out(folder, split)
            for i in range(len(self.episodes)) if progress is None else progress:
                self._write_episode(folder, i)
            for key, bound in bounds.items():
                np.save(folder / BOUNDS[key], bound.low_high)
            _write_json(folder / TASK_DICT, dict(enumerate(self.task_texts)))
            _write_json(folder / EPISODES, self._record())

    def file_name(self, key: str) -> str:
        """The file that a stream is written to."""
        return {self.config.images: 'images', JOINTS: 'joints'}.get(key, key) + '.npy'

    def _first(self, key: str) -> ArrayHeader:
        return self.episodes[0].headers[key]

    def _refuse_twins(self) -> None:
        names = self.joint_names
        if twins := sorted({name for name in names if names.count(name) > 1}):
            raise EpisodeError(
                f'{self.episodes[0].path} has the joint {", ".join(twins)} more than once'
            )

    def _find_keys(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The streams to take, and with them stamps and masks: all arrays to write."""
        first = self.episodes[0]
        chosen = self.config.streams or first.streams
        streams = tuple(dict.fromkeys((JOINTS, self.config.images, *chosen)))
        for episode in self.episodes:
            self._check_streams(episode, streams)
        names = [self.file_name(key).removesuffix('.npy') for key in streams]
        if taken := {n for n in names if names.count(n) > 1 or n in _OWN_FILES}:
            raise EpisodeError(
                f'{first.path}: the stream {", ".join(sorted(taken))} would take the name of '
                'another file of the data set: rename it'
            )
        beside = [key for key in first.keys if key == STAMPS or _is_valid_of(key, streams)]
        return streams, tuple(sorted({*streams, *beside}))

    def _check_streams(self, episode: Episode, streams: Sequence[str]) -> None:
        if missing := sorted({*streams, STAMPS} - set(episode.keys)):
            raise EpisodeError(
                f'{episode.path} has no {", ".join(missing)}; it has {", ".join(episode.streams)}'
            )
        more = sorted(set(episode.streams) - set(streams))
        if more and self.config.streams is None:
            raise EpisodeError(
                f'{episode.path} has {", ".join(more)}, which {self.episodes[0].path} has not: '
                'say which streams to take'
            )

    def _order(self, episode: Episode) -> dict[str, list[int]]:
        """Where the columns of the first episode are in another one, for streams that differ."""
        order = {}
        for key in self.streams:
            wanted, names = self.episodes[0].columns(key), episode.columns(key)
            if sorted(names) != sorted(wanted):
                raise EpisodeError(
                    f'{episode.path}: {key} has the columns {", ".join(names)}, but '
                    f'{self.episodes[0].path} has {", ".join(wanted)}'
                )
            if names != wanted:
                order[key] = [names.index(name) for name in wanted]
        return order

    def _check_shapes(self, episode: Episode) -> None:
        for key in self.keys:
            first, here = self._first(key), episode.headers.get(key)
            if here is None:
                raise EpisodeError(f'{episode.path} has no {key}')
            if (here.shape[1:], here.dtype) != (first.shape[1:], first.dtype):
                raise EpisodeError(
                    f'{episode.path}: {key} is {_text(here)}, but {_text(first)} in '
                    f'{self.episodes[0].path}'
                )
            if is_valid_key(key) and here.shape != (episode.steps,):
                raise EpisodeError(f'{episode.path}: {key} is {_text(here)} a tick, not one')
        joints = self._first(JOINTS)
        if joints.shape[1:] != (len(self.joint_names),):
            raise EpisodeError(
                f'{episode.path}: {JOINTS} is {_text(joints)} a tick, but '
                f'{len(self.joint_names)} joints have names'
            )

    def _check_references(self, episode: Episode) -> None:
        """Refuse a touch sensor's images of which some are less their reference, or lack it."""
        first = self.episodes[0]
        for key in self.streams:
            for note, text in (('reference_png', 'reference image'), ('subtracted', 'subtraction')):
                here, there = (bool(e.described(key).get(note)) for e in (episode, first))
                if here != there:
                    raise EpisodeError(
                        f'{episode.path}: {key} was converted {"with" if here else "without"} a '
                        f'{text}, that of {first.path} {"with" if there else "without"}'
                    )

    def _in_order(self, i: int, key: str, block: NDArray[Any]) -> NDArray[Any]:
        """A block of an episode with its columns in the order of the first episode's."""
        order = self._orders[i].get(key)
        return block if order is None else np.asarray(block[:, order])

    def _bounds(self, key: str) -> Bounds:
        size = self._first(key).shape[1]
        low, high = np.full(size, np.inf), np.full(size, -np.inf)
        for i in self.rows(TRAIN):
            values, valid = self._in_order(i, key, self.episodes[i].array(key)), self._valid(i, key)
            self._refuse_not_finite(i, key, values)
            low = np.minimum(low, np.where(valid, values, np.inf).min(axis=0))
            high = np.maximum(high, np.where(valid, values, -np.inf).max(axis=0))
        if (low > high).any():
            raise EpisodeError(f'{key} is valid at no tick of the {TRAIN} episodes')
        for i in self.rows(TEST):
            self._refuse_not_finite(i, key, self.episodes[i].array(key))
        return Bounds.of(low, high, self.config.still_range)

    def _valid(self, i: int, key: str) -> NDArray[np.bool_]:
        """(T, 1): where a stream of an episode was measured."""
        episode = self.episodes[i]
        mask = next((name for name in (f'{VALID}_{key}', VALID) if name in self.keys), None)
        if mask is None:
            return np.ones((episode.steps, 1), dtype=np.bool_)
        return episode.array(mask).astype(np.bool_).reshape(episode.steps, 1)

    def _refuse_not_finite(self, i: int, key: str, values: NDArray[Any]) -> None:
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            tick, column = bad[0]
            raise EpisodeError(
                f'{self.episodes[i].path}: {key} is {values[tick, column]} at tick {tick}, '
                f'column {column}, and not a finite number at {len(bad)} places'
            )

    def _check_disk(self, folder: Path) -> None:
        free = shutil.disk_usage(folder).free
        if self.bytes > free:
            raise OSError(
                f'the data set needs {self.bytes / 1e9:.1f} GB, but {folder.parent} has '
                f'{free / 1e9:.1f} GB free'
            )

    def _lay_out(self, folder: Path, split: str) -> None:
        rows = self.rows(split)
        for key in self.keys:
            file, dtype = folder / split / self.file_name(key), self._first(key).dtype
            if rows:
                open_memmap(file, mode='w+', dtype=dtype, shape=self.shape(split, key))
            else:
                np.save(file, np.empty(self.shape(split, key), dtype=dtype))
        ids = [self.task_texts.index(self.tasks[i]) for i in rows]
        np.save(folder / split / 'tasks.npy', np.array(ids, dtype=np.int64))
        for key in self.streams:
            self._write_references(folder / split, key, rows)
        lengths = [self.episodes[i].steps for i in rows]
        np.save(folder / split / 'lengths.npy', np.array(lengths, dtype=np.int64))

    def _write_references(self, folder: Path, key: str, rows: Sequence[int]) -> None:
        images = [image for i in rows if (image := self.episodes[i].reference(key)) is not None]
        if images:
            np.save(folder / f'{Path(self.file_name(key)).stem}_reference.npy', np.stack(images))

    def _place(self, i: int) -> tuple[str, int]:
        split = TEST if self.is_test[i] else TRAIN
        return split, self.rows(split).index(i)

    def _write_episode(self, folder: Path, i: int) -> None:
        split, row = self._place(i)
        for key in self.keys:
            # Opened anew for each episode: what is mapped counts as memory for as long as it is.
            target = open_memmap(folder / split / self.file_name(key), mode='r+')[row]
            done = 0
            for block in self.episodes[i].blocks(key):
                target[done : done + len(block)] = self._in_order(i, key, block)
                done += len(block)
            # Padding repeats the last tick, so that no filter sees a jump; it is never valid.
            target[done:] = False if is_valid_key(key) else target[done - 1]

    def _record(self) -> dict[str, Any]:
        """What `episodes.json` says."""
        return {
            'episodes': [self._episode_record(i) for i in self._by_place()],
            'joint_names': list(self.joint_names),
            'still_joints': [
                name
                for name, still in zip(self.joint_names, self.bounds[JOINTS].still, strict=True)
                if still
            ],
            'streams': {
                key: {
                    'file': self.file_name(key),
                    'shape': list(self._first(key).shape[1:]),
                    'dtype': str(self._first(key).dtype),
                    'subtracted': bool(self.episodes[0].described(key).get('subtracted')),
                }
                for key in self.keys
            },
            'test_share': self.config.test_share,
            'seed': self.config.seed,
        }

    def _by_place(self) -> Iterator[int]:
        for split in SPLITS:
            yield from self.rows(split)

    def _episode_record(self, i: int) -> dict[str, Any]:
        split, row = self._place(i)
        return {
            'split': split,
            'row': row,
            'file': str(self.episodes[i].path),
            'task': self.tasks[i],
            'task_id': self.task_texts.index(self.tasks[i]),
            'steps': self.episodes[i].steps,
        }


def split_by_task(tasks: Sequence[str], test_share: float, seed: int) -> tuple[bool, ...]:
    """Which episodes are kept for testing: of each task the same share, drawn by seed.

    A task of two episodes or more keeps at least one for testing (where any share is), and at least
    one for training always; a single episode is trained on.

    Args:
        tasks: Task of each episode.
        test_share: Share to keep for testing, at least 0 and below 1.
        seed: Of the draw. The draw of one task does not depend on the other tasks.
    """
    is_test = np.zeros(len(tasks), dtype=np.bool_)
    for task in sorted(set(tasks)):
        members = np.flatnonzero([text == task for text in tasks])
        count = round(test_share * len(members))
        if test_share > 0:
            count = min(max(count, 1), len(members) - 1)
        rng = np.random.default_rng([seed, *task.encode()])
        is_test[rng.permutation(members)[:count]] = True
    return tuple(bool(test) for test in is_test)


def _is_valid_of(key: str, streams: Sequence[str]) -> bool:
    return key == VALID or (is_valid_key(key) and key.removeprefix(f'{VALID}_') in streams)


def _text(header: ArrayHeader) -> str:
    return f'{"x".join(str(n) for n in header.shape[1:]) or "one number"} {header.dtype}'


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')
