import numpy as np
import pytest

from vlm_nodes.geometry import Camera, RgbdFrame, depth_to_metres


def test_millimetres_and_what_is_no_reading():
    metres = depth_to_metres(np.array([[0, 1500, 65535, 1]], np.uint16), '16UC1')
    assert np.array_equal(metres, np.array([[np.nan, 1.5, np.nan, 0.001]], np.float32), True)


def test_metres_and_what_is_no_reading():
    depth = np.array([[0.0, 1.5, np.inf, np.nan, -2.0, -np.inf]], np.float32)
    expected = np.array([[np.nan, 1.5, np.nan, np.nan, np.nan, np.nan]], np.float32)
    assert np.array_equal(depth_to_metres(depth, '32FC1'), expected, True)
    assert depth[0, 0] == 0.0  # the input stays


@pytest.mark.parametrize(
    ('dtype', 'encoding', 'said'),
    [
        (np.uint8, 'rgb8', 'rgb8'),
        (np.uint8, '16UC1', 'uint8'),
        (np.float64, '32FC1', 'float64'),
    ],
)
def test_what_is_no_depth_is_named(dtype, encoding, said):
    with pytest.raises(ValueError, match=said):
        depth_to_metres(np.zeros((2, 2), dtype), encoding)


def test_a_frame_whose_parts_do_not_fit_is_refused():
    camera = Camera(4, 3, 5.0, 5.0, 2.0, 1.5)
    rgb, depth = np.zeros((3, 4, 3), np.uint8), np.ones((3, 4), np.float32)
    RgbdFrame(0, rgb, depth, camera, camera, np.eye(4), np.eye(4))
    with pytest.raises(ValueError, match='colour image is'):
        RgbdFrame(0, rgb[:2], depth, camera, camera, np.eye(4), np.eye(4))
    with pytest.raises(ValueError, match='depth image is'):
        RgbdFrame(0, rgb, depth.astype(np.float64), camera, camera, np.eye(4), np.eye(4))
    with pytest.raises(ValueError, match='map_from_depth'):
        RgbdFrame(0, rgb, depth, camera, camera, np.eye(4), 2 * np.eye(4))
