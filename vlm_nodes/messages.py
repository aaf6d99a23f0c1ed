"""ROS messages <-> arrays: the only place where message fields are read or filled."""

from __future__ import annotations

import array
import math
import struct
from collections.abc import Container, Mapping, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from builtin_interfaces.msg import Duration as DurationMessage
from builtin_interfaces.msg import Time as TimeMessage
from cv_bridge import CvBridge, CvBridgeError
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import Point, Pose, PoseArray, PoseStamped
from nav_msgs.msg import OccupancyGrid
from numpy.typing import ArrayLike, NDArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState, PointCloud2, PointField
from sensor_msgs_py import point_cloud2
from std_msgs.msg import ColorRGBA, Float64MultiArray, Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint
from visualization_msgs.msg import Marker, MarkerArray
from vlm_interfaces.msg import MapMatch as MapMatchMessage
from vlm_interfaces.msg import PickPlaceCandidate

from vlm_nodes.geometry import Camera, decode_compressed_depth, depth_to_metres
from vlm_nodes.transforms import matrix_from_pose, point_message, pose_message, vector_message

if TYPE_CHECKING:  # the room itself would load numba into every node
    from vlm_nodes.mapping.instances import MapMatch

SECOND_NS = 1_000_000_000

# What upstream's cv_bridge lets through besides its own error for data that contradict the message.
_DECODING_ERRORS = (CvBridgeError, cv2.error, TypeError, ValueError, RuntimeError)

_bridge = CvBridge()


class MessageError(ValueError):
    """A message cannot be used; the text says what is wrong with it and what to do."""


# Stamps ---------------------------------------------------------------------------------------


def stamp_ns(stamp: TimeMessage) -> int:
    """Nanoseconds of a stamp."""
    return stamp.sec * SECOND_NS + stamp.nanosec


def stamp_message(nanoseconds: int) -> TimeMessage:
    """A stamp from nanoseconds."""
    return TimeMessage(sec=nanoseconds // SECOND_NS, nanosec=nanoseconds % SECOND_NS)


def header_message(frame_id: str, stamp: TimeMessage | int) -> Header:
    """A header of a frame, stamped by a message or in nanoseconds."""
    message = stamp_message(stamp) if isinstance(stamp, int) else stamp
    return Header(frame_id=frame_id, stamp=message)


# Images ---------------------------------------------------------------------------------------


def rgb_from_image(message: Image | CompressedImage) -> NDArray[np.uint8]:
    """The colour image of a message of any colour encoding.

    Returns:
        (H, W, 3) uint8 RGB; may share the message's memory.

    Raises:
        MessageError: The encoding is not one of colour, or data, size and step contradict.
    """
    try:
        if isinstance(message, CompressedImage):
            return np.asarray(_bridge.compressed_imgmsg_to_cv2(message, 'rgb8'))
        if message.encoding in ('16UC1', '32FC1'):
            raise MessageError(
                f'encoding {message.encoding!r} is one of depth, not colour: '
                'is the depth topic remapped to rgb?'
            )
        return np.asarray(_bridge.imgmsg_to_cv2(message, 'rgb8'))
    except MessageError:
        raise
    except _DECODING_ERRORS as error:
        raise MessageError(f'colour image: {error}') from error


def depth_from_image(message: Image | CompressedImage) -> NDArray[np.float32]:
    """The depth image of a message: 16UC1 millimetres, 32FC1 metres, or compressedDepth.

    Returns:
        (H, W) float32 metres along z, NaN where there is no reading.

    Raises:
        MessageError: The encoding is not one of depth, or data, size and step contradict.
    """
    try:
        if isinstance(message, CompressedImage):
            return decode_compressed_depth(message.data, message.format)
        if message.encoding not in ('32FC1', '16UC1', 'mono16'):
            raise MessageError(
                f'encoding {message.encoding!r} is not one of depth, which is 32FC1 (metres) or '
                '16UC1 (millimetres): is the colour topic remapped to depth?'
            )
        return depth_to_metres(_bridge.imgmsg_to_cv2(message), message.encoding)
    except MessageError:
        raise
    except _DECODING_ERRORS as error:
        raise MessageError(f'depth image: {error}') from error


def image_message(image: NDArray[np.generic], encoding: str, header: Header) -> Image:
    """An Image from an array that already is of the encoding: rgb8, 32FC1, 16UC1, mono16, ..."""
    message: Image = _bridge.cv2_to_imgmsg(np.ascontiguousarray(image), encoding)
    message.header = header
    return message


def jpeg_message(rgb: NDArray[np.uint8], header: Header) -> CompressedImage:
    """A CompressedImage (JPEG) from (H, W, 3) uint8 RGB."""
    message: CompressedImage = _bridge.cv2_to_compressed_imgmsg(
        np.ascontiguousarray(rgb[..., ::-1]), 'jpg'
    )
    message.header = header
    return message


# Cameras --------------------------------------------------------------------------------------


def camera_from_info(message: CameraInfo) -> Camera:
    """The camera of the image that comes with a CameraInfo, binning and region applied.

    Raises:
        MessageError: The camera is not calibrated, or its numbers make no camera.
    """
    roi = message.roi
    try:
        return Camera.from_calibration(
            (message.width, message.height),
            message.k,
            message.distortion_model,
            message.d,
            region=(roi.x_offset, roi.y_offset, roi.width, roi.height),
            binning=(message.binning_x, message.binning_y),
        )
    except ValueError as error:
        raise MessageError(f'camera_info of frame {message.header.frame_id!r}: {error}') from error


def camera_info_message(camera: Camera, header: Header) -> CameraInfo:
    """The CameraInfo of a camera without rectification."""
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    return CameraInfo(
        header=header,
        width=camera.width,
        height=camera.height,
        distortion_model=camera.distortion_model or 'plumb_bob',
        d=list(camera.distortion) or [0.0] * 5,
        k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


# Joints ---------------------------------------------------------------------------------------


def joint_state_message(
    names: Sequence[str], positions: ArrayLike, velocities: ArrayLike, header: Header
) -> JointState:
    """A JointState; positions in radians or metres, velocities in the same a second."""
    return JointState(
        header=header,
        name=list(names),
        position=np.asarray(positions, dtype=np.float64).tolist(),
        velocity=np.asarray(velocities, dtype=np.float64).tolist(),
    )


def joint_positions(message: JointState, needed: Container[str] | None = None) -> dict[str, float]:
    """Positions by joint, in radians or metres; empty where the message has none.

    Args:
        message: It may lack velocities and efforts.
        needed: Joints whose positions must be finite; None for all. Drivers report NaN of joints
            that they cannot measure, such as a gripper's.

    Raises:
        MessageError: Positions and names do not go together, or a position is not finite.
    """
    if len(message.position) == 0:
        return {}
    if len(message.position) != len(message.name):
        raise MessageError(
            f'{len(message.name)} joints are named, {len(message.position)} have a position'
        )
    positions = dict(zip(message.name, map(float, message.position), strict=True))
    for name, position in positions.items():
        if not math.isfinite(position) and (needed is None or name in needed):
            raise MessageError(f'the position of joint {name!r} is {position}')
    return positions


def trajectory_message(
    names: Sequence[str], positions: ArrayLike, duration_s: float
) -> JointTrajectory:
    """A JointTrajectory of one point, to be reached `duration_s` after it arrives.

    Its stamp is 0, which means at once.
    """
    seconds, nanoseconds = divmod(round(duration_s * SECOND_NS), SECOND_NS)
    point = JointTrajectoryPoint(
        positions=np.asarray(positions, dtype=np.float64).tolist(),
        time_from_start=DurationMessage(sec=seconds, nanosec=nanoseconds),
    )
    return JointTrajectory(joint_names=list(names), points=[point])


def trajectory_positions(message: JointTrajectory) -> dict[str, float]:
    """Positions of a trajectory's first point by joint; empty where it has no point.

    Raises:
        MessageError: Positions and names do not go together, or a position is not finite.
    """
    if not message.points:
        return {}
    first = message.points[0].positions
    return joint_positions(JointState(name=message.joint_names, position=first))


def raw_stamp_ns(data: bytes) -> int:
    """The stamp of a serialized message (CDR) that begins with a header.

    Raises:
        MessageError: It is too short, or no CDR.
    """
    if len(data) < 12 or data[0] != 0 or data[1] not in (0, 1):
        raise MessageError(f'{len(data)} bytes are no serialized message with a header')
    seconds, nanoseconds = struct.unpack_from('<iI' if data[1] else '>iI', data, 4)
    return int(seconds) * SECOND_NS + int(nanoseconds)


def float_array_message(values: ArrayLike) -> Float64MultiArray:
    """A Float64MultiArray of (N,) numbers, as forward controllers of ros2_control take it."""
    return Float64MultiArray(data=np.asarray(values, dtype=np.float64).tolist())


# Maps -----------------------------------------------------------------------------------------


def cloud_message(
    points: ArrayLike,
    header: Header,
    *,
    colors: NDArray[np.uint8] | None = None,
    intensity: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    further: Mapping[str, NDArray[np.generic]] | None = None,
) -> PointCloud2:
    """A PointCloud2 of (N, 3) points in metres.

    Args:
        points: (N, 3).
        header: Frame and stamp.
        colors: (N, 3) uint8 RGB, as the packed field `rgb` that RViz shows.
        intensity: (N,) numbers, as the field `intensity`.
        labels: (N,) class numbers, as the field `label`.
        further: More fields, (N,) each: whole numbers as int32, all others as float32.
    """
    xyz = np.asarray(points, dtype=np.float32)
    columns: list[tuple[str, int, NDArray[np.generic]]] = [
        (axis, PointField.FLOAT32, xyz[:, i]) for i, axis in enumerate('xyz')
    ]
    if colors is not None:
        r, g, b = colors.astype(np.uint32).T
        columns.append(('rgb', PointField.FLOAT32, (r << 16 | g << 8 | b).view(np.float32)))
    if intensity is not None:
        columns.append(('intensity', PointField.FLOAT32, np.asarray(intensity, np.float32)))
    if labels is not None:
        columns.append(('label', PointField.INT32, np.asarray(labels, np.int32)))
    for name, numbers in (further or {}).items():
        if np.issubdtype(numbers.dtype, np.integer):
            columns.append((name, PointField.INT32, numbers.astype(np.int32)))
        else:
            columns.append((name, PointField.FLOAT32, numbers.astype(np.float32)))
    cloud = np.empty(len(xyz), dtype=[(name, values.dtype) for name, _, values in columns])
    for name, _, values in columns:
        cloud[name] = values
    fields = [
        PointField(name=name, offset=4 * i, datatype=datatype, count=1)
        for i, (name, datatype, _) in enumerate(columns)
    ]
    return point_cloud2.create_cloud(header, fields, cloud)


def cloud_arrays(
    message: PointCloud2,
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.generic]]]:
    """The points of a PointCloud2 and its other fields, undoing `cloud_message`.

    Returns:
        (N, 3) metres, and each other field by name: (N,) values; `rgb` as (N, 3) uint8.
    """
    cloud = point_cloud2.read_points(message)
    values = {name: cloud[name] for name in cloud.dtype.names if name not in 'xyz'}
    if 'rgb' in values:
        packed = np.ascontiguousarray(values['rgb']).view(np.uint32)
        channels = [(packed >> shift & 0xFF).astype(np.uint8) for shift in (16, 8, 0)]
        values['rgb'] = np.column_stack(channels)
    return np.column_stack([cloud[axis] for axis in 'xyz']).astype(np.float32), values


def match_message(match: MapMatch) -> MapMatchMessage:
    """A MapMatch, in the frame of the header it is sent under."""
    return MapMatchMessage(
        label=match.label,
        score=float(match.score),
        centroid=point_message(match.centroid),
        size=vector_message(match.size),
        voxels=int(match.voxels),
        first_seen=stamp_message(int(match.first_seen_ns)),
        last_seen=stamp_message(int(match.last_seen_ns)),
    )


def match_from_message(message: MapMatchMessage) -> MapMatch:
    """The match that a message tells of."""
    from vlm_nodes.mapping.instances import MapMatch  # loads numba, which few nodes need

    return MapMatch(
        label=message.label,
        score=message.score,
        centroid=np.array([getattr(message.centroid, axis) for axis in 'xyz']),
        size=np.array([getattr(message.size, axis) for axis in 'xyz']),
        voxels=message.voxels,
        first_seen_ns=stamp_ns(message.first_seen),
        last_seen_ns=stamp_ns(message.last_seen),
    )


def match_markers(matches: Sequence[MapMatch], header: Header) -> MarkerArray:
    """Boxes with their labels, for RViz and Foxglove; whatever was shown before goes."""
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for i, match in enumerate(matches):
        box = Marker(header=header, ns='box', id=i, type=Marker.CUBE, action=Marker.ADD)
        box.pose = Pose(position=point_message(match.centroid))
        box.scale = vector_message(match.size)
        box.color = ColorRGBA(r=1.0, g=0.6, b=0.0, a=0.4)
        x, y, z = match.centroid
        text = Marker(header=header, ns='label', id=i, action=Marker.ADD)
        text.type = Marker.TEXT_VIEW_FACING
        text.pose = Pose(position=point_message((x, y, z + match.size[2] / 2 + 0.1)))
        text.scale.z = 0.12
        text.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
        text.text = f'{match.label} {match.score:.2f}'
        markers += [box, text]
    return MarkerArray(markers=markers)


def occupancy_message(
    cells: NDArray[np.int8], origin_xy: ArrayLike, resolution_m: float, header: Header
) -> OccupancyGrid:
    """An OccupancyGrid from (rows, columns) int8 cells of -1, 0 to 100; row 0 has the lowest y."""
    x, y = np.asarray(origin_xy, dtype=np.float64)
    message = OccupancyGrid(header=header)
    message.info.map_load_time = header.stamp
    message.info.resolution = float(resolution_m)
    message.info.height, message.info.width = (int(n) for n in cells.shape)
    message.info.origin = Pose(position=point_message((x, y, 0.0)))
    message.data = array.array('b', np.ascontiguousarray(cells, dtype=np.int8).tobytes())
    return message


# Poses ----------------------------------------------------------------------------------------


def pose_array_message(poses: Sequence[ArrayLike], header: Header) -> PoseArray:
    """A PoseArray of (4, 4) matrices in the header's frame."""
    return PoseArray(header=header, poses=[pose_message(pose) for pose in poses])


def pose_matrices(message: PoseArray) -> list[NDArray[np.float64]]:
    """The (4, 4) matrices of a PoseArray's poses.

    Raises:
        MessageError: A quaternion is zero or a number is not finite.
    """
    try:
        return [matrix_from_pose(pose) for pose in message.poses]
    except ValueError as error:
        raise MessageError(str(error)) from error


def point_messages(points: ArrayLike) -> list[Point]:
    """Points from (N, 3) metres."""
    return [point_message(xyz) for xyz in np.asarray(points, dtype=np.float64).reshape(-1, 3)]


def pose_stamped_message(pose: ArrayLike, header: Header) -> PoseStamped:
    """A PoseStamped of a (4, 4) matrix in the header's frame."""
    return PoseStamped(header=header, pose=pose_message(pose))


def candidate_message(
    pick: ArrayLike, place: ArrayLike, pick_score: float, place_score: float
) -> PickPlaceCandidate:
    """A PickPlaceCandidate of two (4, 4) table_from_tool and their scores, 0 to 1."""
    return PickPlaceCandidate(
        pick=pose_message(pick),
        place=pose_message(place),
        pick_score=float(pick_score),
        place_score=float(place_score),
    )


def pick_place_markers(
    actions: Sequence[tuple[ArrayLike, ArrayLike]], header: Header
) -> MarkerArray:
    """Picks in green, places in pink and an arrow between; whatever was shown before goes.

    Args:
        actions: Pairs of (4, 4) table_from_tool; the first is opaque.
        header: Table frame and stamp.
    """
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for i, pair in enumerate(actions):
        opacity = 1.0 if i == 0 else 0.25
        points = [point_message(np.asarray(pose)[:3, 3]) for pose in pair]
        for name, pose, (r, g, b) in zip(
            ('pick', 'place'), pair, ((0.2, 0.9, 0.3), (1.0, 0.35, 0.8)), strict=True
        ):
            cube = Marker(header=header, ns=name, id=i, type=Marker.CUBE, action=Marker.ADD)
            cube.pose = pose_message(pose)
            cube.scale = vector_message((0.03, 0.015, 0.005))
            cube.color = ColorRGBA(r=r, g=g, b=b, a=opacity)
            markers.append(cube)
        arrow = Marker(header=header, ns='carry', id=i, type=Marker.ARROW, action=Marker.ADD)
        arrow.points = points
        arrow.pose.orientation.w = 1.0
        arrow.scale = vector_message((0.005, 0.012, 0.02))
        arrow.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=opacity)
        markers.append(arrow)
    return MarkerArray(markers=markers)


# Diagnostics ----------------------------------------------------------------------------------


def diagnostics_message(
    name: str,
    problem: str | None,
    values: Mapping[str, str],
    stamp: TimeMessage,
    *,
    failed: bool = False,
) -> DiagnosticArray:
    """A DiagnosticArray of one status: where there is a problem a warning, or an error, else OK.

    Args:
        name: Of the node.
        problem: What is wrong, or None.
        values: By key.
        stamp: Of the message.
        failed: Whether the problem is an error: nothing goes on until somebody acts.
    """
    bad = DiagnosticStatus.ERROR if failed else DiagnosticStatus.WARN
    status = DiagnosticStatus(
        name=name,
        level=bad if problem else DiagnosticStatus.OK,
        message=problem or 'OK',
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
    return DiagnosticArray(header=Header(stamp=stamp), status=[status])


def diagnostics_values(status: DiagnosticStatus) -> tuple[str, dict[str, str]]:
    """The problem that a status tells of ('' without one) and its values by key."""
    problem = '' if status.level == DiagnosticStatus.OK else status.message
    return problem, {value.key: value.value for value in status.values}
