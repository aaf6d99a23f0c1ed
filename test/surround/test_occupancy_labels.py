import numpy as np
import pytest

from vlm_nodes.surround import (
    Occupancy,
    SurroundError,
    VoxelGrid,
    read_occupancy,
    write_occupancy,
)
from vlm_nodes.surround.occupancy import CLASSES, FREE, OCC3D_GRID


def test_the_published_grid():
    assert OCC3D_GRID.shape == (200, 200, 16)
    assert len(CLASSES) == 18
    assert CLASSES[FREE] == 'free'
    voxels, inside = OCC3D_GRID.voxel_of([[-40, -40, -1], [0.1, -0.1, 0.1], [40, 0, 0]])
    assert voxels[:2].tolist() == [[0, 0, 0], [100, 99, 2]]
    assert inside.tolist() == [True, True, False]
    assert OCC3D_GRID.centres()[100, 99, 2] == pytest.approx((0.2, -0.2, 0.0))


def test_centres_lie_in_their_voxels():
    grid = VoxelGrid((-2, -1, 0), (2, 1, 1.5), 0.5)
    voxels, inside = grid.voxel_of(grid.centres())
    assert inside.all()
    np.testing.assert_array_equal(np.moveaxis(voxels, -1, 0), np.indices(grid.shape))


@pytest.mark.parametrize('voxel_m', [0.0, -0.4, 0.3, float('nan')])
def test_voxels_that_do_not_fit(voxel_m):
    with pytest.raises(ValueError, match='voxel'):
        VoxelGrid(voxel_m=voxel_m)


def test_labels_survive_the_disk(tmp_path):
    rng = np.random.default_rng(0)
    shape = (6, 5, 4)
    labels = Occupancy(
        rng.integers(0, 18, shape).astype(np.uint8),
        rng.random(shape) < 0.5,
        rng.random(shape) < 0.2,
    )
    write_occupancy(tmp_path / 'labels.npz', labels)
    again = read_occupancy(tmp_path / 'labels.npz')
    for name in ('semantics', 'mask_camera', 'mask_lidar'):
        np.testing.assert_array_equal(getattr(again, name), getattr(labels, name))
    assert [p.name for p in tmp_path.iterdir()] == ['labels.npz']


def test_labels_that_are_missing_or_broken(tmp_path):
    path = tmp_path / 'labels.npz'
    with pytest.raises(SurroundError, match=r'labels\.npz are missing'):
        read_occupancy(path)
    path.write_bytes(b'PK\x03\x04 and then nothing')
    with pytest.raises(SurroundError, match='holds no occupancy'):
        read_occupancy(path)
    np.savez(path, semantics=np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(SurroundError, match='mask_camera'):
        read_occupancy(path)
    with pytest.raises(SurroundError, match='class 30'):
        Occupancy(np.full((1, 1, 1), 30, np.uint8), *[np.ones((1, 1, 1), bool)] * 2)
