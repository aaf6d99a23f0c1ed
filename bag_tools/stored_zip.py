"""An .npz whose arrays are written row by row, in any order, without compression or copies.

The sizes are known before the first row, so every array's place in the file is; what a zip also
needs, the CRC-32 of each member, is put together from those of its rows.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LOCAL, _CENTRAL, _END = b'PK\x03\x04', b'PK\x01\x02', b'PK\x05\x06'
_END64, _LOCATOR64 = b'PK\x06\x06', b'PK\x06\x07'
_VERSION_64 = 45
_DOS_DATE_1980 = 0x21
_LOCAL_EXTRA_BYTES = 20
_FULL_32 = 0xFFFFFFFF
_POLYNOMIAL = 0xEDB88320


@dataclass
class _Member:
    name: bytes
    header: bytes
    local_offset: int
    data_offset: int
    row_bytes: int
    rows: int
    zero_crc: int
    row_crcs: dict[int, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.header) + self.rows * self.row_bytes


class StoredNpz:
    """A numpy .npz under construction.

    Args:
        path: File to write; it is whole only after `close`.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open('wb')
        self._members: dict[str, _Member] = {}
        self._end = 0

    def allocate(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        """Make room for an array, zero until written; rows lie along its first axis."""
        row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
        self._place(name, npy_header(shape, np.dtype(dtype)), shape[0], row_bytes)

    def _place(self, name: str, header: bytes, rows: int, row_bytes: int) -> None:
        filename = f'{name}.npy'.encode()
        data_offset = self._end + 30 + len(filename) + _LOCAL_EXTRA_BYTES + len(header)
        self._members[name] = _Member(
            filename, header, self._end, data_offset, row_bytes, rows, zlib.crc32(bytes(row_bytes))
        )
        self._end = data_offset + rows * row_bytes

    def write_row(self, name: str, row: int, values: NDArray[Any]) -> None:
        """Write one row, of the shape and type allocated."""
        member = self._members[name]
        data = np.ascontiguousarray(values)
        if data.nbytes != member.row_bytes or not 0 <= row < member.rows:
            raise ValueError(f'{name}[{row}] takes {member.row_bytes} bytes, not {data.nbytes}')
        raw = data.reshape(-1).view(np.uint8).data
        member.row_crcs[row] = zlib.crc32(raw)
        write_all(self._file.fileno(), raw, member.data_offset + row * member.row_bytes)

    def write_array(self, name: str, values: NDArray[Any]) -> None:
        """Allocate and write a whole array."""
        self._place(name, npy_header(values.shape, values.dtype), 1, values.nbytes)
        self.write_row(name, 0, np.ascontiguousarray(values))

    def close(self) -> None:
        """Write what makes the members a zip file, and flush it to disk."""
        descriptor = self._file.fileno()
        central = b''
        for member in self._members.values():
            crc = _member_crc(member)
            write_all(descriptor, _local_header(member, crc) + member.header, member.local_offset)
            central += _central_header(member, crc)
        write_all(
            descriptor,
            central + _end_records(len(self._members), len(central), self._end),
            self._end,
        )
        os.fsync(descriptor)
        self._file.close()

    def abort(self) -> None:
        """Close the file as it is."""
        self._file.close()


def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """The bytes before an array's data in the .npy format."""
    buffer = io.BytesIO()
    description = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(
        buffer, {'descr': description, 'fortran_order': False, 'shape': shape}
    )
    return buffer.getvalue()


def write_all(descriptor: int, data: Any, offset: int) -> None:
    """Write bytes at a place in a file, however many calls it takes."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _local_header(member: _Member, crc: int) -> bytes:
    extra = struct.pack('<HHQQ', 1, 16, member.size, member.size)
    return (
        struct.pack(
            '<4sHHHHHIIIHH', _LOCAL, _VERSION_64, 0, 0, 0, _DOS_DATE_1980, crc,
            _FULL_32, _FULL_32, len(member.name), len(extra),
        )
        + member.name
        + extra
    )  # fmt: skip


def _central_header(member: _Member, crc: int) -> bytes:
    extra = struct.pack('<HHQQQ', 1, 24, member.size, member.size, member.local_offset)
    return (
        struct.pack(
            '<4sHHHHHHIIIHHHHHII', _CENTRAL, _VERSION_64, _VERSION_64, 0, 0, 0, _DOS_DATE_1980,
            crc, _FULL_32, _FULL_32, len(member.name), len(extra), 0, 0, 0, 0, _FULL_32,
        )
        + member.name
        + extra
    )  # fmt: skip


def _end_records(count: int, central_bytes: int, central_offset: int) -> bytes:
    end64 = struct.pack(
        '<4sQHHIIQQQQ', _END64, 44, _VERSION_64, _VERSION_64, 0, 0, count, count,
        central_bytes, central_offset,
    )  # fmt: skip
    locator = struct.pack('<4sIQI', _LOCATOR64, 0, central_offset + central_bytes, 1)
    end = struct.pack(
        '<4sHHHHIIH', _END, 0, 0, min(count, 0xFFFF), min(count, 0xFFFF), _FULL_32, _FULL_32, 0
    )
    return end64 + locator + end


def _member_crc(member: _Member) -> int:
    crc = zlib.crc32(member.header)
    if not member.row_bytes:
        return crc
    shift = CrcShift(member.row_bytes)
    for row in range(member.rows):
        crc = shift(crc) ^ member.row_crcs.get(row, member.zero_crc)
    return crc


class CrcShift:
    """Carries a CRC-32 over a fixed number of bytes, so that crc(a + b) = shift(crc(a)) ^ crc(b).

    The register is linear over GF(2): one step per zero bit squared up to the length, as zlib's
    crc32_combine does it, kept as four tables of 256 for the bytes of the register.

    Args:
        length: Bytes to carry over.
    """

    def __init__(self, length: int) -> None:
        operator = _power(length * 8)
        self._tables = [
            [_apply(operator, value << shift) for value in range(256)] for shift in (0, 8, 16, 24)
        ]

    def __call__(self, crc: int) -> int:
        """The CRC carried over."""
        low, second, third, high = self._tables
        return low[crc & 255] ^ second[crc >> 8 & 255] ^ third[crc >> 16 & 255] ^ high[crc >> 24]


def _apply(operator: list[int], vector: int) -> int:
    result, bit = 0, 0
    while vector:
        if vector & 1:
            result ^= operator[bit]
        vector >>= 1
        bit += 1
    return result


def _power(bits: int) -> list[int]:
    """The operator of that many zero bits: 32 columns of 32 bits."""
    square = [_POLYNOMIAL, *(1 << i for i in range(31))]
    result = [1 << i for i in range(32)]
    while bits:
        if bits & 1:
            result = [_apply(square, column) for column in result]
        square = [_apply(square, column) for column in square]
        bits >>= 1
    return result
