import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_nodes.simulation.arm.kinematics import (
    LOWER_RAD,
    UPPER_RAD,
    Limits,
    UnreachableError,
    joints_for_tip,
    tip_position,
)
from vlm_nodes.simulation.arm.placement import make_scene
from vlm_nodes.simulation.arm.world import ArmWorld


@given(x=st.floats(0.24, 0.56), y=st.floats(-0.2, 0.2), z=st.floats(0.0, 0.22))
def test_joints_bring_the_upright_fingertip_where_they_should(x, y, z):
    joints = joints_for_tip((x, y, z))
    np.testing.assert_allclose(tip_position(joints), (x, y, z), atol=1e-12)
    assert joints[1:].sum() == pytest.approx(0.0, abs=1e-12)
    assert Limits().hold(joints)


def test_the_simulated_arm_is_where_the_kinematics_say():
    world = ArmWorld(make_scene(0), look_seed=0)
    joints = joints_for_tip((0.45, -0.12, 0.1))
    for _ in range(300):
        world.advance(joints)
    np.testing.assert_allclose(world.joint_positions(), joints, atol=2e-4)
    np.testing.assert_allclose(world.moment().tip, (0.45, -0.12, 0.1), atol=2e-4)


@pytest.mark.parametrize('place', [(0.9, 0.0, 0.1), (0.02, 0.0, 0.0), (-0.4, 0.0, 0.1)])
def test_places_out_of_reach_are_refused(place):
    with pytest.raises(UnreachableError, match='the fingertip cannot be at'):
        joints_for_tip(place)


def test_limits_clip_to_the_nearest_allowed_angles():
    np.testing.assert_array_equal(Limits().clip(np.full(4, 9.0)), UPPER_RAD)
    np.testing.assert_array_equal(Limits().clip(np.full(4, -9.0)), LOWER_RAD)
