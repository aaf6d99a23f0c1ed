from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from bag_writing import jpeg

from bag_tools.decode import DecodeError, color_image, color_pixels, depth_millimetres
from bag_tools.images import ImageMaker, fit
from bag_tools.settings import StreamSettings

RED, GREEN, BLUE = 0, 1, 2


def message(data: np.ndarray, encoding: str, height: int, width: int, step: int) -> SimpleNamespace:
    return SimpleNamespace(
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=step,
        data=np.ascontiguousarray(data).reshape(-1).view(np.uint8),
    )


@pytest.mark.parametrize(
    ('pattern', 'place'),
    [('rggb', (0, 0)), ('bggr', (1, 1)), ('gbrg', (1, 0)), ('grbg', (0, 1))],
)
@pytest.mark.parametrize(('bits', 'dtype'), [(8, np.uint8), (16, np.uint16)])
def test_bayer_patterns_find_red(
    pattern: str, place: tuple[int, int], bits: int, dtype: type
) -> None:
    mosaic = np.zeros((16, 16), dtype)
    mosaic[place[0] :: 2, place[1] :: 2] = np.iinfo(dtype).max * 0.8
    image = message(mosaic, f'bayer_{pattern}{bits}', 16, 16, mosaic.strides[0])
    middle = color_image(image)[4:12, 4:12].reshape(-1, 3).mean(axis=0)
    assert middle[RED] > 190
    assert middle[GREEN] < 5
    assert middle[BLUE] < 5


@pytest.mark.parametrize('encoding', ['nv21', 'nv24'])
@pytest.mark.parametrize('rgb', [(200, 30, 40), (20, 180, 60), (90, 90, 90)])
def test_semi_planar_colours(encoding: str, rgb: tuple[int, int, int]) -> None:
    image = np.full((8, 8, 3), rgb, np.uint8)
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420)
    luma, (u, v) = planes[:8], planes[8:].reshape(2, -1)[:, 0]
    pair = [v, u] if encoding == 'nv21' else [u, v]
    chroma = np.tile(np.array(pair, np.uint8), 16 if encoding == 'nv21' else 64)
    data = np.concatenate([luma.ravel(), chroma])
    decoded = color_image(message(data, encoding, 8, 8, 8))
    np.testing.assert_allclose(decoded, image, atol=4)


def test_rgb_is_not_copied() -> None:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    made = message(image, 'rgb8', 4, 6, 18)
    assert np.shares_memory(color_pixels(made), made.data)
    assert not np.shares_memory(color_image(made), made.data)


@pytest.mark.parametrize('cut', [2, 40, 400])
def test_a_jpeg_cut_short_is_no_image(cut: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    data = np.frombuffer(jpeg(noise), np.uint8)
    good = SimpleNamespace(format='jpeg', data=np.append(data, np.zeros(8, np.uint8)))
    assert color_image(good).shape == (64, 64, 3)
    with pytest.raises(DecodeError, match='no whole image'):
        color_image(SimpleNamespace(format='jpeg', data=data[:-cut]))


def test_depth_in_millimetres_of_every_unit() -> None:
    raw = np.array([[0, 1500], [65535, 250]], np.uint16)
    exact = depth_millimetres(message(raw, '16UC1', 2, 2, 4))
    np.testing.assert_array_equal(exact, [[0, 1500], [0, 250]])
    tenths = depth_millimetres(message(raw, '16UC1', 2, 2, 4), unit_m=0.0001)
    np.testing.assert_array_equal(tenths, [[0, 150], [0, 25]])
    metres = np.array([[np.nan, 1.5], [np.inf, 0.2504]], np.float32)
    np.testing.assert_array_equal(
        depth_millimetres(message(metres, '32FC1', 2, 2, 8)), [[0, 1500], [0, 250]]
    )
    far = np.array([[70.0, -1.0]], np.float32)
    np.testing.assert_array_equal(depth_millimetres(message(far, '32FC1', 1, 2, 8)), [[0, 0]])


def test_images_of_another_size_are_refused() -> None:
    maker = ImageMaker(StreamSettings(('/a',), 'color'))
    maker.learn(message(np.zeros((4, 6, 3), np.uint8), 'rgb8', 4, 6, 18))
    with pytest.raises(DecodeError, match='4x3 among those'):
        maker(message(np.zeros((3, 4, 3), np.uint8), 'rgb8', 3, 4, 12))


def test_a_crop_outside_is_named() -> None:
    settings = StreamSettings(('/a',), 'color', crop=(4, 0, 4, 4))
    with pytest.raises(DecodeError, match=r'crop \(4, 0, 4, 4\) does not lie in an image of 6x4'):
        fit(np.zeros((4, 6, 3), np.uint8), settings)
