"""Recorded episodes as the tensors that a policy is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, Sampler

from bag_tools.episode import ACTIONS, JOINTS
from vlm_nodes.sarnn import batch as batches
from vlm_nodes.sarnn.batch import Batch
from vlm_nodes.sarnn.config import SarnnConfig
from vlm_nodes.sarnn.observation import Observation
from vlm_nodes.sarnn.preprocess import Preprocessor
from vlm_nodes.sarnn.recordings import Recordings, RecordingsError, Split

TARGETS = ('joints', 'actions')
BATCHES_A_POOL = 4


class Sequences(Dataset[Batch]):
    """The episodes of a split, each a `Batch` of one.

    Images that have the policy's size are read from the mapped file as they are used, others are
    resized once and kept in memory.

    Args:
        recordings: The data set.
        split: Which of its episodes.
        config: The policy's.
        features: By camera (N, T, C, gh, gw): CLIP's, for policies with a CLIP branch.
        embeddings: By text (D,): of the tasks, for policies with language.
        target: `joints`: those of the next tick are to be predicted. `actions`: what was commanded
            at this tick.

    Raises:
        RecordingsError: The data set lacks what the policy needs, or has other joints.
    """

    def __init__(
        self,
        recordings: Recordings,
        split: Split,
        config: SarnnConfig,
        *,
        features: Mapping[str, NDArray[np.float16]] | None = None,
        embeddings: Mapping[str, NDArray[np.float32]] | None = None,
        target: str = 'joints',
    ) -> None:
        check_streams(recordings, config, target)
        self._recordings, self._split, self._config = recordings, split, config
        self._features, self._embeddings = features or {}, embeddings or {}
        self._target = target
        self._preprocess = Preprocessor(config)
        self._order = [recordings.joint_names.index(name) for name in config.joint_names]
        self._fitted: dict[tuple[str, int], NDArray[Any]] = {}

    def __len__(self) -> int:
        """How many episodes."""
        return len(self._split)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Ticks of each episode."""
        return self._split.lengths

    @property
    def tasks(self) -> tuple[str, ...]:
        """Text of each episode's task."""
        return self._split.tasks

    def __getitem__(self, row: int) -> Batch:
        """One episode, (1, T)."""
        config, make = self._config, self._preprocess
        depth = config.depth.stream if config.depth else None
        observations = Observation(
            joints=self._joints(row),
            images={name: make.image(self._images(name, row)) for name in config.cameras},
            depth=make.depth(self._images(depth, row)) if depth else None,
            tactile={name: self._touch(name, row) for name in config.tactile},
            clip=self._clip(row) if config.clip else {},
        )
        streams = (*config.cameras, *config.code_names)
        source = JOINTS if self._target == 'joints' else ACTIONS
        counts = {name: torch.from_numpy(self._split.valid(name, row)) for name in streams}
        counts[batches.JOINTS] = self._shifted(torch.from_numpy(self._split.valid(source, row)))
        embedding = self._embedding(row) if config.text_dim else None
        return Batch(
            observations.map(lambda tensor: tensor.unsqueeze(0)),
            self._targets(row).unsqueeze(0),
            embedding,
            {name: mask.unsqueeze(0) for name, mask in counts.items()},
        )

    def _joints(self, row: int) -> Tensor:
        return self._preprocess.joints(self._split.episode(JOINTS, row)[:, self._order])

    def _targets(self, row: int) -> Tensor:
        """(T, P): at place t + 1 what is to be predicted at tick t."""
        if self._target == 'joints':
            return self._joints(row)
        actions = self._split.episode(ACTIONS, row)[:, self._order]
        return self._shifted(self._preprocess.joints(actions))

    def _shifted(self, values: Tensor) -> Tensor:
        """Actions of tick t to place t + 1; joints stay where they are."""
        return values if self._target == 'joints' else torch.cat([values[:1], values[:-1]])

    def _images(self, stream: str, row: int) -> NDArray[Any]:
        images = self._split.episode(stream, row)
        fitted = self._fitted.get((stream, row))
        if fitted is None:
            fitted = self._preprocess.fit(stream, images)
            if fitted is images:
                return np.array(images)
            self._fitted[stream, row] = fitted
        return fitted

    def _touch(self, stream: str, row: int) -> Tensor:
        images = self._images(stream, row)
        if self._recordings.streams[stream].subtracted:
            return self._preprocess.tactile(images)
        reference = self._split.reference(stream, row)
        # Without one, nothing is touched at an episode's first tick.
        before = images[0] if reference is None else self._preprocess.fit(stream, reference)
        return self._preprocess.tactile(images, before)

    def _clip(self, row: int) -> dict[str, Tensor]:
        length = self._split.lengths[row]
        return {
            name: torch.from_numpy(np.array(self._features[name][row, :length]))
            for name in self._config.cameras
        }

    def _embedding(self, row: int) -> Tensor:
        return torch.from_numpy(self._embeddings[self.tasks[row]]).unsqueeze(0)


class Shuffled(Sampler[int]):
    """Episodes in an order drawn anew for every epoch, which a resumed training draws again.

    Episodes that come together in a batch are of similar lengths, since the shorter ones are
    padded: the drawn order is cut into pools of some batches, and each pool is put in order of
    length. Batches then come in an order drawn again, the last, smaller one at the end.

    Args:
        lengths: Of the episodes, in ticks.
        batch_size: Episodes that come together.
        seed: Of the draws.
    """

    def __init__(self, lengths: Sequence[int] | NDArray[np.int64], batch_size: int, seed: int):
        self._lengths = np.asarray(lengths)
        self._batch_size, self._seed, self._epoch = batch_size, seed, 0

    def __len__(self) -> int:
        """How many episodes."""
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        """This epoch's order."""
        rng = np.random.default_rng([self._seed, self._epoch])
        order = rng.permutation(len(self))
        size = BATCHES_A_POOL * self._batch_size
        pools = [order[begin : begin + size] for begin in range(0, len(order), size)]
        order = np.concatenate([pool[np.argsort(self._lengths[pool])] for pool in pools])
        whole = len(order) - len(order) % self._batch_size
        batches = rng.permutation(order[:whole].reshape(-1, self._batch_size))
        return iter([*batches.flatten().tolist(), *order[whole:].tolist()])

    def set_epoch(self, epoch: int) -> None:
        """What Lightning calls before an epoch."""
        self._epoch = epoch


def collate(episodes: Sequence[Batch]) -> Batch:
    """Episodes side by side, the shorter ones padded with zeros, which count for nothing."""

    def pad(tensors: list[Tensor]) -> Tensor:
        return pad_sequence([tensor[0] for tensor in tensors], batch_first=True)

    first = episodes[0]
    seen = [episode.observations for episode in episodes]
    tasks = [episode.task for episode in episodes if episode.task is not None]
    return Batch(
        Observation(
            joints=pad([o.joints for o in seen]),
            images={name: pad([o.images[name] for o in seen]) for name in seen[0].images},
            depth=None
            if seen[0].depth is None
            else pad([o.depth for o in seen if o.depth is not None]),
            tactile={name: pad([o.tactile[name] for o in seen]) for name in seen[0].tactile},
            clip={name: pad([o.clip[name] for o in seen]) for name in seen[0].clip},
        ),
        pad([episode.targets for episode in episodes]),
        torch.cat(tasks) if tasks else None,
        {name: pad([episode.counts[name] for episode in episodes]) for name in first.counts},
    )


def check_streams(recordings: Recordings, config: SarnnConfig, target: str) -> None:
    """Whether a data set has what a policy was made for.

    Raises:
        RecordingsError: A stream is missing, or the joints are others; the message names them.
    """
    if target not in TARGETS:
        raise ValueError(f'target must be one of {TARGETS}, got {target!r}')
    wanted = (
        *config.cameras,
        *config.code_names,
        JOINTS,
        *([ACTIONS] if target == ACTIONS else []),
    )
    if missing := [name for name in wanted if name not in recordings.streams]:
        raise RecordingsError(
            f'{recordings.folder} has no {", ".join(missing)}; it has '
            f'{", ".join(recordings.streams)}'
        )
    if sorted(recordings.joint_names) != sorted(config.joint_names):
        raise RecordingsError(
            f'{recordings.folder} has the joints {", ".join(recordings.joint_names)}, the policy '
            f'{", ".join(config.joint_names)}'
        )
    shape = recordings.streams[ACTIONS].shape if target == ACTIONS else (config.joint_dim,)
    if shape != (config.joint_dim,):
        raise RecordingsError(
            f'{recordings.folder}: actions are {shape} a tick, which is not one of each of '
            f'{config.joint_dim} joints: train with --target joints'
        )
