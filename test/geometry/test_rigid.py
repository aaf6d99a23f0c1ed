import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlm_nodes.geometry import rigid

number = st.floats(-5, 5)
quaternions = st.tuples(number, number, number, number).filter(lambda q: np.linalg.norm(q) > 0.1)
translations = st.tuples(number, number, number)


@given(quaternions, translations)
def test_inverse_undoes(quaternion, translation):
    matrix = rigid.matrix_from_quaternion(quaternion, translation)
    assert rigid.is_rigid(matrix)
    assert np.allclose(rigid.invert(matrix) @ matrix, np.eye(4))


@given(quaternions, translations)
def test_quaternion_round_trip(quaternion, translation):
    matrix = rigid.matrix_from_quaternion(quaternion, translation)
    again = rigid.matrix_from_quaternion(rigid.quaternion_from_matrix(matrix), translation)
    assert np.allclose(matrix, again)


def test_quaternion_of_a_quarter_turn_about_z():
    half = np.sqrt(0.5)
    matrix = rigid.matrix_from_quaternion((0, 0, half, half), (1, 2, 3))
    assert np.allclose(rigid.transform_points(matrix, [[1, 0, 0]]), [[1, 3, 3]])


def test_body_axes_of_optical_axes():
    forward, right, down = [0, 0, 1], [1, 0, 0], [0, 1, 0]
    body = rigid.transform_points(rigid.BODY_FROM_OPTICAL, [forward, right, down])
    assert np.allclose(body, [[1, 0, 0], [0, -1, 0], [0, 0, -1]])


@pytest.mark.parametrize('target', [(3, 0, 1), (0, -2, 0.5), (0, 0, -1), (1, 1, 4)])
def test_look_at_puts_the_target_on_the_axis_and_up_upwards(target):
    eye = np.array([0.0, 0.0, 1.0])
    world_from_camera = rigid.look_at(eye, target)
    assert rigid.is_rigid(world_from_camera)
    seen = rigid.transform_points(rigid.invert(world_from_camera), [target])[0]
    assert np.allclose(seen, [0, 0, np.linalg.norm(np.subtract(target, eye))])
    assert world_from_camera[2, 1] <= 1e-9  # the image's down is never the world's up


@pytest.mark.parametrize('quaternion', [(0, 0, 0, 0), (np.nan, 0, 0, 1)])
def test_what_is_no_rotation_is_refused(quaternion):
    with pytest.raises(ValueError, match='not a pose'):
        rigid.matrix_from_quaternion(quaternion, (0, 0, 0))


@pytest.mark.parametrize(
    'matrix', [np.diag([1.0, 1, -1, 1]), 2 * np.eye(4), np.full((4, 4), np.nan), np.eye(3)]
)
def test_mirrors_scales_and_nans_are_not_rigid(matrix):
    assert not rigid.is_rigid(matrix)
