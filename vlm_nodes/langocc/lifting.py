"""Features of pictures lifted to voxels, by a distribution over depth.

`push` is lift-splat (Philion and Fidler 2020): each pixel puts its feature into the voxels along
its ray. `pull` looks each voxel's centre up in the pictures (as M2BEV, Xie et al. 2022, weighted by
depth): it leaves no holes far away. Which pixel belongs to which voxel depends on calibration alone
and is kept until that changes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import invert, transform_points
from vlm_nodes.langocc.config import LangOccConfig

_KEPT_TABLES = 512
"""Rigs whose tables are kept: a training meets as many as it has keyframes."""


@dataclass(frozen=True)
class RigView:
    """One camera of a rig.

    Attributes:
        camera: Intrinsics of the picture before it is resized.
        ego_from_camera: (4, 4) to the frame of the voxels.
    """

    camera: Camera
    ego_from_camera: NDArray[np.float64]

    def key(self) -> tuple[object, ...]:
        """Equal where nothing that matters differs; poses count to a tenth of a millimetre."""
        c = self.camera
        numbers = (c.width, c.height, c.fx, c.fy, c.cx, c.cy, c.distortion_model, c.distortion)
        return (*numbers, np.round(self.ego_from_camera, 4).tobytes())


Rig = Sequence[RigView | None]
"""A configuration's cameras in order; None where one is missing."""


@dataclass(frozen=True)
class Table:
    """Which feature goes where, for one rig; `push` and `pull` fill different parts.

    Attributes:
        seen: (N,) bool; cameras that are there.
        rays: (N, 6, h, w) float32 direction and origin of each feature's ray, 0 where missing.
        voxel: (M,) flat index of the voxel, rising in `push`.
        pixel: (M,) flat index of the feature (N h w); `push`.
        cell: (M,) flat index of its depth bin (N bins h w); `push`.
        places: (M, 3) float32 place in a picture and in depth, -1 to 1; `pull`.
        starts: Where each camera's part of `voxel` and `places` begins, and the end; `pull`.
        share: (X Y Z, 1) float32, 1 over the number of cameras that see a voxel; `pull`.
    """

    seen: Tensor
    rays: Tensor
    voxel: Tensor
    pixel: Tensor
    cell: Tensor
    places: Tensor
    starts: tuple[int, ...]
    share: Tensor

    def to(self, device: torch.device | str) -> Table:
        """The same on another device."""
        parts = vars(self).items()
        tensors: dict[str, Any] = {k: v.to(device) for k, v in parts if isinstance(v, Tensor)}
        return replace(self, **tensors)


class Tables:
    """Tables of rigs, each made once; the least recently used are forgotten.

    Attributes:
        keep: How many are kept.
        made: How many were made.
    """

    def __init__(self, config: LangOccConfig, keep: int = _KEPT_TABLES) -> None:
        self._config, self.keep = config, keep
        self._kept: OrderedDict[tuple[object, ...], Table] = OrderedDict()
        self.made = 0

    def of(self, rig: Rig, device: torch.device | str = 'cpu') -> Table:
        """The table of a rig, on a device."""
        key = (str(device), *(view.key() if view else None for view in rig))
        if key not in self._kept:
            self._kept[key] = make_table(self._config, rig).to(device)
            self.made += 1
            while len(self._kept) > self.keep:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def lift(context: Tensor, depth: Tensor, table: Table, config: LangOccConfig) -> Tensor:
    """Lift one rig's features.

    Args:
        context: (N, C, h, w).
        depth: (N, bins, h, w), a distribution at every place.
        table: Of the rig.
        config: Says how.

    Returns:
        (C, X, Y, Z); 0 where no camera looks.
    """
    method = _push if config.lift == 'push' else _pull
    voxels: Tensor = method(context, depth, table, config)
    return voxels.T.reshape(context.shape[1], *config.space.shape)


def _push(context: Tensor, depth: Tensor, table: Table, config: LangOccConfig) -> Tensor:
    rows = context.permute(0, 2, 3, 1).reshape(-1, context.shape[1])
    spread = rows[table.pixel] * depth.reshape(-1)[table.cell][:, None]
    return _zeros(spread, config).index_add_(0, table.voxel, spread)


def _pull(context: Tensor, depth: Tensor, table: Table, config: LangOccConfig) -> Tensor:
    # Looking up is done in float32, whatever autocast makes of convolutions.
    context, depth = context.float(), depth.float()
    total = _zeros(context[0, :, 0, :1].T, config)
    for n, (start, end) in enumerate(zip(table.starts[:-1], table.starts[1:], strict=True)):
        if start == end:
            continue
        places = table.places[start:end].to(context.dtype)
        # Places are of centres: outer ones reach on to the picture's edge.
        seen = functional.grid_sample(
            context[n : n + 1], places[None, None, :, :2], padding_mode='border',
            align_corners=False,
        )[0, :, 0]  # fmt: skip
        chance = functional.grid_sample(
            depth[n][None, None], places[None, None, None], padding_mode='border',
            align_corners=False,
        )[0, 0, 0, 0]  # fmt: skip
        # Looked up in float32 under autocast, whatever the features are.
        total.index_add_(0, table.voxel[start:end], (seen * chance).T.to(total.dtype))
    return total * table.share.to(total.dtype)


def _zeros(like: Tensor, config: LangOccConfig) -> Tensor:
    return like.new_zeros(int(np.prod(config.space.shape)), like.shape[1])


def make_table(config: LangOccConfig, rig: Rig) -> Table:
    """The table of a rig, on the CPU.

    Raises:
        ValueError: There are more or fewer views than cameras.
    """
    if len(rig) != len(config.cameras):
        raise ValueError(f'{len(rig)} views for the cameras {config.cameras}')
    height, width = config.feature_size
    none = np.zeros(0, np.int64)
    voxel, pixel, cell, places = [none], [none], [none], [np.zeros((0, 3), np.float32)]
    starts, rays = [0], np.zeros((len(rig), 6, height, width), np.float32)
    for n, view in enumerate(rig):
        if view is not None:
            lines = _feature_rays(view, config)
            rays[n] = _unit_rays(lines, view)
            if config.lift == 'push':
                found = _pushed(lines, view, config)
                voxel.append(found[0])
                pixel.append(found[1] + n * height * width)
                cell.append(found[2] + n * config.bins * height * width)
            else:
                seen, where = _pulled(view, config)
                voxel.append(seen)
                places.append(where)
        starts.append(sum(map(len, voxel)))
    flat = np.concatenate(voxel)
    order = np.argsort(flat, kind='stable') if config.lift == 'push' else np.arange(len(flat))
    counts = np.bincount(flat, minlength=int(np.prod(config.space.shape)))
    pushed = order if config.lift == 'push' else none
    return Table(
        seen=torch.tensor([view is not None for view in rig]),
        rays=torch.from_numpy(rays),
        voxel=torch.from_numpy(flat[order]),
        pixel=torch.from_numpy(np.concatenate(pixel)[pushed]),
        cell=torch.from_numpy(np.concatenate(cell)[pushed]),
        places=torch.from_numpy(np.concatenate(places)),
        starts=tuple(starts),
        share=torch.from_numpy((1 / np.maximum(counts, 1)).astype(np.float32))[:, None],
    )


def _feature_rays(view: RigView, config: LangOccConfig) -> NDArray[np.float64]:
    """(h, w, 3) of features' middles, camera frame, 1 along its axis."""
    height, width = config.feature_size
    flat = view.camera.resized(width, height).rays().astype(np.float64)
    return np.concatenate([flat, np.ones((height, width, 1))], axis=-1)


def _unit_rays(lines: NDArray[np.float64], view: RigView) -> NDArray[np.float32]:
    """(6, h, w): directions in the ego frame, origins in tens of metres."""
    directions = lines @ view.ego_from_camera[:3, :3].T
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    origins = np.broadcast_to(view.ego_from_camera[:3, 3] / 10, directions.shape)
    both = np.concatenate([directions, origins], axis=-1).astype(np.float32)
    return np.ascontiguousarray(both.transpose(2, 0, 1))


def _pushed(
    lines: NDArray[np.float64], view: RigView, config: LangOccConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Voxel, feature and depth bin of every pair that lies in the grid."""
    near, _, step = config.depth_m
    depths = near + (np.arange(config.bins) + 0.5) * step
    points = depths[:, None, None, None] * lines
    voxels, inside = config.space.voxel_of(transform_points(view.ego_from_camera, points))
    chosen = np.flatnonzero(inside)
    flat = np.ravel_multi_index(tuple(voxels.reshape(-1, 3)[chosen].T), config.space.shape)
    return flat.astype(np.int64), chosen % (lines.shape[0] * lines.shape[1]), chosen


def _pulled(view: RigView, config: LangOccConfig) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Voxels whose centres a camera sees within its depth bins, and where."""
    centres = config.space.centres().reshape(-1, 3)
    seen = transform_points(invert(view.ego_from_camera), centres)
    camera = view.camera
    across = (camera.project(seen) + 0.5) / (camera.width, camera.height)
    near, _, step = config.depth_m
    along = (seen[:, 2] - near) / (step * config.bins)
    places = np.column_stack([across, along])
    with np.errstate(invalid='ignore'):  # NaN lies behind the camera
        inside = ((places >= 0) & (places < 1)).all(1)
    return np.flatnonzero(inside), (2 * places[inside] - 1).astype(np.float32)
