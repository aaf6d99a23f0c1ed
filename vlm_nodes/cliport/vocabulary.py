"""What a model can make of an instruction's words, before anything is planned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from torch import Tensor

from vlm_nodes.cliport.language import split_words

# What CLIP makes of a word beyond what it makes of any. Of the CLIP `tiny`, words that mean
# something have 1.2 to 1.5, and what it never heard 0 to 0.35; others know every word.
LEAST_MEANING: Final = 0.5


class Texts(Protocol):
    """The text side of `FrozenClip`."""

    nothing: Tensor

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """(N, D) unit vectors."""


@dataclass(frozen=True)
class Words:
    """An instruction's words, by who knows them.

    Attributes:
        learned: Were in the training.
        understood: Were not, but CLIP says what they look like.
        unknown: Were not, and CLIP makes nothing of them.
    """

    learned: tuple[str, ...]
    understood: tuple[str, ...]
    unknown: tuple[str, ...]


def sort_words(instruction: str, lexicon: Sequence[str], clip: Texts) -> Words:
    """Who knows which of an instruction's words, each once.

    Args:
        instruction: A sentence.
        lexicon: Words of the training.
        clip: The model's CLIP.

    Raises:
        ValueError: The sentence has no word, or too many.
    """
    words = list(dict.fromkeys(split_words(instruction)))
    learned = tuple(word for word in words if word in lexicon)
    new = [word for word in words if word not in lexicon]
    if not new:
        return Words(learned, (), ())
    meaning = (clip.embed_texts(new) - clip.nothing).norm(dim=1).tolist()
    known = {word for word, much in zip(new, meaning, strict=True) if much >= LEAST_MEANING}
    return Words(
        learned,
        tuple(word for word in new if word in known),
        tuple(word for word in new if word not in known),
    )
