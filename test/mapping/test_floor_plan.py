import numpy as np
import pytest
from voxel_scenes import MUG, ROOM, TABLE, Box, OracleEncoder, make_frame, names

from vlm_nodes.mapping import FloorPlan, VoxelMap, VoxelMapConfig

RUG = Box('rug', (-0.6, -1.2, -0.02), (0.2, -0.6, 0.04), (90, 20, 90))
SCENE = [ROOM, TABLE, MUG, RUG]
EYES = [(-1.5, 0.1, 1.6), (-1.0, 1.3, 1.9), (0.4, 1.5, 1.8), (0.9, -1.7, 1.7), (-2.0, -1.6, 1.9)]


@pytest.fixture(scope='module')
def room():
    encoder = OracleEncoder()
    voxel_map = VoxelMap(VoxelMapConfig(feature_dim=0), encoder=encoder)
    for stamp, eye in enumerate(EYES):
        frame, labels = make_frame(SCENE, eye, (0.5, -0.2, 0.3), stamp_ns=stamp)
        voxel_map.integrate(frame, encoder.patches(labels, names(SCENE), 4))
    return voxel_map


def at(grid, x, y):
    col, row = np.floor((np.array([x, y]) - grid.origin_m) / grid.resolution_m).astype(int)
    return grid.data[row, col]


def test_rows_go_up_in_y_and_values_are_those_of_nav_msgs():
    points = np.array([[0.3, -0.7, 0.0], [0.3, 0.2, 0.5], [-0.2, 0.2, 0.0]])
    grid = FloorPlan.of(points, 0.5).occupancy(points[:, 2], (0.1, 1.0))
    np.testing.assert_array_equal(grid.data, [[-1, 0], [-1, -1], [0, 100]])
    np.testing.assert_array_equal(grid.origin_m, [-0.5, -1.0])
    assert grid.data.dtype == np.int8


def test_a_height_band_makes_obstacles(room):
    grid = room.occupancy_grid((0.1, 1.5))
    assert at(grid, 0.95, -0.3) == 100  # the table
    assert at(grid, -0.2, -0.9) == 0  # the rug lies below the band
    assert at(grid, -0.8, 0.5) == 0
    assert (grid.data == -1).any()
    assert grid.resolution_m == 0.05


def test_named_things_are_obstacles_or_free(room):
    grid = room.occupancy_grid((0.1, 1.5), obstacles=['rug'], free=['table'])
    assert at(grid, -0.2, -0.9) == 100
    assert at(grid, 0.95, -0.3) == 0
    assert at(grid, -0.8, 0.5) == 0


def test_a_coarser_grid(room):
    grid = room.occupancy_grid((0.1, 1.5), 0.2)
    assert grid.resolution_m == 0.2
    assert at(grid, 0.95, -0.3) == 100
    np.testing.assert_allclose(grid.origin_m / 0.2, np.rint(grid.origin_m / 0.2))


def test_regions_are_in_metres(room):
    region = room.regions('table')[0]
    np.testing.assert_allclose(region.box_m, [TABLE.low[:2], TABLE.high[:2]], atol=0.16)
    np.testing.assert_allclose(region.center_m, [0.95, -0.05], atol=0.08)
    assert region.area_m2 == pytest.approx(0.63, rel=0.3)
    assert region.contour_m.shape[1] == 2
    assert (region.contour_m >= region.box_m[0]).all()
    assert (region.contour_m <= region.box_m[1]).all()
    assert region.score > 0.9


def test_regions_below_an_area_are_dropped(room):
    assert room.regions('rug', min_area_m2=0.1)
    assert room.regions('rug', min_area_m2=5.0) == []
    assert room.regions('aeroplane') == []


def test_heat_from_above():
    points = np.array([[0.1, 0.1, 0.0], [0.2, 0.2, 1.0], [1.1, 0.1, 0.0]])
    plan = FloorPlan.of(points, 0.5)
    np.testing.assert_allclose(plan.highest(np.array([0.2, 0.9, 0.4])), [[0.9, 0.0, 0.4]])


def test_an_empty_map_has_an_empty_plan():
    voxel_map = VoxelMap(encoder=OracleEncoder())
    assert voxel_map.occupancy_grid().data.shape == (0, 0)
    assert voxel_map.regions('mug') == []


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'height_band_m': (1.0, 0.5)}, 'height_band_m'),
        ({'height_band_m': (float('nan'), 0.5)}, 'height_band_m'),
        ({'resolution_m': -0.1}, 'resolution_m = -0.1'),
        ({'resolution_m': 1e-9}, 'too large'),
        ({'obstacles': ['']}, 'empty'),
        ({'obstacles': ['rug'], 'free': ['rug']}, 'repeat'),
    ],
)
def test_bad_arguments_are_named(room, arguments, message):
    with pytest.raises(ValueError, match=message):
        room.occupancy_grid(**arguments)
