import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_nodes.mapping.voxel_index import VoxelIndex, pack_key, unpack_keys
from vlm_nodes.mapping.voxel_store import CHUNK_ROWS, VoxelStore

cells = st.tuples(*[st.integers(-(2**20), 2**20 - 1)] * 3)


@settings(deadline=None)
@given(st.lists(cells, min_size=1, max_size=30))
def test_keys_unpack_to_their_cells(chosen):
    keys = np.array([pack_key(*cell) for cell in chosen])
    np.testing.assert_array_equal(unpack_keys(keys), chosen)
    assert (keys >= 0).all()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2**32 - 1)), max_size=12))
def test_index_and_store_behave_as_a_dictionary(steps):
    """Random insertions and removals, on few keys so that they collide, against a dict."""
    index, store, expected = VoxelIndex(), VoxelStore(2), {}
    for remove, seed in steps:
        rng = np.random.default_rng(seed)
        if remove and expected:
            gone = rng.permutation(index.size)[: rng.integers(1, index.size + 1)]
            for key in index.keys[gone].tolist():
                del expected[key]
            holes, movers = index.remove(gone)
            store.move(holes, movers, index.size)
        else:
            keys = np.unique(rng.integers(0, 4000, size=rng.integers(1, 1500)))
            rng.shuffle(keys)
            rows = index.insert(keys)
            store.grow(index.size)
            for key, row in zip(keys.tolist(), rows.tolist(), strict=True):
                if key not in expected:
                    expected[key] = float(rng.random())
                    store.writable(0).features[row] = expected[key]
                    assert store.readable(0).count[row] == 0
        assert index.size == store.size == len(expected)
        rows = index.find(np.arange(4000))
        assert set(np.flatnonzero(rows >= 0).tolist()) == set(expected)
        features = store.column('features')
        for key, value in expected.items():
            assert features[rows[key], 0] == np.float32(value)


def test_rows_move_between_chunks():
    store = VoxelStore(1)
    store.grow(2 * CHUNK_ROWS + 10)
    for chunk in range(3):
        rows = store.rows_in(chunk)
        start = chunk * CHUNK_ROWS
        store.writable(chunk).features[:rows, 0] = np.arange(start, start + rows)
    holes = np.array([3, CHUNK_ROWS + 4, CHUNK_ROWS - 1])
    movers = np.array([2 * CHUNK_ROWS + 7, 2 * CHUNK_ROWS + 8, 2 * CHUNK_ROWS + 9])
    store.move(holes, movers, 2 * CHUNK_ROWS + 7)
    features = store.column('features')[:, 0]
    np.testing.assert_array_equal(features[holes], movers)
    assert len(features) == 2 * CHUNK_ROWS + 7
    assert features[5] == 5


def test_a_snapshot_stays_while_rows_change():
    store = VoxelStore(1)
    store.grow(10)
    store.writable(0).features[:10] = 1
    held = store.hold()
    store.writable(0).features[:10] = 2
    assert (held[0].features[:10] == 1).all()
    store.release()
    kept = store.readable(0)
    assert store.writable(0) is kept  # no snapshot, no copy
    assert (kept.features[:10] == 2).all()
