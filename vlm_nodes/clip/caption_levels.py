"""What a label says at several levels: 'red mug' is a red mug, a mug, and red.

Pulling a patch to all three with the same embedding is what lets a colour and a kind that were
never seen together be found by their pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LAST_WORDS = 1
"""The level of last words, which say what a thing is; the others may say its colour."""


@dataclass(frozen=True)
class Level:
    """One way of naming the labels.

    Attributes:
        columns: (C,) positions of this level's texts in `CaptionLevels.texts`.
        of_label: (L,) for each label the index into `columns`, -1 where it has no text here.
    """

    columns: NDArray[np.int64]
    of_label: NDArray[np.int64]


@dataclass(frozen=True)
class CaptionLevels:
    """All texts that patches are compared with.

    Attributes:
        texts: without repetitions; the negatives are last.
        levels: full labels first, then their last words, then what stands before the last word.
        negatives: how many texts at the end mean nothing in particular.
    """

    texts: tuple[str, ...]
    levels: tuple[Level, ...]
    negatives: int

    @classmethod
    def of(cls, labels: Sequence[str], negatives: Sequence[str]) -> 'CaptionLevels':
        """Split the labels at their last word.

        Args:
            labels: L label texts, such as 'floor' and 'red mug', no two equal.
            negatives: texts such as 'object', none of them a label.

        Returns:
            One level, or three where any label has more than one word.

        Raises:
            ValueError: no labels, labels that repeat, or a negative that is a label.
        """
        if not labels or len(set(labels)) != len(labels):
            raise ValueError(f'labels must be different texts, at least one, got {list(labels)}')
        if not negatives or set(labels) & set(negatives):
            raise ValueError(f'negatives must be texts that are no labels, got {list(negatives)}')
        named: list[list[str | None]] = [list(labels)]
        if any(' ' in label for label in labels):
            named.append([label.rsplit(' ', 1)[-1] for label in labels])
            named.append([label.rsplit(' ', 1)[0] if ' ' in label else None for label in labels])
        texts = list(dict.fromkeys(text for level in named for text in level if text))
        texts = [text for text in texts if text not in negatives]
        levels = tuple(_level(level, texts) for level in named)
        return cls((*texts, *negatives), levels, len(negatives))


def _level(names: list[str | None], texts: list[str]) -> Level:
    distinct = [text for text in dict.fromkeys(names) if text in texts]
    columns = np.array([texts.index(text) for text in distinct], dtype=np.int64)
    of_label = [distinct.index(name) if name in distinct else -1 for name in names]
    return Level(columns, np.array(of_label, dtype=np.int64))
