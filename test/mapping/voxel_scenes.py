"""Analytic scenes of axis-aligned boxes, and an oracle that knows what is where."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry import Camera, RgbdFrame
from vlm_nodes.geometry.rigid import look_at
from vlm_nodes.mapping import DEFAULT_NEGATIVES

GENERIC = (*DEFAULT_NEGATIVES, 'other')
CAMERA = Camera(160, 120, 130.0, 130.0, 79.5, 59.5)
SMALL = Camera(24, 18, 20.0, 20.0, 11.5, 8.5)


@dataclass
class OracleEncoder:
    """Unit vectors by text, arranged like CLIP's.

    All share a direction; a generic word lies closer to it than a name does, so that it fits
    everything a little, and a name fits its own thing best.
    """

    dim: int = 64
    logit_scale: float = 100.0
    identity: str = 'oracle/1'
    seed: int = 5
    _known: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def vector(self, text: str) -> NDArray[np.float32]:
        if text not in self._known:
            numbers = [self.seed, *text.encode('utf-8', 'replace')]
            own = np.random.default_rng(numbers).normal(size=self.dim)
            own[0] = 0
            own *= (0.3 if text in GENERIC else 0.7) / np.linalg.norm(own)
            own[0] = np.sqrt(1 - own @ own)
            self._known[text] = own.astype(np.float32)
        return self._known[text]

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self.vector(text) for text in texts])

    def patches(
        self,
        labels: NDArray[np.int64],
        names: Sequence[str],
        patch: int = 8,
        noise: float = 0.0,
        seed: int = 0,
    ) -> NDArray[np.float32]:
        """Patch features of a label image: the mean of the patch's class vectors, plus noise."""
        vectors = np.stack([self.vector(name) for name in names])
        h, w = labels.shape[0] // patch, labels.shape[1] // patch
        tiles = vectors[labels].reshape(h, patch, w, patch, self.dim).mean(axis=(1, 3))
        tiles = tiles + noise * np.random.default_rng(seed).normal(size=tiles.shape)
        return (tiles / np.linalg.norm(tiles, axis=-1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Box:
    """A solid box; a room is a box seen from within."""

    name: str
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    color: tuple[int, int, int] = (200, 200, 200)


# No wall on a multiple of 5 cm: there, rounding alone would decide a point's voxel.
ROOM = Box('wall', (-2.51, -2.01, -0.02), (2.52, 2.03, 2.43), (180, 170, 160))
TABLE = Box('table', (0.6, -0.5, -0.02), (1.3, 0.4, 0.61), (120, 80, 40))
MUG = Box('red mug', (0.82, -0.12, 0.61), (1.02, 0.08, 0.86), (220, 20, 20))


def render(
    camera: Camera, world_from_camera: NDArray[np.float64], boxes: Sequence[Box]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Depth along z and the box seen, per pixel; box 0 is the room around the camera."""
    rays = np.concatenate(
        [camera.rays().astype(np.float64), np.ones((camera.height, camera.width, 1))], axis=-1
    )
    directions = rays @ world_from_camera[:3, :3].T
    eye = world_from_camera[:3, 3]
    depth = np.full(directions.shape[:2], np.inf)
    labels = np.zeros(depth.shape, dtype=np.int64)
    for number, box in enumerate(boxes):
        with np.errstate(divide='ignore', invalid='ignore'):
            a, b = (box.low - eye) / directions, (box.high - eye) / directions
        near, far = np.minimum(a, b).max(axis=-1), np.maximum(a, b).min(axis=-1)
        hit = far if number == 0 else np.where((near <= far) & (near > 0), near, np.inf)
        labels[hit < depth] = number
        depth = np.minimum(depth, hit)
    return depth.astype(np.float32), labels


def make_frame(
    boxes: Sequence[Box],
    eye: Sequence[float] = (-1.5, 0.1, 1.3),
    target: Sequence[float] = (1.0, 0.0, 0.6),
    *,
    camera: Camera = CAMERA,
    stamp_ns: int = 1_000,
) -> tuple[RgbdFrame, NDArray[np.int64]]:
    """A registered frame and its label image."""
    pose = look_at(eye, target)
    depth, labels = render(camera, pose, boxes)
    colors = np.array([box.color for box in boxes], dtype=np.uint8)
    return RgbdFrame(stamp_ns, colors[labels], depth, camera, camera, pose, pose), labels


def names(boxes: Sequence[Box]) -> list[str]:
    return [box.name for box in boxes]


def direct_points(frame: RgbdFrame) -> NDArray[np.float64]:
    """Points of all valid pixels in the map frame, by the textbook formula."""
    rays = frame.depth_camera.rays().astype(np.float64)
    depth = frame.depth_m.astype(np.float64)
    points = np.concatenate([rays * depth[..., None], depth[..., None]], axis=-1)
    points = points[np.isfinite(depth)]
    return points @ frame.map_from_depth[:3, :3].T + frame.map_from_depth[:3, 3]
