"""CLIP's patch features of a data set, computed once and kept on disk.

The encoder is frozen and sees images without augmentation, so its features of a data set never
change. They are kept in float16, in files named after what they depend on: the images' bytes, the
encoder's weights and method, and the sizes. A file appears when it is whole, and is mapped.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from bag_tools.whole_file import partial_path, put, remove_partials
from vlm_nodes.clip.weights import sha256
from vlm_nodes.sarnn.config import ClipBranchConfig
from vlm_nodes.sarnn.recordings import Recordings, Split

IMAGES_AT_ONCE = 8

Progress = Callable[[range, str], Iterable[int]]


class Describe(Protocol):
    """Images' patch features, as training and live inputs share them."""

    def __call__(self, images: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """(N, H, W, 3) uint8 RGB -> (N, C, gh, gw) float32."""
        ...


def default_cache(folder: Path) -> Path:
    """Where features are kept: beside the data set, a folder that is replaced as a whole."""
    return folder.resolve().with_name(f'{folder.resolve().name}.clip')


def cached_features(
    split: Split,
    camera: str,
    branch: ClipBranchConfig,
    describe: Callable[[], Describe],
    cache: Path,
    progress: Progress,
) -> NDArray[np.float16]:
    """Features of one camera's images, computed where they are not on disk yet.

    Args:
        split: Whose images.
        camera: Which stream.
        branch: The encoder, and the sizes.
        describe: Makes what computes images' features; called only where some are missing.
        cache: Folder, made where it is missing.
        progress: Wraps the episodes to go through, and is told what is done.

    Returns:
        (N, T, C, gh, gw), mapped; zeros in padding.

    Raises:
        RecordingsError: There are no such images.
        OSError: The disk is too small.
    """
    images = split.array(camera)
    path = cache / f'{split.folder.name}_{camera}_{_key(split.path(camera), branch)}.npy'
    shape = (*images.shape[:2], branch.dim, *branch.grid)
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        remove_partials(path)
        _check_disk(cache, shape)
        _compute(path, shape, split, camera, describe(), progress)
    features: NDArray[np.float16] = np.load(path, mmap_mode='r', allow_pickle=False)
    if features.shape != shape or features.dtype != np.float16:
        raise OSError(f'{path} is {features.shape} of {features.dtype}, not {shape}: delete it')
    return features


def data_set_features(
    recordings: Recordings,
    cameras: Iterable[str],
    branch: ClipBranchConfig,
    describe: Callable[[], Describe],
    cache: Path | None,
    progress: Progress,
) -> dict[str, dict[str, NDArray[np.float16]]]:
    """Features of a data set: by split's name, then by camera; see `cached_features`."""
    folder = default_cache(recordings.folder) if cache is None else cache
    return {
        split.folder.name: {
            camera: cached_features(split, camera, branch, describe, folder, progress)
            for camera in cameras
        }
        for split in (recordings.train, recordings.test)
    }


def _compute(
    path: Path,
    shape: tuple[int, ...],
    split: Split,
    camera: str,
    describe: Describe,
    progress: Progress,
) -> None:
    partial = partial_path(path)
    try:
        # A sparse file of zeros, which padding stays.
        features = open_memmap(partial, mode='w+', dtype=np.float16, shape=shape)
        for row in progress(range(len(split)), f'CLIP features, {split.folder.name} {camera}'):
            images = split.episode(camera, row)
            for begin in range(0, len(images), IMAGES_AT_ONCE):
                some = np.array(images[begin : begin + IMAGES_AT_ONCE])
                features[row, begin : begin + len(some)] = describe(some)
        features.flush()
        del features
        put(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _key(images: Path, branch: ClipBranchConfig) -> str:
    said: list[Any] = [
        sha256(images),
        branch.identity,
        branch.dim,
        branch.grid,
        branch.image_size,
        branch.source_size,
    ]
    return hashlib.sha256(repr(said).encode()).hexdigest()[:20]


def _check_disk(folder: Path, shape: tuple[int, ...]) -> None:
    needed, free = 2 * int(np.prod(shape, dtype=np.int64)), shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            f'CLIP features need {needed / 1e9:.1f} GB, but {folder} has {free / 1e9:.1f} GB free: '
            'give another --cache, or a smaller --clip_grid'
        )
