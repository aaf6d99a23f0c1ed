"""Samples as batches: tokens of CLIP, targets of distillation, rows of text; any views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vlm_nodes.clip_vlm.dialogue import Dialogue, Rows, make_rows
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.feature_store import FeatureStore
from vlm_nodes.clip_vlm.samples import CaptionedViews


@dataclass(frozen=True)
class Views:
    """Views of a batch.

    Attributes:
        features: (B, V, N, C) of CLIP, 0 where there is no view.
        cameras: (B, V) int64 places in the connector's cameras.
        present: (B, V) bool.
    """

    features: Tensor
    cameras: Tensor
    present: Tensor

    @classmethod
    def of(cls, samples: Sequence[tuple[Sequence[int], Tensor]]) -> Views:
        """Of samples, each the places of its cameras and its (V, N, C) features."""
        most = max(len(cameras) for cameras, _ in samples)
        shape = (len(samples), most)
        features = samples[0][1].new_zeros(*shape, *samples[0][1].shape[1:])
        cameras = torch.zeros(shape, dtype=torch.int64)
        present = torch.zeros(shape, dtype=torch.bool)
        for number, (places, seen) in enumerate(samples):
            features[number, : len(places)] = seen
            cameras[number, : len(places)] = torch.tensor(places)
            present[number, : len(places)] = True
        return cls(features, cameras, present)

    def to(self, device: Any) -> Views:
        """The same elsewhere."""
        return Views(*(t.to(device) for t in (self.features, self.cameras, self.present)))


@dataclass(frozen=True)
class Example:
    """A sample, read.

    Attributes:
        token: Its name.
        cameras: Places in the connector's cameras.
        features: (V, N, C) of CLIP.
        taught: (V, T, H) of the teacher; None where none is asked for.
        question: Row of tokens; None where no text is asked for.
        answer: Row of tokens; None where none is known.
    """

    token: str
    cameras: tuple[int, ...]
    features: Tensor
    taught: Tensor | None = None
    question: list[int] | None = None
    answer: list[int] | None = None


@dataclass(frozen=True)
class Batch:
    """Several samples.

    Attributes:
        tokens: Their names.
        views: What CLIP says.
        taught: (B, V, T, H) of the teacher, 0 where there is no view; None without one.
        rows: Prompts and captions; None without text.
    """

    tokens: tuple[str, ...]
    views: Views
    taught: Tensor | None
    rows: Rows | None

    def to(self, device: Any) -> Batch:
        """The same elsewhere."""
        return replace(
            self,
            views=self.views.to(device),
            taught=None if self.taught is None else self.taught.to(device),
            rows=None if self.rows is None else self.rows.to(device),
        )

    def __len__(self) -> int:
        """How many samples."""
        return len(self.tokens)


@dataclass(frozen=True)
class Collate:
    """Examples to a batch.

    Attributes:
        pad_id: Token that rows are filled up with.
        answered: Whether rows hold the answers, as in training, or end where they begin.
    """

    pad_id: int
    answered: bool = True

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """The batch of these."""
        views = Views.of([(e.cameras, e.features) for e in examples])
        taught = [(e.cameras, e.taught) for e in examples if e.taught is not None]
        questions = [e.question for e in examples if e.question is not None]
        answers = [e.answer for e in examples if e.answer is not None]
        rows = None
        if questions:
            rows = make_rows(questions, answers if self.answered else None, self.pad_id)
        return Batch(
            tuple(e.token for e in examples),
            views,
            Views.of(taught).features if taught else None,
            rows,
        )


class Examples(Dataset[Example]):
    """Samples of which features, and targets where they are wanted, lie in stores."""

    def __init__(
        self,
        samples: Sequence[CaptionedViews],
        cameras: Sequence[str],
        clip: FeatureStore,
        *,
        teacher: FeatureStore | None = None,
        dialogue: Dialogue | None = None,
        prompt: str = '',
    ) -> None:
        """Read as asked.

        Args:
            samples: What is read.
            cameras: The connector's, in order.
            clip: CLIP's tokens.
            teacher: The teacher's tokens; None without distillation.
            dialogue: Writes rows; None without text.
            prompt: The same for all.

        Raises:
            ClipVlmError: A sample has a camera that the connector does not know.
        """
        self._samples, self._cameras = samples, tuple(cameras)
        self._clip, self._teacher = clip, teacher
        self._dialogue, self._prompt = dialogue, prompt
        self._questions: dict[tuple[str, ...], list[int]] = {}
        for sample in samples:
            places_of(sample.images, self._cameras)

    def __len__(self) -> int:
        """How many."""
        return len(self._samples)

    def __getitem__(self, index: int) -> Example:
        """One of them, read."""
        sample = self._samples[index]
        places = places_of(sample.images, self._cameras)
        names = [self._cameras[place] for place in places]
        paths = [sample.images[name] for name in names]
        question = answer = None
        if self._dialogue is not None:
            question = self._question(self._dialogue, tuple(names))
            answer = self._dialogue.answer(sample.caption) if sample.caption else None
        return Example(
            sample.token,
            tuple(places),
            torch.from_numpy(np.stack([self._clip.read(path) for path in paths])),
            None
            if self._teacher is None
            else torch.from_numpy(np.stack([self._teacher.read(path) for path in paths])),
            question,
            answer,
        )

    def _question(self, dialogue: Dialogue, names: tuple[str, ...]) -> list[int]:
        """Written once for the same cameras: most samples have all of them."""
        if names not in self._questions:
            self._questions[names] = dialogue.question(names, self._prompt)
        return self._questions[names]


def places_of(images: Any, cameras: Sequence[str]) -> list[int]:
    """Places of the cameras that have a picture, in the connector's order.

    Raises:
        ClipVlmError: One is not known.
    """
    unknown = [name for name in images if name not in cameras]
    if unknown:
        raise ClipVlmError(
            f'no camera {", ".join(unknown)} was trained; those were {", ".join(cameras)}'
        )
    return [place for place, name in enumerate(cameras) if name in images]
