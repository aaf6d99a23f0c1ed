"""Fusion without the encoder: 640x480, every pixel, 5 cm voxels, 512 numbers a voxel, 2 threads.

A camera walks through an analytic room with furniture; depth has a Kinect's noise. The reference is
the same arithmetic as a loop over points in Python, as VLMaps has one, over a sample of a frame's
points in the same run.

    python benchmarks/fusion.py [--seed 0] [--quick]

Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry import Camera, RgbdFrame
from vlm_nodes.geometry.rigid import look_at
from vlm_nodes.mapping import VoxelMap, VoxelMapConfig

CAMERA = Camera(640, 480, 525.0, 525.0, 319.5, 239.5)
ROOM = np.array([[-3.02, -2.51, -0.01], [3.53, 2.52, 2.83]])
DIM, PATCH, THREADS, WARM_UP = 512, 16, 2, 3


def furniture(rng: np.random.Generator) -> NDArray[np.float64]:
    """(12, 2, 3) lowest and highest corners of boxes on the floor, away from the camera's path."""
    size = rng.uniform([0.3, 0.3, 0.3], [1.0, 0.8, 1.4], size=(12, 3))
    center = rng.uniform([0.3, -2.2], [3.2, 2.2], size=(12, 2))
    low = np.column_stack([center - size[:, :2] / 2, np.full(12, ROOM[0, 2])])
    return np.stack([low, low + size], axis=1)


def render(pose: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Depth (480, 640) along z of the room and its boxes."""
    rays = np.concatenate([CAMERA.rays(), np.ones((480, 640, 1), np.float32)], axis=-1)
    inverse = 1.0 / (rays.astype(np.float64) @ pose[:3, :3].T)
    eye = pose[:3, 3]
    depth = np.maximum(*((corner - eye) * inverse for corner in ROOM)).min(axis=-1)
    for low, high in boxes:
        a, b = (low - eye) * inverse, (high - eye) * inverse
        near, far = np.minimum(a, b).max(axis=-1), np.maximum(a, b).min(axis=-1)
        depth = np.where((near <= far) & (near > 0), np.minimum(depth, near), depth)
    return depth


def make_frames(count: int, seed: int) -> list[RgbdFrame]:
    rng = np.random.default_rng(seed)
    boxes = furniture(rng)
    frames = []
    for number in range(count):
        t = number / 30  # seconds at 30 Hz: 0.5 m/s and 20 degrees a second
        yaw = 0.35 * np.sin(t)
        eye = np.array([-2.5 + 0.5 * t, 0.3 * np.sin(t), 1.3])
        pose = look_at(eye, eye + np.array([np.cos(yaw), np.sin(yaw), -0.25]))
        depth = render(pose, boxes)
        depth += 1.425e-3 * depth**2 * rng.normal(size=depth.shape)
        rgb = rng.integers(0, 256, size=(480, 640, 3), dtype=np.uint8)
        frames.append(RgbdFrame(number, rgb, depth.astype(np.float32), CAMERA, CAMERA, pose, pose))
    return frames


def edge_weight(depth: NDArray[np.float32], v: int, u: int) -> float:
    bend = 0.0
    for a, b in (((v, u - 1), (v, u + 1)), ((v - 1, u), (v + 1, u))):
        if min(*a, *b) >= 0 and max(a[0], b[0]) < 480 and max(a[1], b[1]) < 640:
            bend = max(bend, abs(depth[v, u] / depth[a] + depth[v, u] / depth[b] - 2.0))
    return float(1.0 / (1.0 + (bend / 0.05) ** 2))


def loop_points_per_s(frame: RgbdFrame, features: NDArray[np.float32], sample: int) -> float:
    """Points a second of the same fusion as a loop over points.

    Voxels in a dictionary, running means in arrays; features bilinear between patches.
    """
    rng = np.random.default_rng(0)
    chosen = np.flatnonzero(np.isfinite(frame.depth_m.ravel()))
    chosen = rng.choice(chosen, sample, replace=False)
    rays, depth, pose = frame.depth_camera.rays(), frame.depth_m, frame.map_from_depth
    index: dict[tuple[int, ...], int] = {}
    means, points = np.zeros((sample, DIM), np.float32), np.zeros((sample, 3))
    colors, weights = np.zeros((sample, 3), np.float32), np.zeros(sample, np.float32)
    last = np.zeros(sample, np.int64)
    start = time.perf_counter()
    for pixel in chosen:
        v, u = divmod(int(pixel), 640)
        d = depth[v, u]
        if not 0.1 <= d <= 6.0:
            continue
        x, y = rays[v, u]
        point = pose[:3, :3] @ np.array([x * d, y * d, d]) + pose[:3, 3]
        key = tuple(np.floor(point / 0.05).astype(int).tolist())
        row = index.setdefault(key, len(index))
        weight = edge_weight(depth, v, u) / (1.0 + d * d)
        gy = min(max((v + 0.5) / PATCH - 0.5, 0.0), features.shape[0] - 1.0)
        gx = min(max((u + 0.5) / PATCH - 0.5, 0.0), features.shape[1] - 1.0)
        i, j = min(int(gy), features.shape[0] - 2), min(int(gx), features.shape[1] - 2)
        b, a = gy - i, gx - j
        upper = (1 - a) * features[i, j] + a * features[i, j + 1]
        lower = (1 - a) * features[i + 1, j] + a * features[i + 1, j + 1]
        feature = (1 - b) * upper + b * lower
        total = weights[row] + weight
        means[row] = (means[row] * weights[row] + feature * weight) / total
        points[row] = (points[row] * weights[row] + point * weight) / total
        colors[row] = (colors[row] * weights[row] + frame.rgb[v, u] * weight) / total
        weights[row] = total
        last[row] = max(last[row], frame.stamp_ns)
    return sample / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--quick', action='store_true', help='a smoke run: figures mean nothing')
    options = parser.parse_args()
    frames = make_frames(WARM_UP + (4 if options.quick else 60), options.seed)
    rng = np.random.default_rng(options.seed)
    features = rng.normal(size=(480 // PATCH, 640 // PATCH, DIM)).astype(np.float32)
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    voxel_map = VoxelMap(VoxelMapConfig(feature_dim=0, threads=THREADS))
    times, points, stages = [], 0, []
    for number, frame in enumerate(frames):
        start = time.perf_counter()
        report = voxel_map.integrate(frame, features)
        if number >= WARM_UP:
            times.append(time.perf_counter() - start)
            points += report.points
            stages.append(report.ms)
    points_per_s = points / len(times) / float(np.median(times))
    loop = loop_points_per_s(frames[-1], features, 500 if options.quick else 20_000)
    result = {
        'ms_per_frame': 1e3 * float(np.median(times)),
        'ms_per_frame_p95': 1e3 * float(np.quantile(times, 0.95)),
        'speedup_vs_loop': points_per_s / loop,
        'points_per_s': points_per_s,
        'loop_points_per_s': loop,
        'points_per_frame': points / len(times),
        'voxels': len(voxel_map),
        'frames': len(times),
        'threads': THREADS,
        'seed': options.seed,
        **{f'ms_{name}': float(np.median([ms[name] for ms in stages])) for name in stages[0]},
    }
    print(json.dumps({name: round(value, 3) for name, value in result.items()}))


if __name__ == '__main__':
    main()
