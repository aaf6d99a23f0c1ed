"""A trained network behind arrays: pictures and calibration in, occupancy and answers out.

predictor = Predictor(load_checkpoint(Path('run1')))
prediction = predictor.predict({'CAM_FRONT': rgb}, {'CAM_FRONT': RigView(camera, ego_from_camera)})
prediction.occupied()  # (X, Y, Z) bool
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm_nodes.geometry.rigid import invert
from vlm_nodes.langocc.checkpoint import Checkpoint
from vlm_nodes.langocc.data import resized
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.lifting import RigView
from vlm_nodes.langocc.model import Surround, Volume
from vlm_nodes.langocc.rendering import sample_volume
from vlm_nodes.langocc.volume import parts_of
from vlm_nodes.surround import Keyframe, NuScenes, VoxelGrid, read_image
from vlm_nodes.surround.occupancy import FREE

THRESHOLD: Final = 0.15
"""Opacity of a voxel, seen straight through, from which it counts as occupied."""


@dataclass(frozen=True)
class Earlier:
    """Pictures of an earlier moment, for networks that fuse one.

    Attributes:
        images: (H, W, 3) uint8 RGB by camera.
        views: Calibration, in the ego frame then.
        then_from_now: (4, 4) from the ego frame now to that one.
    """

    images: Mapping[str, NDArray[np.uint8]]
    views: Mapping[str, RigView]
    then_from_now: NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """What a network says of one moment.

    Attributes:
        volume: Of a batch of 1, on the predictor's device; its margin is of use to rays alone.
        grid: Voxels that are answered for.
    """

    volume: Volume
    grid: VoxelGrid

    def opacity(self) -> NDArray[np.float32]:
        """(X, Y, Z), 0 to 1: what a voxel hides if all of it is as dense as its densest part."""
        density = self.volume.within(self.grid.shape).density
        densest = parts_of(density, self.grid.shape)[0, 0].amax(-1).cpu().numpy()
        return np.asarray(1 - np.exp(-densest * self.grid.voxel_m), np.float32)

    def occupied(self, threshold: float = THRESHOLD) -> NDArray[np.bool_]:
        """(X, Y, Z) voxels of at least so much opacity."""
        return np.asarray(self.opacity() >= threshold)

    def hidden(self) -> NDArray[np.float32]:
        """(X, Y, Z, C) unit features."""
        hidden = self.volume.within(self.grid.shape).hidden
        return np.asarray(hidden[0].permute(1, 2, 3, 0).cpu().numpy(), np.float32)

    def semantics(self, texts: Any, threshold: float = THRESHOLD) -> NDArray[np.uint8]:
        """(X, Y, Z) numbers of Occ3D's classes, `FREE` where nothing is.

        Args:
            texts: `ClassTexts` of the classes that may occur.
            threshold: As of `occupied`.
        """
        filled = self.occupied(threshold)
        semantics = np.full(self.grid.shape, FREE, np.uint8)
        semantics[filled] = texts.classify(self.hidden()[filled])[0]
        return semantics

    def features_at(self, points_m: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """(N, C) features at points (N, 3) in the ego frame, which should lie in the grid."""
        places = torch.from_numpy(np.asarray(points_m, np.float32))[None, :, None]
        volume = self.volume.within(self.grid.shape).hidden
        found = sample_volume(volume, places.to(volume.device), self.grid)
        return np.asarray(found[0, :, :, 0].T.cpu().numpy(), np.float32)


class Predictor:
    """A network that answers; use it from one thread at a time.

    Args:
        checkpoint: The network.
        device: Where it runs.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = 'cpu') -> None:
        self.checkpoint = checkpoint
        self.model = checkpoint.model.to(device).eval()
        self.config = self.model.config
        self._device = device

    def predict(
        self,
        images: Mapping[str, NDArray[np.uint8]],
        views: Mapping[str, RigView],
        earlier: Earlier | None = None,
    ) -> Prediction:
        """What there is about the vehicle.

        Args:
            images: (H, W, 3) uint8 RGB by camera; some of the network's may be missing.
            views: Calibration of these pictures.
            earlier: An earlier moment; of no effect where the network does not fuse one.

        Raises:
            LangOccError: There is no picture of the network's cameras, or one is no picture, or
                of another size than its calibration.
        """
        now = self._surround(images, views)
        then, pose = None, None
        if self.config.previous and earlier is not None:
            then = self._surround(earlier.images, earlier.views)
            pose = torch.from_numpy(earlier.then_from_now.astype(np.float32))[None]
            pose = pose.to(self._device)
        with torch.inference_mode():
            return Prediction(self.model(now, then, pose), self.config.grid)

    def predict_keyframe(
        self,
        keyframe: Keyframe,
        cameras: tuple[str, ...] | None = None,
        previous: Keyframe | None = None,
    ) -> Prediction:
        """The same for a keyframe on disk, of all its cameras or of some.

        Args:
            keyframe: To look at.
            cameras: Names; None takes all.
            previous: The one before it in its drive; not read where the network fuses none.

        Raises:
            SurroundError: A picture cannot be read.
            LangOccError: As of `predict`.
        """
        earlier = None
        if self.config.previous and previous is not None:
            pose = invert(previous.map_from_ego) @ keyframe.map_from_ego
            earlier = Earlier(*_read(previous, cameras), pose)
        return self.predict(*_read(keyframe, cameras), earlier)

    def predict_place(
        self, drives: NuScenes, place: int, cameras: tuple[str, ...] | None = None
    ) -> Prediction:
        """The same for a place of a data set, with the keyframe before it where there is one.

        Raises:
            SurroundError: A picture cannot be read.
            LangOccError: As of `predict`.
        """
        before = drives.neighbours(place, before=1, after=0)[0]
        previous = drives[before] if self.config.previous and before != place else None
        return self.predict_keyframe(drives[place], cameras, previous)

    def _surround(
        self, images: Mapping[str, NDArray[np.uint8]], views: Mapping[str, RigView]
    ) -> Surround:
        config = self.config
        known = [name for name in config.cameras if name in images]
        if not known:
            raise LangOccError(
                f"none of the cameras {', '.join(images) or '(none)'} is one of the network's: "
                f'{", ".join(config.cameras)}'
            )
        pictures = np.zeros((len(config.cameras), *config.image_size, 3), np.uint8)
        for place, name in enumerate(config.cameras):
            if name in images:
                _check(name, images[name], views)
                pictures[place] = resized(images[name], config.image_size)
        planes: Tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
        rig = [views[name] if name in images else None for name in config.cameras]
        return Surround(planes[None].to(self._device), [rig])


def _read(
    keyframe: Keyframe, cameras: tuple[str, ...] | None
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, RigView]]:
    names = [n for n in keyframe.cameras if cameras is None or n in cameras]
    views = {n: RigView(keyframe.cameras[n].camera, keyframe.ego_from_camera(n)) for n in names}
    return {n: read_image(keyframe.cameras[n]) for n in names}, views


def _check(name: str, image: NDArray[np.uint8], views: Mapping[str, RigView]) -> None:
    if name not in views:
        raise LangOccError(f'camera {name} has a picture, but no calibration')
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise LangOccError(
            f'the picture of {name} must be (H, W, 3) uint8 RGB, is {image.shape} {image.dtype}'
        )
    camera = views[name].camera
    if image.shape[:2] != (camera.height, camera.width):
        raise LangOccError(
            f'the picture of {name} has {image.shape[1]}x{image.shape[0]} pixels, its '
            f'calibration is for {camera.width}x{camera.height}'
        )
