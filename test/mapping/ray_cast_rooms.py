"""A furnished room by exact ray casting: depth is analytic, colour is fine-grained and fixed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from vlm_nodes.geometry import Camera, RgbdFrame
from vlm_nodes.geometry.rigid import look_at, quaternion_from_matrix

ROOM = (np.array([-2.5, -2.0, 0.0]), np.array([2.5, 2.0, 2.4]))
BOXES = (
    (np.array([-1.2, 0.6, 0.0]), np.array([-0.2, 1.4, 0.75])),
    (np.array([0.6, 1.0, 0.0]), np.array([1.2, 1.6, 1.5])),
    (np.array([0.2, -0.3, 0.0]), np.array([0.7, 0.2, 0.45])),
    (np.array([1.6, -1.2, 0.0]), np.array([2.3, -0.2, 0.9])),
)
BASE_COLORS = np.array(
    [(150, 130, 110), (190, 40, 40), (40, 160, 60), (50, 70, 190), (200, 180, 40)], np.float64
)
DEPTH_CAMERA = Camera(160, 120, 140.0, 140.0, 79.5, 59.5)
# A colour camera of a wider lens, beside the depth camera's optical axis.
WIDER_CAMERA = Camera(160, 120, 122.0, 122.0, 76.0, 61.0)


def cast(camera: Camera, room_from_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(H, W, 3) uint8 colour and (H, W) float32 depth along z of the room."""
    rays = camera.rays().reshape(-1, 2).astype(np.float64)
    directions = np.column_stack([rays, np.ones(len(rays))]) @ room_from_camera[:3, :3].T
    origin = room_from_camera[:3, 3]
    with np.errstate(divide='ignore'):
        depth = _slabs(origin, directions, *ROOM)[1]
        owner = np.zeros(len(rays), dtype=int)
        for number, box in enumerate(BOXES, start=1):
            near, far = _slabs(origin, directions, *box)
            hit = (near < far) & (near > 0) & (near < depth)
            depth[hit], owner[hit] = near[hit], number
    points = origin + directions * depth[:, None]
    shape = (camera.height, camera.width)
    colors = _texture(points, owner)
    return colors.reshape(*shape, 3), depth.reshape(shape).astype(np.float32)


def _slabs(
    origin: np.ndarray, directions: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    a, b = (low - origin) / directions, (high - origin) / directions
    return np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)


def _texture(points: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Tiles of 15 cm, each of its own brightness."""
    cells = np.floor((points + 1e-6) / 0.15).astype(np.int64)
    noise = (cells @ np.array([73856093, 19349663, 83492791])) % 1009 / 1009
    return np.clip(BASE_COLORS[owner] * (0.6 + 0.7 * noise[:, None]), 0, 255).astype(np.uint8)


def poses(count: int = 12) -> list[np.ndarray]:
    """`room_from_camera` of a camera that walks an arc and looks around, up and down."""
    shares = np.linspace(0, 1, count)
    return [
        look_at(
            (-1.5 + 2.2 * s, -1.5 + 0.5 * np.sin(3 * s), 1.2 + 0.3 * np.sin(7 * s)),
            (0.3 + 0.8 * np.sin(5 * s), 1.0, 0.5 + 0.4 * np.cos(6 * s)),
        )
        for s in shares
    ]


@dataclass(frozen=True)
class RoomRecording:
    """Frames of the room: a data set in memory."""

    frames: Sequence[RgbdFrame]
    frame_id: str = 'map'
    description: str = 'ray-cast room'

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[RgbdFrame]:
        return iter(self.frames)


def record_room(count: int = 12, color_camera: Camera = DEPTH_CAMERA) -> RoomRecording:
    """The room as a camera sees it that knows its poses."""
    frames = []
    for number, pose in enumerate(poses(count)):
        rgb, _ = cast(color_camera, pose)
        _, depth = cast(DEPTH_CAMERA, pose)
        stamp = number * 1_000_000_000
        frames.append(RgbdFrame(stamp, rgb, depth, color_camera, DEPTH_CAMERA, pose, pose))
    return RoomRecording(frames)


def changed(recording: RoomRecording, **functions) -> RoomRecording:  # type: ignore[no-untyped-def]
    """A recording with each named field of its frames replaced by a function of the frame."""
    return RoomRecording(
        [replace(f, **{k: make(f) for k, make in functions.items()}) for f in recording]
    )


def write_vlmaps(
    root: Path, recording: RoomRecording, rotations: str = 'quaternions', depth_format: str = 'npy'
) -> Path:
    """A recording as VLMaps' custom folder."""
    (root / 'rgb').mkdir(parents=True)
    (root / 'depth').mkdir()
    lines = []
    for number, frame in enumerate(recording):
        write_rgb(root / 'rgb' / f'{number}.png', frame.rgb)
        if depth_format == 'npy':
            np.save(root / 'depth' / f'{number}.npy', frame.depth_m)
        else:
            write_mm(root / 'depth' / f'{number}.png', frame.depth_m)
        lines.append(pose_line(frame.map_from_depth, rotations))
    (root / 'poses.txt').write_text('\n'.join(lines))
    np.savetxt(root / 'camera-intrinsics.txt', recording.frames[0].depth_camera.matrix())
    return root


def write_seven_scenes(root: Path, recording: RoomRecording) -> Path:
    """A recording as a 7-Scenes folder."""
    root.mkdir(parents=True)
    for number, frame in enumerate(recording):
        name = root / f'frame-{number:06d}'
        write_rgb(name.with_suffix('.color.png'), frame.rgb)
        write_mm(name.with_suffix('.depth.png'), frame.depth_m)
        np.savetxt(name.with_suffix('.pose.txt'), frame.map_from_depth)
    np.savetxt(root / 'camera-intrinsics.txt', recording.frames[0].depth_camera.matrix())
    return root


def pose_line(pose: np.ndarray, rotations: str) -> str:
    if rotations == 'quaternions':
        numbers = [*pose[:3, 3], *quaternion_from_matrix(pose)]
    else:
        numbers = list(pose.ravel())
    return ' '.join(f'{number:.9f}' for number in numbers)


def write_rgb(path: Path, rgb: np.ndarray) -> None:
    assert cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def write_mm(path: Path, depth_m: np.ndarray) -> None:
    assert cv2.imwrite(str(path), np.rint(depth_m * 1000).astype(np.uint16))
