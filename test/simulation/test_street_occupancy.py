import numpy as np
import pytest

from vlm_nodes.simulation.street.occupancy import voxelise
from vlm_nodes.simulation.street.rig import upright_pose
from vlm_nodes.simulation.street.solids import Solid
from vlm_nodes.simulation.street.visibility import seen_voxels
from vlm_nodes.surround.occupancy import CLASSES, FREE, OCC3D_GRID, VoxelGrid

CAR, ROAD = CLASSES.index('car'), CLASSES.index('driveable_surface')
GREY = (0.5, 0.5, 0.5)
SMALL = VoxelGrid((-2.0, -1.5, -1.0), (4.0, 3.5, 2.0), 0.5)


def box(centre, half, yaw=0.0, kind='car'):
    return Solid('box', kind, centre, half, yaw, GREY)


def occupied(semantics, number):
    return {tuple(voxel) for voxel in np.argwhere(semantics == number).tolist()}


def test_a_box_takes_the_voxels_that_it_fills():
    # x 9.2..11.2, y -3.2..-2.8, z 0.2..1.4: voxels 123..127, 92, 3..5 exactly.
    solid = box((10.2, -3.0, 0.8), (1.0, 0.2, 0.6))
    semantics = voxelise([solid], OCC3D_GRID, np.eye(4))
    expected = {(x, 92, z) for x in range(123, 128) for z in (3, 4, 5)}
    assert occupied(semantics, CAR) == expected
    assert (semantics != CAR).sum() == (semantics == FREE).sum()


def test_voxels_are_those_of_the_vehicle_as_it_stands():
    solid = box((10.2, -3.0, 0.8), (1.0, 0.2, 0.6))
    # From (10.2, -7.0), looking along y, the box lies 4 m ahead and crosswise.
    pose = upright_pose((10.2, -7.0, 0.0), np.pi / 2)
    found = occupied(voxelise([solid], OCC3D_GRID, pose), CAR)
    # x 3.8..4.2, y -1.0..1.0: half of voxels 109 and 110 each, y from half of 97 to half of 102.
    assert found == {(x, y, z) for x in (109, 110) for y in range(97, 103) for z in (3, 4, 5)}


def test_the_class_that_fills_most_wins_and_thin_ones_are_dropped():
    grid = VoxelGrid((0, 0, 0), (1, 1, 1), 1.0)
    low, high = box((0.5, 0.5, 0.15), (2, 2, 0.15), kind='road'), box((0.5, 0.5, 0.7), (2, 2, 0.2))
    assert voxelise([low, high], grid, np.eye(4))[0, 0, 0] == CAR
    assert voxelise([low], grid, np.eye(4))[0, 0, 0] == ROAD
    assert voxelise([low], grid, np.eye(4), min_fill=0.31)[0, 0, 0] == FREE
    assert voxelise([], grid, np.eye(4))[0, 0, 0] == FREE
    # Two parts of one class count together.
    parts = [box((0.5, 0.5, 0.01), (2, 2, 0.01)), box((0.5, 0.5, 0.98), (2, 2, 0.01))]
    assert voxelise(parts, grid, np.eye(4))[0, 0, 0] == CAR
    assert voxelise(parts[:1], grid, np.eye(4))[0, 0, 0] == FREE


def test_filled_volume_is_that_of_the_solids():
    fine = VoxelGrid((-3, -3, -1), (3, 3, 3), 0.1)
    solids = [box((0.3, 0.2, 1.0), (1.2, 0.7, 0.8), yaw=0.4)]
    volume = (voxelise(solids, fine, np.eye(4), 0.5) == CAR).sum() * 0.1**3
    assert volume == pytest.approx(8 * 1.2 * 0.7 * 0.8, rel=0.02)
    tree = [Solid('cylinder', 'tree', (0, 0, 1), (1.5, 1.5, 1), 0.0, GREY)]
    volume = (voxelise(tree, fine, np.eye(4), 0.5) != FREE).sum() * 0.1**3
    assert volume == pytest.approx(np.pi * 1.5**2 * 2, rel=0.02)


def test_bad_arguments():
    with pytest.raises(ValueError, match='min_fill'):
        voxelise([], SMALL, np.eye(4), 0.0)
    tilted = np.eye(4)
    tilted[:3, :3] = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    with pytest.raises(ValueError, match='upright'):
        voxelise([], SMALL, tilted)


def crossed(grid, origin, ray, length):
    """How much of a ray lies in each voxel, by cutting it with every voxel's box; (X, Y, Z)."""
    low = grid.centres() - grid.voxel_m / 2 - origin
    with np.errstate(divide='ignore', invalid='ignore'):
        first, second = low / ray, (low + grid.voxel_m) / ray
    enter = np.maximum(np.minimum(first, second).max(axis=-1), 0.0)
    leave = np.minimum(np.maximum(first, second).min(axis=-1), length)
    return leave - enter


@pytest.mark.parametrize('origin', [(0.3, 0.4, 0.2), (-5.0, 1.0, 4.0), (3.9, -1.4, -0.9)])
def test_seen_voxels_are_those_that_rays_cross(origin):
    rng = np.random.default_rng(0)
    # Half of them aim into the grid, which the others may miss.
    rays = rng.normal(size=(150, 3))
    rays[::2] = rng.uniform(SMALL.lower_m, SMALL.upper_m, (75, 3)) - origin
    lengths = rng.uniform(0.1, 2.0, 150)
    lengths[:20] = np.inf
    seen = seen_voxels(SMALL, origin, rays, lengths)
    longest = np.max(
        [crossed(SMALL, origin, r, n) for r, n in zip(rays, lengths, strict=True)], axis=0
    )
    assert seen[longest > 1e-9].all()
    assert not seen[longest < -1e-9].any()
    assert 0.05 < seen.mean() < 0.95


def test_rays_along_the_axes():
    seen = seen_voxels(SMALL, (0.25, 0.25, 0.25), [(1, 0, 0), (0, -2, 0)], [1.6, np.inf])
    expected = {(x, 3, 2) for x in (4, 5, 6, 7)} | {(4, y, 2) for y in (0, 1, 2, 3)}
    assert occupied(seen, 1) == expected
    assert not seen_voxels(SMALL, (9, 9, 9), [(1, 1, 1)], [np.inf]).any()
    assert not seen_voxels(SMALL, (0, 0, 0), np.empty((0, 3)), []).any()
