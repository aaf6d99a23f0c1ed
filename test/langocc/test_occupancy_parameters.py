"""Parameters of occupancy_node, their file, and what they become."""

from pathlib import Path

import pytest
import yaml

from vlm_nodes.langocc.observer import ObserverConfig
from vlm_nodes.langocc.parameters import PARAMETERS, observer_config
from vlm_nodes.surround import VoxelGrid

FILE = Path(__file__).resolve().parents[2] / 'config' / 'langocc.yaml'


def values(**changes):
    declared = {parameter.name: parameter.default for parameter in PARAMETERS}
    # As `declare_parameters` reads empty lists.
    return declared | {'cameras': [], 'classes': [], 'checkpoint': 'run'} | changes


def test_the_parameter_file_names_exactly_the_parameters_with_their_defaults():
    written = yaml.safe_load(FILE.read_text())['/**']['ros__parameters']
    declared = {parameter.name: parameter.default for parameter in PARAMETERS}
    assert list(written) == list(declared)
    assert written == declared
    assert all(type(written[key]) is type(declared[key]) for key in declared)


def test_every_parameter_in_the_file_has_a_comment():
    lines = [line for line in FILE.read_text().splitlines() if line.startswith('    ')]
    shown = [line for line in lines if not line.strip().startswith('#')]
    assert len(shown) == len(PARAMETERS)
    assert all('  # ' in line for line in shown)


def test_defaults_are_those_of_the_configuration():
    assert observer_config(values()) == ObserverConfig(Path('run'))


def test_values_arrive():
    config = observer_config(
        values(
            lower_m=[-8.0, -8.0, -1.0],
            upper_m=[8.0, 8.0, 5.4],
            voxel_m=1.6,
            cameras=['CAM_BACK'],
            classes=['car'],
            threshold=0.2,
            ground_classes=['sidewalk'],
        )
    )
    assert config.grid == VoxelGrid((-8.0, -8.0, -1.0), (8.0, 8.0, 5.4), 1.6)
    assert (config.cameras, config.classes, config.threshold) == (('CAM_BACK',), ('car',), 0.2)
    assert config.plan.ground == ('sidewalk',)


def test_thresholds_of_nothing_or_all_are_refused():
    with pytest.raises(ValueError, match='threshold must be between 0 and 1'):
        observer_config(values(threshold=1.0))
