from types import SimpleNamespace

import numpy as np
import pytest
from bag_writing import compressed_depth_16, compressed_depth_32, jpeg, png
from hypothesis import given
from hypothesis import strategies as st

from bag_tools.decode import DecodeError, camera, color_image, depth_image


def image(array: np.ndarray, encoding: str, padding: int = 0, big: bool = False) -> SimpleNamespace:
    array = array.astype(array.dtype.newbyteorder('>')) if big else array
    height, width = array.shape[:2]
    rows = np.ascontiguousarray(array).view(np.uint8).reshape(height, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=7)
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=int(big),
        step=rows.shape[1],
        data=rows.reshape(-1),
    )


def compressed(data: bytes, format_: str) -> SimpleNamespace:
    return SimpleNamespace(format=format_, data=np.frombuffer(data, np.uint8))


def camera_info(**changes: object) -> SimpleNamespace:
    roi = SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0)
    fields = {
        'header': SimpleNamespace(frame_id='cam'),
        'width': 640,
        'height': 480,
        'k': [500.0, 0, 320, 0, 501.0, 240, 0, 0, 1],
        'd': [0.1, 0, 0, 0, 0],
        'distortion_model': 'plumb_bob',
        'binning_x': 0,
        'binning_y': 0,
        'roi': roi,
    }
    return SimpleNamespace(**{**fields, **changes})


RGB = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


@pytest.mark.parametrize(
    ('encoding', 'stored'),
    [
        ('rgb8', RGB),
        ('bgr8', RGB[..., ::-1]),
        ('rgba8', np.dstack([RGB, np.full((4, 6), 9, np.uint8)])),
        ('bgra8', np.dstack([RGB[..., ::-1], np.full((4, 6), 9, np.uint8)])),
        ('rgb16', RGB.astype(np.uint16) * 257),
    ],
)
@pytest.mark.parametrize('padding', [0, 10])
def test_color_encodings_give_rgb(encoding: str, stored: np.ndarray, padding: int) -> None:
    decoded = color_image(image(stored, encoding, padding))
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    np.testing.assert_array_equal(decoded, RGB)


def test_gray_becomes_rgb() -> None:
    gray = RGB[..., 0]
    np.testing.assert_array_equal(color_image(image(gray, 'mono8')), np.dstack([gray] * 3))


def test_jpeg_and_png_give_rgb() -> None:
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    decoded = color_image(compressed(jpeg(red), 'rgb8; jpeg compressed bgr8'))
    np.testing.assert_allclose(decoded, red, atol=3)
    lossless = color_image(compressed(png(red[..., ::-1]), 'rgb8; png compressed bgr8'))
    np.testing.assert_array_equal(lossless, red)


def test_gray_jpeg_becomes_rgb() -> None:
    decoded = color_image(compressed(png(np.full((8, 8), 90, np.uint8)), 'mono8; png compressed'))
    assert decoded.shape == (8, 8, 3)
    assert (decoded == 90).all()


@pytest.mark.parametrize('big', [False, True])
def test_depth_of_both_units(big: bool) -> None:
    mm = np.array([[0, 1500], [65535, 250]], np.uint16)
    expected = np.array([[np.nan, 1.5], [np.nan, 0.25]], np.float32)
    np.testing.assert_array_equal(depth_image(image(mm, '16UC1', 6, big)), expected)
    metres = np.array([[0, 1.5], [np.inf, 0.25]], np.float32)
    np.testing.assert_array_equal(depth_image(image(metres, '32FC1', 4, big)), expected)


def test_compressed_depth_of_integers_is_exact() -> None:
    mm = np.array([[0, 1500], [65535, 250]], np.uint16)
    message = compressed(compressed_depth_16(mm), '16UC1; compressedDepth png')
    expected = np.array([[np.nan, 1.5], [np.nan, 0.25]], np.float32)
    np.testing.assert_array_equal(depth_image(message), expected)


@given(st.lists(st.floats(0.3, 9.9), min_size=4, max_size=4))
def test_compressed_depth_of_floats_is_within_its_quantisation(values: list[float]) -> None:
    # The transport's defaults: up to 10 m, 100 steps at 1 m.
    a, b = 100.0 * 101, 1.0 - 100.0 * 101 / 10.0
    depth = np.array(values, np.float32).reshape(2, 2)
    message = compressed(compressed_depth_32(depth, a, b), '32FC1; compressedDepth png')
    step = depth**2 / a
    assert (np.abs(depth_image(message) - depth) <= 0.51 * step + 1e-5).all()


def test_compressed_depth_keeps_unknown_readings() -> None:
    depth = np.array([[np.nan, 2.0]], np.float32)
    message = compressed(compressed_depth_32(depth, 10100.0, -1009.0), '32FC1; compressedDepth png')
    decoded = depth_image(message)
    assert np.isnan(decoded[0, 0])
    assert decoded[0, 1] == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize(
    ('message', 'words'),
    [
        (image(RGB, 'rgb9'), 'rgb9'),
        (image(RGB, '8UC3'), 'order of colours'),
        (image(RGB.astype(np.int16), '16SC3'), 'order of colours'),
        (image(RGB.astype(np.float64), '64FC3'), 'order of colours'),
        (compressed(b'', 'jpeg'), '0 bytes'),
        (compressed(jpeg(RGB)[:40], 'jpeg'), 'no whole image'),
    ],
)
def test_bad_color_is_named(message: SimpleNamespace, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        color_image(message)


@pytest.mark.parametrize(
    ('message', 'words'),
    [
        (image(RGB, 'rgb8'), 'not a depth encoding|shape'),
        (compressed(b'123', '16UC1; compressedDepth png'), '3 bytes only'),
        (compressed(b'1' * 40, '16UC1; compressedDepth rvl'), 'RVL'),
        (compressed(b'1' * 40, '16UC1; compressedDepth png'), 'no whole image'),
    ],
)
def test_bad_depth_is_named(message: SimpleNamespace, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        depth_image(message)


def test_short_data_and_step_are_named() -> None:
    short = image(RGB, 'rgb8')
    short.data = short.data[:-1]
    with pytest.raises(DecodeError, match='needs 72 bytes, the message holds 71'):
        color_image(short)
    narrow = image(RGB, 'rgb8')
    narrow.step = 5
    with pytest.raises(DecodeError, match='step 5'):
        color_image(narrow)


def test_camera_of_both_ros() -> None:
    two = camera(camera_info())
    info = camera_info()
    one_fields = {k: v for k, v in vars(info).items() if k not in ('k', 'd')}
    one = camera(SimpleNamespace(**one_fields, K=info.k, D=info.d))
    assert one == two
    assert (two.fx, two.fy, two.cx, two.cy) == (500, 501, 320, 240)
    assert two.distortion == (0.1, 0, 0, 0, 0)


def test_binning_and_region_move_the_principal_point() -> None:
    roi = SimpleNamespace(x_offset=100, y_offset=40, width=400, height=200)
    cut = camera(camera_info(roi=roi, binning_x=2, binning_y=2))
    assert (cut.width, cut.height) == (200, 100)
    assert (cut.fx, cut.cx, cut.cy) == (250, (220.5) / 2 - 0.5, (200.5) / 2 - 0.5)


def test_uncalibrated_camera_is_named() -> None:
    with pytest.raises(DecodeError, match=r"'cam'.*fx = 0"):
        camera(camera_info(k=[0.0] * 9))
