"""Pictures of what a network says: depth and features beside the cameras, and from above."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vlm_nodes.clip.projection import FeatureProjection
from vlm_nodes.langocc.data import resized
from vlm_nodes.langocc.model import LangOcc
from vlm_nodes.langocc.predictor import Prediction
from vlm_nodes.langocc.rays import Rays, pixel_rays
from vlm_nodes.surround import Keyframe, SurroundImage, read_image
from vlm_nodes.surround.occupancy import FREE

Picture = NDArray[np.uint8]

COLOURS: Final[NDArray[np.uint8]] = np.array(
    [
        (90, 90, 90), (230, 140, 60), (240, 120, 170), (250, 210, 60), (60, 130, 240),
        (20, 180, 180), (170, 80, 30), (230, 40, 40), (250, 230, 170), (120, 60, 20),
        (140, 70, 220), (150, 140, 160), (120, 30, 70), (220, 130, 210), (160, 220, 90),
        (225, 220, 200), (30, 140, 50), (255, 255, 255),
    ],
    np.uint8,
)  # fmt: skip
"""RGB by Occ3D's class number; the last is free space."""

_CHUNK: Final = 8192
_LEAST_DISTANCE_M: Final = 1.0


def draw_cameras(
    model: LangOcc, prediction: Prediction, keyframe: Keyframe, height: int = 96
) -> Picture:
    """A row a camera: the picture, rendered depth (near is bright), rendered features as colours.

    Args:
        model: The network.
        prediction: What it says of the keyframe.
        keyframe: The pictures.
        height: Of each picture in pixels.

    Returns:
        RGB.

    Raises:
        SurroundError: A picture cannot be read.
    """
    views = [(name, image) for name, image in keyframe.cameras.items()]
    sizes = [(height, max(8, round(height * i.camera.width / i.camera.height))) for _, i in views]
    seen = [
        _rendered(model, prediction, keyframe.ego_from_camera(name), image, size)
        for (name, image), size in zip(views, sizes, strict=True)
    ]
    colours = _as_colours([features for features, _ in seen])
    far = max(prediction.grid.upper_m)
    rows = []
    for (_, image), size, (_, depth), colour in zip(views, sizes, seen, colours, strict=True):
        near = np.clip(np.log(far / np.maximum(depth, _LEAST_DISTANCE_M)) / np.log(far), 0, 1)
        grey = np.repeat((255 * near)[..., None], 3, axis=-1).astype(np.uint8)
        rows.append(np.hstack([resized(read_image(image), size), grey, colour]))
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
    return np.vstack(padded)


def _rendered(
    model: LangOcc,
    prediction: Prediction,
    ego_from_camera: NDArray[np.float64],
    image: SurroundImage,
    size: tuple[int, int],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features (h, w, D) and distances (h, w) of a camera's rays."""
    camera = image.camera.resized(size[1], size[0])
    v, u = np.mgrid[: size[0], : size[1]]
    pixels = np.column_stack([u.ravel(), v.ravel()]).astype(np.int64)
    rays = pixel_rays(camera, ego_from_camera, pixels).to(prediction.volume.density.device)
    features, depth = [], []
    with torch.inference_mode():
        for start in range(0, len(pixels), _CHUNK):
            part = slice(start, start + _CHUNK)
            some = Rays(rays.origins_m[None, part], rays.directions[None, part])
            seen = model.render(prediction.volume, some)
            features.append(seen.features[0].cpu().numpy())
            depth.append(seen.depth_m[0].cpu().numpy())
    return np.concatenate(features).reshape(*size, -1), np.concatenate(depth).reshape(size)


def _as_colours(features: list[NDArray[np.float32]]) -> list[Picture]:
    """The three directions of largest variance over all cameras as red, green and blue."""
    every = np.concatenate([f.reshape(-1, f.shape[-1]) for f in features])
    projection = FeatureProjection.fit(every, min(3, every.shape[1]))
    reduced = projection.project(every)
    low, high = np.percentile(reduced, (2, 98), axis=0)
    pictures = []
    for part in features:
        scaled = (projection.project(part) - low) / np.maximum(high - low, 1e-9)
        pictures.append((255 * np.clip(scaled, 0, 1)).astype(np.uint8))
    return pictures


def draw_above(semantics: NDArray[np.uint8], scale: int = 4) -> Picture:
    """The topmost occupied voxel of each column from above, ahead is up, left is left: RGB."""
    filled = semantics != FREE
    top = semantics.shape[2] - 1 - filled[:, :, ::-1].argmax(axis=2)
    classes = np.take_along_axis(semantics, top[..., None], axis=2)[..., 0]
    classes = np.where(filled.any(axis=2), classes, FREE)
    # x is ahead and y left: rows from far ahead, columns from the left.
    picture = COLOURS[classes[::-1, ::-1]]
    return np.ascontiguousarray(picture.repeat(scale, axis=0).repeat(scale, axis=1))


def write_picture(path: Path, picture: Picture) -> None:
    """Write RGB as PNG.

    Raises:
        OSError: It could not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr: Any = picture[..., ::-1]
    if not cv2.imwrite(str(path), bgr):
        raise OSError(f'could not write {path}')
