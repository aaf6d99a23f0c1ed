"""Words as vectors that voxels are compared with, kept on disk so that CLIP is not needed twice."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bag_tools.whole_file import whole_file
from vlm_nodes.clip.encoder import Encoder
from vlm_nodes.langocc.checkpoint import Checkpoint, FeatureSpace
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.prompts import SKY, Prompts, checked_prompts
from vlm_nodes.langocc.ray_store import reduce_features
from vlm_nodes.surround.occupancy import CLASSES, FREE

EncodeText = Callable[[Sequence[str]], NDArray[np.float32]]


class TextVectors:
    """Unit vectors (N, D) of texts, each the mean over the encoder's templates.

    Args:
        space: Which CLIP.
        cache: Folder of files of vectors; None keeps none.
        weights_dir: Folder of fetched weights.

    Raises:
        LangOccError: On use: the CLIP found is another one.
    """

    def __init__(
        self, space: FeatureSpace, cache: Path | None = None, weights_dir: Path | None = None
    ) -> None:
        self._space, self._cache, self._weights_dir = space, cache, weights_dir
        self._encoder: Encoder | None = None

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts, from the cache where they are there."""
        path = self._path(texts)
        if path is not None and path.is_file():
            try:
                with np.load(path, allow_pickle=False) as arrays:
                    return np.asarray(arrays['vectors'], np.float32)
            except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
                path.unlink()  # a damaged cache is made again
        vectors = self._load().encode_text(texts)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as stream:
                np.savez(stream, vectors=vectors)
        return vectors

    def _path(self, texts: Sequence[str]) -> Path | None:
        if self._cache is None:
            return None
        said = json.dumps([self._space.identity, list(texts)])
        return self._cache / f'texts-{hashlib.sha256(said.encode()).hexdigest()[:24]}.npz'

    def _load(self) -> Encoder:
        if self._encoder is None:
            space = self._space
            encoder = Encoder.load(space.model, space.pretrained, weights_dir=self._weights_dir)
            # The dense method, which is the identity's last part, does not touch texts.
            if encoder.identity.rpartition('/')[0] != space.identity.rpartition('/')[0]:
                raise LangOccError(
                    f'the network was trained with the CLIP {space.identity}, but '
                    f'{space.model} is {encoder.identity}'
                )
            self._encoder = encoder
        return self._encoder


def in_volume(
    checkpoint: Checkpoint, encode: EncodeText, texts: Sequence[str]
) -> NDArray[np.float32]:
    """Texts as (N, C): products with a volume's hidden features are cosines with the texts."""
    reduced = reduce_features(encode(texts), checkpoint.space.projection)
    return checkpoint.model.encode_text(reduced)


@dataclass(frozen=True)
class ClassTexts:
    """Occ3D's classes as texts.

    Attributes:
        numbers: (P,) class number of each prompt; what looks like sky is free.
        vectors: (P, C).
    """

    numbers: NDArray[np.int64]
    vectors: NDArray[np.float32]

    @classmethod
    def of(cls, checkpoint: Checkpoint, encode: EncodeText, prompts: Prompts) -> ClassTexts:
        """Embed the prompts of some classes, and `SKY`, which is of free space.

        Raises:
            LangOccError: A class is not known or has no prompt.
        """
        checked = checked_prompts(prompts, 'prompts')
        numbers = [CLASSES.index(name) for name, texts in checked.items() for _ in texts]
        texts = [text for group in checked.values() for text in group]
        vectors = in_volume(checkpoint, encode, [*texts, SKY])
        return cls(np.array([*numbers, FREE]), vectors)

    def classify(
        self, hidden: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The class of the best prompt and its cosine, for features (..., C)."""
        scores = hidden @ self.vectors.T
        best = scores.argmax(-1)
        top = np.take_along_axis(scores, best[..., None], -1)[..., 0]
        return self.numbers[best].astype(np.uint8), top.astype(np.float32)
