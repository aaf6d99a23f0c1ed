import pytest

from vlm_nodes.simulation.street.export import Plan, write_streets
from vlm_nodes.simulation.street.recorder import Settings
from vlm_nodes.surround import VoxelGrid

GRID = VoxelGrid((-8.0, -8.0, -1.0), (8.0, 8.0, 5.4), 1.6)


@pytest.fixture(scope='session')
def street(tmp_path_factory):
    """Two short drives along training streets, small pictures, with LiDAR and truth."""
    folder = tmp_path_factory.mktemp('streets') / 'train'
    settings = Settings(64, 32, keyframes=3, grid=GRID, lidar_steps=90, samples=0)
    write_streets(folder, Plan(range(2), settings))
    return folder
