"""The kitchen recording, played as topics into mapping_node: what of it comes out as a map?

    python benchmarks/kitchen.py [--data DIR] [--hold-out 5] [--quick]

playback_node publishes the frames, mapping_node fuses them without an encoder (model none: only
geometry and colour are measured) into 5 cm voxels, and what it publishes on ~/cloud is measured.
Runs, each into an empty map:

1. All frames, depth unregistered, with the colour camera's fitted intrinsics: `frames_sent`,
   `frames_fused`.
2. Every Nth frame (--hold-out) kept out, the rest as in 1: `median_error_m`, `colour_error_on`.
3. As 2, but as if depth were registered to colour, so that each point gets the colour at its
   pixel in the depth image: `colour_error_off`.

Geometry is measured against the points of a direct back-projection of the held-out frames: every
pixel with a reading within mapping_node's range, by the depth camera's intrinsics and the recorded
pose, nothing else. The map and the held-out frames see different parts of the room; so only those
points of the map count that a held-out frame should see: they project onto one of its pixels with
a reading, and lie no more than 30 cm behind that reading (what is farther is hidden from it).

    median_error_m        median distance of such a point of the map to the nearest held-out point
    p90_error_m           the 90th percentile of the same
    reverse_error_m       median distance of a held-out point to the nearest point of the map; not
                          0 for a perfect map either, which has one point in each 5 cm voxel
    reverse_within_10cm   share of the held-out points with the map within 10 cm: completeness

Colour is measured on the points of the map within 5 cm of what a held-out frame sees there: each is
projected into the held-out colour image by the fitted colour camera, and its colour is held against
the mean of that image over the voxel's footprint. `colour_error_*` is the mean absolute difference
over channels and points, of 255. Both maps are held against the same images in the same way.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from vlm_nodes.demo.node import MappingClient
from vlm_nodes.graph.node import LiveGraph

DEFAULT_DATA = Path(os.environ.get('VLM_DATA', '../shared/data')) / 'kitchen_rgbd'
DEPTH_K = np.array([585.0, 585.0, 320.0, 240.0])
COLOR_K = np.array([526.5, 526.5, 314.0, 237.0])
MIN_DEPTH_M, MAX_DEPTH_M, VOXEL_M = 0.1, 6.0, 0.05
HIDDEN_M, NEAR_M = 0.3, 0.05
RATE_HZ = 5.0

Cloud = tuple[NDArray[np.float32], NDArray[np.uint8]]


@dataclass(frozen=True)
class Truth:
    """A held-out frame.

    Attributes:
        depth_m: (H, W), NaN without a reading.
        rgb: (H, W, 3).
        pose: (4, 4) map from camera.
    """

    depth_m: NDArray[np.float64]
    rgb: NDArray[np.uint8]
    pose: NDArray[np.float64]

    @classmethod
    def read(cls, pose_file: Path) -> Truth:
        """The frame whose pose is in a file."""
        name = str(pose_file).removesuffix('.pose.txt')
        raw = cv2.imread(f'{name}.depth.png', cv2.IMREAD_UNCHANGED)
        depth_m = np.where((raw == 0) | (raw == 65535), np.nan, raw / 1000.0)
        depth_m[~((depth_m >= MIN_DEPTH_M) & (depth_m <= MAX_DEPTH_M))] = np.nan
        rgb = cv2.cvtColor(cv2.imread(f'{name}.color.jpg'), cv2.COLOR_BGR2RGB)
        return cls(depth_m, np.asarray(rgb, np.uint8), np.loadtxt(pose_file))

    def points(self) -> NDArray[np.float64]:
        """(N, 3) of all readings, in the map's frame."""
        fx, fy, cx, cy = DEPTH_K
        v, u = np.nonzero(np.isfinite(self.depth_m))
        z = self.depth_m[v, u]
        camera = np.column_stack([(u - cx) / fx * z, (v - cy) / fy * z, z])
        return camera @ self.pose[:3, :3].T + self.pose[:3, 3]

    def seen_behind_m(self, points: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N,) how far points lie behind the reading at their pixel; NaN where there is none."""
        camera, u, v = self._project(points, DEPTH_K)
        reading = np.full(len(points), np.nan)
        inside = self._inside(camera, u, v)
        reading[inside] = self.depth_m[v[inside], u[inside]]
        return camera[:, 2] - reading

    def color_error(self, points: NDArray[np.float32], colors: NDArray[np.uint8]) -> list[float]:
        """Of each point that this frame sees: mean absolute difference of its colour."""
        known = np.abs(self.seen_behind_m(points)) < NEAR_M
        camera, u, v = self._project(points, COLOR_K)
        known &= self._inside(camera, u, v)
        sides = np.rint(COLOR_K[0] * VOXEL_M / np.maximum(camera[:, 2], MIN_DEPTH_M)).astype(int)
        errors: list[float] = []
        for side in np.unique(sides[known]):
            mean = cv2.blur(self.rgb.astype(np.float32), (int(side), int(side)))
            chosen = np.flatnonzero(known & (sides == side))
            difference = np.abs(mean[v[chosen], u[chosen]] - colors[chosen])
            errors += difference.mean(axis=1).tolist()
        return errors

    def _project(
        self, points: NDArray[np.float32], k: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
        camera = (points - self.pose[:3, 3]) @ self.pose[:3, :3]
        z = np.maximum(camera[:, 2], 1e-6)
        u = np.rint(k[0] * camera[:, 0] / z + k[2])
        v = np.rint(k[1] * camera[:, 1] / z + k[3])
        return camera, *(np.clip(p, -1, 1e6).astype(np.intp) for p in (u, v))

    def _inside(
        self, camera: NDArray[np.float64], u: NDArray[np.intp], v: NDArray[np.intp]
    ) -> NDArray[np.bool_]:
        height, width = self.depth_m.shape
        in_image = (u >= 0) & (u < width) & (v >= 0) & (v < height)
        return np.asarray(in_image & (camera[:, 2] > MIN_DEPTH_M))


def play(folders: list[Path], *, registered: bool) -> list[tuple[Cloud, int]]:
    """Of each folder, played into an empty map: the map's points and colours, and frames fused."""
    intrinsics = [] if registered else ['--color-intrinsics', *map(str, COLOR_K)]
    results = []
    with LiveGraph() as graph:
        mapping = MappingClient(
            graph,
            model='none',
            depth_registered=registered,
            sensor_reliability='reliable',
            frames_waiting=10,
            tf_timeout_s=5.0,
            voxel_size_m=VOXEL_M,
            publish_period_s=0.5,
        )
        mapping.wait_ready()
        for folder in folders:
            mapping.reset()
            fused = int(mapping.number('frames fused'))
            player = graph.start(
                'playback_node',
                'vlm_nodes.mapping.playback.node',
                {},
                arguments=[str(folder), '--rate', str(RATE_HZ), *intrinsics],
            )
            graph.wait(
                lambda player=player: player.returncode is not None,
                300.0,
                'the end of the recording',
            )
            cloud = mapping.cloud()
            results.append((cloud, int(mapping.number('frames fused')) - fused))
    return results


def geometry(cloud: Cloud, truths: list[Truth]) -> dict[str, float]:
    points, _ = cloud
    held_out = np.concatenate([truth.points() for truth in truths])
    behind = np.array([truth.seen_behind_m(points) for truth in truths])
    seen = (behind < HIDDEN_M).any(axis=0)
    error = cKDTree(held_out).query(points[seen])[0]
    reverse = cKDTree(points).query(held_out[:: max(1, len(held_out) // 200_000)])[0]
    return {
        'median_error_m': float(np.median(error)),
        'p90_error_m': float(np.quantile(error, 0.9)),
        'reverse_error_m': float(np.median(reverse)),
        'reverse_within_10cm': float((reverse < 0.1).mean()),
        'points_compared': int(seen.sum()),
        'points_in_map': len(points),
    }


def color_error(cloud: Cloud, truths: list[Truth]) -> float:
    points, colors = cloud
    return float(np.mean([e for truth in truths for e in truth.color_error(points, colors)]))


def select(files: list[Path], data: Path, folder: Path) -> Path:
    """A folder with some frames of the recording."""
    folder.mkdir()
    names = [file.name.removesuffix('.pose.txt') for file in files]
    chosen = [file for name in names for file in data.glob(f'{name}.*')]
    for file in [*chosen, data / 'camera-intrinsics.txt']:
        (folder / file.name).symlink_to(file.resolve())
    return folder


def measure(data: Path, hold_out: int, frames: int) -> dict[str, float]:
    poses = sorted(data.glob('*.pose.txt'))[:frames]
    kept = [file for index, file in enumerate(poses) if index % hold_out]
    truths = [Truth.read(file) for file in poses[::hold_out]]
    with tempfile.TemporaryDirectory() as folder:
        everything = select(poses, data, Path(folder) / 'all')
        rest = select(kept, data, Path(folder) / 'rest')
        (_, fused), (on, fused_rest) = play([everything, rest], registered=False)
        ((off, _),) = play([rest], registered=True)
    return {
        'frames_fused': fused,
        'frames_sent': len(poses),
        **geometry(on, truths),
        'colour_error_on': color_error(on, truths),
        'colour_error_off': color_error(off, truths),
        'frames_held_out': len(truths),
        'frames_fused_without_held_out': fused_rest,
        'frames_sent_without_held_out': len(kept),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, default=DEFAULT_DATA, help='folder of the recording')
    parser.add_argument('--hold-out', type=int, default=5, metavar='N', help='keep out every Nth')
    parser.add_argument('--quick', action='store_true', help='a smoke run: figures mean nothing')
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f'there is no recording at {options.data}: name one with --data')
    if options.hold_out < 2:
        parser.error(f'--hold-out {options.hold_out} leaves no frame for the map: at least 2')
    result = measure(options.data, options.hold_out, 6 if options.quick else 10**9)
    print(json.dumps({name: round(value, 5) for name, value in result.items()}))


if __name__ == '__main__':
    main()
