"""Moments of a drive with their pictures in memory, ready to be published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry import Camera
from vlm_nodes.surround.errors import SurroundError
from vlm_nodes.surround.keyframe import Keyframe, Matrix
from vlm_nodes.surround.sensor_files import read_image


@dataclass(frozen=True)
class Shot:
    """A picture, and where it was taken from.

    Attributes:
        rgb: (H, W, 3) uint8.
        camera: Intrinsics.
        ego_from_camera: (4, 4) mounting.
        map_from_ego: (4, 4) where the vehicle was when the picture was taken.
        stamp_ns: When that was.
    """

    rgb: NDArray[np.uint8]
    camera: Camera
    ego_from_camera: Matrix
    map_from_ego: Matrix
    stamp_ns: int


@dataclass(frozen=True)
class DriveMoment:
    """A moment of a drive.

    Attributes:
        stamp_ns: When.
        map_from_ego: (4, 4) where the vehicle was then.
        shots: By camera; each has its own stamp.
    """

    stamp_ns: int
    map_from_ego: Matrix
    shots: Mapping[str, Shot]

    def first_stamp_ns(self) -> int:
        """The earliest stamp in it."""
        return min([self.stamp_ns, *(shot.stamp_ns for shot in self.shots.values())])

    def last_stamp_ns(self) -> int:
        """The latest stamp in it."""
        return max([self.stamp_ns, *(shot.stamp_ns for shot in self.shots.values())])

    def poses(self) -> dict[int, Matrix]:
        """(4, 4) map_from_ego by stamp, in order of time."""
        found = {shot.stamp_ns: shot.map_from_ego for shot in self.shots.values()}
        return dict(sorted((found | {self.stamp_ns: self.map_from_ego}).items()))


def read_moments(
    keyframes: Iterable[Keyframe], on_missing: Callable[[str], object]
) -> Iterator[DriveMoment]:
    """Keyframes with their pictures read from disk, one after the other.

    Args:
        keyframes: In order.
        on_missing: Told of each picture that cannot be read; the moment comes without it.
    """
    for keyframe in keyframes:
        shots = {}
        for name, image in keyframe.cameras.items():
            try:
                rgb = read_image(image)
            except SurroundError as error:
                on_missing(str(error))
                continue
            shots[name] = Shot(
                rgb, image.camera, image.ego_from_camera, image.map_from_ego, image.stamp_ns
            )
        yield DriveMoment(keyframe.stamp_ns, keyframe.map_from_ego, shots)
