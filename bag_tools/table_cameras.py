"""The calibrated cameras over a table: as a bag says, by tf and camera_info, or as a file says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bag_tools.posed_rgbd import TF_MESSAGES, PosedRgbdBag, PosedRgbdConfig, Stream
from bag_tools.reader import BagError, BagReader
from bag_tools.transform_tree import TransformError, TransformTree
from vlm_nodes.geometry.camera import Camera
from vlm_nodes.geometry.frame import RgbdFrame
from vlm_nodes.geometry.rigid import matrix_from_quaternion

Matrix = NDArray[np.float64]

_NEEDED = ('name', 'color_topic', 'depth_topic', 'width', 'height', 'fx', 'fy', 'cx', 'cy')
_KNOWN = (*_NEEDED, 'distortion_model', 'distortion', 'table_from_camera', 'depth_scale')


class CalibrationError(ValueError):
    """A calibration file cannot be used; the text says why."""


@dataclass(frozen=True, eq=False)
class TableCamera:
    """A colour and a depth stream of a bag, and how the table is seen in them.

    Attributes:
        name: What the camera is called.
        color: Topic, frame and intrinsics of its colour.
        depth: Topic, frame and intrinsics of its depth.
        pose: (4, 4) table_from_camera of both; None where tf says it.
        depth_scale: What depths are multiplied by.
    """

    name: str
    color: Stream
    depth: Stream
    pose: Matrix | None = None
    depth_scale: float = 1.0

    def poses(
        self, tree: TransformTree, table_frame: str, stamps_ns: tuple[int, int]
    ) -> tuple[Matrix, Matrix]:
        """(4, 4) from the frames of colour and depth to the table, each at its stamp.

        Raises:
            BagError: tf does not say.
        """
        if self.pose is not None:
            return self.pose, self.pose
        try:
            return (
                tree.lookup(table_frame, self.color.frame_id, stamps_ns[0]),
                tree.lookup(table_frame, self.depth.frame_id, stamps_ns[1]),
            )
        except TransformError as error:
            raise BagError(f'camera {self.name} is not placed over the table: {error}') from error

    def frame(
        self,
        rgb: NDArray[np.uint8],
        depth_m: NDArray[np.float32],
        poses: tuple[Matrix, Matrix],
        stamp_ns: int,
    ) -> RgbdFrame:
        """One look of the camera.

        Raises:
            ValueError: Images do not fit their cameras.
        """
        if self.depth_scale != 1:
            depth_m = (depth_m * np.float32(self.depth_scale)).astype(np.float32)
        return RgbdFrame(stamp_ns, rgb, depth_m, self.color.camera, self.depth.camera, *poses)


def cameras_of_bag(
    path: Path,
    topics: Mapping[str, tuple[str, str]],
    table_frame: str,
    *,
    distro: str = 'jazzy',
    recover: bool = False,
) -> list[TableCamera]:
    """Cameras as camera_info says.

    Args:
        path: The bag.
        topics: Colour and depth topic of each camera by its name; where there is none, the only
            two that the bag offers make a camera named 'camera'.
        table_frame: Frame of tf that they will be placed in.
        distro: ROS 2 release whose message definitions serve bags without their own.
        recover: Read what can be had of a damaged bag.

    Raises:
        BagError: A topic or its camera_info is absent, or several are offered.
    """
    chosen: list[tuple[str, str | None, str | None]] = [
        (name, *pair) for name, pair in topics.items()
    ]
    cameras = []
    for name, color, depth in chosen or [('camera', None, None)]:
        config = PosedRgbdConfig(
            color_topic=color,
            depth_topic=depth,
            map_frame=table_frame,
            distro=distro,
            recover=recover,
        )
        bag = PosedRgbdBag(path, config)
        cameras.append(TableCamera(name, bag.color, bag.depth))
    return cameras


def cameras_of_file(path: Path) -> list[TableCamera]:
    """Cameras of a JSON file: {"cameras": [...]}, each as in an episode's page, with its topics.

    Colour and depth are registered: one camera, one pose.

    Raises:
        CalibrationError: It is no such file, or a number in it makes no camera.
        OSError: It cannot be read.
    """
    try:
        page = json.loads(path.read_text(encoding='utf-8'))
        entries = page['cameras']
        cameras = [_camera(entry) for entry in entries]
    except json.JSONDecodeError as error:
        raise CalibrationError(f'{path} is no JSON: {error}') from error
    except (KeyError, TypeError, AttributeError) as error:
        raise CalibrationError(f'{path}: lacks or misplaces {error}') from error
    except ValueError as error:
        raise CalibrationError(f'{path}: {error}') from error
    names = [camera.name for camera in cameras]
    if not cameras or len(set(names)) < len(names):
        raise CalibrationError(f'{path}: its cameras {names} are none, or share a name')
    return cameras


def transforms(bag: BagReader, hold_s: float) -> TransformTree:
    """All transforms of a bag; an empty tree where it has none."""
    tree = TransformTree(hold_s=hold_s)
    topics = [topic.name for topic in bag.of_type(*TF_MESSAGES)]
    for message in bag.messages(topics) if topics else ():
        tree.add_message(message.data, static=message.topic.endswith('tf_static'))
    return tree


def check_topics(bag: BagReader, cameras: Sequence[TableCamera]) -> None:
    """Raise BagError where a camera's topic is not in the bag."""
    for camera in cameras:
        for topic in (camera.color.topic, camera.depth.topic):
            if topic not in bag.topics:
                raise BagError(
                    f'{bag.path} has no topic {topic} of camera {camera.name}; '
                    f'it has {", ".join(sorted(bag.topics)) or "none"}'
                )


def _camera(entry: Mapping[str, Any]) -> TableCamera:
    if unknown := sorted(set(entry) - set(_KNOWN)):
        raise ValueError(f'unknown {", ".join(unknown)} of a camera; known are {", ".join(_KNOWN)}')
    if missing := [name for name in (*_NEEDED, 'table_from_camera') if name not in entry]:
        raise ValueError(f'camera {entry.get("name", "without a name")} lacks {", ".join(missing)}')
    distortion = tuple(float(value) for value in entry.get('distortion', ()))
    camera = Camera(
        int(entry['width']),
        int(entry['height']),
        fx=float(entry['fx']),
        fy=float(entry['fy']),
        cx=float(entry['cx']),
        cy=float(entry['cy']),
        distortion_model=str(entry.get('distortion_model', '')) if distortion else '',
        distortion=distortion,
    )
    pose = entry['table_from_camera']
    scale = float(entry.get('depth_scale', 1.0))
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f'depth_scale = {scale} of camera {entry["name"]} is not positive')
    color, depth = (
        Stream(str(entry[topic]), '', '', camera) for topic in ('color_topic', 'depth_topic')
    )
    matrix = matrix_from_quaternion(pose['quaternion_xyzw'], pose['position_m'])
    return TableCamera(str(entry['name']), color, depth, matrix, scale)
