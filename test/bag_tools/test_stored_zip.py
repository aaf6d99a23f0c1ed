import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bag_tools.stored_zip import CrcShift, StoredNpz


@given(st.binary(max_size=300), st.binary(min_size=1, max_size=300))
def test_checksums_join(first: bytes, second: bytes) -> None:
    joined = CrcShift(len(second))(zlib.crc32(first)) ^ zlib.crc32(second)
    assert joined == zlib.crc32(first + second)


@given(st.integers(1, 2**40), st.binary(max_size=40))
def test_carrying_twice_is_carrying_twice_as_far(length: int, data: bytes) -> None:
    crc, shift = zlib.crc32(data), CrcShift(length)
    assert shift(shift(crc)) == CrcShift(2 * length)(crc)


def test_rows_in_any_order_make_a_whole_zip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (7, 4, 5, 3)).astype(np.uint8)
    small = {
        'numbers': rng.normal(size=(5, 3)).astype(np.float32),
        'names': np.array(['ab', 'c']),
        'text': np.array('{"x": 1}'),
        'none': np.zeros((0, 2)),
        'flat': np.zeros((3, 0), np.float32),
        'mask': np.array([True, False]),
    }
    path = tmp_path / 'a.npz'
    archive = StoredNpz(path)
    archive.allocate('images', images.shape, images.dtype)
    archive.allocate('empty', (0, 4, 4), np.uint16)
    for row in (3, 1, 6, 0):
        archive.write_row('images', row, images[row])
    for name, values in small.items():
        archive.write_array(name, values)
    archive.close()
    images[[2, 4, 5]] = 0
    assert zipfile.ZipFile(path).testzip() is None
    with np.load(path, allow_pickle=False) as loaded:
        assert set(loaded) == {'images', 'empty', *small}
        np.testing.assert_array_equal(loaded['images'], images)
        for name, values in small.items():
            assert loaded[name].dtype == values.dtype
            np.testing.assert_array_equal(loaded[name], values)


def test_views_with_strides_are_written_as_they_read(tmp_path: Path) -> None:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    archive = StoredNpz(tmp_path / 'a.npz')
    archive.allocate('images', (1, 4, 3, 3), np.uint8)
    archive.write_row('images', 0, image[:, ::2, ::-1])
    archive.close()
    with np.load(tmp_path / 'a.npz') as loaded:
        np.testing.assert_array_equal(loaded['images'][0], image[:, ::2, ::-1])


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    archive = StoredNpz(tmp_path / 'a.npz')
    archive.allocate('images', (2, 3), np.uint8)
    for row, values in ((0, np.zeros(4, np.uint8)), (2, np.zeros(3, np.uint8))):
        with pytest.raises(ValueError, match=r'images\['):
            archive.write_row('images', row, values)
    archive.abort()
