"""sensor_msgs/PointCloud2 from and to numpy arrays."""

from __future__ import annotations

import array
import sys
from collections import namedtuple
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from sensor_msgs_py.numpy_compat import structured_to_unstructured

Points = NDArray[Any]

_DATATYPES: dict[int, np.dtype[Any]] = {
    PointField.INT8: np.dtype(np.int8),
    PointField.UINT8: np.dtype(np.uint8),
    PointField.INT16: np.dtype(np.int16),
    PointField.UINT16: np.dtype(np.uint16),
    PointField.INT32: np.dtype(np.int32),
    PointField.UINT32: np.dtype(np.uint32),
    PointField.FLOAT32: np.dtype(np.float32),
    PointField.FLOAT64: np.dtype(np.float64),
}

DUMMY_FIELD_PREFIX = 'unnamed_field'


def read_points(
    cloud: PointCloud2,
    field_names: Sequence[str] | None = None,
    skip_nans: bool = False,
    uvs: Iterable[int] | None = None,
    reshape_organized_cloud: bool = False,
) -> Points:
    """Return the points of a cloud as a structured array.

    Args:
        cloud: The cloud.
        field_names: The fields wanted, in that order; all by default. Those of a field with a
            count above 1 are ``name_0``, ``name_1`` ..., and a field without a name is
            ``unnamed_field_`` and its index.
        skip_nans: Whether points with a NaN in a wanted field are left out. A cloud that calls
            itself dense is believed to have none.
        uvs: Which of the points to return, as flat indices.
        reshape_organized_cloud: Whether the points of a cloud that has a height come back as
            ``(width, height)``, the way round that ``create_cloud`` takes them.

    Returns:
        ``(N,)`` in native byte order. It shares the cloud's memory where it can: for a cloud of
        native byte order without padded rows, unless points are picked.

    Raises:
        AssertionError: ``cloud`` is no PointCloud2, or lacks a wanted field.
        TypeError: The cloud has fewer bytes than its sizes ask for.
    """
    _require(isinstance(cloud, PointCloud2), 'Cloud is not a sensor_msgs.msg.PointCloud2')
    points = _all_points(cloud)
    if field_names is not None:
        missing = [name for name in field_names if name not in (points.dtype.names or ())]
        _require(
            not missing,
            f'Requested fields {missing} are not in the PointCloud, which has {points.dtype.names}',
        )
        points = points[list(field_names)]
    if skip_nans and not cloud.is_dense:
        points = points[_without_nans(points)]
    if uvs is not None:
        points = points[uvs if isinstance(uvs, np.ndarray) else np.fromiter(uvs, int)]
    if reshape_organized_cloud and cloud.height > 1:
        points = points.reshape(cloud.width, cloud.height)
    return points


def read_points_numpy(
    cloud: PointCloud2,
    field_names: Sequence[str] | None = None,
    skip_nans: bool = False,
    uvs: Iterable[int] | None = None,
    reshape_organized_cloud: bool = False,
) -> Points:
    """Return fields of one type as a plain array; see ``read_points`` for the arguments.

    Returns:
        ``(N, F)``, or ``(width, height, F)`` where reshaped.

    Raises:
        AssertionError: The wanted fields are not of one type.
    """
    points = read_points(cloud, field_names, skip_nans, uvs, reshape_organized_cloud)
    types = {points.dtype[name] for name in points.dtype.names or ()}
    _require(
        len(types) <= 1,
        f'All fields need to have the same datatype, these have {sorted(map(str, types))}. '
        'Use `read_points()` otherwise.',
    )
    return structured_to_unstructured(points)


def read_points_list(
    cloud: PointCloud2,
    field_names: Sequence[str] | None = None,
    skip_nans: bool = False,
    uvs: Iterable[int] | None = None,
) -> list[Any]:
    """Return the points of a cloud as a list of named tuples; see ``read_points``."""
    points = read_points(cloud, field_names, skip_nans, uvs)
    point_type: Any = namedtuple('Point', list(points.dtype.names or ()))  # type: ignore[misc]
    return list(map(point_type._make, points.tolist()))


def dtype_from_fields(fields: Iterable[PointField], point_step: int | None = None) -> np.dtype[Any]:
    """Return the structured type of points with these fields.

    Args:
        fields: The fields. One with a count above 1 becomes ``name_0``, ``name_1`` ...
        point_step: Bytes from point to point; by default the fields' end.

    Raises:
        AssertionError: A count is 0, or two fields share a name.
        KeyError: A datatype is none of PointField's.
        ValueError: ``point_step`` is too short for the fields.
    """
    names: list[str] = []
    formats: list[str] = []
    offsets: list[int] = []
    for index, field in enumerate(fields):
        name = field.name or f'{DUMMY_FIELD_PREFIX}_{index}'
        datatype = _DATATYPES[field.datatype]
        _require(field.count > 0, f"Can't process field {name!r}: its count is 0.")
        names += [name] if field.count == 1 else [f'{name}_{i}' for i in range(field.count)]
        formats += [datatype.str] * field.count
        offsets += [field.offset + i * datatype.itemsize for i in range(field.count)]
    _require(len(set(names)) == len(names), f'Duplicate field names are not allowed: {names}')
    layout: dict[str, Any] = {'names': names, 'formats': formats, 'offsets': offsets}
    if point_step is not None:
        layout['itemsize'] = point_step
    return np.dtype(layout)  # type: ignore[call-overload,no-any-return]


def create_cloud(
    header: Header,
    fields: Iterable[PointField],
    points: Iterable[Any],
    point_step: int | None = None,
) -> PointCloud2:
    """Return a cloud of points.

    Args:
        header: The cloud's header.
        fields: The fields of a point.
        points: A structured array, ``(N,)`` or ``(width, height)``, of exactly the fields' type;
            a plain array, ``(N, F)`` or ``(width, height, F)``, for fields of one datatype; or
            any iterable of points, each an iterable of its fields' values (slow).
        point_step: Bytes from point to point; by default the fields' end.

    Raises:
        AssertionError: The array does not fit the fields, or has too many axes.
    """
    fields = list(fields)
    structured = _structured(points, fields, point_step)
    _require(
        structured.ndim in (1, 2),
        'Too many dimensions for organized cloud, or none! '
        f'Points can only be organized in one or two dimensions, these have {structured.shape}',
    )
    width, itemsize = structured.shape[0], structured.dtype.itemsize
    cloud = PointCloud2(
        header=header,
        height=structured.shape[1] if structured.ndim == 2 else 1,
        width=width,
        is_dense=False,
        is_bigendian=sys.byteorder != 'little',
        fields=fields,
        point_step=itemsize,
        row_step=itemsize * width,
    )
    # Set afterwards: the constructor would look at every byte.
    cloud.data = _bytes_of(structured)
    return cloud


def create_cloud_xyz32(header: Header, points: Iterable[Any]) -> PointCloud2:
    """Return a cloud with the fields x, y and z as float32; see ``create_cloud``."""
    fields = [
        PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
        for index, name in enumerate('xyz')
    ]
    return create_cloud(header, fields, points)


def _require(condition: bool, message: str) -> None:
    # Upstream asserts; this holds under python -O as well.
    if not condition:
        raise AssertionError(message)


def _all_points(cloud: PointCloud2) -> Points:
    dtype = dtype_from_fields(cloud.fields, point_step=cloud.point_step)
    # Rows are padded if they say so. A row_step that is too small, 0 say, is not believed.
    packed_row = cloud.width * cloud.point_step
    row_step = cloud.row_step if cloud.height > 1 else packed_row
    padded_size = row_step * (cloud.height - 1) + packed_row
    if row_step <= packed_row or len(cloud.data) < padded_size:
        row_step, padded_size = packed_row, packed_row * cloud.height
    if len(cloud.data) < padded_size:
        raise TypeError(
            f'PointCloud2 is too short: {cloud.height} rows of {cloud.width} points of '
            f'{cloud.point_step} bytes are {padded_size} bytes, its data has {len(cloud.data)}'
        )
    stored = dtype.newbyteorder('>' if cloud.is_bigendian else '<')
    rows: Points = np.ndarray(
        (cloud.height, cloud.width), stored, cloud.data, strides=(row_step, cloud.point_step)
    )
    return rows.reshape(-1).astype(dtype, copy=False)


def _without_nans(points: Points) -> NDArray[np.bool_]:
    keep = np.ones(len(points), dtype=bool)
    for name in points.dtype.names or ():
        if points.dtype[name].kind == 'f':
            keep &= ~np.isnan(points[name])
    return keep


def _structured(points: Any, fields: Sequence[PointField], point_step: int | None) -> Points:
    dtype = dtype_from_fields(fields, point_step)
    if not isinstance(points, np.ndarray):
        return np.array(list(map(tuple, points)), dtype=dtype)
    if points.dtype.names is None:
        return _from_columns(points, fields, dtype)
    _require(
        points.dtype == dtype,
        'PointFields and structured NumPy array dtype do not match for all fields! Check their '
        f'field order, names, types and size: {points.dtype} for {dtype}',
    )
    return points


def _from_columns(points: Points, fields: Sequence[PointField], dtype: np.dtype[Any]) -> Points:
    _require(
        len({field.datatype for field in fields}) <= 1,
        'All fields need to have the same datatype. Pass a structured NumPy array with multiple '
        'dtypes otherwise.',
    )
    names = dtype.names or ()
    if points.ndim < 2 or points.shape[-1] != len(names):
        raise ValueError(
            f'The last dimension of points {points.shape}, which must be the second or third, '
            f'must be as long as the fields: {names}'
        )
    value_type = dtype[names[0]] if names else dtype
    if dtype == np.dtype([(name, value_type) for name in names]):  # nothing between the fields
        return np.ascontiguousarray(points, value_type).view(dtype)[..., 0]
    # Zeros, so that padding between fields carries nothing of this process's memory.
    structured = np.zeros(points.shape[:-1], dtype)
    for index, name in enumerate(names):
        structured[name] = points[..., index]
    return structured


def _bytes_of(points: Points) -> array.array[int]:
    data = array.array('B')
    # A plain view first: numpy lends no bytes of a structured array.
    data.frombytes(np.ascontiguousarray(points).reshape(-1).view(np.uint8).data)
    return data
