import math

import numpy as np
import pytest

from vlm_nodes.live.keyframes import KeyframeConfig, Keyframes

SECOND_NS = 1_000_000_000


def pose(x=0.0, turn_deg=0.0):
    made = np.eye(4)
    c, s = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
    made[:2, :2] = [[c, -s], [s, c]]
    made[0, 3] = x
    return made


def taken(config):
    gate = Keyframes(config)
    gate.take(0, pose())
    return gate


def test_the_first_frame_counts():
    assert Keyframes(KeyframeConfig(translation_m=1.0)).wants(0, pose())


def test_without_thresholds_every_frame_counts():
    assert taken(KeyframeConfig()).wants(0, pose())


@pytest.mark.parametrize(
    ('config', 'stamp_ns', 'at', 'wanted'),
    [
        (KeyframeConfig(translation_m=0.2), 0, pose(x=0.19), False),
        (KeyframeConfig(translation_m=0.2), 0, pose(x=-0.21), True),
        (KeyframeConfig(translation_m=0.2), 0, pose(turn_deg=90), False),
        (KeyframeConfig(rotation_deg=10), 0, pose(turn_deg=9.9), False),
        (KeyframeConfig(rotation_deg=10), 0, pose(turn_deg=-10.1), True),
        (KeyframeConfig(rotation_deg=10), 0, pose(x=5), False),
        (KeyframeConfig(rotation_deg=10, translation_m=0.2), 0, pose(x=0.3), True),
        (KeyframeConfig(interval_s=2), 2 * SECOND_NS, pose(), True),
        (KeyframeConfig(interval_s=2), 2 * SECOND_NS - 1, pose(x=5), False),
        (KeyframeConfig(rotation_deg=10, interval_s=2), 2 * SECOND_NS, pose(), True),
        (KeyframeConfig(rotation_deg=10, interval_s=2), 2 * SECOND_NS - 1, pose(), False),
        (KeyframeConfig(rotation_deg=10, interval_s=2), -2 * SECOND_NS, pose(), True),
    ],
)
def test_motion_turn_and_time(config, stamp_ns, at, wanted):
    assert taken(config).wants(stamp_ns, at) is wanted


def test_motion_is_measured_from_the_frame_that_was_taken():
    gate = taken(KeyframeConfig(translation_m=0.2))
    assert gate.wants(1, pose(x=0.3))
    assert gate.wants(1, pose(x=0.3))
    gate.take(1, pose(x=0.3))
    assert not gate.wants(2, pose(x=0.4))
    assert gate.wants(2, pose(x=0.0))


@pytest.mark.parametrize('name', ['translation_m', 'rotation_deg', 'interval_s'])
@pytest.mark.parametrize('value', [-1.0, math.nan, math.inf])
def test_bad_thresholds_are_named(name, value):
    with pytest.raises(ValueError, match=f'{name} = {value}'):
        KeyframeConfig(**{name: value})
