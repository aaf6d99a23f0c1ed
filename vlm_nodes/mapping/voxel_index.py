"""From voxel coordinates to rows: packed keys in an open-addressing hash table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.mapping.jit import kernel

AXIS_BITS = 21
AXIS_HALF = 1 << (AXIS_BITS - 1)
_AXIS_MASK = (1 << AXIS_BITS) - 1
# 2^64 / golden ratio as a signed number: Fibonacci hashing (Knuth, TAOCP 3, 6.4).
_MULTIPLIER = -7046029254386353131
EMPTY = -1


@kernel
def pack_key(ix: int, iy: int, iz: int) -> int:
    """One int64 of three signed voxel coordinates in [-2^20, 2^20)."""
    return (
        ((ix + AXIS_HALF) << (2 * AXIS_BITS)) | ((iy + AXIS_HALF) << AXIS_BITS) | (iz + AXIS_HALF)
    )


@kernel
def slot_of(key: int, mask: int) -> int:
    """Where the search for a key begins."""
    return ((key * _MULTIPLIER) >> 32) & mask


def unpack_keys(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Signed voxel coordinates (N, 3) of packed keys (N,)."""
    x = (keys >> (2 * AXIS_BITS)) - AXIS_HALF
    y = ((keys >> AXIS_BITS) & _AXIS_MASK) - AXIS_HALF
    z = (keys & _AXIS_MASK) - AXIS_HALF
    return np.stack([x, y, z], axis=-1)


@kernel
def _insert(
    slots: NDArray[np.int32],
    row_keys: NDArray[np.int64],
    size: int,
    keys: NDArray[np.int64],
    rows: NDArray[np.int32],
) -> int:
    mask = slots.size - 1
    for i in range(keys.size):
        key = keys[i]
        slot = slot_of(key, mask)
        while slots[slot] != EMPTY and row_keys[slots[slot]] != key:
            slot = (slot + 1) & mask
        if slots[slot] == EMPTY:
            slots[slot] = size
            row_keys[size] = key
            size += 1
        rows[i] = slots[slot]
    return size


@kernel
def _find_slot(slots: NDArray[np.int32], row_keys: NDArray[np.int64], key: int) -> int:
    mask = slots.size - 1
    slot = slot_of(key, mask)
    while slots[slot] != EMPTY:
        if row_keys[slots[slot]] == key:
            return slot
        slot = (slot + 1) & mask
    return -1


@kernel
def _find(
    slots: NDArray[np.int32],
    row_keys: NDArray[np.int64],
    keys: NDArray[np.int64],
    rows: NDArray[np.int32],
) -> None:
    for i in range(keys.size):
        slot = _find_slot(slots, row_keys, keys[i])
        rows[i] = slots[slot] if slot >= 0 else -1


@kernel
def _rehash(slots: NDArray[np.int32], row_keys: NDArray[np.int64], size: int) -> None:
    mask = slots.size - 1
    for row in range(size):
        slot = slot_of(row_keys[row], mask)
        while slots[slot] != EMPTY:
            slot = (slot + 1) & mask
        slots[slot] = row


@kernel
def _delete_slot(slots: NDArray[np.int32], row_keys: NDArray[np.int64], hole: int) -> None:
    # Backward shift: later entries of the same run move up, so that no tombstones are needed.
    mask = slots.size - 1
    slot = (hole + 1) & mask
    while slots[slot] != EMPTY:
        home = slot_of(row_keys[slots[slot]], mask)
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            slots[hole] = slots[slot]
            hole = slot
        slot = (slot + 1) & mask
    slots[hole] = EMPTY


@kernel
def _remove(
    slots: NDArray[np.int32],
    row_keys: NDArray[np.int64],
    removed: NDArray[np.int64],
    holes: NDArray[np.int64],
    movers: NDArray[np.int64],
) -> None:
    for row in removed:
        _delete_slot(slots, row_keys, _find_slot(slots, row_keys, row_keys[row]))
    for i in range(holes.size):
        slots[_find_slot(slots, row_keys, row_keys[movers[i]])] = holes[i]
        row_keys[holes[i]] = row_keys[movers[i]]


class VoxelIndex:
    """A growing set of voxel keys, each with a row number; rows are always 0 .. size - 1.

    The table holds rows only (int32) and compares with the rows' keys: 8 to 16 bytes a voxel less
    than a table of keys.
    """

    def __init__(self) -> None:
        self.size = 0
        self._row_keys = np.empty(1024, dtype=np.int64)
        self._slots = np.full(2048, EMPTY, dtype=np.int32)

    @property
    def keys(self) -> NDArray[np.int64]:
        """Keys (size,) by row: a view, valid until the next change."""
        return self._row_keys[: self.size]

    def insert(self, keys: NDArray[np.int64]) -> NDArray[np.int32]:
        """Rows (N,) of keys (N,); new keys get the next rows in the order they come."""
        self._reserve(self.size + keys.size)
        rows = np.empty(keys.size, dtype=np.int32)
        self.size = int(_insert(self._slots, self._row_keys, self.size, keys, rows))
        return rows

    def find(self, keys: NDArray[np.int64]) -> NDArray[np.int32]:
        """Rows (N,) of keys (N,), -1 for those that are not there."""
        rows = np.empty(keys.size, dtype=np.int32)
        _find(self._slots, self._row_keys, keys, rows)
        return rows

    def remove(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Forget distinct rows and fill their places from the end, so that rows stay dense.

        Returns:
            (holes, movers): row `movers[i]` is row `holes[i]` from now on; data must follow.
        """
        remaining = self.size - rows.size
        gone = np.zeros(rows.size, dtype=bool)
        gone[rows[rows >= remaining] - remaining] = True
        movers = np.flatnonzero(~gone) + remaining
        holes = rows[rows < remaining].astype(np.int64)
        _remove(self._slots, self._row_keys, rows.astype(np.int64), holes, movers)
        self.size = remaining
        return holes, movers

    def nbytes(self) -> int:
        """Bytes held."""
        return self._row_keys.nbytes + self._slots.nbytes

    def _reserve(self, size: int) -> None:
        if size > self._row_keys.size:
            # Pages that no key has reached cost no memory, while growing by less would leave a
            # trail of freed arrays that each fit nothing.
            grown = np.empty(2 * size, dtype=np.int64)
            grown[: self.size] = self.keys
            self._row_keys = grown
        if size * 10 > self._slots.size * 7:
            capacity = 1 << int(np.ceil(np.log2(size * 10 / 7)))
            self._slots = np.empty(0, dtype=np.int32)
            self._slots = np.full(capacity, EMPTY, dtype=np.int32)
            _rehash(self._slots, self._row_keys, self.size)
