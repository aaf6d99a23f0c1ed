"""Moments of drives to train on: pictures, and rays of keyframes about them with features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vlm_nodes.geometry.rigid import invert
from vlm_nodes.langocc.config import LangOccConfig
from vlm_nodes.langocc.driven import SMALL_CAR, Body, driven_points
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.lifting import Rig, RigView
from vlm_nodes.langocc.model import Surround
from vlm_nodes.langocc.ray_store import RayStore
from vlm_nodes.langocc.rays import Rays, pixel_rays
from vlm_nodes.langocc.recent import Recent
from vlm_nodes.surround import Keyframe, NuScenes, read_image

_RAYS_A_CELL: Final = 2
"""Rays of a moment to each pixel of its own that is compared without a ray."""

_DRIVEN_POINTS: Final = 256


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
        cells: (P,) int64 places of some of its own pixels in the flat feature maps (N h w).
        cell_features: (P, D) float32 unit vectors of these.
        driven_m: (Q, 3) points in the ego frame where the vehicle was, of which some may lie
            outside of the grid.
        previous: Images, rig and (4, 4) previous_from_now of an earlier one, if there is one.
    """

    images: Tensor
    rig: Rig
    rays: Rays
    features: Tensor
    depth_m: Tensor
    cells: Tensor
    cell_features: Tensor
    driven_m: Tensor
    previous: tuple[Tensor, Rig, Tensor] | None = None


@dataclass(frozen=True)
class Batch:
    """Moments together; see `Moment`."""

    now: Surround
    rays: Rays
    features: Tensor
    depth_m: Tensor
    cells: Tensor
    cell_features: Tensor
    driven_m: Tensor
    previous: Surround | None = None
    previous_from_now: Tensor | None = None

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
            torch.stack([m.cells for m in moments]),
            torch.stack([m.cell_features for m in moments]),
            torch.stack([m.driven_m for m in moments]),
            _surround([p[0] for p in earlier], [p[1] for p in earlier]) if fused else None,
            torch.stack([p[2] for p in earlier]) if fused else None,
        )

    def mirrored(self, axis: int) -> Batch:
        """What is seen and known in space, behind a mirror across x (0) or y (1)."""
        driven = self.driven_m.clone()
        driven[..., axis] *= -1
        return replace(self, rays=self.rays.mirrored(axis), driven_m=driven)

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device."""
        previous, pose = self.previous, self.previous_from_now
        return Batch(
            replace(self.now, images=self.now.images.to(device)),
            self.rays.to(device),
            self.features.to(device),
            self.depth_m.to(device),
            self.cells.to(device),
            self.cell_features.to(device),
            self.driven_m.to(device),
            replace(previous, images=previous.images.to(device)) if previous else None,
            pose.to(device) if pose is not None else None,
        )


def _surround(images: Sequence[Tensor], rigs: Sequence[Rig]) -> Surround:
    return Surround(torch.stack(list(images)).float() / 255, list(rigs))


def _nothing(moment: Moment) -> tuple[Tensor, Rig, Tensor]:
    return torch.zeros_like(moment.images), [None] * len(moment.rig), torch.eye(4)


@dataclass(frozen=True)
class _Lines:
    """All rays of a keyframe, where its cameras were.

    Attributes:
        camera: (R,) places in `map_from_camera`.
        directions: (R, 3) float32 unit vectors in the frame of each ray's camera.
        map_from_camera: (C, 4, 4).
        map_from_ego: (4, 4).
        cells: (R,) as of `Moment`.
        features: (R, D) float16 unit vectors.
        depth_m: (R,) float32; NaN where unknown.
    """

    camera: NDArray[np.uint8]
    directions: NDArray[np.float32]
    map_from_camera: NDArray[np.float64]
    map_from_ego: NDArray[np.float64]
    cells: NDArray[np.int64]
    features: NDArray[np.float16]
    depth_m: NDArray[np.float32]

    @property
    def bytes(self) -> int:
        return sum(array.nbytes for array in vars(self).values())


class Moments(Dataset[Moment]):
    """Keyframes of one data set.

    Args:
        drives: The keyframes.
        store: Their rays.
        config: Of the network.
        choice: Of rays.
        seed: Of the draws where `fixed`.
        fixed: Always the same rays of a moment, for validation; else torch's generator draws.
        memory_mb: What may be kept of pictures, and as much of rays, so that they are not read and
            decoded again and again.
        body: Of the vehicle, which was where it drove.

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
        memory_mb: int = 512,
        body: Body = SMALL_CAR,
    ) -> None:
        limit = memory_mb * 2**20
        self._lines = Recent[_Lines](limit, lambda lines: lines.bytes)
        self._pictures = Recent[tuple[Tensor, Rig]](limit, lambda pair: pair[0].nbytes)
        self._drives, self._store, self._config = drives, store, config
        self._choice, self._seed, self._fixed, self._body = choice, seed, fixed, body
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
        images, rig = self._pictures_of(index)
        own = self._lines_of(index)
        count = max(1, choice.count // _RAYS_A_CELL)
        some = rng.integers(len(own.camera), size=count)
        cells = torch.from_numpy(own.cells[some])
        seen = torch.from_numpy(own.features[some].astype(np.float32))
        now_from_map = invert(keyframe.map_from_ego)
        been = [now_from_map @ self._lines_of(place).map_from_ego for place in about]
        driven = torch.from_numpy(driven_points(been, self._body, _DRIVEN_POINTS, rng))
        previous = self._previous(index, keyframe)
        return Moment(images, rig, rays, features, depth, cells, seen, driven, previous)

    def _rays(
        self, now: Keyframe, about: Sequence[int], rng: np.random.Generator
    ) -> tuple[Rays, Tensor, Tensor]:
        """Rays evenly of all keyframes about one, all of them in its frame."""
        counts = np.full(len(about), self._choice.count // len(about))
        counts[rng.permutation(len(about))[: self._choice.count % len(about)]] += 1
        parts = [
            self._rays_of(now, place, int(count), rng)
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
        self, now: Keyframe, place: int, count: int, rng: np.random.Generator
    ) -> tuple[Rays, Tensor, Tensor]:
        lines = self._lines_of(place)
        size = len(lines.camera)
        # With replacement only where there are too few.
        some = rng.integers(size, size=count) if count > size else rng.permutation(size)[:count]
        poses = (invert(now.map_from_ego) @ lines.map_from_camera)[lines.camera[some]]
        turned = np.einsum('rij,rj->ri', poses[:, :3, :3], lines.directions[some])
        return (
            Rays(*(torch.from_numpy(a.astype(np.float32)) for a in (poses[:, :3, 3], turned))),
            torch.from_numpy(lines.features[some].astype(np.float32)),
            torch.from_numpy(lines.depth_m[some]),
        )

    def _lines_of(self, place: int) -> _Lines:
        return self._lines.get(place, lambda: self._read_lines(place))

    def _read_lines(self, place: int) -> _Lines:
        keyframe = self._drives[place]
        stored = self._store.read(keyframe.token)
        names = self._store.page.cameras
        directions = np.zeros((len(stored.camera), 3), np.float32)
        cells = np.zeros(len(stored.camera), np.int64)
        poses = np.tile(np.eye(4), (len(names), 1, 1))
        for number in np.unique(stored.camera):
            image = keyframe.cameras[names[number]]
            mine = stored.camera == number
            directions[mine] = pixel_rays(image.camera, np.eye(4), stored.pixels[mine]).directions
            poses[number] = image.map_from_camera
            u, v = stored.pixels[mine].T
            height, width = self._config.feature_size
            row, column = v * height // image.camera.height, u * width // image.camera.width
            camera = self._config.cameras.index(names[number])
            cells[mine] = (camera * height + row) * width + column
        return _Lines(
            stored.camera,
            directions,
            poses,
            keyframe.map_from_ego,
            cells,
            stored.features,
            stored.depth_m,
        )

    def _pictures_of(self, place: int) -> tuple[Tensor, Rig]:
        return self._pictures.get(place, lambda: surround_of(self._drives[place], self._config))

    def _previous(self, index: int, now: Keyframe) -> tuple[Tensor, Rig, Tensor] | None:
        if not self._config.previous:
            return None
        found = self._drives.neighbours(index, before=1, after=0)
        if found[0] == index:
            return None
        then = self._drives[found[0]]
        images, rig = self._pictures_of(found[0])
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
