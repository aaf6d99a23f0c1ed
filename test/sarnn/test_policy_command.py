"""Limits of single commands, for all targets and poses."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_nodes.sarnn.command import JointLimits

NAMES = ('shoulder', 'elbow', 'slide')
LIMITS = JointLimits(
    NAMES,
    lower=(-1.5, 0.0, -math.inf),
    upper=(1.5, 2.0, math.inf),
    max_velocity=(1.0, 2.0, 0.05),
    max_lag=(0.5, math.inf, 0.1),
)

near = st.floats(-3, 3)
poses = st.tuples(near, near, near).map(np.array)


@given(target=poses, last=poses, elapsed_s=st.floats(0, 0.5), speed=st.floats(0, 1))
def test_no_joint_moves_faster_than_it_may(target, last, elapsed_s, speed):
    command = LIMITS.limit(target, last, elapsed_s, speed).positions
    allowed = np.array(LIMITS.max_velocity) * elapsed_s * speed
    assert (np.abs(command - last) <= allowed + 1e-12).all()


@given(target=poses, last=poses, elapsed_s=st.floats(0, 0.5))
def test_no_joint_leaves_its_range_and_one_outside_comes_nearer(target, last, elapsed_s):
    command = LIMITS.limit(target, last, elapsed_s).positions

    def beyond(positions):
        return np.maximum(0, np.maximum(LIMITS.lower - positions, positions - LIMITS.upper))

    assert (beyond(command) <= beyond(last) + 1e-12).all()
    assert (beyond(command)[beyond(last) == 0] <= 1e-12).all()


@given(target=poses, last=poses)
def test_a_target_is_reached_where_the_limits_allow_it(target, last):
    for _ in range(1300):
        limited = LIMITS.limit(target, last, 0.1)
        last = limited.positions
    np.testing.assert_allclose(last, np.clip(target, LIMITS.lower, LIMITS.upper), atol=1e-9)
    assert limited.by_velocity == ()


def test_what_was_cut_is_named():
    limited = LIMITS.limit(np.array([2.0, 1.0, 0.0]), np.array([1.45, 1.0, 1.0]), 0.1)
    np.testing.assert_allclose(limited.positions, [1.5, 1.0, 0.995])
    assert limited.by_position == ('shoulder',)
    assert limited.by_velocity == ('slide',)
    assert LIMITS.outside(np.array([-1.6, 2.0, 1e9])) == ('shoulder',)


def test_time_that_went_back_moves_nothing():
    last = np.array([0.3, 0.2, 0.1])
    np.testing.assert_array_equal(LIMITS.limit(np.zeros(3), last, -5.0).positions, last)


def test_the_joint_that_lags_most_is_named():
    last = np.zeros(3)
    assert LIMITS.lagging(np.array([0.4, 9.0, 0.05]), last) is None
    name, distance, limit = LIMITS.lagging(np.array([0.6, 9.0, -0.5]), last)
    assert (name, distance, limit) == ('slide', 0.5, 0.1)


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'names': ('a', 'a')}, "'a', 'a'"),
        ({'names': ()}, 'must be named'),
        ({'lower': (0.0,)}, 'lower needs 2 numbers'),
        ({'lower': (0.0, 3.0)}, "joint 'elbow': position limits 3.0 to 2.0"),
        ({'upper': (math.nan, 2.0)}, "joint 'shoulder': position limits -1.0 to nan"),
        ({'max_velocity': (1.0, 0.0)}, "joint 'elbow': max_velocity = 0.0"),
        ({'max_velocity': (math.inf, 1.0)}, "joint 'shoulder': max_velocity = inf"),
        ({'max_lag': (1.0, math.nan)}, "joint 'elbow': max_lag = nan"),
    ],
)
def test_limits_that_are_none_are_named(change, said):
    good = {
        'names': ('shoulder', 'elbow'),
        'lower': (-1.0, -2.0),
        'upper': (1.0, 2.0),
        'max_velocity': (1.0, 1.0),
        'max_lag': (1.0, 1.0),
    }
    with pytest.raises(ValueError, match=re.escape(said)):
        JointLimits(**(good | change))
