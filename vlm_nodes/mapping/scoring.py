"""Cosines of stored features with prompts, in one pass over the features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.clip.projection import FeatureProjection
from vlm_nodes.mapping.jit import kernel

# Prompts are taken eight at a time, so that a row is read from cache once for eight products.
_BLOCK = 8
# Rows whose cosines are kept at once.
_TILE = 256


@dataclass(frozen=True)
class Prompts:
    """Prompts in the form that scores stored rows.

    A row holds F = sum of w f (or of w times f's projection) and W = sum of w. With a projection
    f ~= mean + basis z, the unprojected sum is S = W mean + basis F, so that
    t . S = (t basis) . F + W t . mean and, the basis being orthonormal,
    |S|^2 = |F|^2 + 2 W (mean basis) . F + W^2 |mean|^2. The cosine is t . S / |S|.

    Attributes:
        vectors: (8 n, k) float32: the mean's row (mean basis), the prompts' rows, zeros to fill up.
        biases: (8 n,) float32: |mean|^2, then t . mean of each prompt.
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
def _tile_cosines(
    features: NDArray[np.float32],
    feature_weight: NDArray[np.float32],
    vectors: NDArray[np.float32],
    biases: NDArray[np.float32],
    cosines: NDArray[np.float32],
) -> None:
    """Cosines (N, 8 n) of rows with all prompts; column 0 holds rubbish.

    Helpers take many rows: a call counts references to its arrays, atomically, which costs as much
    as the work on one row.
    """
    zero = np.float32(0.0)
    for i in range(features.shape[0]):
        square = zero
        for p in range(0, vectors.shape[0], _BLOCK):
            a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = square = zero
            for d in range(features.shape[1]):
                f = features[i, d]
                square += f * f
                a0 += f * vectors[p, d]
                a1 += f * vectors[p + 1, d]
                a2 += f * vectors[p + 2, d]
                a3 += f * vectors[p + 3, d]
                a4 += f * vectors[p + 4, d]
                a5 += f * vectors[p + 5, d]
                a6 += f * vectors[p + 6, d]
                a7 += f * vectors[p + 7, d]
            cosines[i, p], cosines[i, p + 1] = a0, a1
            cosines[i, p + 2], cosines[i, p + 3] = a2, a3
            cosines[i, p + 4], cosines[i, p + 5] = a4, a5
            cosines[i, p + 6], cosines[i, p + 7] = a6, a7
        w = feature_weight[i]
        square += np.float32(2.0) * w * cosines[i, 0] + w * w * biases[0]
        inverse = np.float32(1.0) / np.sqrt(max(square, np.float32(1e-30)))
        for p in range(1, vectors.shape[0]):
            cosines[i, p] = (cosines[i, p] + w * biases[p]) * inverse


@kernel
def _exponentials(values: NDArray[np.float32], bits: NDArray[np.int32]) -> None:
    """Exponentials of values (N,) in [-87, 80], in place; `bits` (N,) is working space.

    e^x = 2^n 2^f with n = round(x / ln 2) put into the exponent's bits and Taylor's polynomial for
    2^f, |f| <= 1/2: relative error below 3e-7. Unlike calls to the mathematics library, it
    vectorises, which takes softmax from a third of a query's time to a tenth.
    """
    for i in range(values.size):
        x = values[i] * np.float32(1.4426950408889634)
        n = np.floor(x + np.float32(0.5))
        f = (x - n) * np.float32(0.6931471805599453)
        bits[i] = (np.int32(n) + np.int32(127)) << np.int32(23)
        p = np.float32(1 / 720) * f + np.float32(1 / 120)
        p = p * f + np.float32(1 / 24)
        p = p * f + np.float32(1 / 6)
        p = p * f + np.float32(0.5)
        p = p * f + np.float32(1.0)
        values[i] = p * f + np.float32(1.0)
    powers = bits.view(np.float32)
    for i in range(values.size):
        values[i] *= powers[i]


@kernel
def _tile_differences(
    features: NDArray[np.float32],
    feature_weight: NDArray[np.float32],
    vectors: NDArray[np.float32],
    biases: NDArray[np.float32],
    scale: np.float32,
    differences: NDArray[np.float32],
) -> None:
    """Scaled products (4 n, N) of unit rows with the vectors after the first, the mean's."""
    zero, low, high = np.float32(0.0), np.float32(-80.0), np.float32(80.0)
    for i in range(features.shape[0]):
        w = feature_weight[i]
        inverse = zero
        for p in range(1, vectors.shape[0], 4):
            a0 = a1 = a2 = a3 = square = mean = zero
            for d in range(features.shape[1]):
                f = features[i, d]
                square += f * f
                mean += f * vectors[0, d]
                a0 += f * vectors[p, d]
                a1 += f * vectors[p + 1, d]
                a2 += f * vectors[p + 2, d]
                a3 += f * vectors[p + 3, d]
            square += np.float32(2.0) * w * mean + w * w * biases[0]
            inverse = scale / np.sqrt(max(square, np.float32(1e-30)))
            a0, a1 = (a0 + w * biases[p]) * inverse, (a1 + w * biases[p + 1]) * inverse
            a2, a3 = (a2 + w * biases[p + 2]) * inverse, (a3 + w * biases[p + 3]) * inverse
            differences[p - 1, i] = min(max(a0, low), high)
            differences[p, i] = min(max(a1, low), high)
            differences[p + 1, i] = min(max(a2, low), high)
            differences[p + 2, i] = min(max(a3, low), high)


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

    The share is 1 / (1 + sum over the others of exp(logit - first logit)), so that only products
    with the differences of prompts are needed. Rows without features score 0.
    """
    columns = -(-(prompts - 1) // 4) * 4
    steps = np.zeros((1 + columns, vectors.shape[1]), dtype=np.float32)
    step_biases = np.zeros(1 + columns, dtype=np.float32)
    steps[0], step_biases[0] = vectors[0], biases[0]
    for p in range(1, prompts):
        steps[p] = vectors[1 + p] - vectors[1]
        step_biases[p] = biases[1 + p] - biases[1]
    odds = np.empty((columns, _TILE), dtype=np.float32)
    bits = np.empty(odds.size, dtype=np.int32)
    odds[:] = 0.0
    one = np.float32(1.0)
    for start in range(0, scores.size, _TILE):
        stop = min(start + _TILE, scores.size)
        _tile_differences(
            features[start:stop],
            feature_weight[start:stop],
            steps,
            step_biases,
            np.float32(logit_scale),
            odds,
        )
        _exponentials(odds.ravel(), bits)
        for i in range(stop - start):
            total = one
            for p in range(prompts - 1):
                total += odds[p, i]
            scores[start + i] = one / total if feature_weight[start + i] > 0.0 else 0.0


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
    cosines = np.empty((_TILE, vectors.shape[0]), dtype=np.float32)
    for start in range(0, labels.size, _TILE):
        stop = min(start + _TILE, labels.size)
        _tile_cosines(features[start:stop], feature_weight[start:stop], vectors, biases, cosines)
        for i in range(start, stop):
            labels[i] = prompts - 1
            if feature_weight[i] > 0.0:
                best = cosines[i - start, prompts]
                for p in range(prompts - 1):
                    cosine = cosines[i - start, p + 1]
                    if cosine >= floors[p] and cosine > best:
                        best = cosine
                        labels[i] = p


@kernel
def one_cosine(
    features: NDArray[np.float32],
    feature_weight: NDArray[np.float32],
    vectors: NDArray[np.float32],
    biases: NDArray[np.float32],
    prompts: int,
    cosine: NDArray[np.float32],
) -> None:
    """Cosine (N,) with the first prompt; NaN for rows without features."""
    cosines = np.empty((_TILE, vectors.shape[0]), dtype=np.float32)
    for start in range(0, cosine.size, _TILE):
        stop = min(start + _TILE, cosine.size)
        _tile_cosines(features[start:stop], feature_weight[start:stop], vectors, biases, cosines)
        for i in range(start, stop):
            cosine[i] = cosines[i - start, 1] if feature_weight[i] > 0.0 else np.float32(np.nan)
