"""Cosines of stored features with prompts, in one pass over the features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.clip.projection import FeatureProjection
from vlm_nodes.mapping.jit import kernel

# Prompts are taken four at a time, so that a row is read from cache once for four products.
_BLOCK = 4


@dataclass(frozen=True)
class Prompts:
    """Prompts in the form that scores stored rows.

    A row holds F = sum of w f (or of w times f's projection) and W = sum of w. With a projection
    f ~= mean + basis z, the unprojected sum is S = W mean + basis F, so that
    t . S = (t basis) . F + W t . mean and, the basis being orthonormal,
    |S|^2 = |F|^2 + 2 W (mean basis) . F + W^2 |mean|^2. The cosine is t . S / |S|.

    Attributes:
        vectors: (4 n, k) float32: the mean's row (mean basis), the prompts' rows, zeros to fill up.
        biases: (4 n,) float32: |mean|^2, then t . mean of each prompt.
        count: Number of prompts.
    """

    vectors: NDArray[np.float32]
    biases: NDArray[np.float32]
    count: int

    @classmethod
    def of(cls, texts: NDArray[np.float32], projection: FeatureProjection | None) -> Prompts:
        """Prompts from text vectors (P, D), for rows of `projection`, or whole rows where None."""
        if projection is None:
            vectors, biases = texts, np.zeros(len(texts), np.float32)
            mean, square = np.zeros(texts.shape[1], np.float32), 0.0
        else:
            vectors, biases = projection.project_text(texts)
            mean = projection.mean @ projection.basis
            square = float(projection.mean @ projection.mean)
        rows = -(-(1 + len(texts)) // _BLOCK) * _BLOCK
        padded = np.zeros((rows, vectors.shape[1]), dtype=np.float32)
        padded[0], padded[1 : 1 + len(texts)] = mean, vectors
        padded_biases = np.zeros(rows, dtype=np.float32)
        padded_biases[0], padded_biases[1 : 1 + len(texts)] = square, biases
        return cls(padded, padded_biases, len(texts))


@kernel
def _cosines(
    row: NDArray[np.float32],
    weight: float,
    vectors: NDArray[np.float32],
    biases: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    square = np.float32(0.0)
    for first in range(0, vectors.shape[0], _BLOCK):
        q0, q1, q2, q3 = vectors[first], vectors[first + 1], vectors[first + 2], vectors[first + 3]
        a0 = a1 = a2 = a3 = np.float32(0.0)
        if first == 0:
            for d in range(row.size):
                f = row[d]
                square += f * f
                a0 += f * q0[d]
                a1 += f * q1[d]
                a2 += f * q2[d]
                a3 += f * q3[d]
        else:
            for d in range(row.size):
                f = row[d]
                a0 += f * q0[d]
                a1 += f * q1[d]
                a2 += f * q2[d]
                a3 += f * q3[d]
        out[first], out[first + 1], out[first + 2], out[first + 3] = a0, a1, a2, a3
    square += 2 * weight * out[0] + weight * weight * biases[0]
    inverse = 1.0 / np.sqrt(max(square, 1e-30))
    for p in range(1, vectors.shape[0]):
        out[p] = (out[p] + weight * biases[p]) * inverse


@kernel
def softmax_first(
    features: NDArray[np.float32],
    feature_weight: NDArray[np.float32],
    vectors: NDArray[np.float32],
    biases: NDArray[np.float32],
    prompts: int,
    logit_scale: float,
    scores: NDArray[np.float32],
) -> None:
    """Softmax over all prompts at `logit_scale`; the first prompt's share goes to `scores` (N,).

    Rows without features score 0.
    """
    cosines = np.empty(vectors.shape[0], dtype=np.float32)
    for i in range(scores.size):
        scores[i] = 0.0
        if feature_weight[i] > 0.0:
            _cosines(features[i], feature_weight[i], vectors, biases, cosines)
            total = 1.0
            for p in range(2, prompts + 1):
                total += np.exp(min(logit_scale * (cosines[p] - cosines[1]), 80.0))
            scores[i] = 1.0 / total


@kernel
def best_prompt(
    features: NDArray[np.float32],
    feature_weight: NDArray[np.float32],
    vectors: NDArray[np.float32],
    biases: NDArray[np.float32],
    prompts: int,
    floors: NDArray[np.float32],
    labels: NDArray[np.int32],
) -> None:
    """Index of the prompt of largest cosine among those that reach their floor.

    The last prompt has no floor; rows without features get it.
    """
    cosines = np.empty(vectors.shape[0], dtype=np.float32)
    for i in range(labels.size):
        labels[i] = prompts - 1
        if feature_weight[i] > 0.0:
            _cosines(features[i], feature_weight[i], vectors, biases, cosines)
            best = cosines[prompts]
            for p in range(prompts - 1):
                if cosines[p + 1] >= floors[p] and cosines[p + 1] > best:
                    best = cosines[p + 1]
                    labels[i] = p


@kernel
def one_cosine(
    features: NDArray[np.float32],
    feature_weight: NDArray[np.float32],
    vectors: NDArray[np.float32],
    biases: NDArray[np.float32],
    cosine: NDArray[np.float32],
) -> None:
    """Cosine (N,) with the first prompt; NaN for rows without features."""
    cosines = np.empty(vectors.shape[0], dtype=np.float32)
    for i in range(cosine.size):
        cosine[i] = np.nan
        if feature_weight[i] > 0.0:
            _cosines(features[i], feature_weight[i], vectors, biases, cosines)
            cosine[i] = cosines[1]
