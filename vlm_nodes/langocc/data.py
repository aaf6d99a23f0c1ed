"""Moments of drives to train on: pictures, and rays of keyframes about them with features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vlm_nodes.geometry.rigid import invert
from vlm_nodes.langocc.config import LangOccConfig
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.lifting import Rig, RigView
from vlm_nodes.langocc.model import Surround
from vlm_nodes.langocc.ray_store import RayStore
from vlm_nodes.langocc.rays import Rays, ego_from_view, pixel_rays
from vlm_nodes.surround import Keyframe, NuScenes, read_image


@dataclass(frozen=True)
class RayChoice:
    """Which rays a moment is trained with.

    Attributes:
        count: Rays of a moment.
        before: Keyframes back in time whose rays count too.
        after: Keyframes ahead.

    Raises:
        LangOccError: A value is out of its range.
    """

    count: int = 8192
    before: int = 12
    after: int = 12

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        if self.count < 1 or self.before < 0 or self.after < 0:
            raise LangOccError(f'rays must be at least 1, keyframes at least 0: {self}')


@dataclass(frozen=True)
class Moment:
    """One keyframe to train on.

    Attributes:
        images: (N, 3, H, W) uint8.
        rig: N views.
        rays: (R, 3) in the keyframe's ego frame.
        features: (R, D) float32 unit vectors.
        depth_m: (R,) float32; NaN where unknown.
        previous: Images, rig and (4, 4) previous_from_now of an earlier one, if there is one.
    """

    images: Tensor
    rig: Rig
    rays: Rays
    features: Tensor
    depth_m: Tensor
    previous: tuple[Tensor, Rig, Tensor] | None = None


@dataclass(frozen=True)
class Batch:
    """Moments together; see `Moment`."""

    now: Surround
    rays: Rays
    features: Tensor
    depth_m: Tensor
    previous: Surround | None
    previous_from_now: Tensor | None

    @classmethod
    def of(cls, moments: Sequence[Moment]) -> Batch:
        """Stack moments; those without an earlier one have it with all cameras missing."""
        earlier = [moment.previous or _nothing(moment) for moment in moments]
        fused = any(moment.previous is not None for moment in moments)
        return cls(
            _surround([m.images for m in moments], [m.rig for m in moments]),
            Rays(
                torch.stack([m.rays.origins_m for m in moments]),
                torch.stack([m.rays.directions for m in moments]),
            ),
            torch.stack([m.features for m in moments]),
            torch.stack([m.depth_m for m in moments]),
            _surround([p[0] for p in earlier], [p[1] for p in earlier]) if fused else None,
            torch.stack([p[2] for p in earlier]) if fused else None,
        )

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        previous, pose = self.previous, self.previous_from_now
        return Batch(
            replace(self.now, images=self.now.images.to(device)),
            self.rays.to(device),
            self.features.to(device),
            self.depth_m.to(device),
            replace(previous, images=previous.images.to(device)) if previous else None,
            pose.to(device) if pose is not None else None,
        )


def _surround(images: Sequence[Tensor], rigs: Sequence[Rig]) -> Surround:
    return Surround(torch.stack(list(images)).float() / 255, list(rigs))


def _nothing(moment: Moment) -> tuple[Tensor, Rig, Tensor]:
    return torch.zeros_like(moment.images), [None] * len(moment.rig), torch.eye(4)


class Moments(Dataset[Moment]):
    """Keyframes of one data set.

    Args:
        drives: The keyframes.
        store: Their rays.
        config: Of the network.
        choice: Of rays.
        seed: Of the draws where `fixed`.
        fixed: Always the same rays of a moment, for validation; else torch's generator draws.

    Raises:
        LangOccError: The store has other cameras or features, or lacks keyframes.
    """

    def __init__(
        self,
        drives: NuScenes,
        store: RayStore,
        config: LangOccConfig,
        choice: RayChoice,
        *,
        seed: int = 0,
        fixed: bool = False,
    ) -> None:
        self._drives, self._store, self._config = drives, store, config
        self._choice, self._seed, self._fixed = choice, seed, fixed
        if store.page.feature_dim != config.feature_dim:
            raise LangOccError(
                f'{store.folder} has features of {store.page.feature_dim} numbers, the network '
                f'is for {config.feature_dim}'
            )
        missing = store.missing(drives[i].token for i in range(len(drives)))
        if missing:
            raise LangOccError(
                f'{store.folder} lacks the rays of {len(missing)} keyframes of {drives.root}, '
                f'the first is {missing[0]!r}: run extract_rays'
            )

    def __len__(self) -> int:
        return len(self._drives)

    def __getitem__(self, index: int) -> Moment:
        """A keyframe, with rays of those about it."""
        drawn = index if self._fixed else int(torch.randint(2**62, ()))
        rng = np.random.default_rng([self._seed, drawn])
        keyframe = self._drives[index]
        choice = self._choice
        about = self._drives.neighbours(index, choice.before, choice.after)
        rays, features, depth = self._rays(keyframe, about, rng)
        images, rig = surround_of(keyframe, self._config)
        return Moment(images, rig, rays, features, depth, self._previous(index, keyframe))

    def _rays(
        self, now: Keyframe, about: Sequence[int], rng: np.random.Generator
    ) -> tuple[Rays, Tensor, Tensor]:
        """Rays evenly of all keyframes about one, all of them in its frame."""
        counts = np.full(len(about), self._choice.count // len(about))
        counts[rng.permutation(len(about))[: self._choice.count % len(about)]] += 1
        parts = [
            self._rays_of(now, self._drives[place], int(count), rng)
            for place, count in zip(about, counts, strict=True)
            if count
        ]
        return (
            Rays(
                torch.cat([part[0].origins_m for part in parts]),
                torch.cat([part[0].directions for part in parts]),
            ),
            torch.cat([part[1] for part in parts]),
            torch.cat([part[2] for part in parts]),
        )

    def _rays_of(
        self, now: Keyframe, other: Keyframe, count: int, rng: np.random.Generator
    ) -> tuple[Rays, Tensor, Tensor]:
        stored = self._store.read(other.token)
        size = len(stored.camera)
        # With replacement only where there are too few.
        some = rng.integers(size, size=count) if count > size else rng.permutation(size)[:count]
        some = some[np.argsort(stored.camera[some], kind='stable')]
        rays = []
        for number in np.unique(stored.camera[some]):
            image = other.cameras[self._store.page.cameras[number]]
            pixels = stored.pixels[some[stored.camera[some] == number]]
            rays.append(pixel_rays(image.camera, ego_from_view(now, image), pixels))
        return (
            Rays(torch.cat([r.origins_m for r in rays]), torch.cat([r.directions for r in rays])),
            torch.from_numpy(stored.features[some].astype(np.float32)),
            torch.from_numpy(stored.depth_m[some]),
        )

    def _previous(self, index: int, now: Keyframe) -> tuple[Tensor, Rig, Tensor] | None:
        if not self._config.previous:
            return None
        found = self._drives.neighbours(index, before=1, after=0)
        if found[0] == index:
            return None
        then = self._drives[found[0]]
        images, rig = surround_of(then, self._config)
        return images, rig, torch.from_numpy(_previous_from_now(then, now))


def _previous_from_now(then: Keyframe, now: Keyframe) -> NDArray[np.float32]:
    return (invert(then.map_from_ego) @ now.map_from_ego).astype(np.float32)


def surround_of(keyframe: Keyframe, config: LangOccConfig) -> tuple[Tensor, Rig]:
    """A keyframe's pictures at a configuration's size, (N, 3, H, W) uint8, and their rig.

    Raises:
        SurroundError: A picture cannot be read.
    """
    images = [
        resized(read_image(keyframe.cameras[name]), config.image_size)
        if name in keyframe.cameras
        else np.zeros((*config.image_size, 3), np.uint8)
        for name in config.cameras
    ]
    rig = [
        RigView(keyframe.cameras[name].camera, keyframe.ego_from_camera(name))
        if name in keyframe.cameras
        else None
        for name in config.cameras
    ]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), rig


def resized(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[Any]:
    """A picture (H, W, 3) at a size (height, width)."""
    if rgb.shape[:2] == size:
        return rgb
    shrinks = rgb.shape[0] > size[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(rgb, (size[1], size[0]), interpolation=how))
