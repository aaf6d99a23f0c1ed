import array
import struct
from contextlib import suppress

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from sensor_msgs_py import point_cloud2
from std_msgs.msg import Header
from visualization_msgs.msg import Marker

from vlm_nodes import messages
from vlm_nodes.geometry import Camera
from vlm_nodes.mapping.instances import MapMatch
from vlm_nodes.messages import MessageError

HEADER = messages.header_message('map', 1_234_567_890)
ENCODINGS = [
    *(
        'rgb8',
        'bgr8',
        'rgba8',
        'bgra8',
        'rgb16',
        'bgr16',
        'mono8',
        'mono16',
        'yuv422',
        'yuv422_yuy2',
    ),
    *(
        'nv12',
        'nv21',
        'nv24',
        'bayer_rggb8',
        'bayer_grbg16',
        '8UC1',
        '8UC3',
        '8UC4',
        '8SC1',
        '16UC1',
    ),
    *('16SC1', '32SC1', '32FC1', '32FC3', '64FC1', '', 'rgb', 'jpeg', '32FC', '8UC99', 'ü'),
]
COLOURS = {
    'rgb8': lambda rgb: rgb,
    'bgr8': lambda rgb: rgb[..., ::-1],
    'rgba8': lambda rgb: np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)]),
    'bgra8': lambda rgb: np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 7, np.uint8)]),
}
RGB = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
DEPTH_M = np.array([[0.5, np.nan, 1.25], [np.inf, 0.0, 65.0]], np.float32)
KNOWN_M = np.array([[0.5, np.nan, 1.25], [np.nan, np.nan, 65.0]], np.float32)


# Images


def either(decode, message, check):
    """Decode; the only ways out are a right array and a MessageError."""
    with suppress(MessageError):
        check(decode(message))


def is_colour(message):
    def check(image):
        # Some publishers of planar images count the rows of chroma as well.
        height = len(image) if message.encoding in ('nv12', 'nv21', 'nv24') else message.height
        assert image.shape == (height, message.width, 3)
        assert image.dtype == np.uint8

    return check


def is_depth(message):
    def check(image):
        assert image.shape == (message.height, message.width)
        assert image.dtype == np.float32
        assert not (image[~np.isnan(image)] <= 0).any()
        assert not np.isinf(image).any()

    return check


@st.composite
def any_image(draw):
    width, height = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    step = draw(
        st.one_of(st.integers(0, 80), st.sampled_from([1, 2, 3, 4, 6, 8]).map(width.__mul__))
    )
    size = draw(st.one_of(st.just(step * height), st.integers(0, 400)))
    return Image(
        width=width,
        height=height,
        step=step,
        encoding=draw(st.sampled_from(ENCODINGS)),
        is_bigendian=draw(st.sampled_from([0, 1, 255])),
        data=draw(st.binary(min_size=size, max_size=size)),
    )


@settings(max_examples=300, deadline=None)
@given(any_image())
def test_any_image_is_a_right_array_or_a_message_error(message):
    either(messages.rgb_from_image, message, is_colour(message))
    either(messages.depth_from_image, message, is_depth(message))


def png(image):
    return cv2.imencode('.png', image)[1].tobytes()


PICTURES = [
    b'',
    png(RGB),
    cv2.imencode('.jpg', RGB)[1].tobytes(),
    png(np.arange(6, dtype=np.uint16).reshape(2, 3)),
    struct.pack('<iff', 0, 1000.0, 2.0) + png(np.arange(6, dtype=np.uint16).reshape(2, 3)),
    struct.pack('<iff', 0, float('nan'), float('inf')) + png(np.ones((2, 3), np.uint16)),
    struct.pack('<iff', 0, 1.0, 1.0) + png(np.ones((2, 3), np.uint16)),
]
FORMATS = [
    *('jpeg', 'png', 'rgb8; jpeg compressed bgr8', 'bgr8; png compressed bgr8', '', ';', 'webp'),
    *('16UC1; compressedDepth png', '32FC1; compressedDepth png', '16UC1; compressedDepth'),
    *('16UC1; png compressed', '16UC1; compressedDepth rvl', '64FC1; compressedDepth png'),
]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(PICTURES),
    st.sampled_from(FORMATS),
    st.integers(0, 200),
    st.binary(max_size=4),
)
def test_any_compressed_image_is_a_right_array_or_a_message_error(picture, format_, kept, tail):
    for data in (picture, picture[:kept] + tail):
        message = CompressedImage(format=format_, data=data)
        either(messages.rgb_from_image, message, lambda rgb: None)
        either(messages.depth_from_image, message, lambda depth_m: None)


@settings(max_examples=100, deadline=None)
@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12).map(lambda s: (*s, 3))),
    st.sampled_from(list(COLOURS)),
    st.integers(0, 7),
)
def test_colour_encodings_keep_every_pixel_and_padding_none(rgb, encoding, padding):
    pixels = np.ascontiguousarray(COLOURS[encoding](rgb))
    height, width, channels = pixels.shape
    rows = np.full((height, width * channels + padding), 99, np.uint8)
    rows[:, : width * channels] = pixels.reshape(height, -1)
    message = Image(width=width, height=height, encoding=encoding, data=rows.tobytes())
    message.step = rows.shape[1]
    np.testing.assert_array_equal(messages.rgb_from_image(message), rgb)


def test_grey_is_the_same_in_all_three_channels():
    grey = messages.image_message(RGB[..., 0], 'mono8', HEADER)
    np.testing.assert_array_equal(messages.rgb_from_image(grey), np.dstack([RGB[..., 0]] * 3))


def test_depth_in_metres_and_in_millimetres():
    metres = messages.image_message(DEPTH_M, '32FC1', HEADER)
    np.testing.assert_array_equal(messages.depth_from_image(metres), KNOWN_M)
    millimetres = np.array([[500, 0, 1250], [65535, 0, 65000]], np.uint16)
    for encoding in ('16UC1', 'mono16'):
        message = messages.image_message(millimetres, encoding, HEADER)
        np.testing.assert_array_equal(messages.depth_from_image(message), KNOWN_M)


@pytest.mark.parametrize('encoding', ['16UC1', '32FC1'])
def test_big_endian_depth_is_turned(encoding):
    values = DEPTH_M if encoding == '32FC1' else np.nan_to_num(KNOWN_M * 1000).astype(np.uint16)
    message = messages.image_message(values, encoding, HEADER)
    message.data = values.astype(values.dtype.newbyteorder('>')).tobytes()
    message.is_bigendian = 1
    np.testing.assert_array_equal(messages.depth_from_image(message), KNOWN_M)


def test_compressed_depth_of_both_kinds():
    millimetres = np.array([[500, 0, 1250]], np.uint16)
    data = struct.pack('<iff', 0, 0.0, 0.0) + png(millimetres)
    message = CompressedImage(format='16UC1; compressedDepth png', data=data)
    np.testing.assert_allclose(messages.depth_from_image(message), [[0.5, np.nan, 1.25]])
    a, b = 5000.0, -3.0
    inverse = np.array([[a / 0.5 + b, 0, a / 1.25 + b]]).round().astype(np.uint16)
    message.format = '32FC1; compressedDepth png'
    message.data = struct.pack('<iff', 0, a, b) + png(inverse)
    np.testing.assert_allclose(messages.depth_from_image(message), [[0.5, np.nan, 1.25]], 1e-3)


def test_compressed_colour():
    message = CompressedImage(format='rgb8; png compressed bgr8', data=png(RGB[..., ::-1]))
    np.testing.assert_array_equal(messages.rgb_from_image(message), RGB)


def test_depth_on_the_colour_topic_is_recognised():
    with pytest.raises(MessageError, match='is the depth topic remapped to rgb'):
        messages.rgb_from_image(messages.image_message(DEPTH_M, '32FC1', HEADER))


def test_colour_on_the_depth_topic_is_recognised():
    with pytest.raises(MessageError, match='is the colour topic remapped to depth'):
        messages.depth_from_image(messages.image_message(RGB, 'rgb8', HEADER))


# Cameras

NUMBERS = st.one_of(st.floats(), st.sampled_from([0.0, 1.0, 500.0, -500.0, 319.5]))
SIZES = st.one_of(st.integers(0, 700), st.sampled_from([2**32 - 1]))
REGIONS = st.builds(RegionOfInterest, x_offset=SIZES, y_offset=SIZES, width=SIZES, height=SIZES)


@settings(max_examples=300, deadline=None)
@given(
    st.builds(
        CameraInfo,
        width=SIZES,
        height=SIZES,
        k=st.lists(NUMBERS, min_size=9, max_size=9),
        d=st.lists(NUMBERS, max_size=14),
        distortion_model=st.sampled_from(
            ['', 'plumb_bob', 'rational_polynomial', 'equidistant', 'fov', 'thin_prism']
        ),
        roi=REGIONS,
        binning_x=st.integers(0, 9),
        binning_y=st.integers(0, 9),
    )
)
def test_any_camera_info_is_a_camera_or_a_message_error(info):
    with suppress(MessageError):
        camera = messages.camera_from_info(info)
        assert camera.width > 0
        assert camera.height > 0
        assert np.isfinite(camera.matrix()).all()


@given(
    st.builds(
        Camera,
        st.integers(1, 5000),
        st.integers(1, 5000),
        *(st.floats(1, 1e4) for _ in range(4)),
        distortion_model=st.just('plumb_bob'),
        distortion=st.lists(st.floats(-1, 1), min_size=5, max_size=5).map(tuple),
    )
)
def test_a_camera_survives_its_info(camera):
    assert messages.camera_from_info(messages.camera_info_message(camera, HEADER)) == camera


def test_region_and_binning_give_the_camera_of_the_image_that_is_sent():
    info = messages.camera_info_message(Camera(640, 480, 500.0, 510.0, 320.0, 240.0), HEADER)
    info.roi = RegionOfInterest(x_offset=100, y_offset=50, width=400, height=300)
    info.binning_x = info.binning_y = 2
    camera = messages.camera_from_info(info)
    assert (camera.width, camera.height) == (200, 150)
    assert (camera.fx, camera.fy) == (250.0, 255.0)
    assert (camera.cx, camera.cy) == ((220 + 0.5) / 2 - 0.5, (190 + 0.5) / 2 - 0.5)


def test_an_uncalibrated_camera_is_named_with_its_frame():
    with pytest.raises(MessageError, match=r"frame 'eye'.*fx = 0.0.*not calibrated"):
        messages.camera_from_info(CameraInfo(header=Header(frame_id='eye'), width=640, height=480))


# Stamps


@given(st.integers(0, (2**31 - 1) * messages.SECOND_NS))
def test_stamps_keep_every_nanosecond(nanoseconds):
    assert messages.stamp_ns(messages.stamp_message(nanoseconds)) == nanoseconds


def test_headers_take_stamps_of_both_kinds():
    stamp = messages.stamp_message(5)
    assert messages.header_message('map', stamp) == messages.header_message('map', 5)


# Maps


@given(st.integers(0, 20), st.booleans(), st.booleans(), st.booleans())
def test_clouds_hold_what_they_are_given(count, with_colors, with_intensity, with_labels):
    rng = np.random.default_rng(count)
    points = rng.normal(size=(count, 3)).astype(np.float32)
    given_ = {
        'colors': rng.integers(0, 256, (count, 3), dtype=np.uint8) if with_colors else None,
        'intensity': rng.random(count, dtype=np.float32) if with_intensity else None,
        'labels': rng.integers(-1, 9, count) if with_labels else None,
    }
    cloud = messages.cloud_message(points, HEADER, **given_)
    assert cloud.header == HEADER
    assert cloud.width * cloud.height == count
    read = point_cloud2.read_points(cloud)
    np.testing.assert_array_equal(np.column_stack([read[axis] for axis in 'xyz']), points)
    if with_colors:
        packed = np.ascontiguousarray(read['rgb']).view(np.uint32)
        rgb = np.column_stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255])
        np.testing.assert_array_equal(rgb, given_['colors'])
    if with_intensity:
        np.testing.assert_array_equal(read['intensity'], given_['intensity'])
    if with_labels:
        np.testing.assert_array_equal(read['label'], given_['labels'])


@given(arrays(np.int8, array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9)))
def test_occupancy_keeps_its_cells_and_their_place(cells):
    message = messages.occupancy_message(cells, (-1.5, 2.0), 0.05, HEADER)
    assert (message.info.height, message.info.width) == cells.shape
    assert list(message.data) == cells.ravel().tolist()
    assert (message.info.origin.position.x, message.info.origin.position.y) == (-1.5, 2.0)
    assert message.info.origin.orientation.w == 1.0
    assert message.info.resolution == np.float32(0.05)


MATCH = MapMatch(
    label='red mug',
    score=0.75,
    centroid=np.array([1.0, 2.0, 3.0]),
    size=np.array([0.1, 0.2, 0.4]),
    voxels=12,
    first_seen_ns=5,
    last_seen_ns=2 * messages.SECOND_NS,
)


def test_a_match_keeps_all_it_knows():
    message = messages.match_message(MATCH)
    assert (message.label, message.score, message.voxels) == ('red mug', 0.75, 12)
    assert (message.centroid.x, message.centroid.y, message.centroid.z) == (1.0, 2.0, 3.0)
    assert (message.size.x, message.size.y, message.size.z) == (0.1, 0.2, 0.4)
    assert messages.stamp_ns(message.first_seen) == 5
    assert messages.stamp_ns(message.last_seen) == 2 * messages.SECOND_NS


def test_markers_are_a_box_and_a_text_above_it_after_all_others_are_deleted():
    wipe, box, text = messages.match_markers([MATCH], HEADER).markers
    assert wipe.action == Marker.DELETEALL
    assert (box.type, text.type) == (Marker.CUBE, Marker.TEXT_VIEW_FACING)
    assert box.header == text.header == HEADER
    assert (box.scale.x, box.scale.y, box.scale.z) == (0.1, 0.2, 0.4)
    assert box.pose.orientation.w == 1.0
    assert text.pose.position.z > MATCH.centroid[2] + MATCH.size[2] / 2
    assert text.text == 'red mug 0.75'
    assert len(messages.match_markers([], HEADER).markers) == 1


def test_joint_positions_are_by_name():
    message = messages.joint_state_message(['b', 'a'], [0.5, -1.0], [], HEADER)
    assert messages.joint_positions(message) == {'b': 0.5, 'a': -1.0}
    message.position = array.array('d')  # a message of velocities alone
    assert messages.joint_positions(message) == {}


def test_only_joints_that_are_needed_must_have_a_position():
    message = messages.joint_state_message(['gripper', 'a'], [np.nan, -1.0], [], HEADER)
    assert messages.joint_positions(message, {'a'})['a'] == -1.0
    with pytest.raises(MessageError, match="joint 'gripper' is nan"):
        messages.joint_positions(message, {'a', 'gripper'})


@pytest.mark.parametrize(
    ('positions', 'said'),
    [([0.5], '2 joints are named, 1 have a position'), ([0.5, np.nan], "joint 'a' is nan")],
)
def test_joint_positions_that_are_none_are_refused(positions, said):
    message = messages.joint_state_message(['b', 'a'], positions, [], HEADER)
    with pytest.raises(MessageError, match=said):
        messages.joint_positions(message)


def test_a_trajectory_is_one_point_that_begins_at_once():
    message = messages.trajectory_message(('b', 'a'), np.array([0.5, -1.0]), 1.25)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0)
    assert list(message.joint_names) == ['b', 'a']
    (point,) = message.points
    assert list(point.positions) == [0.5, -1.0]
    assert (point.time_from_start.sec, point.time_from_start.nanosec) == (1, 250_000_000)


def test_a_float_array_keeps_its_numbers():
    assert list(messages.float_array_message((0.1, -2.0)).data) == [0.1, -2.0]


def test_diagnostics_warn_where_there_is_a_problem():
    values = {'voxels': '7'}
    stamp = messages.stamp_message(9)
    (good,) = messages.diagnostics_message('node', None, values, stamp).status
    (bad,) = messages.diagnostics_message('node', 'no image', values, stamp).status
    assert (good.level, good.message) == (DiagnosticStatus.OK, 'OK')
    assert (bad.level, bad.message) == (DiagnosticStatus.WARN, 'no image')
    (worse,) = messages.diagnostics_message('node', 'no image', values, stamp, failed=True).status
    assert worse.level == DiagnosticStatus.ERROR
    assert [(entry.key, entry.value) for entry in bad.values] == [('voxels', '7')]
