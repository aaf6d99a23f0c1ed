import math
import threading
import time

import numpy as np
import pytest
from geometry_msgs.msg import Quaternion, Transform
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tf2_ros import Buffer

from vlm_nodes import transforms
from vlm_nodes.messages import SECOND_NS, stamp_message
from vlm_nodes.transforms import MissingTransformError, lookup_matrix

PLACES = st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3)
TURNS = st.lists(st.floats(-4, 4), min_size=3, max_size=3)


def matrix(turn, place):
    made = np.eye(4)
    made[:3, :3] = Rotation.from_rotvec(turn).as_matrix()
    made[:3, 3] = place
    return made


HERE = matrix((0.1, 0.2, 0.3), (1, 2, 3))


@given(TURNS, PLACES)
def test_matrices_survive_their_messages(turn, place):
    a_from_b = matrix(turn, place)
    message = transforms.transform_message('a', 'b', a_from_b, stamp_message(7))
    assert (message.header.frame_id, message.child_frame_id) == ('a', 'b')
    np.testing.assert_allclose(
        transforms.matrix_from_transform(message.transform), a_from_b, atol=1e-9
    )


@pytest.mark.parametrize(
    'rotation',
    [Quaternion(x=0.0, y=0.0, z=0.0, w=0.0), Quaternion(x=math.nan, y=0.0, z=0.0, w=1.0)],
)
def test_what_is_no_rotation_is_no_pose(rotation):
    with pytest.raises(ValueError, match='is not a pose'):
        transforms.matrix_from_transform(Transform(rotation=rotation))


@pytest.fixture
def buffer():
    """A buffer that knows `map` from `camera` at 10 s and 11 s."""
    made = Buffer()
    for seconds in (10, 11):
        stamp = stamp_message(seconds * SECOND_NS)
        made.set_transform(transforms.transform_message('map', 'camera', HERE, stamp), 'test')
    return made


def look(buffer, parent='map', child='camera', seconds=10.5, timeout_s=0.0, stopping=None):
    stamp = stamp_message(round(seconds * SECOND_NS))
    return lookup_matrix(buffer, parent, child, stamp, timeout_s, stopping or threading.Event())


def test_looking_up_gives_parent_from_child(buffer):
    np.testing.assert_allclose(look(buffer), HERE, atol=1e-9)
    back = look(buffer, 'camera', 'map')
    np.testing.assert_allclose(back, np.linalg.inv(HERE), atol=1e-9)


@pytest.mark.parametrize(
    ('asked', 'words'),
    [
        ({'child': 'nowhere'}, "from 'nowhere' to 'map' at 10.500000000 within 0.0 s"),
        ({'parent': 'odom'}, "from 'camera' to 'odom'"),
        ({'seconds': 12.25}, '12.250000000 within 0.0 s: .*xtrapolation'),
        ({'seconds': 9}, 'xtrapolation'),
    ],
)
def test_what_is_not_known_is_named(buffer, asked, words):
    with pytest.raises(MissingTransformError, match=words):
        look(buffer, **asked)


def test_what_comes_late_is_waited_for(buffer):
    def come():
        stamp = stamp_message(13 * SECOND_NS)
        buffer.set_transform(transforms.transform_message('map', 'camera', HERE, stamp), 'test')

    threading.Timer(0.05, come).start()
    np.testing.assert_allclose(look(buffer, seconds=12, timeout_s=20.0), HERE, atol=1e-9)


def test_the_wait_ends_when_the_node_does(buffer):
    stopping = threading.Event()
    threading.Timer(0.05, stopping.set).start()
    started_s = time.monotonic()
    with pytest.raises(MissingTransformError):
        look(buffer, child='nowhere', timeout_s=1000.0, stopping=stopping)
    assert time.monotonic() - started_s < 500
