"""Parameters of the nodes, their files, and what they become."""

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from vlm_nodes.cliport.parameters import (
    PARAMETERS,
    camera_parameters,
    planner_config,
    workspace_difference,
)
from vlm_nodes.cliport.planner import PlannerConfig
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.simulation.tabletop.node import PARAMETERS as TABLE_PARAMETERS

CONFIG = Path(__file__).resolve().parents[2] / 'config'
FILES = {'cliport.yaml': PARAMETERS, 'sim_table.yaml': TABLE_PARAMETERS}


def defaults(**changes):
    return {parameter.name: parameter.default for parameter in PARAMETERS} | changes


@pytest.mark.parametrize('name', FILES)
def test_a_parameter_file_names_exactly_the_parameters_with_their_defaults(name):
    written = yaml.safe_load((CONFIG / name).read_text())['/**']['ros__parameters']
    declared = {parameter.name: parameter.default for parameter in FILES[name]}
    assert list(written) == list(declared)
    assert written == declared
    assert all(type(written[key]) is type(declared[key]) for key in declared)


@pytest.mark.parametrize('name', FILES)
def test_every_parameter_in_a_file_has_a_comment(name):
    lines = [x for x in (CONFIG / name).read_text().splitlines() if x.startswith('    ')]
    values = [line for line in lines if not line.strip().startswith('#')]
    assert len(values) == len(FILES[name])
    assert all('  # ' in line for line in values)


def test_defaults_of_parameters_are_those_of_the_planner():
    assert planner_config(defaults()) == PlannerConfig()


def test_parameters_reach_the_planner():
    config = planner_config(
        defaults(
            y_min_m=-0.25, z_min_m=0.0, clearance_m=0.01, least_pick_score=0.7, tool_down=False
        )
    )
    assert config.workspace == Workspace(y_range_m=(-0.25, 0.5), z_range_m=(0.0, 0.28))
    assert config.placing.clearance_m == 0.01
    assert (config.least_pick_score, config.tool_down) == (0.7, False)


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'x_max_m': 0.2}, 'x_range_m'),
        ({'pixel_m': 0.003}, 'whole number'),
        ({'surround_radius_m': 0.001}, 'surround_radius_m'),
    ],
)
def test_parameters_that_do_not_go_together_are_named(changes, said):
    with pytest.raises(ValueError, match=said):
        planner_config(defaults(**changes))


def test_each_camera_has_a_scale_of_depth():
    names = [parameter.name for parameter in camera_parameters(['front', ''])]
    assert names == ['depth_scale.front', 'depth_scale.camera']


def test_a_workspace_other_than_in_training_is_said():
    here = Workspace()
    assert workspace_difference(None, here) == ('', False)
    assert workspace_difference(asdict(here), here) == ('', False)
    said, is_useless = workspace_difference(asdict(here) | {'x_range_m': [0.0, 0.5]}, here)
    assert 'x_range_m is (0.25, 0.75), in training it was (0.0, 0.5)' in said
    assert not is_useless
    said, is_useless = workspace_difference(asdict(here) | {'pixel_m': 0.00625}, here)
    assert 'pixel_m is 0.003125, in training it was 0.00625' in said
    assert is_useless
    with pytest.raises(ValueError, match='cannot be read'):
        workspace_difference({'side': 3}, here)
