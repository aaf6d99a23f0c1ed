"""Features on rays, extracted ahead: small files that training reads, one a keyframe.

FOLDER/rays.json          what they were made with
FOLDER/projection.npz     the reducer, where features are reduced
FOLDER/rays/TOKEN.npz     camera, pixels, float16 features, and distances of LiDAR rays
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bag_tools.whole_file import whole_file, write_whole
from vlm_nodes.clip.projection import FeatureProjection
from vlm_nodes.langocc.errors import LangOccError

PAGE: Final = 'rays.json'
PROJECTION: Final = 'projection.npz'
SOURCES: Final = ('pixels', 'lidar')
_VERSION: Final = 1


@dataclass(frozen=True)
class RayPage:
    """What a store's rays were made with.

    Attributes:
        model: CLIP, as `Encoder.load` takes it.
        pretrained: Its weights' tag or file.
        identity: The encoder's identity.
        dim: D, numbers of a full feature.
        feature_dim: Numbers that are stored.
        rays: Of a camera.
        source: `pixels` drawn evenly, or where `lidar` hits.
        cameras: Names.
        seed: Of the draws.
        version: Of the files.

    Raises:
        LangOccError: A value is out of its range.
    """

    model: str
    pretrained: str | None
    identity: str
    dim: int
    feature_dim: int
    rays: int
    source: str
    cameras: tuple[str, ...]
    seed: int = 0
    version: int = _VERSION

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        if self.version != _VERSION:
            raise LangOccError(f'rays are of version {self.version}; this reads {_VERSION}')
        if self.source not in SOURCES:
            raise LangOccError(f'rays must come from one of {SOURCES}, not {self.source!r}')
        if self.rays < 1:
            raise LangOccError(f'rays a camera must be at least 1, are {self.rays}')
        if not 1 <= self.feature_dim <= self.dim:
            raise LangOccError(
                f'features of {self.dim} numbers cannot be reduced to {self.feature_dim}'
            )


@dataclass(frozen=True)
class KeyframeRays:
    """The rays of one keyframe.

    Attributes:
        camera: (R,) uint8 places in the page's cameras.
        pixels: (R, 2) int64 (u, v).
        features: (R, k) float16 unit vectors.
        depth_m: (R,) float32 along the ray; NaN where unknown.
    """

    camera: NDArray[np.uint8]
    pixels: NDArray[np.int64]
    features: NDArray[np.float16]
    depth_m: NDArray[np.float32]


class RayStore:
    """A folder of rays.

    Args:
        folder: Of the store.

    Raises:
        LangOccError: It is no such folder, or its page is broken.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.page = _read_page(folder / PAGE)
        self.projection = _read_projection(folder / PROJECTION, self.page)

    @classmethod
    def make(cls, folder: Path, page: RayPage, projection: FeatureProjection | None) -> RayStore:
        """A new store, or one that goes on.

        Raises:
            LangOccError: The folder holds rays that were made otherwise.
        """
        path = folder / PAGE
        if path.is_file():
            store = cls(folder)
            differing = [k for k, v in asdict(page).items() if getattr(store.page, k) != v]
            if differing:
                raise LangOccError(
                    f'{folder} holds rays of another {", ".join(differing)}: give another folder'
                )
            return store
        (folder / 'rays').mkdir(parents=True, exist_ok=True)
        if projection is not None:
            _write_arrays(folder / PROJECTION, projection.to_arrays())
        # Last: a folder with a page is whole.
        write_whole(path, (json.dumps(asdict(page), indent=1) + '\n').encode())
        return cls(folder)

    def has(self, token: str) -> bool:
        """Whether a keyframe's rays are there."""
        return self._path(token).is_file()

    def missing(self, tokens: Iterable[str]) -> list[str]:
        """The keyframes whose rays are not there."""
        return [token for token in tokens if not self.has(token)]

    def write(self, token: str, rays: KeyframeRays) -> None:
        """Keep a keyframe's rays, all or nothing."""
        arrays: dict[str, NDArray[Any]] = {
            'camera': rays.camera,
            'pixels': rays.pixels.astype(np.uint16),
            'features': rays.features.astype(np.float16),
        }
        if np.isfinite(rays.depth_m).any():
            arrays['depth_m'] = rays.depth_m.astype(np.float32)
        _write_arrays(self._path(token), arrays)

    def read(self, token: str) -> KeyframeRays:
        """A keyframe's rays.

        Raises:
            LangOccError: They are missing or broken.
        """
        path = self._path(token)
        if not path.is_file():
            raise LangOccError(f'{path} is missing: extract_rays goes on where it stopped')
        arrays = _read_arrays(path, ('camera', 'pixels', 'features'))
        camera, features = arrays['camera'], arrays['features']
        if features.shape != (len(camera), self.page.feature_dim):
            raise LangOccError(f'{path} has features {features.shape}, not those of its store')
        unknown = np.full(len(camera), np.nan, np.float32)
        return KeyframeRays(
            camera, arrays['pixels'].astype(np.int64), features, arrays.get('depth_m', unknown)
        )

    def reduce(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Full features or text vectors (N, D) as the store's unit vectors (N, k)."""
        return reduce_features(features, self.projection)

    def _path(self, token: str) -> Path:
        return self.folder / 'rays' / f'{token}.npz'


def reduce_features(
    features: NDArray[np.float32], projection: FeatureProjection | None
) -> NDArray[np.float32]:
    """(N, D) to unit vectors of a projection's space, or of their own without one."""
    reduced = features if projection is None else projection.project(features)
    norms = np.linalg.norm(reduced, axis=-1, keepdims=True)
    return np.asarray(reduced / np.maximum(norms, 1e-12), np.float32)


def _read_page(path: Path) -> RayPage:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        content['cameras'] = tuple(content['cameras'])
        return RayPage(**content)
    except LangOccError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LangOccError(f'{path} describes no store of rays: {error}') from error


def _read_projection(path: Path, page: RayPage) -> FeatureProjection | None:
    if page.feature_dim == page.dim:
        return None
    try:
        projection = FeatureProjection.from_arrays(_read_arrays(path, ('mean', 'basis')))
    except ValueError as error:
        raise LangOccError(f'{path} holds no reducer: {error}') from error
    if (projection.dim, projection.reduced_dim) != (page.dim, page.feature_dim):
        raise LangOccError(f'{path} is not the reducer of {PAGE} beside it')
    return projection


def _read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise LangOccError(f'{path} is broken: {error}') from None
    if missing := set(names) - set(found):
        raise LangOccError(f'{path} lacks {sorted(missing)}')
    return found


def _write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    with whole_file(path) as stream:
        np.savez(stream, **arrays)
