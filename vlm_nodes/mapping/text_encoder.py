"""What maps ask of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class TextEncoder(Protocol):
    """The text side of a CLIP-like model; `vlm_nodes.clip.encoder.Encoder` is one."""

    @property
    def identity(self) -> str:
        """Model, weights and dense method: features of another identity do not compare."""

    @property
    def dim(self) -> int:
        """Numbers of a feature."""

    @property
    def logit_scale(self) -> float:
        """Factor from cosine to logit, about 100."""

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, dim) float32, unit length."""


class DenseEncoder(TextEncoder, Protocol):
    """Both sides of such a model, the image side with a feature for each patch."""

    def encode_dense(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W, 3) uint8 RGB -> (h, w, dim) float32, unit length."""
