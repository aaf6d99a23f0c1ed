"""Bags with known contents, written with rosbags' own writers."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

START_NS = 1_700_000_000_000_000_000
FORMATS = ('ros1', 'mcap', 'sqlite3', 'mcap_zstd', 'sqlite3_zstd')


class Recorder:
    """Messages of one typestore, written to one bag."""

    def __init__(self, path: Path, kind: str) -> None:
        self.kind = kind
        self.ros1 = kind == 'ros1'
        self.store = get_typestore(Stores.ROS1_NOETIC if self.ros1 else Stores.ROS2_JAZZY)
        if self.ros1:
            definition = 'geometry_msgs/TransformStamped[] transforms'
            self.store.register(get_types_from_msg(definition, 'tf2_msgs/msg/TFMessage'))
            self.writer: Any = Writer1(path.with_suffix('.bag'))
            self.path = path.with_suffix('.bag')
        else:
            plugin = StoragePlugin.MCAP if 'mcap' in kind else StoragePlugin.SQLITE3
            self.writer = Writer2(path, version=9, storage_plugin=plugin)
            self.path = path
            if kind.endswith('zstd'):
                mode = CompressionMode.STORAGE if 'mcap' in kind else CompressionMode.MESSAGE
                self.writer.set_compression(mode, CompressionFormat.ZSTD)
        self.writer.open()
        self.connections: dict[str, Any] = {}

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()

    def make(self, msgtype: str, **fields: Any) -> Any:
        return self.store.types[msgtype](**fields)

    def write(self, topic: str, message: Any, receive_ns: int) -> None:
        msgtype = message.__msgtype__
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(
                topic, msgtype, typestore=self.store
            )
        serialize = self.store.serialize_ros1 if self.ros1 else self.store.serialize_cdr
        self.writer.write(self.connections[topic], receive_ns, serialize(message, msgtype))

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        stamp = self.make(
            'builtin_interfaces/msg/Time',
            sec=stamp_ns // 1_000_000_000,
            nanosec=stamp_ns % 1_000_000_000,
        )
        sequence = {'seq': 0} if self.ros1 else {}
        return self.make('std_msgs/msg/Header', stamp=stamp, frame_id=frame_id, **sequence)

    def image(self, stamp_ns: int, frame_id: str, array: np.ndarray, encoding: str) -> Any:
        """An Image whose rows end in padding, as drivers write them."""
        height, width = array.shape[:2]
        rows = np.ascontiguousarray(array).view(np.uint8).reshape(height, -1)
        padded = np.pad(rows, ((0, 0), (0, 8)), constant_values=255)
        return self.make(
            'sensor_msgs/msg/Image',
            header=self.header(stamp_ns, frame_id),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=padded.shape[1],
            data=padded.reshape(-1),
        )

    def compressed(self, stamp_ns: int, frame_id: str, data: bytes, format_: str) -> Any:
        return self.make(
            'sensor_msgs/msg/CompressedImage',
            header=self.header(stamp_ns, frame_id),
            format=format_,
            data=np.frombuffer(data, dtype=np.uint8),
        )

    def camera_info(
        self, stamp_ns: int, frame_id: str, size: tuple[int, int], k: Iterable[float]
    ) -> Any:
        fx, fy, cx, cy = k
        upper = self.ros1
        roi = self.make(
            'sensor_msgs/msg/RegionOfInterest',
            x_offset=0,
            y_offset=0,
            height=0,
            width=0,
            do_rectify=False,
        )
        matrices = {
            'd': np.zeros(5),
            'k': np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1.0]),
            'r': np.eye(3).ravel(),
            'p': np.array([fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1.0, 0]),
        }
        return self.make(
            'sensor_msgs/msg/CameraInfo',
            header=self.header(stamp_ns, frame_id),
            width=size[0],
            height=size[1],
            distortion_model='plumb_bob',
            binning_x=0,
            binning_y=0,
            roi=roi,
            **{(name.upper() if upper else name): value for name, value in matrices.items()},
        )

    def pose_fields(self, translation: Iterable[float], quaternion: Iterable[float]) -> Any:
        x, y, z = translation
        qx, qy, qz, qw = quaternion
        return (
            {'x': float(x), 'y': float(y), 'z': float(z)},
            self.make(
                'geometry_msgs/msg/Quaternion', x=float(qx), y=float(qy), z=float(qz), w=float(qw)
            ),
        )

    def tf(self, items: Iterable[tuple[int, str, str, Any, Any]]) -> Any:
        """A TFMessage of (stamp, parent, child, translation, quaternion)."""
        transforms = []
        for stamp_ns, parent, child, translation, quaternion in items:
            vector, rotation = self.pose_fields(translation, quaternion)
            transform = self.make(
                'geometry_msgs/msg/Transform',
                translation=self.make('geometry_msgs/msg/Vector3', **vector),
                rotation=rotation,
            )
            transforms.append(
                self.make(
                    'geometry_msgs/msg/TransformStamped',
                    header=self.header(stamp_ns, parent),
                    child_frame_id=child,
                    transform=transform,
                )
            )
        return self.make('tf2_msgs/msg/TFMessage', transforms=transforms)

    def odometry(
        self, stamp_ns: int, parent: str, child: str, translation: Any, quaternion: Any
    ) -> Any:
        vector, rotation = self.pose_fields(translation, quaternion)
        zero = {'x': 0.0, 'y': 0.0, 'z': 0.0}
        pose = self.make(
            'geometry_msgs/msg/Pose',
            position=self.make('geometry_msgs/msg/Point', **vector),
            orientation=rotation,
        )
        twist = self.make(
            'geometry_msgs/msg/Twist',
            linear=self.make('geometry_msgs/msg/Vector3', **zero),
            angular=self.make('geometry_msgs/msg/Vector3', **zero),
        )
        return self.make(
            'nav_msgs/msg/Odometry',
            header=self.header(stamp_ns, parent),
            child_frame_id=child,
            pose=self.make(
                'geometry_msgs/msg/PoseWithCovariance', pose=pose, covariance=np.zeros(36)
            ),
            twist=self.make(
                'geometry_msgs/msg/TwistWithCovariance', twist=twist, covariance=np.zeros(36)
            ),
        )


def jpeg(rgb: np.ndarray) -> bytes:
    return cv2.imencode('.jpg', cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()


def png(image: np.ndarray) -> bytes:
    return cv2.imencode('.png', image)[1].tobytes()


def compressed_depth_16(depth_mm: np.ndarray) -> bytes:
    return struct.pack('<iff', 0, 0.0, 0.0) + png(depth_mm)


def compressed_depth_32(depth_m: np.ndarray, a: float, b: float) -> bytes:
    """Inverse depth as compressed_depth_image_transport quantises it."""
    known = np.isfinite(depth_m)
    quantised = np.zeros(depth_m.shape, dtype=np.uint16)
    quantised[known] = np.rint(a / depth_m[known] + b)
    return struct.pack('<iff', 0, a, b) + png(quantised)
