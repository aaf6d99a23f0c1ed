"""Reading a sentence word by word, and finding its phrases in the picture.

A sentence's embedding does not say which colour is to be picked and which is the target's: CLIP is
close to a bag of words ('red block in green bowl' and 'green block in red bowl' have a cosine of
0.999 with `tiny`). So every word is embedded by CLIP on its own, as a caption, and a small reader
learns *which* words matter for what, by their neighbours. What the chosen words *mean* it leaves to
CLIP: their embeddings, never changed, are compared with CLIP's patches of the picture. A word that
no demonstration held is read by its place in the sentence and found by CLIP, as the others were;
this is what makes unseen colours work from few demonstrations. (The text tower's outputs at the
single tokens would not do: only the last one was trained to be near pictures.)

CLIP may not know a word of the training; `tiny` knows eight colours. For these the reader learns a
lexicon, a meaning of its own for each word that occurs in the training, compared with a map that
the streams learn. It is left out at random in training, so that what CLIP knows is not learned by
heart; to other words it adds nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlm_nodes.cliport.backbones import ClipFeatures, FrozenClip
from vlm_nodes.cliport.config import ModelConfig

MAX_WORDS = 64
LEXICON_DROPOUT = 0.4
WORD_DROPOUT = 0.2

LEAST_DEVIATION = 1e-3
"""Of cosines over a picture; less is no difference."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True, eq=False)
class Language:
    """B sentences as CLIP reads them, padded to N words.

    Attributes:
        words: (B, N, D), each word's embedding less that of words that name nothing; a word CLIP
            does not know is close to zero.
        sentences: (B, D) unit length.
        numbers: (B, N) of the lexicon, 0 for other words.
        present: (B, N) bool, False where there is no word.
    """

    words: Tensor
    sentences: Tensor
    numbers: Tensor
    present: Tensor

    def to(self, device: torch.device | str) -> Language:
        """The same on another device."""
        return Language(
            *(t.to(device) for t in (self.words, self.sentences, self.numbers, self.present))
        )

    def repeat(self, count: int) -> Language:
        """Each sentence `count` times in a row."""
        return Language(
            *(
                t.repeat_interleave(count, dim=0)
                for t in (self.words, self.sentences, self.numbers, self.present)
            )
        )


@dataclass(frozen=True, eq=False)
class Reading:
    """What a reader made of B sentences.

    Attributes:
        attention: (B, P, N), how much each word belongs to each phrase; sums to 1 over N.
        lexical: (B, P, L), the phrases' learned meanings.
        summary: (B, T), what changes the semantic stream's channels.
    """

    attention: Tensor
    lexical: Tensor
    summary: Tensor


def split_words(text: str) -> list[str]:
    """The words of a sentence in lower case, without punctuation.

    Raises:
        ValueError: There is none, or more than `MAX_WORDS`.
    """
    words = _WORD.findall(text.lower())
    if not words:
        raise ValueError(f'the instruction {text[:40]!r} is empty: say what to pick and where to')
    if len(words) > MAX_WORDS:
        raise ValueError(f'the instruction has {len(words)} words, more than {MAX_WORDS}')
    return words


def vocabulary(texts: Iterable[str]) -> tuple[str, ...]:
    """All words of some sentences, sorted; for `ModelConfig.words`."""
    return tuple(sorted({word for text in texts for word in split_words(text)}))


def embed_language(clip: FrozenClip, texts: Sequence[str], lexicon: Sequence[str]) -> Language:
    """Sentences through CLIP; words and sentences met before come from memory.

    Raises:
        ValueError: A sentence has no word.
    """
    split = [split_words(text) for text in texts]
    number = {word: index + 1 for index, word in enumerate(lexicon)}
    longest = max(map(len, split))
    words = torch.zeros(len(split), longest, clip.joint_dim)
    numbers = torch.zeros(len(split), longest, dtype=torch.long)
    present = torch.zeros(len(split), longest, dtype=torch.bool)
    for row, sentence in enumerate(split):
        words[row, : len(sentence)] = clip.embed_texts(sentence) - clip.nothing
        numbers[row, : len(sentence)] = torch.tensor([number.get(word, 0) for word in sentence])
        present[row, : len(sentence)] = True
    return Language(words, clip.embed_texts([' '.join(s) for s in split]), numbers, present)


class SentenceReader(nn.Module):
    """Learns which words make up the phrases that matter."""

    def __init__(self, config: ModelConfig, clip_dim: int) -> None:
        """Untrained.

        Args:
            config: Sizes and the lexicon's words.
            clip_dim: D of CLIP's embeddings.
        """
        super().__init__()
        width = config.language_width
        self._clip_scale = clip_dim**0.5
        self.lexicon = nn.Embedding(len(config.words) + 1, width, padding_idx=0)
        self.content = nn.Linear(clip_dim, width)
        self.context = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in range(2))
        self.queries = nn.Linear(width, config.phrases)
        self.sentence = nn.Linear(clip_dim, width)
        self.summary_dim = width * (1 + config.phrases)

    def forward(self, language: Language) -> Reading:
        """Read; draws from torch's generator in training mode."""
        present = language.present.unsqueeze(-1)
        meaning = self._dropped(self.lexicon(language.numbers), LEXICON_DROPOUT)
        content = self.content(language.words * self._clip_scale) + meaning
        read = self._dropped(content, WORD_DROPOUT) * present
        for layer in self.context:
            seen = layer(read.transpose(1, 2)).transpose(1, 2)
            read = (read + functional.relu(seen)) * present
        scores = self.queries(read).float().masked_fill(~present, float('-inf'))
        attention = scores.softmax(dim=1).transpose(1, 2)
        lexical = attention @ meaning.float()
        sentence = self.sentence(language.sentences * self._clip_scale)
        sentence = self._dropped(sentence, LEXICON_DROPOUT)
        summary = torch.cat([sentence.float(), lexical.flatten(1)], dim=1)
        return Reading(attention.float(), lexical.float(), summary.float())

    def _dropped(self, vectors: Tensor, share: float) -> Tensor:
        """Whole vectors left out at random in training; the others stay as large as they are."""
        if not self.training:
            return vectors
        return vectors * (torch.rand_like(vectors[..., :1]) >= share)


def phrase_maps(
    features: ClipFeatures, language: Language, reading: Reading, seen: Tensor
) -> Tensor:
    """Where CLIP sees the phrases.

    CLIP's cosines lie in a narrow band that differs between pictures; what counts is how a patch
    compares with the others of its picture, and how telling a word is beside the others of its
    sentence. So each word's map is centred, and all are divided by the strongest one's deviation.

    Args:
        features: Of B pictures.
        language: Of B sentences.
        reading: Of the same.
        seen: (B, 1, H, W) float, 1 where a pixel was seen; others do not count.

    Returns:
        (B, P, h, w) float32 at the joint map's stride.
    """
    with torch.autocast(seen.device.type, enabled=False):
        maps = torch.einsum('bdhw,bnd->bnhw', features.joint.float(), language.words.float())
        weight = functional.adaptive_avg_pool2d(seen, (maps.shape[-2], maps.shape[-1]))
        total = weight.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
        maps = (maps - (maps * weight).sum(dim=(2, 3), keepdim=True) / total) * weight
        deviation = (maps.square().sum(dim=(2, 3), keepdim=True) / total).sqrt()
        maps = maps / deviation.amax(dim=1, keepdim=True).clamp(min=LEAST_DEVIATION)
        return torch.einsum('bpn,bnhw->bphw', reading.attention, maps)


class LexicalMaps(nn.Module):
    """Where the streams see what the lexicon says."""

    def __init__(self, config: ModelConfig) -> None:
        """Untrained."""
        super().__init__()
        self.project = nn.Conv2d(config.spatial_widths[0], config.language_width, 1)
        self._scale = config.language_width**-0.5

    def forward(self, spatial: Tensor, reading: Reading) -> Tensor:
        """(B, C, h, w) and a reading -> (B, P, h, w)."""
        projected = self.project(spatial).float()
        with torch.autocast(spatial.device.type, enabled=False):
            scaled = reading.lexical * self._scale
            maps: Tensor = torch.einsum('blhw,bpl->bphw', projected, scaled)
        return maps
