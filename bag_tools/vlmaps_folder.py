"""Posed RGB-D frames written as a VLMaps custom data set: rgb/, depth/, poses.txt, dataset.json."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bag_tools.rectify import Rectifier
from vlm_nodes.geometry.camera import Camera
from vlm_nodes.geometry.frame import RgbdFrame
from vlm_nodes.geometry.rigid import invert, quaternion_from_matrix
from vlm_nodes.mapping.datasets import CONFIG_NAME, FolderConfig

Matrix = NDArray[np.float64]
HOLDS = ('rgb', 'depth', 'poses.txt', 'stamps.txt', CONFIG_NAME)
DEPTH_FORMATS = ('npy', 'png')
_MAX_MILLIMETRES = 65534
# Colour is lossless at every level; this one is the quickest.
_PNG_LEVEL = 1


@dataclass(frozen=True)
class Written:
    """What became of the frames.

    Attributes:
        frames: How many were written.
        registered: Whether colour and depth share one camera.
        shift_m: The most that a camera moved between the stamps of a frame's two images: so much
            is lost of the colour image's own pose, since the folder has one pose a frame.
        turn_rad: The most that it turned.
    """

    frames: int
    registered: bool
    shift_m: float
    turn_rad: float


class VlmapsWriter:
    """A folder in the making.

    Poses are `map_from_depth`, optical axes; cameras are pinholes, distortion is taken out of the
    images.

    Args:
        folder: A folder that does not exist yet.
        color_camera: Of the colour images.
        depth_camera: Of the depth images.
        color_from_depth: (4, 4) depth optical frame to colour optical frame.
        depth_format: 'npy', float32 metres, or 'png', uint16 millimetres; 0 is no reading.
        frame_id: Frame that the poses are given in.
    """

    def __init__(
        self,
        folder: Path,
        color_camera: Camera,
        depth_camera: Camera,
        color_from_depth: Matrix,
        *,
        depth_format: str = 'npy',
        frame_id: str = 'map',
    ) -> None:
        self.folder = folder
        self._color, self._depth = Rectifier(color_camera), Rectifier(depth_camera)
        self._color_from_depth = color_from_depth
        self._depth_format = depth_format
        self._frame_id = frame_id
        self._poses: list[Matrix] = []
        self._stamps: list[int] = []
        self._shift_m, self._turn_rad = 0.0, 0.0
        (folder / 'rgb').mkdir(parents=True)
        (folder / 'depth').mkdir()

    @property
    def registered(self) -> bool:
        """Whether each colour pixel lies on its depth pixel."""
        color, depth = self._color.camera, self._depth.camera
        resized = depth.resized(color.width, color.height)
        return np.allclose(self._color_from_depth, np.eye(4), atol=1e-6) and np.allclose(
            color.matrix(), resized.matrix(), atol=1e-3
        )

    def add(self, frame: RgbdFrame) -> None:
        """Write a frame.

        Raises:
            OSError: An image cannot be written.
        """
        name = f'{len(self._poses):06d}'
        bgr = cv2.cvtColor(self._color.color(frame.rgb), cv2.COLOR_RGB2BGR)
        _write_png(self.folder / 'rgb' / f'{name}.png', bgr)
        self._write_depth(name, self._depth.depth(frame.depth_m))
        self._poses.append(frame.map_from_depth)
        self._stamps.append(frame.stamp_ns)
        self._note_motion(frame)

    def finish(self) -> Written:
        """Write the poses and cameras, which make the folder whole."""
        rows = [[*pose[:3, 3], *quaternion_from_matrix(pose)] for pose in self._poses]
        np.savetxt(self.folder / 'poses.txt', np.array(rows).reshape(-1, 7), fmt='%.9f')
        np.savetxt(self.folder / 'stamps.txt', np.array(self._stamps, dtype=np.int64), fmt='%d')
        (self.folder / CONFIG_NAME).write_text(self._config().to_json() + '\n')
        return Written(len(self._poses), self.registered, self._shift_m, self._turn_rad)

    def _config(self) -> FolderConfig:
        cameras = FolderConfig(
            depth_intrinsics=_intrinsics(self._depth.camera), frame_id=self._frame_id
        )
        if self.registered:
            return cameras
        return FolderConfig(
            depth_intrinsics=cameras.depth_intrinsics,
            color_intrinsics=_intrinsics(self._color.camera),
            color_from_depth=tuple(float(value) for value in self._color_from_depth.ravel()),
            frame_id=self._frame_id,
        )

    def _write_depth(self, name: str, depth_m: NDArray[np.float32]) -> None:
        known = np.nan_to_num(depth_m, nan=0.0)
        if self._depth_format == 'npy':
            np.save(self.folder / 'depth' / f'{name}.npy', known)
            return
        millimetres = np.rint(known * 1000)
        millimetres[millimetres > _MAX_MILLIMETRES] = 0
        _write_png(self.folder / 'depth' / f'{name}.png', millimetres.astype(np.uint16))

    def _note_motion(self, frame: RgbdFrame) -> None:
        color_from_depth = invert(frame.map_from_color) @ frame.map_from_depth
        moved = color_from_depth @ invert(self._color_from_depth)
        self._shift_m = max(self._shift_m, float(np.linalg.norm(moved[:3, 3])))
        cosine = np.clip((np.trace(moved[:3, :3]) - 1) / 2, -1, 1)
        self._turn_rad = max(self._turn_rad, float(np.arccos(cosine)))


def write_frames(frames: Iterable[RgbdFrame], writer: VlmapsWriter) -> Written:
    """Write all frames and finish the folder."""
    for frame in frames:
        writer.add(frame)
    return writer.finish()


def _intrinsics(camera: Camera) -> tuple[float, float, float, float]:
    return (camera.fx, camera.fy, camera.cx, camera.cy)


def _write_png(path: Path, image: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL]):
        raise OSError(f'{path} cannot be written')
