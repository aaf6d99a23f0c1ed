"""Parameters, their file, and the limits that they and the training give."""

import math
from pathlib import Path

import pytest
import yaml

from vlm_nodes.sarnn.parameters import (
    COMMAND_TOPICS,
    PARAMETERS,
    guard_config,
    joint_limits,
    joint_parameters,
)

FILE = Path(__file__).resolve().parents[2] / 'config' / 'policy.yaml'
JOINTS = ('shoulder', 'elbow')
BOUNDS = {'shoulder': (-1.0, 1.0), 'elbow': (0.0, 2.0)}


def defaults(**changes):
    parameters = (*PARAMETERS, *joint_parameters(JOINTS))
    return {parameter.name: parameter.default for parameter in parameters} | changes


def test_the_parameter_file_names_exactly_the_parameters_with_their_defaults():
    written = yaml.safe_load(FILE.read_text())['/**']['ros__parameters']
    declared = {parameter.name: parameter.default for parameter in PARAMETERS}
    assert list(written) == list(declared)
    assert written == declared
    assert all(type(written[name]) is type(declared[name]) for name in declared)


def test_every_parameter_in_the_file_has_a_comment():
    lines = [line for line in FILE.read_text().splitlines() if line.startswith('    ')]
    values = [line for line in lines if not line.strip().startswith('#')]
    assert len(values) == len(PARAMETERS)
    assert all('  # ' in line for line in values)


def test_the_launch_file_knows_every_topic_of_commands():
    text = (FILE.parents[1] / 'launch' / 'policy.launch.py').read_text()
    assert f'COMMANDS = {tuple(COMMAND_TOPICS.values())}' in text


def test_limits_are_those_of_training_and_a_margin_unless_said_otherwise():
    limits = joint_limits(defaults(), JOINTS, BOUNDS)
    assert limits.lower == pytest.approx((-1.1, -0.1))
    assert limits.upper == pytest.approx((1.1, 2.1))
    assert limits.max_velocity == (1.0, 1.0)
    assert limits.max_lag == (math.inf, math.inf)


def test_limits_of_one_joint_go_before_those_of_all_whatever_the_order():
    values = defaults(max_lag=0.4, max_velocity=2.0) | {
        'joint_limits.elbow.min_position': 0.0,
        'joint_limits.elbow.max_position': 1.5,
        'joint_limits.elbow.max_velocity': 0.3,
        'joint_limits.elbow.max_lag': 0.0,
    }
    limits = joint_limits(values, ('elbow', 'shoulder'), BOUNDS)
    assert limits.names == ('elbow', 'shoulder')
    assert limits.lower == pytest.approx((0.0, -1.1))
    assert limits.upper == pytest.approx((1.5, 1.1))
    assert limits.max_velocity == (0.3, 2.0)
    assert limits.max_lag == (math.inf, 0.4)


def test_limits_that_contradict_training_name_the_joint():
    values = defaults() | {'joint_limits.elbow.min_position': 2.5}
    with pytest.raises(ValueError, match=r"joint 'elbow': position limits 2\.5 to 2\.1"):
        joint_limits(values, JOINTS, BOUNDS)


def test_the_rules_are_those_of_the_parameters():
    limits = joint_limits(defaults(), JOINTS, BOUNDS)
    guard = guard_config(defaults(ramp_s=1.5), limits, 20.0)
    assert (guard.period_s, guard.ramp_s) == (0.05, 1.5)
    assert (guard.hold_after_s, guard.stop_after_s) == (0.3, 2.0)
