"""What each voxel holds, in chunks of rows: growing copies nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_SHIFT = 14
CHUNK_ROWS = 1 << CHUNK_SHIFT


@dataclass
class Chunk:
    """Arrays of CHUNK_ROWS voxels. Pages that no voxel has reached yet cost no memory.

    Attributes:
        features: (C, D) float32, weighted sum of the unit features seen (or of their projections).
        feature_weight: (C,) float32, the sum's weight.
        offset: (C, 3) float32, mean point in the voxel, in voxels from its lowest corner.
        weight: (C,) float32, weight of `offset`.
        color: (C, 3) float32, mean RGB in [0, 255].
        color_weight: (C,) float32, weight of `color`.
        count: (C,) int32, depth pixels that fell in.
        misses: (C,) uint8, frames in a row that saw through the voxel.
        first_seen: (C,) int64, earliest stamp in ns.
        last_seen: (C,) int64, latest stamp in ns.
    """

    features: NDArray[np.float32]
    feature_weight: NDArray[np.float32]
    offset: NDArray[np.float32]
    weight: NDArray[np.float32]
    color: NDArray[np.float32]
    color_weight: NDArray[np.float32]
    count: NDArray[np.int32]
    misses: NDArray[np.uint8]
    first_seen: NDArray[np.int64]
    last_seen: NDArray[np.int64]

    @classmethod
    def empty(cls, feature_dim: int) -> Chunk:
        """A chunk whose rows hold anything: rows are cleared when they are first used."""

        def scalars(dtype: type[np.generic]) -> NDArray[np.generic]:
            return np.empty(CHUNK_ROWS, dtype=dtype)

        return cls(
            features=np.empty((CHUNK_ROWS, feature_dim), dtype=np.float32),
            feature_weight=scalars(np.float32),  # type: ignore[arg-type]
            offset=np.empty((CHUNK_ROWS, 3), dtype=np.float32),
            weight=scalars(np.float32),  # type: ignore[arg-type]
            color=np.empty((CHUNK_ROWS, 3), dtype=np.float32),
            color_weight=scalars(np.float32),  # type: ignore[arg-type]
            count=scalars(np.int32),  # type: ignore[arg-type]
            misses=scalars(np.uint8),  # type: ignore[arg-type]
            first_seen=scalars(np.int64),  # type: ignore[arg-type]
            last_seen=scalars(np.int64),  # type: ignore[arg-type]
        )

    def copy(self) -> Chunk:
        """An independent copy."""
        return Chunk(**{name: getattr(self, name).copy() for name in COLUMNS})

    def clear(self, start: int, stop: int) -> None:
        """Make rows [start, stop) those of voxels never seen."""
        for name in COLUMNS:
            getattr(self, name)[start:stop] = 0
        self.first_seen[start:stop] = np.iinfo(np.int64).max
        self.last_seen[start:stop] = np.iinfo(np.int64).min


COLUMNS = tuple(f.name for f in fields(Chunk))


class VoxelStore:
    """Rows 0 .. size - 1 of voxel data."""

    def __init__(self, feature_dim: int) -> None:
        self.size = 0
        self.feature_dim = feature_dim
        self._chunks: list[Chunk] = []
        self._shared: set[int] = set()
        self._snapshots = 0

    @classmethod
    def of_chunks(cls, chunks: list[Chunk], size: int, feature_dim: int) -> VoxelStore:
        """A store of existing chunks, of which `size` rows are used."""
        store = cls(feature_dim)
        store._chunks, store.size = chunks, size
        return store

    @property
    def chunk_count(self) -> int:
        """Chunks that hold at least one row."""
        return len(self._chunks)

    def rows_in(self, chunk: int) -> int:
        """Rows used in a chunk."""
        return min(CHUNK_ROWS, self.size - (chunk << CHUNK_SHIFT))

    def readable(self, chunk: int) -> Chunk:
        """A chunk to read; writing to it is forbidden."""
        return self._chunks[chunk]

    def writable(self, chunk: int) -> Chunk:
        """A chunk to write; copied first where a snapshot still reads it."""
        if chunk in self._shared:
            self._chunks[chunk] = self._chunks[chunk].copy()
            self._shared.discard(chunk)
        return self._chunks[chunk]

    def grow(self, size: int) -> None:
        """Append cleared rows until there are `size`."""
        while self.size < size:
            chunk = self.size >> CHUNK_SHIFT
            if chunk == len(self._chunks):
                self._chunks.append(Chunk.empty(self.feature_dim))
            start = self.size & (CHUNK_ROWS - 1)
            stop = min(CHUNK_ROWS, start + size - self.size)
            self.writable(chunk).clear(start, stop)
            self.size += stop - start

    def move(self, holes: NDArray[np.int64], movers: NDArray[np.int64], size: int) -> None:
        """Copy rows `movers` to rows `holes`, then keep the first `size` rows."""
        for hole, mover in zip(holes.tolist(), movers.tolist(), strict=True):
            target = self.writable(hole >> CHUNK_SHIFT)
            source = self.readable(mover >> CHUNK_SHIFT)
            i, j = hole & (CHUNK_ROWS - 1), mover & (CHUNK_ROWS - 1)
            for name in COLUMNS:
                getattr(target, name)[i] = getattr(source, name)[j]
        self.size = size
        kept = (size + CHUNK_ROWS - 1) >> CHUNK_SHIFT
        del self._chunks[kept:]
        self._shared = {chunk for chunk in self._shared if chunk < kept}

    def column(self, name: str) -> NDArray[Any]:
        """A copy of one column, (size, ...)."""
        parts = [
            getattr(self.readable(c), name)[: self.rows_in(c)] for c in range(self.chunk_count)
        ]
        return np.concatenate(parts) if parts else getattr(Chunk.empty(self.feature_dim), name)[:0]

    def map_features(
        self, feature_dim: int, change: Callable[[Chunk, int], NDArray[np.float32]]
    ) -> None:
        """Replace every chunk's features, one chunk at a time.

        Args:
            feature_dim: The new width.
            change: From a chunk and its number of rows to the new (rows, feature_dim) features.
        """
        for index in range(self.chunk_count):
            rows = self.rows_in(index)
            features = np.empty((CHUNK_ROWS, feature_dim), dtype=np.float32)
            features[:rows] = change(self._chunks[index], rows)
            self._chunks[index] = replace(self._chunks[index], features=features)
        self.feature_dim = feature_dim

    def hold(self) -> list[Chunk]:
        """Freeze the chunks as they are now; each is copied only when it is written next."""
        self._snapshots += 1
        self._shared = set(range(self.chunk_count))
        return list(self._chunks)

    def release(self) -> None:
        """End one `hold`."""
        self._snapshots -= 1
        if self._snapshots == 0:
            self._shared.clear()

    def nbytes(self) -> int:
        """Bytes of the rows used."""
        row = 12 + 4 + 12 + 4 + 4 + 4 + 1 + 16 + 4 * self.feature_dim
        return self.size * row
