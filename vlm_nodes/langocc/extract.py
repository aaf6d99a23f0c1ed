"""extract_rays DATA... --out STORE: CLIP features on rays of surround pictures, ahead of training.

Goes on where it stopped; `--workers` shares the keyframes out over processes, `--start` and `--end`
over machines.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import zlib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vlm_nodes.clip.encoder import Encoder
from vlm_nodes.clip.projection import FeatureProjection
from vlm_nodes.clip.reducer import balanced, fit_svd, load_reducer
from vlm_nodes.command_line import run, say
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.prompts import OCC3D_PROMPTS
from vlm_nodes.langocc.ray_store import PAGE, SOURCES, KeyframeRays, RayPage, RayStore
from vlm_nodes.langocc.rays import lidar_pixels, random_pixels
from vlm_nodes.surround import CAMERAS, Keyframe, NuScenes, read_image, read_points

_FITTED_KEYFRAMES: Final = 16
"""Of each data set, spread over it, whose pictures the reducer is fitted on besides texts."""


def extract_keyframe(keyframe: Keyframe, store: RayStore, encoder: Encoder) -> KeyframeRays:
    """Draw a keyframe's rays and look its pictures' features up on them.

    Raises:
        SurroundError: A picture or a sweep cannot be read.
    """
    page = store.page
    rng = np.random.default_rng([page.seed, zlib.crc32(keyframe.token.encode())])
    points = None
    if page.source == 'lidar':
        if keyframe.lidar is None:
            raise LangOccError(f'keyframe {keyframe.token!r} has no LiDAR sweep: rays need one')
        points = read_points(keyframe.lidar)
    parts: list[KeyframeRays] = []
    for number, name in enumerate(page.cameras):
        image = keyframe.cameras.get(name)
        if image is None:
            continue
        if points is None:
            pixels = random_pixels(image.camera, page.rays, rng)
            depth = np.full(len(pixels), np.nan, np.float32)
        else:
            hits = lidar_pixels(keyframe, name, points)
            some = rng.permutation(len(hits.pixels))[: page.rays]
            pixels, depth = hits.pixels[some], hits.depth_m[some]
        dense = encoder.encode_dense(read_image(image))
        size = image.camera.width, image.camera.height
        features = store.reduce(at_pixels(dense, pixels, size)).astype(np.float16)
        camera = np.full(len(pixels), number, np.uint8)
        parts.append(KeyframeRays(camera, pixels, features, depth))
    return KeyframeRays(
        np.concatenate([part.camera for part in parts]),
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.depth_m for part in parts]),
    )


def at_pixels(
    dense: NDArray[np.float32], pixels: NDArray[np.int64], size: tuple[int, int]
) -> NDArray[np.float32]:
    """The patch features (h, w, D) that pixels (R, 2) of a picture of (width, height) lie in."""
    rows = pixels[:, 1] * dense.shape[0] // size[1]
    columns = pixels[:, 0] * dense.shape[1] // size[0]
    found: NDArray[np.float32] = dense[rows, columns]
    return found


def fit_reducer(encoder: Encoder, drives: Sequence[NuScenes], k: int) -> FeatureProjection:
    """The reducer of `k` numbers: for texts of the vocabulary and for pictures' features alike.

    The published one is fitted to texts alone, by gradient descent; the singular vectors of both
    are its optimum without that, and keep what texts do not say.
    """
    texts = encoder.encode_text([text for group in OCC3D_PROMPTS.values() for text in group])
    seen = []
    for data in drives:
        step = max(1, len(data) // _FITTED_KEYFRAMES)
        for place in range(0, len(data), step):
            image = next(iter(data[place].cameras.values()))
            seen.append(encoder.encode_dense(read_image(image)).reshape(-1, encoder.dim)[::7])
    return fit_svd(balanced(texts, np.concatenate(seen)), k)


def make_store(
    folder: Path, drives: Sequence[NuScenes], encoder: Encoder, options: argparse.Namespace
) -> RayStore:
    """The store that options ask for, new or to go on with."""
    projection = None
    if options.reducer is not None:
        reducer = load_reducer(options.reducer)
        reducer.check(encoder.identity, str(options.reducer))
        projection = reducer.projection
    page = RayPage(
        model=str(options.model),
        pretrained=options.pretrained,
        identity=encoder.identity,
        dim=encoder.dim,
        feature_dim=projection.reduced_dim if projection else min(options.feature_dim, encoder.dim),
        rays=options.rays_a_camera,
        source=options.source,
        cameras=tuple(drives[0].cameras),
        seed=options.seed,
    )
    if not projection and page.feature_dim < page.dim and not (folder / PAGE).is_file():
        projection = fit_reducer(encoder, drives, page.feature_dim)
    store = RayStore.make(folder, page, projection)
    if options.reducer is not None and not _is_same(store.projection, projection):
        raise LangOccError(f'{folder} holds rays of another reducer: give another folder')
    return store


def _is_same(one: FeatureProjection | None, other: FeatureProjection | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one.basis, other.basis) and np.array_equal(one.mean, other.mean)


def fill(
    store: RayStore,
    drives: Sequence[NuScenes],
    encoder: Encoder,
    share: slice,
    part: slice = slice(None),
) -> int:
    """Extract what is missing of a share of the keyframes, or of a part of it; how many."""
    places = [(data, i) for data in drives for i in range(len(data))][share][part]
    count = 0
    for data, place in tqdm(places, unit='keyframe', desc='rays', disable=None):
        keyframe = data[place]
        if not store.has(keyframe.token):
            store.write(keyframe.token, extract_keyframe(keyframe, store, encoder))
            count += 1
    return count


def _fill_apart(options: argparse.Namespace, number: int) -> int:
    """What `fill` does, of one worker's part, in a process of its own."""
    encoder = load_encoder(options)
    share = slice(options.start, options.end)
    part = slice(number, None, options.workers)
    return fill(RayStore(options.out), _open(options), encoder, share, part)


def load_encoder(options: argparse.Namespace) -> Encoder:
    """The CLIP that options name."""
    return Encoder.load(
        str(options.model),
        options.pretrained,
        method=options.method,
        weights_dir=options.weights_dir,
        image_size=options.clip_size,
        device=options.clip_device,
        num_threads=options.threads or None,
    )


def add_clip_options(parser: argparse._ActionsContainer) -> None:
    """Options of rays and their features, which `train_langocc` has too."""
    add = parser.add_argument
    add('--model', default='tiny', help='CLIP: an open_clip model or a folder (default: tiny)')
    add('--pretrained', help='its weights: an open_clip tag or a file')
    add('--weights-dir', type=Path, help='folder of fetched weights')
    add('--method', default='naclip', help='dense method of transformers (default: naclip)')
    add('--clip-size', type=int, metavar='PX', help='shorter side of pictures that CLIP sees')
    add('--clip-device', default='cpu', help='where CLIP runs (default: cpu)')
    add('--feature-dim', type=int, default=128, help='numbers kept of a feature (default: 128)')
    add('--reducer', type=Path, help='file of train_clip_reducer (default: one is fitted)')
    add('--rays-a-camera', type=int, default=1024, help='pixels drawn (default: 1024)')
    add('--source', choices=SOURCES, default='pixels', help='even pixels, or where LiDAR hits')
    add('--require-files', action='store_true', help='leave keyframes with missing files out')


def open_drives(
    folders: Sequence[Path], *, cameras: Sequence[str], lidar: bool, require_files: bool
) -> list[NuScenes]:
    """The data sets of some folders."""
    return [
        NuScenes(folder, cameras=cameras, lidar=lidar, require_files=require_files)
        for folder in folders
    ]


def _run(options: argparse.Namespace) -> int:
    if options.start < 0 or (options.end is not None and options.end <= options.start):
        raise LangOccError(f'--start {options.start} --end {options.end} leave no keyframe')
    if options.workers < 1:
        raise LangOccError(f'--workers must be at least 1, is {options.workers}')
    drives = _open(options)
    encoder = load_encoder(options)
    store = make_store(options.out, drives, encoder, options)
    if options.workers == 1:
        count = fill(store, drives, encoder, slice(options.start, options.end))
    else:
        # Spawned: what torch and CUDA hold does not survive a fork.
        with ProcessPoolExecutor(options.workers, multiprocessing.get_context('spawn')) as pool:
            numbers = range(options.workers)
            count = sum(pool.map(_fill_apart, [options] * options.workers, numbers))
    say(f'rays of {count} keyframes added to {options.out}')
    return 0


def _open(options: argparse.Namespace) -> list[NuScenes]:
    return open_drives(
        options.data,
        cameras=options.cameras,
        lidar=options.source == 'lidar',
        require_files=options.require_files,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script."""
    parser = argparse.ArgumentParser(
        prog='extract_rays', description='CLIP features on rays of surround pictures.'
    )
    add = parser.add_argument
    add('data', type=Path, nargs='+', help="data sets in nuScenes' layout")
    add('--out', type=Path, required=True, help='store to make, or to go on with')
    add('--cameras', nargs='+', default=list(CAMERAS), metavar='CAM', help='default: all six')
    add('--start', type=int, default=0, help='first keyframe of this share')
    add('--end', type=int, help='keyframe to stop before')
    add('--seed', type=int, default=0)
    add('--workers', type=int, default=1, help='processes, each with its CLIP (default: 1)')
    add('--threads', type=int, default=0, help='CPU threads of torch in each')
    add_clip_options(parser)
    options = parser.parse_args(arguments)
    return run('extract_rays', lambda: _run(options))


if __name__ == '__main__':
    sys.exit(main())
