"""What a training set made of episodes of one robot will hold, and whether they fit together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
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
from bag_tools.episode_split import SPLITS, TEST, TRAIN, split_by_task
from bag_tools.joint_bounds import Bounds

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

    def dtype(self, key: str) -> np.dtype[Any]:
        """Type of a stream's array."""
        return self._first(key).dtype

    def place(self, i: int) -> tuple[str, int]:
        """Split and row of an episode."""
        split = TEST if self.is_test[i] else TRAIN
        return split, self.rows(split).index(i)

    def task_id(self, i: int) -> int:
        """Which of `task_texts` an episode's task is."""
        return self.task_texts.index(self.tasks[i])

    def blocks(self, i: int, key: str) -> Iterator[NDArray[Any]]:
        """A stream of an episode in blocks of ticks, columns in the first episode's order."""
        return (self._in_order(i, key, block) for block in self.episodes[i].blocks(key))

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
        return {key: self._bounds(key) for key in (JOINTS, ACTIONS) if key in self.keys}

    @property
    def still_joints(self) -> list[str]:
        """Joints that never move in training."""
        still = self.bounds[JOINTS].still
        return [name for name, stays in zip(self.joint_names, still, strict=True) if stays]

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
        actions = self.episodes[0].headers[ACTIONS] if ACTIONS in self.keys else None
        if actions is not None and len(actions.shape) != 2:
            raise EpisodeError(f'{episode.path}: {ACTIONS} is {_text(actions)} a tick, not a row')
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


def _is_valid_of(key: str, streams: Sequence[str]) -> bool:
    return key == VALID or (is_valid_key(key) and key.removeprefix(f'{VALID}_') in streams)


def _text(header: ArrayHeader) -> str:
    return f'{"x".join(str(n) for n in header.shape[1:]) or "one number"} {header.dtype}'
