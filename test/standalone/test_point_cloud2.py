import array
import copy
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2, PointField
from sensor_msgs_py import numpy_compat, point_cloud2
from std_msgs.msg import Header

DTYPES = {
    PointField.INT8: 'i1',
    PointField.UINT8: 'u1',
    PointField.INT16: 'i2',
    PointField.UINT16: 'u2',
    PointField.INT32: 'i4',
    PointField.UINT32: 'u4',
    PointField.FLOAT32: 'f4',
    PointField.FLOAT64: 'f8',
}


def field(name: str, offset: int, datatype: int = PointField.FLOAT32, count: int = 1) -> PointField:
    return PointField(name=name, offset=offset, datatype=datatype, count=count)


XYZ = [field('x', 0), field('y', 4), field('z', 8)]
MIXED = [
    field('x', 0),
    field('intensity', 8, PointField.UINT16),
    field('t', 12, PointField.FLOAT64),
]


def handmade_cloud(
    points: np.ndarray,
    fields: list[PointField],
    height: int = 1,
    row_padding: int = 0,
    is_dense: bool = False,
    bigendian: bool = False,
) -> PointCloud2:
    """Return a cloud of a structured array made by hand, its rows padded with rubbish."""
    stored = points.astype(points.dtype.newbyteorder('>' if bigendian else '<'))
    width = len(points) // height
    rows = [stored[i * width : (i + 1) * width].tobytes() for i in range(height)]
    cloud = PointCloud2(height=height, width=width, fields=fields, is_dense=is_dense)
    cloud.is_bigendian = bigendian
    cloud.point_step = points.dtype.itemsize
    cloud.row_step = width * cloud.point_step + row_padding
    cloud.data = array.array('B', b''.join(row + b'\xee' * row_padding for row in rows))
    return cloud


def mixed_points(count: int, point_step: int = 24, seed: int = 0) -> np.ndarray:
    points = np.zeros(count, point_cloud2.dtype_from_fields(MIXED, point_step))
    rng = np.random.default_rng(seed)
    points['x'], points['t'] = rng.normal(size=(2, count))
    points['intensity'] = rng.integers(0, 65536, count)
    return points


# dtype_from_fields


def test_fields_become_a_structured_type():
    dtype = point_cloud2.dtype_from_fields(MIXED, point_step=32)
    assert dtype.names == ('x', 'intensity', 't')
    assert [dtype.fields[name][1] for name in dtype.names] == [0, 8, 12]
    assert [dtype[name].str for name in dtype.names] == ['<f4', '<u2', '<f8']
    assert dtype.itemsize == 32
    assert point_cloud2.dtype_from_fields(MIXED).itemsize == 20


def test_every_datatype_has_its_numpy_type():
    fields = [field(f'f{datatype}', 8 * datatype, datatype) for datatype in DTYPES]
    dtype = point_cloud2.dtype_from_fields(fields)
    assert [dtype[f'f{datatype}'] for datatype in DTYPES] == [np.dtype(t) for t in DTYPES.values()]


def test_counts_and_missing_names_are_numbered():
    fields = [field('', 0), field('normal', 4, count=3), field('', 16, PointField.UINT8, 2)]
    dtype = point_cloud2.dtype_from_fields(fields)
    assert dtype.names == (
        'unnamed_field_0',
        'normal_0',
        'normal_1',
        'normal_2',
        'unnamed_field_2_0',
        'unnamed_field_2_1',
    )
    assert [dtype.fields[name][1] for name in dtype.names] == [0, 4, 8, 12, 16, 17]


@pytest.mark.parametrize(
    ('fields', 'error', 'reason'),
    [
        ([field('x', 0, count=0)], AssertionError, "'x'.* count is 0"),
        ([field('x', 0), field('x', 4)], AssertionError, 'Duplicate'),
        ([field('x', 0, count=2), field('x_1', 8)], AssertionError, 'Duplicate'),
        ([field('x', 0, 9)], KeyError, '9'),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields, error, reason):
    with pytest.raises(error, match=reason):
        point_cloud2.dtype_from_fields(fields)


def test_point_step_must_hold_the_fields():
    with pytest.raises(ValueError, match='itemsize'):
        point_cloud2.dtype_from_fields(XYZ, point_step=8)


# Reading


@pytest.mark.parametrize('bigendian', [False, True])
@pytest.mark.parametrize(('height', 'row_padding'), [(1, 0), (3, 0), (3, 7)])
def test_points_are_read_whatever_the_layout(height, row_padding, bigendian):
    points = mixed_points(12)
    cloud = handmade_cloud(points, MIXED, height, row_padding, bigendian=bigendian)
    before = bytes(cloud.data)
    for _ in range(2):  # reading leaves the message alone
        read = point_cloud2.read_points(cloud)
        assert read.dtype == points.dtype
        np.testing.assert_array_equal(read, points)
    assert bytes(cloud.data) == before


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(DTYPES)), st.integers(0, 3), st.integers(1, 3)),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 5),
    st.integers(1, 3),
    st.integers(0, 9),
    st.integers(0, 5),
    st.booleans(),
)
def test_any_cloud_reads_as_its_bytes_say(parts, width, height, end_padding, row_padding, big):
    fields, offset = [], 0
    for index, (datatype, gap, count) in enumerate(parts):
        fields.append(field(f'f{index}', offset + gap, datatype, count))
        offset += gap + count * np.dtype(DTYPES[datatype]).itemsize
    step = offset + end_padding
    row_step = width * step + row_padding
    data = np.random.default_rng(0).integers(0, 256, row_step * height, np.uint8).tobytes()
    cloud = PointCloud2(height=height, width=width, fields=fields, point_step=step)
    cloud.row_step, cloud.is_bigendian, cloud.data = row_step, big, array.array('B', data)
    read = point_cloud2.read_points(cloud)
    assert read.shape == (width * height,)
    for i in range(width * height):
        start = i // width * row_step + i % width * step
        for f in fields:
            dtype = np.dtype(DTYPES[f.datatype]).newbyteorder('>' if big else '<')
            expected = np.frombuffer(data, dtype, f.count, start + f.offset)
            names = [f.name] if f.count == 1 else [f'{f.name}_{k}' for k in range(f.count)]
            assert [read[name][i].tobytes() for name in names] == [
                v.tobytes() for v in expected.astype(dtype.newbyteorder('='))
            ]


def test_a_row_step_that_is_too_small_is_not_believed():
    points = mixed_points(6)
    cloud = handmade_cloud(points, MIXED, height=2)
    cloud.row_step = 0
    np.testing.assert_array_equal(point_cloud2.read_points(cloud), points)


def test_reading_shares_the_messages_memory():
    cloud = handmade_cloud(mixed_points(6), MIXED)
    points = point_cloud2.read_points(cloud)
    assert np.shares_memory(points, np.frombuffer(cloud.data, np.uint8))


def test_fields_come_in_the_order_they_are_asked_for():
    points = mixed_points(4)
    cloud = handmade_cloud(points, MIXED)
    read = point_cloud2.read_points(cloud, field_names=('t', 'x'))
    assert read.dtype.names == ('t', 'x')
    assert [tuple(p) for p in read] == [(p['t'], p['x']) for p in points]
    with pytest.raises(AssertionError, match=r"\['nope'\]"):
        point_cloud2.read_points(cloud, ['x', 'nope'])


def test_nans_are_skipped_in_the_wanted_fields_of_clouds_that_may_have_them():
    points = mixed_points(5)
    points['x'][1], points['t'][3] = np.nan, np.nan
    cloud = handmade_cloud(points, MIXED)
    dense = handmade_cloud(points, MIXED, is_dense=True)

    def kept(cloud, *names):
        read = point_cloud2.read_points(cloud, names or None, skip_nans=True)
        return list(read[read.dtype.names[-1]])

    assert kept(cloud, 'intensity') == list(points['intensity'])
    assert kept(cloud, 'x', 'intensity') == list(points['intensity'][[0, 2, 3, 4]])
    assert kept(cloud) == list(points['t'][[0, 2, 4]])
    assert len(kept(dense)) == 5


def test_points_are_picked_by_flat_index_after_nans_are_gone():
    points = mixed_points(6)
    points['x'][0] = np.nan
    cloud = handmade_cloud(points, MIXED)
    for uvs in ([3, 1, 1], (i for i in (3, 1, 1)), np.array([3, 1, 1])):
        picked = point_cloud2.read_points(cloud, uvs=uvs)
        np.testing.assert_array_equal(picked['t'], points['t'][[3, 1, 1]])
    picked = point_cloud2.read_points(cloud, skip_nans=True, uvs=[0])
    assert picked['t'][0] == points['t'][1]
    with pytest.raises(IndexError):
        point_cloud2.read_points(cloud, uvs=[6])


def test_organized_clouds_come_back_the_way_they_were_made():
    grid = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    cloud = point_cloud2.create_cloud_xyz32(Header(), grid)
    assert (cloud.width, cloud.height) == (4, 2)
    read = point_cloud2.read_points(cloud, reshape_organized_cloud=True)
    assert read.shape == (4, 2)
    plain = point_cloud2.read_points_numpy(cloud, reshape_organized_cloud=True)
    np.testing.assert_array_equal(plain, grid)
    assert point_cloud2.read_points(cloud).shape == (8,)


@pytest.mark.parametrize('sizes', [{'width': 7}, {'height': 2}, {'point_step': 25}])
def test_clouds_that_are_too_short_are_described(sizes):
    cloud = handmade_cloud(mixed_points(6), MIXED)
    for name, value in sizes.items():
        setattr(cloud, name, value)
    with pytest.raises(TypeError, match=r'too short: .* its data has 144'):
        point_cloud2.read_points(cloud)


def test_what_is_no_cloud_is_refused():
    with pytest.raises(AssertionError, match='not a sensor_msgs'):
        point_cloud2.read_points(np.zeros((3, 3)))
    with pytest.raises(AssertionError, match='not a sensor_msgs'):
        point_cloud2.read_points_list(np.zeros((3, 3)))


def test_an_empty_message_has_no_points():
    assert point_cloud2.read_points(PointCloud2()).shape == (0,)
    assert point_cloud2.read_points_list(PointCloud2()) == []


def test_plain_arrays_need_fields_of_one_type_among_those_asked_for():
    cloud = handmade_cloud(mixed_points(3), MIXED)
    with pytest.raises(AssertionError, match=r'float32.*float64.*read_points\(\)'):
        point_cloud2.read_points_numpy(cloud)
    assert point_cloud2.read_points_numpy(cloud, ['x']).dtype == np.float32
    fields = [field('ring', 0, PointField.UINT16), field('x', 4), field('y', 8)]
    points = np.ones(3, point_cloud2.dtype_from_fields(fields))
    cloud = handmade_cloud(points, fields)
    np.testing.assert_array_equal(
        point_cloud2.read_points_numpy(cloud, ('x', 'y')), np.ones((3, 2), np.float32)
    )


def test_lists_hold_named_tuples():
    cloud = handmade_cloud(mixed_points(3), MIXED)
    points = point_cloud2.read_points(cloud)
    listed = point_cloud2.read_points_list(cloud)
    assert listed[1]._fields == ('x', 'intensity', 't')
    assert [p.t for p in listed] == list(points['t'])
    assert point_cloud2.read_points_list(cloud, ['t', 'x'], uvs=[2]) == [
        (points['t'][2], points['x'][2])
    ]


def test_lists_number_counts_and_missing_names():
    fields = [field('', 0), field('normal', 4, count=2)]
    points = np.ones(1, point_cloud2.dtype_from_fields(fields))
    (point,) = point_cloud2.read_points_list(handmade_cloud(points, fields))
    assert point._fields == ('unnamed_field_0', 'normal_0', 'normal_1')


# Writing

PYTHON_POINTS = [(0.0, 0.5, 1.0), (2.0, np.nan, 3.0), (4.0, 4.5, 5.0)]


@pytest.mark.parametrize(
    'points',
    [
        PYTHON_POINTS,
        tuple(map(list, PYTHON_POINTS)),
        (point for point in PYTHON_POINTS),
        np.array(PYTHON_POINTS),
        np.array(PYTHON_POINTS, np.float32),
        np.asfortranarray(np.array(PYTHON_POINTS, np.float32)),
        np.array(PYTHON_POINTS, [('x', 'f4'), ('y', 'f4'), ('z', 'f4')]),
        np.array(PYTHON_POINTS * 2, [('x', 'f4'), ('y', 'f4'), ('z', 'f4')])[:3][::-1][::-1],
    ],
)
def test_points_of_any_kind_make_the_same_cloud(points):
    header = Header(frame_id='map')
    cloud = point_cloud2.create_cloud(header, XYZ, points)
    assert cloud.header.frame_id == 'map'
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (1, 3, 12, 36)
    assert cloud.fields == XYZ
    assert not cloud.is_dense
    assert cloud.is_bigendian == (sys.byteorder == 'big')
    assert cloud.data.typecode == 'B'
    assert bytes(cloud.data) == np.array(PYTHON_POINTS, np.float32).tobytes()


def test_xyz32_names_its_fields():
    cloud = point_cloud2.create_cloud_xyz32(Header(), np.ones((2, 3), np.float64))
    assert cloud.fields == XYZ
    np.testing.assert_array_equal(point_cloud2.read_points_numpy(cloud), np.ones((2, 3)))


def test_a_cloud_survives_serialization_and_back():
    points = mixed_points(50)
    cloud = point_cloud2.create_cloud(Header(), MIXED, points, point_step=24)
    received = deserialize_message(serialize_message(cloud), PointCloud2)
    assert received == cloud
    np.testing.assert_array_equal(point_cloud2.read_points(received), points)


@pytest.mark.parametrize('points', [[], np.zeros((0, 3)), np.zeros((0, 3), np.float32)])
def test_an_empty_cloud_can_be_made(points):
    cloud = point_cloud2.create_cloud_xyz32(Header(), points)
    assert (cloud.width, len(cloud.data)) == (0, 0)
    assert point_cloud2.read_points_numpy(cloud).shape == (0, 3)


def test_padding_carries_zeros():
    fields = [field('x', 4), field('y', 12)]
    cloud = point_cloud2.create_cloud(Header(), fields, np.ones((2, 2)), point_step=20)
    one = np.float32(1).tobytes()
    assert bytes(cloud.data) == (bytes(4) + one + bytes(4) + one + bytes(4)) * 2


def test_counts_take_a_column_each():
    points = np.arange(6, dtype=np.float32).reshape(2, 3)
    cloud = point_cloud2.create_cloud(Header(), [field('v', 0, count=3)], points)
    assert (cloud.width, cloud.point_step) == (2, 12)
    np.testing.assert_array_equal(point_cloud2.read_points_numpy(cloud), points)


def test_fields_may_come_from_a_generator():
    cloud = point_cloud2.create_cloud(Header(), iter(XYZ), np.ones((2, 3)))
    assert cloud.fields == XYZ


@pytest.mark.parametrize(
    ('fields', 'points', 'step', 'error', 'reason'),
    [
        (MIXED, np.ones((2, 3)), None, AssertionError, 'same datatype'),
        (XYZ, np.ones((2, 2)), None, ValueError, r'\(2, 2\)'),
        (XYZ, np.ones(()), None, ValueError, 'last dimension'),
        (XYZ, np.ones(3), None, ValueError, 'last dimension'),
        (MIXED, mixed_points(1).reshape(()), 24, AssertionError, 'dimensions'),
        (XYZ, np.ones((2, 2, 2, 3)), None, AssertionError, 'Too many dimensions'),
        (MIXED, mixed_points(2), None, AssertionError, 'do not match'),
        (MIXED, mixed_points(2), 32, AssertionError, 'do not match'),
        (XYZ, mixed_points(2), None, AssertionError, 'do not match'),
        (XYZ, [(1.0, 2.0)], None, ValueError, 'length 2'),
    ],
)
def test_points_that_do_not_fit_the_fields_are_refused(fields, points, step, error, reason):
    with pytest.raises(error, match=reason):
        point_cloud2.create_cloud(Header(), fields, points, step)


def test_the_cloud_has_memory_of_its_own():
    points = np.ones((2, 3), np.float32)
    cloud = point_cloud2.create_cloud_xyz32(Header(), points)
    before = copy.deepcopy(cloud)
    points[:] = 9
    assert cloud == before


def test_numpy_compat_has_both_functions():
    structured = numpy_compat.unstructured_to_structured(np.ones((2, 2)), names=['a', 'b'])
    assert structured.dtype.names == ('a', 'b')
    assert numpy_compat.structured_to_unstructured(structured).shape == (2, 2)
