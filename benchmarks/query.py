"""Queries of one text on 50k, 200k and 1M voxels: time, memory, and what reducing features costs.

Maps come from `VoxelMap.integrate` with 512 numbers a patch, reduced to 128 (the default) by a
given projection. Reading means summing the stored features once, with the same threads. Memory is
the slope of the peak resident size between maps of 200k and 1M voxels, each fused and asked in a
process of its own, so that the interpreter and fixed buffers do not count. With recordings
(VLM_DATA) the accuracy of naming a feature among 1203 real CLIP text vectors is compared, whole and
reduced.

    python benchmarks/query.py [--seed 0] [--quick]

Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.clip.projection import FeatureProjection
from vlm_nodes.geometry import Camera, RgbdFrame
from vlm_nodes.mapping import DEFAULT_NEGATIVES, VoxelMap, VoxelMapConfig
from vlm_nodes.mapping.jit import kernel
from vlm_nodes.mapping.reduction import fit_reduction

DIM, REDUCED, NAMES, THREADS = 512, 128, 400, 2
CAMERA = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)


class Texts:
    """Text vectors around a common direction, as CLIP's are: about 0.7 to each other.

    Generic words lie nearer to the common direction, so that they win where a name does not fit.
    """

    identity, dim, logit_scale = 'benchmark', DIM, 100.0

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        vectors = rng.normal(size=(NAMES, DIM)) / np.sqrt(DIM)
        vectors += 1.5 * rng.normal(size=DIM) / np.sqrt(DIM)
        self.vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, 512) float32."""
        vectors = self.vectors[[sum(text.encode()) % NAMES for text in texts]].copy()
        generic = [text in DEFAULT_NEGATIVES for text in texts]
        vectors[generic] = 0.3 * vectors[generic] + 0.7 * self.vectors.mean(axis=0)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build_map(voxels: int, seed: int) -> VoxelMap:
    """A map of at least `voxels` voxels: walls one behind another, a voxel or so a pixel."""
    texts = Texts(seed)
    rng = np.random.default_rng(seed)
    samples = texts.vectors[rng.integers(NAMES, size=2000)]
    projection = FeatureProjection.fit(samples, REDUCED)
    config = VoxelMapConfig(feature_dim=REDUCED, voxel_size_m=0.01, clear_after=0, threads=THREADS)
    voxel_map = VoxelMap(config, encoder=texts, projection=projection)
    rgb = np.zeros((480, 640, 3), np.uint8)
    for number in range(1000):
        if len(voxel_map) >= voxels:
            break
        depth = np.full((480, 640), 2.5, np.float32)
        depth[:, max(1, 640 * (voxels - len(voxel_map)) // 120_000) :] = np.nan
        pose = np.eye(4)
        pose[2, 3] = 0.05 * number
        features = texts.vectors[rng.integers(NAMES, size=(30, 40))]
        features = features + 0.02 * rng.normal(size=features.shape).astype(np.float32)
        voxel_map.integrate(RgbdFrame(number, rgb, depth, CAMERA, CAMERA, pose, pose), features)
    return voxel_map


@kernel
def read(features: NDArray[np.float32]) -> float:
    """The sum of all numbers: each is read once."""
    total = np.float32(0.0)
    for i in range(features.shape[0]):
        for d in range(features.shape[1]):
            total += features[i, d]
    return total


def read_all(voxel_map: VoxelMap) -> None:
    store = voxel_map._store
    voxel_map._workers.map_strided(
        lambda chunk: read(store.readable(chunk).features[: store.rows_in(chunk)]),
        store.chunk_count,
    )


def medians_ms(voxel_map: VoxelMap, repeats: int) -> tuple[float, float, float]:
    """Milliseconds of a whole query, of its scores alone, and of reading; taken in turns."""
    jobs = (
        lambda: voxel_map.query('chair'),
        lambda: voxel_map.scores('chair'),
        lambda: read_all(voxel_map),
    )
    times: list[list[float]] = [[], [], []]
    for _ in range(repeats + 2):
        for job, taken in zip(jobs, times, strict=True):
            start = time.perf_counter()
            job()
            taken.append(1e3 * (time.perf_counter() - start))
    query, scores, reading = (float(np.median(taken[2:])) for taken in times)
    return query, scores, reading


def peak_mb(voxels: int, seed: int) -> tuple[float, int]:
    """Peak resident megabytes of a process that fuses and asks a map, and the map's voxels."""
    command = [sys.executable, __file__, '--seed', str(seed), '--peak-of', str(voxels)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(output[0]), int(output[1])


def report_peak(voxels: int, seed: int) -> None:
    voxel_map = build_map(voxels, seed)
    voxel_map.query('chair')
    # Not getrusage: its maximum is inherited from the process that started this one.
    status = Path('/proc/self/status').read_text()
    kilobytes = int(status.split('VmHWM:')[1].split()[0])
    print(kilobytes * 1024 / 1e6, len(voxel_map))


def accuracies(seed: int) -> dict[str, float]:
    """Share of features whose own name has the largest cosine among 1203, whole and reduced.

    A feature is an image's mean direction (of real CLIP image vectors) plus a share of its name's
    deviation from the mean text, plus noise in all directions: about 0.3 to its name and 0.2 to
    others, as CLIP has. Projections are fitted on half of the names' features ("same things") and
    tried on these and on the other half ("other things").
    """
    folder = Path(os.environ.get('VLM_DATA', '../shared/data')) / 'clip_vectors'
    if not folder.is_dir():
        return {}
    with np.load(folder / 'lvis_text.npz') as file:
        texts = file['embeddings'].astype(np.float32)
    with np.load(folder / 'image_vectors.npz') as file:
        images = file['embeddings'].astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    owner = rng.integers(len(texts), size=6000)
    noise = rng.normal(size=(len(owner), DIM)) / np.sqrt(DIM)
    features = images.mean(axis=0) + 0.35 * (texts - texts.mean(axis=0))[owner] + 0.4 * noise
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    seen = rng.permutation(len(texts))[owner] < len(texts) // 2

    def accuracy(projection: FeatureProjection | None, rows: NDArray[np.bool_]) -> float:
        chosen = features[rows]
        if projection is not None:
            chosen = projection.unproject(projection.project(chosen))
        return float(((chosen @ texts.T).argmax(axis=1) == owner[rows]).mean())

    known = texts[np.unique(owner[seen])]
    none = np.empty((0, DIM), np.float32)
    frames_only = fit_reduction(features[seen], none, REDUCED)
    with_texts = fit_reduction(features[seen], known, REDUCED)
    return {
        'accuracy_512': accuracy(None, ~seen),
        'accuracy_128_other_things': accuracy(frames_only, ~seen),
        'accuracy_128_other_things_and_texts': accuracy(with_texts, ~seen),
        'accuracy_512_same_things': accuracy(None, seen),
        'accuracy_128_same_things': accuracy(frames_only, seen),
        'accuracy_128_same_things_and_texts': accuracy(with_texts, seen),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--quick', action='store_true', help='a smoke run: figures mean nothing')
    parser.add_argument('--peak-of', type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak_of:
        report_peak(options.peak_of, options.seed)
        return
    scale = 100 if options.quick else 1
    result: dict[str, float] = {'threads': THREADS, 'seed': options.seed}
    for name, voxels in (('50k', 50_000), ('200k', 200_000), ('1m', 1_000_000)):
        voxel_map = build_map(voxels // scale, options.seed)
        query, scores, reading = medians_ms(voxel_map, 3 if options.quick else 15)
        per_voxel = voxels / scale / len(voxel_map)
        result[f'ms_{name}'] = query * per_voxel
        result[f'ms_scores_{name}'] = scores * per_voxel
        result[f'ms_read_{name}'] = reading * per_voxel
        result[f'read_ratio_{name}'] = query / reading
        result[f'matches_{name}'] = len(voxel_map.query('chair', max_matches=10**6))
        del voxel_map
    small, few = peak_mb(200_000 // scale, options.seed)
    large, many = peak_mb(1_000_000 // scale, options.seed)
    result['mb_per_million'] = (large - small) / (many - few) * 1e6
    result['peak_mb_1m_whole_process'] = large
    if not options.quick:
        result.update(accuracies(options.seed))
    print(json.dumps({name: round(value, 4) for name, value in result.items()}))


if __name__ == '__main__':
    main()
