"""What each voxel holds, in chunks of rows: growing copies nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_SHIFT = 14
CHUNK_ROWS = 1 << CHUNK_SHIFT


# All that a voxel holds beside its feature, side by side: adding a point to a voxel touches one or
# two cache lines, not one per column.
RECORD = np.dtype(
    {
        'names': [
            'first_seen',
            'last_seen',
            'offset',
            'color',
            'weight',
            'color_weight',
            'feature_weight',
            'count',
            'misses',
        ],
        'formats': ['i8', 'i8', '3f4', '3f4', 'f4', 'f4', 'f4', 'i4', 'u1'],
        'offsets': [0, 8, 16, 28, 40, 44, 48, 52, 56],
        'itemsize': 57,
    }
)
COLUMNS = ('features', *(RECORD.names or ()))


@dataclass
class Chunk:
    """CHUNK_ROWS voxels. Pages that no voxel has reached yet cost no memory.

    Attributes:
        features: (C, D) float32, weighted sum of the unit features seen (or of their projections).
        records: (C,) RECORD, the other columns; each is a property, a view into this.
    """

    features: NDArray[np.float32]
    records: NDArray[np.void]

    @classmethod
    def empty(cls, feature_dim: int) -> Chunk:
        """A chunk whose rows hold anything: rows are cleared when they are first used."""
        features = np.empty((CHUNK_ROWS, feature_dim), dtype=np.float32)
        return cls(features, np.empty(CHUNK_ROWS, dtype=RECORD))

    @property
    def feature_weight(self) -> NDArray[np.float32]:
        """(C,) float32, weight of the features' sum."""
        return self.records['feature_weight']

    @property
    def offset(self) -> NDArray[np.float32]:
        """(C, 3) float32, mean point in the voxel, in voxels from its lowest corner."""
        return self.records['offset']

    @property
    def weight(self) -> NDArray[np.float32]:
        """(C,) float32, weight of `offset`."""
        return self.records['weight']

    @property
    def color(self) -> NDArray[np.float32]:
        """(C, 3) float32, mean RGB in [0, 255]."""
        return self.records['color']

    @property
    def color_weight(self) -> NDArray[np.float32]:
        """(C,) float32, weight of `color`."""
        return self.records['color_weight']

    @property
    def count(self) -> NDArray[np.int32]:
        """(C,) int32, depth pixels that fell in."""
        return self.records['count']

    @property
    def misses(self) -> NDArray[np.uint8]:
        """(C,) uint8, frames in a row that saw through the voxel."""
        return self.records['misses']

    @property
    def first_seen(self) -> NDArray[np.int64]:
        """(C,) int64, earliest stamp in ns."""
        return self.records['first_seen']

    @property
    def last_seen(self) -> NDArray[np.int64]:
        """(C,) int64, latest stamp in ns."""
        return self.records['last_seen']

    def copy(self) -> Chunk:
        """An independent copy."""
        return Chunk(self.features.copy(), self.records.copy())

    def clear(self, start: int, stop: int) -> None:
        """Make rows [start, stop) those of voxels never seen."""
        self.features[start:stop] = 0
        self.records[start:stop] = np.zeros((), dtype=RECORD)
        self.first_seen[start:stop] = np.iinfo(np.int64).max
        self.last_seen[start:stop] = np.iinfo(np.int64).min


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
        pairs = np.stack([holes >> CHUNK_SHIFT, movers >> CHUNK_SHIFT])
        for hole_chunk, mover_chunk in np.unique(pairs, axis=1).T.tolist():
            chosen = (pairs[0] == hole_chunk) & (pairs[1] == mover_chunk)
            i, j = holes[chosen] & (CHUNK_ROWS - 1), movers[chosen] & (CHUNK_ROWS - 1)
            target, source = self.writable(hole_chunk), self.readable(mover_chunk)
            target.features[i], target.records[i] = source.features[j], source.records[j]
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
            self._chunks[index] = Chunk(features, self._chunks[index].records)
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
        return self.size * (RECORD.itemsize + 4 * self.feature_dim)
