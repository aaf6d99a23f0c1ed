"""Scores and labels of all voxels, chunk by chunk on several threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.clip.projection import FeatureProjection
from vlm_nodes.mapping.jit import Workers
from vlm_nodes.mapping.scoring import Prompts, best_prompt, one_cosine, softmax_first
from vlm_nodes.mapping.voxel_store import CHUNK_SHIFT, VoxelStore


class MapScores:
    """Compares stored features with text vectors."""

    def __init__(
        self, store: VoxelStore, projection: FeatureProjection | None, workers: Workers
    ) -> None:
        """Look at a store, which must not change meanwhile.

        Args:
            store: The voxels.
            projection: What their features are reduced by.
            workers: Threads.
        """
        self._store = store
        self._projection = projection
        self._workers = workers

    def softmax(self, vectors: NDArray[np.float32], logit_scale: float) -> NDArray[np.float32]:
        """(N,) share of the first of text vectors (P, D) in the softmax over all.

        0 where a voxel has no features.
        """
        scores = np.zeros(self._store.size, dtype=np.float32)
        self._run(softmax_first, Prompts.of(vectors, self._projection), (logit_scale,), scores)
        return scores

    def labels(self, vectors: NDArray[np.float32], percentile: float | None) -> NDArray[np.int32]:
        """(N,) the text vector of (P, D) with the largest cosine.

        Args:
            vectors: (P, D); the last is what remains where none fits or there are no features.
            percentile: Of each text's cosines over the map; a voxel below it cannot take the text.
        """
        floors = np.full(len(vectors) - 1, -np.inf, dtype=np.float32)
        if percentile is not None:
            floors[:] = [self._percentile(vector, percentile) for vector in vectors[:-1]]
        labels = np.full(self._store.size, len(vectors) - 1, dtype=np.int32)
        self._run(best_prompt, Prompts.of(vectors, self._projection), (floors,), labels)
        return labels

    def _percentile(self, vector: NDArray[np.float32], percentile: float) -> float:
        cosines = np.full(self._store.size, np.nan, dtype=np.float32)
        prompts = Prompts.of(vector[None], self._projection)
        self._run(one_cosine, prompts, (), cosines)
        known = cosines[~np.isnan(cosines)]
        return float(np.percentile(known, percentile)) if known.size else np.inf

    def _run(
        self,
        kernel: Callable[..., None],
        prompts: Prompts,
        options: tuple[Any, ...],
        out: NDArray[Any],
    ) -> None:
        if self._store.feature_dim == 0:
            return

        def run(index: int) -> None:
            start, chunk = index << CHUNK_SHIFT, self._store.readable(index)
            rows = out[start : start + self._store.rows_in(index)]
            kernel(
                chunk.features,
                chunk.feature_weight,
                prompts.vectors,
                prompts.biases,
                prompts.count,
                *options,
                rows,
            )

        self._workers.map_strided(run, self._store.chunk_count)
