"""Whether what would be picked looks like what was asked for, by CLIP alone.

A network of this kind always points somewhere, and is nearly as sure of the next best thing when
what it is asked for is not on the table. CLIP is not: where no block is blue, what 'blue' is
compared with at the pick is no nearer to it than the table is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from vlm_nodes.cliport.language import Language, Reading
from vlm_nodes.cliport.vocabulary import LEAST_MEANING

ATTENDED: Final = 0.5
"""Share of a phrase's attention that makes a word one which is looked for."""

# Patches that the square of this half a side about a pixel touches are looked at.
_RADIUS_PX: Final = 4
# Of cosines between a picture's best patch and its middle one; less is noise.
_LEAST_CONTRAST: Final = 0.03


@dataclass(frozen=True)
class WordMatch:
    """How well a place in the picture fits the words that are looked for.

    Attributes:
        words: That the reader looks for and CLIP knows.
        share: Of the word that fits best: 0 is as the median of the picture, 1 as its best patch;
            below 0 is less than the median. NaN where CLIP cannot judge, because it does not know
            all of the words that are looked for.
    """

    words: tuple[str, ...] = ()
    share: float = math.nan


UNJUDGED: Final = WordMatch()


def match_words(
    joint: Tensor,
    seen: Tensor,
    language: Language,
    reading: Reading,
    words: Sequence[str],
    pixel: tuple[int, int],
) -> WordMatch:
    """Hold the patches about a pixel against the words that are looked for.

    Args:
        joint: (D, h, w) CLIP's patches of one padded picture.
        seen: (H, W) bool, the same picture's pixels.
        language: Of one sentence.
        reading: Of the same.
        words: Of the same, in order.
        pixel: Row and column in the padded picture.
    """
    attended = reading.attention[0].amax(dim=0)[: len(words)] >= ATTENDED
    meaning = language.words[0, : len(words)][attended].float()
    if not len(meaning) or bool((meaning.norm(dim=1) < LEAST_MEANING).any()):
        return UNJUDGED
    maps = torch.einsum('dhw,nd->nhw', joint.float(), meaning)
    share = functional.adaptive_avg_pool2d(seen[None].float(), (maps.shape[-2], maps.shape[-1]))[0]
    patches = maps[:, share >= 0.5]
    if not patches.shape[1]:
        return UNJUDGED
    middle = patches.median(dim=1).values
    contrast = (patches.amax(dim=1) - middle).clamp(min=_LEAST_CONTRAST)
    stride = seen.shape[-1] / maps.shape[-1]
    rows, cols = (
        slice(max(0, int((at - _RADIUS_PX) // stride)), int((at + _RADIUS_PX) // stride) + 1)
        for at in pixel
    )
    here = maps[:, rows, cols].amax(dim=(1, 2))
    names = dict.fromkeys(w for w, looked_for in zip(words, attended, strict=True) if looked_for)
    return WordMatch(tuple(names), float(((here - middle) / contrast).max()))
