"""An encoder that knows the furniture of the ray-cast room by its colour: a stand-in for CLIP."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from ray_cast_rooms import BASE_COLORS

NAMES = ('wall', 'red box', 'green box', 'blue box', 'yellow box')
PATCH_PX = 4


class ColorOracle:
    """One direction for each name, and one more for everything else."""

    identity = 'color-oracle/1'
    dim = len(NAMES) + 1
    logit_scale = 30.0

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            vectors[row, NAMES.index(text) if text in NAMES else -1] = 1
        return vectors

    def encode_dense(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[0] // PATCH_PX, image.shape[1] // PATCH_PX
        patches = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(float)
        hues = patches / np.linalg.norm(patches, axis=-1, keepdims=True)
        known = BASE_COLORS / np.linalg.norm(BASE_COLORS, axis=-1, keepdims=True)
        vectors = np.zeros((height, width, self.dim), np.float32)
        vectors[..., :-1] = np.exp(40 * (hues @ known.T - 1))
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
