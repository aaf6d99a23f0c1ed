import array
import sys

import cv2
import numpy as np
import pytest
from cv_bridge import CvBridge, CvBridgeError, cvtColorForDisplay, getCvType
from cv_bridge.boost.cv_bridge_boost import CV_MAT_CNWrap, CV_MAT_DEPTHWrap, cvtColor2
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

BRIDGE = CvBridge()

BAYER_PATTERNS = ['rggb', 'bggr', 'gbrg', 'grbg']
# Every name of sensor_msgs/image_encodings whose pixels lie side by side: numpy type, channels.
ENCODINGS = {
    'mono8': ('uint8', 1),
    'mono16': ('uint16', 1),
    'rgb8': ('uint8', 3),
    'bgr8': ('uint8', 3),
    'rgba8': ('uint8', 4),
    'bgra8': ('uint8', 4),
    'rgb16': ('uint16', 3),
    'bgr16': ('uint16', 3),
    'rgba16': ('uint16', 4),
    'bgra16': ('uint16', 4),
    'yuv422': ('uint8', 2),
    'yuv422_yuy2': ('uint8', 2),
    'uyvy': ('uint8', 2),
    'yuyv': ('uint8', 2),
    **{f'bayer_{pattern}8': ('uint8', 1) for pattern in BAYER_PATTERNS},
    **{f'bayer_{pattern}16': ('uint16', 1) for pattern in BAYER_PATTERNS},
}
GENERIC_TYPES = {
    '8U': 'uint8',
    '8S': 'int8',
    '16U': 'uint16',
    '16S': 'int16',
    '32S': 'int32',
    '32F': 'float32',
    '64F': 'float64',
}
for depth, dtype in GENERIC_TYPES.items():
    ENCODINGS[depth] = ENCODINGS[f'{depth}C'] = (dtype, 1)
    for count in (1, 2, 3, 4, 5, 40):
        ENCODINGS[f'{depth}C{count}'] = (dtype, count)


def random_image(height: int, width: int, encoding: str, seed: int = 0) -> np.ndarray:
    dtype, channels = ENCODINGS[encoding]
    size = height * width * channels * np.dtype(dtype).itemsize
    raw = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    image = raw.view(dtype).reshape(height, width, channels)
    return image[:, :, 0] if channels == 1 else image


def image_message(
    image: np.ndarray, encoding: str, padding: int = 0, bigendian: bool = False
) -> Image:
    """Return a message made by hand, with rows padded by so many bytes of rubbish."""
    stored = image.astype(image.dtype.newbyteorder('>' if bigendian else '<'))
    row_size = image.dtype.itemsize * int(np.prod(image.shape[1:]))
    rows = np.frombuffer(stored.tobytes(), np.uint8).reshape(len(stored), row_size)
    rubbish = np.full((len(image), padding), 0xEE, np.uint8)
    message = Image(height=image.shape[0], width=image.shape[1], encoding=encoding)
    message.step = row_size + padding
    message.is_bigendian = int(bigendian)
    message.data = array.array('B', np.hstack([rows, rubbish]).tobytes())
    return message


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    """Equality under which NaN equals itself."""
    return (one.shape, one.dtype, one.tobytes()) == (other.shape, other.dtype, other.tobytes())


# Messages to arrays and back


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_every_encoding_survives_the_way_there_and_back(encoding):
    image = random_image(6, 8, encoding)
    header = Header(frame_id='camera')
    message = BRIDGE.cv2_to_imgmsg(image, encoding, header)
    assert message.encoding == encoding
    assert (message.height, message.width) == (6, 8)
    assert message.step == image.nbytes // 6
    assert message.is_bigendian == (sys.byteorder == 'big')
    assert message.header.frame_id == 'camera'
    assert message.data.typecode == 'B'
    assert same_bits(BRIDGE.imgmsg_to_cv2(message), image)
    assert same_bits(BRIDGE.imgmsg_to_cv2(message, encoding), image)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(sorted(ENCODINGS)),
    st.integers(0, 7),
    st.integers(0, 7),
    st.integers(0, 9),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_any_size_padding_and_byte_order_is_read(encoding, height, width, padding, big, seed):
    image = random_image(height, width, encoding, seed)
    message = image_message(image, encoding, padding if height else 0, big)
    read = BRIDGE.imgmsg_to_cv2(message)
    assert same_bits(read, image)
    assert read.dtype.isnative
    assert read.flags.c_contiguous


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(ENCODINGS)), st.integers(1, 6), st.integers(1, 6), st.booleans())
def test_any_array_layout_is_written(encoding, height, width, big):
    image = random_image(height, width, encoding)
    expected = BRIDGE.cv2_to_imgmsg(image, encoding)
    transposed = np.asfortranarray(image)
    assert BRIDGE.cv2_to_imgmsg(transposed, encoding) == expected
    swapped = image.astype(image.dtype.newbyteorder('>' if big else '<'))
    assert same_bits(BRIDGE.imgmsg_to_cv2(BRIDGE.cv2_to_imgmsg(swapped, encoding)), image)


def test_big_endian_arrays_make_big_endian_messages():
    message = BRIDGE.cv2_to_imgmsg(np.array([[1, 258]], '>u2'), 'mono16')
    assert message.is_bigendian == 1
    assert bytes(message.data) == b'\x00\x01\x01\x02'


@pytest.mark.parametrize('encoding', ['rgb8', '16UC1', '32FC1', 'mono8'])
def test_passthrough_shares_the_messages_memory(encoding):
    message = image_message(random_image(4, 6, encoding), encoding)
    image = BRIDGE.imgmsg_to_cv2(message)
    assert np.shares_memory(image, np.frombuffer(message.data, np.uint8))


def test_a_wanted_encoding_gives_memory_of_its_own():
    message = image_message(random_image(4, 6, 'rgb8'), 'rgb8')
    image = BRIDGE.imgmsg_to_cv2(message, 'rgb8')
    assert not np.shares_memory(image, np.frombuffer(message.data, np.uint8))
    assert image.flags.writeable


def test_byte_order_of_single_bytes_does_not_matter():
    image = random_image(4, 6, 'rgb8')
    message = image_message(image, 'rgb8', bigendian=True)
    assert np.shares_memory(BRIDGE.imgmsg_to_cv2(message), np.frombuffer(message.data, np.uint8))
    assert same_bits(BRIDGE.imgmsg_to_cv2(message), image)


def test_messages_of_bag_readers_are_read_too():
    types = get_typestore(Stores.ROS2_JAZZY).types
    image = random_image(3, 4, 'bgr8')
    stamp = types['builtin_interfaces/msg/Time'](sec=0, nanosec=0)
    header = types['std_msgs/msg/Header'](stamp=stamp, frame_id='')
    message = types['sensor_msgs/msg/Image'](
        header=header,
        height=3,
        width=4,
        encoding='bgr8',
        is_bigendian=0,
        step=12,
        data=image.reshape(-1),
    )
    assert same_bits(BRIDGE.imgmsg_to_cv2(message), image)


def test_messages_survive_serialization():
    image = random_image(5, 4, '16UC1')
    message = BRIDGE.cv2_to_imgmsg(image, '16UC1')
    received = deserialize_message(serialize_message(message), Image)
    assert received == message
    assert same_bits(BRIDGE.imgmsg_to_cv2(received), image)


def test_one_channel_has_no_third_axis():
    message = BRIDGE.cv2_to_imgmsg(np.zeros((4, 5, 1), np.uint8))
    assert message.encoding == '8UC1'
    assert BRIDGE.imgmsg_to_cv2(message).shape == (4, 5)


def test_passthrough_names_the_arrays_type():
    assert BRIDGE.cv2_to_imgmsg(np.zeros((2, 3, 7), np.float32)).encoding == '32FC7'


# Planar encodings


@pytest.mark.parametrize(('encoding', 'rows'), [('nv12', 6), ('nv21', 6), ('nv24', 12)])
def test_planar_encodings_survive_with_either_meaning_of_height(encoding, rows):
    planes = np.random.default_rng(0).integers(0, 256, (rows, 8), np.uint8)
    message = BRIDGE.cv2_to_imgmsg(planes, encoding)
    assert (message.height, message.width, message.step) == (4, 8, 8)
    assert same_bits(BRIDGE.imgmsg_to_cv2(message), planes)
    color = BRIDGE.imgmsg_to_cv2(message, 'rgb8')
    assert color.shape == (4, 8, 3)
    message.height = rows
    assert same_bits(BRIDGE.imgmsg_to_cv2(message), planes)
    assert same_bits(BRIDGE.imgmsg_to_cv2(message, 'rgb8'), color)


def test_padded_nv24_loses_its_padding():
    planes = np.random.default_rng(0).integers(0, 256, (6, 4), np.uint8)
    luma = np.pad(planes[:2], ((0, 0), (0, 3)), constant_values=9)
    chroma = np.pad(planes[2:].reshape(2, 8), ((0, 0), (0, 6)), constant_values=9)
    message = Image(height=2, width=4, step=7, encoding='nv24')
    message.data = array.array('B', luma.tobytes() + chroma.tobytes())
    assert same_bits(BRIDGE.imgmsg_to_cv2(message), planes)


def test_planar_array_of_the_wrong_height_is_refused():
    with pytest.raises(CvBridgeError, match='nv21 takes 3/2 rows'):
        BRIDGE.cv2_to_imgmsg(np.zeros((4, 4), np.uint8), 'nv21')
    planes = np.zeros((6, 4), np.uint8)
    message = BRIDGE.cv2_to_imgmsg(planes, 'nv21')
    message.encoding = 'nv24'
    with pytest.raises(CvBridgeError, match='nv24'):
        BRIDGE.imgmsg_to_cv2(message)


def test_all_yuv_layouts_of_one_picture_have_the_same_colours():
    rng = np.random.default_rng(0)
    luma = rng.integers(16, 236, (4, 6), np.uint8)
    # One chroma value every 2 x 2 pixels, which every layout can hold.
    u, v = rng.integers(0, 256, (2, 2, 3), np.uint8)
    wide_u, wide_v = (np.repeat(np.repeat(c, 2, axis=0), 2, axis=1) for c in (u, v))
    alternating = np.where(np.arange(6) % 2 == 0, wide_u, wide_v)
    layouts = {
        'yuv422': np.dstack([alternating, luma]),
        'uyvy': np.dstack([alternating, luma]),
        'yuv422_yuy2': np.dstack([luma, alternating]),
        'yuyv': np.dstack([luma, alternating]),
        'nv12': np.vstack([luma, np.dstack([u, v]).reshape(2, 6)]),
        'nv21': np.vstack([luma, np.dstack([v, u]).reshape(2, 6)]),
        'nv24': np.vstack([luma, np.dstack([wide_u, wide_v]).reshape(8, 6)]),
    }
    messages = [BRIDGE.cv2_to_imgmsg(image, encoding) for encoding, image in layouts.items()]
    colors = [BRIDGE.imgmsg_to_cv2(message, 'rgb8') for message in messages]
    for color in colors[1:]:
        np.testing.assert_array_equal(color, colors[0])
    # BT.601, limited range.
    y, cb, cr = 1.164 * (luma - 16.0), wide_u - 128.0, wide_v - 128.0
    expected = np.dstack([y + 1.596 * cr, y - 0.392 * cb - 0.813 * cr, y + 2.017 * cb])
    np.testing.assert_allclose(colors[0], expected.clip(0, 255), atol=1.5)
    for message in messages:
        np.testing.assert_array_equal(BRIDGE.imgmsg_to_cv2(message, 'mono8'), luma)


# Malformed messages and arrays


def wrong(field: str, value: object) -> Image:
    message = image_message(random_image(4, 6, 'rgb8'), 'rgb8')
    setattr(message, field, value)
    return message


@pytest.mark.parametrize(
    'message',
    [
        wrong('height', 5),
        wrong('height', 3),
        wrong('width', 7),
        wrong('step', 0),
        wrong('step', 17),
        wrong('step', 19),
        wrong('encoding', 'rgba8'),
        wrong('encoding', 'rgb16'),
        wrong('data', array.array('B')),
        wrong('data', array.array('B', bytes(71))),
        wrong('data', array.array('B', bytes(73))),
    ],
)
def test_contradicting_sizes_are_named(message):
    with pytest.raises(CvBridgeError) as caught:
        BRIDGE.imgmsg_to_cv2(message)
    for part in (
        f'encoding {message.encoding!r}',
        f'height {message.height}',
        f'width {message.width}',
        f'step {message.step}',
        f'len(data) {len(message.data)}',
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize('encoding', ['', 'rgb', 'RGB8', '8UC0', '8UC513', '7UC1', 'yuv', '8UC-1'])
def test_unknown_encodings_are_named(encoding):
    message = wrong('encoding', encoding)
    for attempt in (
        lambda: BRIDGE.imgmsg_to_cv2(message),
        lambda: BRIDGE.encoding_to_cvtype2(encoding),
        lambda: BRIDGE.encoding_to_dtype_with_channels(encoding),
        lambda: BRIDGE.cv2_to_imgmsg(np.zeros((2, 2), np.uint8), encoding),
    ):
        with pytest.raises(CvBridgeError, match=rf'Unrecognized image encoding \[{encoding}\]'):
            attempt()
    with pytest.raises(RuntimeError, match='Unrecognized image encoding'):
        getCvType(encoding)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([*ENCODINGS, 'nv12', 'nv21', 'nv24', '', 'junk']),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 40),
    st.binary(max_size=200),
    st.sampled_from(['passthrough', 'rgb8', 'mono16', '32FC1', 'junk']),
)
def test_whatever_a_message_says_the_answer_is_an_image_or_a_clear_error(
    encoding, height, width, step, data, desired
):
    message = Image(height=height, width=width, step=step, encoding=encoding)
    message.data = array.array('B', data)
    try:
        image = BRIDGE.imgmsg_to_cv2(message, desired)
    except CvBridgeError:
        return
    assert image.shape[1] == width
    assert image.shape[0] in (height, height * 3 // 2, height * 3, height * 2 // 3, height // 3)


@pytest.mark.parametrize(
    ('image', 'encoding', 'reason'),
    [
        (np.zeros((2, 2, 3), np.uint8), 'rgba8', 'incompatible type 8UC3'),
        (np.zeros((2, 2), np.uint8), 'rgb8', 'incompatible type 8UC1'),
        (np.zeros((2, 2), np.float32), '16UC1', 'incompatible type 32FC1'),
        (np.zeros((2, 2, 3), np.uint16), 'rgb8', 'incompatible type 16UC3'),
        (np.zeros((2, 2), np.int64), 'passthrough', 'int64'),
        (np.zeros((2, 2), bool), 'mono8', 'bool'),
        (np.zeros(4, np.uint8), 'mono8', '2 or 3 axes'),
        (np.zeros((1, 2, 3, 4), np.uint8), 'passthrough', '2 or 3 axes'),
        (np.float32(1), 'passthrough', '2 or 3 axes'),
    ],
)
def test_arrays_that_do_not_fit_are_refused(image, encoding, reason):
    with pytest.raises(CvBridgeError, match=reason):
        BRIDGE.cv2_to_imgmsg(image, encoding)


@pytest.mark.parametrize('method', [BRIDGE.cv2_to_imgmsg, BRIDGE.cv2_to_compressed_imgmsg])
def test_what_is_no_array_is_a_type_error(method):
    with pytest.raises(TypeError, match='not a numpy array'):
        method([[1, 2], [3, 4]])


# Conversions

COLORS_8 = ['rgb8', 'bgr8', 'rgba8', 'bgra8']
COLORS_16 = ['rgb16', 'bgr16', 'rgba16', 'bgra16']


def channel_of(image: np.ndarray, encoding: str, letter: str) -> np.ndarray:
    return image[:, :, encoding.index(letter)]


@pytest.mark.parametrize('source', COLORS_8 + COLORS_16)
@pytest.mark.parametrize('target', COLORS_8 + COLORS_16)
def test_colours_keep_every_value_and_new_alpha_is_opaque(source, target):
    image = random_image(5, 7, source)
    converted = cvtColor2(image, source, target)
    assert (converted.dtype, converted.shape[2]) == ENCODINGS[target]
    opaque = np.iinfo(converted.dtype).max
    for letter in target.rstrip('0168'):
        if letter == 'a' and 'a' not in source:
            assert (converted[:, :, 3] == opaque).all()
            continue
        expected = channel_of(image, source, letter).astype(np.float64)
        expected *= opaque / np.iinfo(image.dtype).max
        np.testing.assert_array_equal(channel_of(converted, target, letter), np.rint(expected))


def test_mono_of_8_and_16_bits_scale_so_that_white_stays_white():
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(cvtColor2(eight, 'mono8', 'mono16'), eight.astype(int) * 257)
    sixteen = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(sixteen / 257)
    np.testing.assert_array_equal(cvtColor2(sixteen, 'mono16', 'mono8'), expected)


def test_gray_to_colour_repeats_the_value():
    gray = random_image(4, 5, 'mono8')
    np.testing.assert_array_equal(cvtColor2(gray, 'mono8', 'bgr8'), np.dstack([gray] * 3))


@pytest.mark.parametrize('source', COLORS_8)
def test_colour_to_gray_weighs_the_channels(source):
    image = random_image(30, 40, source)
    red, green, blue = (channel_of(image, source, letter).astype(float) for letter in 'rgb')
    expected = 0.299 * red + 0.587 * green + 0.114 * blue
    gray = cvtColor2(image, source, 'mono8')
    np.testing.assert_allclose(gray, expected, atol=0.51)
    # Colours are converted at the source's depth, before it changes.
    np.testing.assert_array_equal(cvtColor2(image, source, 'mono16'), gray.astype(int) * 257)


@pytest.mark.parametrize('pattern', BAYER_PATTERNS)
@pytest.mark.parametrize('bits', [8, 16])
def test_bayer_patterns_put_each_colour_where_they_say(pattern, bits):
    color = dict(zip('rgb', (200, 120, 40), strict=True))
    tile = np.array([color[letter] for letter in pattern]).reshape(2, 2)
    raw = np.tile(tile, (5, 6)).astype(f'uint{bits}')
    rgb = cvtColor2(raw, f'bayer_{pattern}{bits}', f'rgb{bits}')
    np.testing.assert_array_equal(rgb, np.broadcast_to([200, 120, 40], rgb.shape))
    bgr = cvtColor2(raw, f'bayer_{pattern}{bits}', f'bgr{bits}')
    np.testing.assert_array_equal(bgr, rgb[:, :, ::-1])


@pytest.mark.parametrize(
    ('source', 'target'),
    [
        ('8UC3', 'mono16'),
        ('8UC1', 'mono8'),
        ('32FC1', 'rgb8'),
        ('8UC3', '8UC1'),
        ('rgb8', '8UC1'),
        ('rgb8', 'yuv422'),
        ('mono8', 'bayer_rggb8'),
        ('bayer_rggb8', 'rgba8'),
        ('bayer_rggb8', 'bayer_rggb16'),
        ('yuv422', 'nv21'),
        ('rgb8', 'junk'),
    ],
)
def test_conversions_that_make_no_sense_are_refused(source, target):
    message = image_message(random_image(4, 6, source), source)
    with pytest.raises(CvBridgeError, match=target):
        BRIDGE.imgmsg_to_cv2(message, target)
    with pytest.raises(RuntimeError, match=target):
        cvtColor2(random_image(4, 6, source), source, target)


COLORED = [*COLORS_8, *COLORS_16, 'mono8', 'mono16']
UNMEANT = [f'{depth}C{count}' for depth in GENERIC_TYPES for count in (1, 2, 3, 4)]


def small_values(encoding: str) -> np.ndarray:
    """Values from 0 to 126, which every type holds; with fractions where the type has them."""
    dtype, channels = ENCODINGS[encoding]
    values = np.random.default_rng(0).uniform(0, 126, (6, 8, channels)).astype(dtype)
    return values[:, :, 0] if channels == 1 else values


@pytest.mark.parametrize('source', COLORED + UNMEANT)
def test_conversions_exist_only_where_they_make_sense_and_lead_back(source):
    image, (source_dtype, source_channels) = small_values(source), ENCODINGS[source]
    for target in COLORED + UNMEANT:
        dtype, channels = ENCODINGS[target]
        both_colored = source in COLORED and target in COLORED
        if not both_colored and (target in COLORED or channels != source_channels):
            with pytest.raises(RuntimeError):
                cvtColor2(image, source, target)
            continue
        converted = cvtColor2(image, source, target)
        assert converted.dtype == dtype
        assert converted.shape == ((6, 8) if channels == 1 else (6, 8, channels))
        if channels != source_channels or (source in COLORED) != (target in COLORED):
            continue
        back = cvtColor2(converted, target, source).astype(np.float64)
        loss = np.abs(back - image).max()
        if np.dtype(source_dtype).itemsize >= 4:
            assert loss < 1
        elif np.dtype(source_dtype).itemsize == 2 and np.dtype(dtype).itemsize == 1:
            assert loss < 128
        else:
            assert loss == 0


def test_types_without_meaning_convert_by_depth_alone():
    image = np.array([[-3.5, 0.5, 1.5, 300.2, np.nan, np.inf]], np.float32)
    np.testing.assert_array_equal(cvtColor2(image, '32FC1', '8UC1'), [[0, 0, 2, 255, 0, 0]])
    np.testing.assert_array_equal(cvtColor2(image[:, :4], '32FC1', '16SC1'), [[-4, 0, 2, 300]])
    np.testing.assert_array_equal(cvtColor2(image, '32FC1', '64FC1'), image.astype(np.float64))
    depth_mm = np.array([[0, 1, 65535]], np.uint16)
    metres = cvtColor2(depth_mm, '16UC1', '32FC1')
    assert metres.dtype == np.float32
    np.testing.assert_array_equal(metres, depth_mm)
    wide = np.array([[-(2**31), 70000, 2**31 - 1]], np.int32)
    np.testing.assert_array_equal(cvtColor2(wide, '32SC1', '16UC1'), [[0, 65535, 65535]])
    rgb = random_image(2, 3, 'rgb8')
    copy = cvtColor2(rgb, 'rgb8', '8UC3')
    np.testing.assert_array_equal(copy, rgb)
    assert not np.shares_memory(copy, rgb)


def test_an_image_that_is_not_of_its_encoding_is_refused():
    with pytest.raises(RuntimeError, match='shape'):
        cvtColor2(np.zeros((4, 6), np.uint8), 'rgb8', 'bgr8')
    with pytest.raises(RuntimeError, match='2 or 3 axes'):
        cvtColor2(np.zeros(4, np.uint8), 'mono8', 'mono16')


# Compressed images


@pytest.mark.parametrize('encoding', ['mono8', 'mono16', 'bgr8', 'bgra8', 'bgr16', 'bgra16'])
def test_png_is_exact(encoding):
    image = random_image(9, 11, encoding)
    message = BRIDGE.cv2_to_compressed_imgmsg(image, 'png')
    assert message.format == 'png'
    assert message.data.typecode == 'B'
    assert same_bits(BRIDGE.compressed_imgmsg_to_cv2(message), image)
    assert same_bits(BRIDGE.compressed_imgmsg_to_cv2(message, encoding), image)


@pytest.mark.parametrize('file_format', ['bmp', 'tiff', 'jpg', 'jpeg', 'jpe', 'dib', 'tif'])
@pytest.mark.parametrize('channels', [1, 3])
def test_other_formats_keep_a_smooth_image(file_format, channels):
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    image = np.dstack([np.add.outer(ramp // 2, ramp // 2)] * channels)
    message = BRIDGE.cv2_to_compressed_imgmsg(image, file_format)
    decoded = BRIDGE.compressed_imgmsg_to_cv2(message)
    assert decoded.shape == ((64, 64) if channels == 1 else (64, 64, 3))
    np.testing.assert_allclose(decoded, image.squeeze(), atol=3)


def test_jpg_is_the_default_format():
    message = BRIDGE.cv2_to_compressed_imgmsg(np.zeros((8, 8, 3), np.uint8))
    assert message.format == 'jpg'
    assert bytes(message.data[:2]) == b'\xff\xd8'


@pytest.mark.parametrize(
    'text', ['jpeg', 'rgb8; jpeg compressed bgr8', 'bgr8; png compressed bgr8', '']
)
def test_the_format_text_of_image_transport_does_not_matter(text):
    blue = np.zeros((16, 16, 3), np.uint8)
    blue[:, :, 0] = 255
    message = BRIDGE.cv2_to_compressed_imgmsg(blue, 'png')
    message.format = text
    assert same_bits(BRIDGE.compressed_imgmsg_to_cv2(message), blue)
    assert same_bits(BRIDGE.compressed_imgmsg_to_cv2(message, 'rgb8'), blue[:, :, ::-1].copy())


def test_a_compressed_gray_image_converts_from_what_it_is():
    gray = random_image(5, 6, 'mono8')
    message = BRIDGE.cv2_to_compressed_imgmsg(gray, 'png')
    assert same_bits(BRIDGE.compressed_imgmsg_to_cv2(message, 'rgb8'), np.dstack([gray] * 3))
    deep = BRIDGE.cv2_to_compressed_imgmsg(random_image(5, 6, 'mono16'), 'png')
    assert BRIDGE.compressed_imgmsg_to_cv2(deep, '16UC1').dtype == np.uint16


@pytest.mark.parametrize('data', [b'', b'not an image', b'\xff\xd8\xff\xe0 cut off', b'\x89PNG'])
def test_data_that_cannot_be_decoded_is_described(data):
    message = CompressedImage(format='jpeg', data=array.array('B', data))
    with pytest.raises(CvBridgeError, match=rf"format 'jpeg', {len(data)} bytes"):
        BRIDGE.compressed_imgmsg_to_cv2(message)


def test_compressed_depth_is_told_from_a_broken_image():
    message = CompressedImage(format='16UC1; compressedDepth png', data=array.array('B', bytes(20)))
    with pytest.raises(CvBridgeError, match='header before the image'):
        BRIDGE.compressed_imgmsg_to_cv2(message)


@pytest.mark.parametrize(
    ('image', 'file_format'),
    [
        (np.zeros((4, 4, 3), np.uint8), 'no_such_format'),
        (np.zeros((4, 4, 2), np.uint8), 'jpg'),
        (np.zeros((0, 4), np.uint8), 'png'),
    ],
)
def test_what_cannot_be_encoded_is_described(image, file_format):
    with pytest.raises(CvBridgeError, match=rf'as {file_format!r}'):
        BRIDGE.cv2_to_compressed_imgmsg(image, file_format)


# Types


@pytest.mark.parametrize('encoding', ENCODINGS)
def test_encodings_have_the_type_of_their_pixels(encoding):
    dtype, channels = ENCODINGS[encoding]
    assert BRIDGE.encoding_to_dtype_with_channels(encoding) == (dtype, channels)
    cvtype = BRIDGE.encoding_to_cvtype2(encoding)
    assert cvtype == getCvType(encoding)
    assert BRIDGE.cvtype2_to_dtype_with_channels(cvtype) == (dtype, channels)
    assert BRIDGE.cvdepth_to_numpy_depth[CV_MAT_DEPTHWrap(cvtype)] == dtype
    assert CV_MAT_CNWrap(cvtype) == channels


def test_type_numbers_are_opencvs():
    assert getCvType('rgb8') == getCvType('8UC3') == cv2.CV_8UC3
    assert getCvType('bayer_grbg16') == getCvType('16U') == cv2.CV_16UC1
    assert getCvType('yuv422') == cv2.CV_8UC2
    assert getCvType('64FC4') == cv2.CV_64FC4
    assert BRIDGE.cvtype_to_name[cv2.CV_32FC2] == '32FC2'
    assert len(BRIDGE.cvtype_to_name) == 28
    assert BRIDGE.dtype_with_channels_to_cvtype2(np.dtype('>u2'), 3) == '16UC3'


# Images for display


def test_labels_are_painted_in_distinct_colours_and_repeat():
    labels = np.array([[0, 7, 11, 146, -1, -5]], np.int32)
    painted = cvtColorForDisplay(labels, '32SC1', 'bgr8')
    assert painted.dtype == np.uint8
    # CSS: alice blue, black, blue violet in BGR.
    np.testing.assert_array_equal(painted[0, 1], [0, 0, 0])
    np.testing.assert_allclose(painted[0, 0], [255, 248, 240], atol=1)
    np.testing.assert_array_equal(painted[0, 0], painted[0, 3])
    np.testing.assert_array_equal(painted[0, 4:], np.zeros((2, 3)))


def test_dynamic_scaling_leaves_out_what_is_not_finite():
    image = np.array([[50, 100, 150, -np.inf, np.inf, np.nan]], np.float32)
    shown = cvtColorForDisplay(image, '32FC1', '', do_dynamic_scaling=True)
    np.testing.assert_array_equal(shown, np.dstack([[[0, 128, 255, 0, 0, 0]]] * 3))
    mono = cvtColorForDisplay(image, '32FC1', 'mono8', True)
    np.testing.assert_array_equal(mono, [[0, 128, 255, 0, 0, 0]])


def test_a_flat_image_becomes_middle_gray():
    flat = np.full((2, 3), 7, np.uint16)
    shown = cvtColorForDisplay(flat, '16UC1', 'bgr8', do_dynamic_scaling=True)
    np.testing.assert_array_equal(shown, np.full((2, 3, 3), 128))


def test_a_given_range_is_scaled_and_clipped():
    depth_mm = np.array([[0, 1000, 2000, 3000, 9000]], np.uint16)
    shown = cvtColorForDisplay(
        depth_mm, '16UC1', 'mono8', min_image_value=1000, max_image_value=3000
    )
    np.testing.assert_array_equal(shown, [[0, 0, 128, 255, 255]])


def test_a_colour_map_paints_nan_black():
    depth_m = np.array([[1.0, 2.0, np.nan]], np.float32)
    shown = cvtColorForDisplay(
        depth_m,
        '32FC1',
        'bgr8',
        min_image_value=1.0,
        max_image_value=2.0,
        colormap=cv2.COLORMAP_JET,
    )
    expected = cv2.applyColorMap(np.array([[0, 255]], np.uint8), cv2.COLORMAP_JET)
    np.testing.assert_array_equal(shown[:, :2], expected)
    np.testing.assert_array_equal(shown[0, 2], [0, 0, 0])


def test_without_scaling_the_image_is_converted():
    deep = np.array([[0, 257, 65535]], np.uint16)
    np.testing.assert_array_equal(cvtColorForDisplay(deep, '16UC1', 'mono8'), [[0, 1, 255]])
    rgb = random_image(3, 4, 'rgb8')
    np.testing.assert_array_equal(cvtColorForDisplay(rgb, 'rgb8', ''), rgb[:, :, ::-1])


@pytest.mark.parametrize(
    ('encoding_in', 'encoding_out', 'scaling'),
    [
        ('mono8', 'mono16', False),
        ('mono8', '8UC1', False),
        ('64FC1', '', False),
        ('8UC1', 'bgr8', False),
        ('rgb8', 'bgr8', True),
        ('junk', 'bgr8', False),
    ],
)
def test_what_cannot_be_shown_is_refused(encoding_in, encoding_out, scaling):
    channels = 3 if encoding_in == 'rgb8' else 1
    dtype = 'float64' if encoding_in == '64FC1' else 'uint8'
    image = np.zeros((2, 2, channels), dtype)
    with pytest.raises(RuntimeError):
        cvtColorForDisplay(image, encoding_in, encoding_out, scaling)
