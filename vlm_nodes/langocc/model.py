"""LangOcc: surround pictures to density and features in voxels, and rays through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from vlm_nodes.langocc.backbone import Backbone
from vlm_nodes.langocc.config import LangOccConfig
from vlm_nodes.langocc.lifting import Rig, Tables, lift
from vlm_nodes.langocc.rays import Rays
from vlm_nodes.langocc.rendering import render
from vlm_nodes.langocc.volume import Trunk3d, coordinates, split, warp

MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
"""Of RGB in [0, 1]: ImageNet's, which ResNet-50 weights are for."""

_FIRST_DENSITY: Final = 0.1
"""1/m everywhere before training: light reaches most of the grid, and stops somewhere."""

_DENSITY_GAIN: Final = 4.0
"""On what the density's layer says: fog clears slowly at the rate that suits all other layers."""

_ON_THE_FLOOR_M: Final = 1e-2


@dataclass(frozen=True)
class Surround:
    """Pictures of a batch of moments.

    Attributes:
        images: (B, N, 3, H, W) float32 in [0, 1] at the configuration's size; what missing
            cameras have does not matter.
        rigs: B rigs of N views, None where a camera is missing.
    """

    images: Tensor
    rigs: Sequence[Rig]


@dataclass(frozen=True)
class Volume:
    """What a network says of a batch of moments.

    Attributes:
        density: (B, 1, X i, Y j, Z k) 1/m, of the i x j x k parts of each voxel of the
            configuration's `space`.
        hidden: (B, C, X, Y, Z) unit vectors; `LangOcc.decode` makes features of them.
        pictures: (B, N, h, w, C) unit vectors of the pictures that were lifted, before any depth,
            where they are of use: in training.
    """

    density: Tensor
    hidden: Tensor
    pictures: Tensor | None = None

    def mirrored(self, axis: int) -> Volume:
        """Behind a mirror across x (0) or y (1), for a grid that is even about the vehicle."""
        turned = self.density.flip(axis + 2), self.hidden.flip(axis + 2)
        return Volume(*turned, self.pictures)

    def within(self, shape: tuple[int, int, int]) -> Volume:
        """What is said of a grid of this shape, without the margin about it."""
        margin = (self.hidden.shape[2] - shape[0]) // 2
        if not margin:
            return self
        i, j, k = (
            margin * parts // voxels
            for parts, voxels in zip(self.density.shape[2:], self.hidden.shape[2:], strict=True)
        )
        hidden = self.hidden[:, :, margin:-margin, margin:-margin, :-margin]
        return Volume(self.density[:, :, i:-i, j:-j, :-k], hidden, self.pictures)


@dataclass(frozen=True)
class Seen:
    """What rays see.

    Attributes:
        features: (B, R, D); of unit length where a ray ends in one thing.
        opacity: (B, R) how much of it is inside the grid.
        depth_m: (B, R) along the ray.
        spread_m: (B, R) mean distance between two places that it sees.
    """

    features: Tensor
    opacity: Tensor
    depth_m: Tensor
    spread_m: Tensor


class LangOcc(nn.Module):
    """The network of a configuration, untrained."""

    def __init__(self, config: LangOccConfig) -> None:
        super().__init__()
        self.config = config
        self.tables = Tables(config)
        self.backbone = Backbone(config)
        self.depth = nn.Sequential(
            nn.Conv2d(config.neck + 6, config.neck, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(config.neck, config.bins, 1),
        )
        self.context = nn.Conv2d(config.neck + 6, config.lifted, 1)
        self.look = nn.Conv2d(config.lifted, config.hidden, 1)
        self.norm = nn.GroupNorm(8, config.lifted)
        moments = 2 if config.previous else 1
        self.trunk = Trunk3d(config.lifted * moments + 4, config.trunk)
        width = config.trunk[0]
        parts = config.fine[0] * config.fine[1] * config.fine[2]
        self.density = nn.Conv3d(width, parts, 1)
        self.hidden = nn.Sequential(
            nn.Conv3d(width, config.hidden, 1),
            nn.ReLU(),
            nn.Conv3d(config.hidden, config.hidden, 1),
        )
        self.sky = Sky(config.hidden)
        self.code = nn.Parameter(torch.empty(config.feature_dim, config.hidden))
        nn.init.orthogonal_(self.code)
        first = torch.full((parts,), float(np.log(np.expm1(_FIRST_DENSITY))) / _DENSITY_GAIN)
        self.density.bias = nn.Parameter(first)
        self.register_buffer('_places', coordinates(config.space), persistent=False)
        for name, numbers in (('_mean', MEAN), ('_std', STD)):
            constant = torch.tensor(numbers).reshape(3, 1, 1)
            self.register_buffer(name, constant, persistent=False)

    def forward(
        self,
        now: Surround,
        previous: Surround | None = None,
        previous_from_now: Tensor | None = None,
        mirror: tuple[int, ...] = (),
    ) -> Volume:
        """Density and hidden features of a batch.

        Args:
            now: Pictures.
            previous: Earlier ones, where the configuration fuses them; None counts as unknown.
            previous_from_now: (B, 4, 4) from the ego frame now to the one of the earlier pictures.
            mirror: Axes (0 is x, 1 is y) that what was lifted is mirrored across, for training;
                the volume is that of the mirrored world.

        Raises:
            ValueError: There is an earlier moment without a pose, or the other way round.
        """
        if (previous is None) != (previous_from_now is None):
            raise ValueError('earlier pictures and their pose must come together')
        lifted, context = self.lift(now)
        parts = [lifted]
        if self.config.previous:
            if previous is None or previous_from_now is None:
                parts.append(torch.zeros_like(lifted))
            else:
                parts.append(warp(self.lift(previous)[0], self.config.space, previous_from_now))
        if mirror:
            parts = [part.flip([axis + 2 for axis in mirror]) for part in parts]
        places: Tensor = self._places  # type: ignore[assignment]
        parts.append(places.to(lifted.dtype).expand(len(lifted), *places.shape))
        trunk = self.trunk(torch.cat(parts, dim=1))
        density = split(_DENSITY_GAIN * self.density(trunk).float(), self.config.fine)
        hidden = functional.normalize(self.hidden(trunk).float(), dim=1)
        pictures = self._looked(context) if self.training else None
        return Volume(functional.softplus(density), hidden, pictures)

    def _looked(self, context: Tensor) -> Tensor:
        """What pictures show by themselves: (B, N, lifted, h, w) -> (B, N, h, w, C)."""
        looked = self.look(context.flatten(0, 1)).float().movedim(1, -1)
        return functional.normalize(looked, dim=-1).reshape(*context.shape[:2], *looked.shape[1:])

    def lift(self, surround: Surround) -> tuple[Tensor, Tensor]:
        """Pictures to features, (B, lifted, X, Y, Z), and (B, N, lifted, h, w) before lifting."""
        batch, cameras = surround.images.shape[:2]
        tables = [self.tables.of(rig, surround.images.device) for rig in surround.rigs]
        mean: Tensor = self._mean  # type: ignore[assignment]
        std: Tensor = self._std  # type: ignore[assignment]
        normal = ((surround.images - mean) / std).flatten(0, 1)
        features = self.backbone(normal)
        rays = torch.cat([table.rays for table in tables]).to(features.dtype)
        features = torch.cat([features, rays], dim=1)
        context = self.context(features).unflatten(0, (batch, cameras))
        depth = self.depth(features).float().softmax(dim=1).to(features.dtype)
        # Even depth gives every bin 1: what is lifted has the size of what is seen.
        depth = (depth * self.config.bins).unflatten(0, (batch, cameras))
        volumes = [lift(context[b], depth[b], table, self.config) for b, table in enumerate(tables)]
        return self.norm(torch.stack(volumes)), context

    def render(self, volume: Volume, rays: Rays, *, jitter: bool = False) -> Seen:
        """What rays (B, R) see: the volume's features, and the sky with what opacity is left.

        Nothing lies below the grid: rays that leave through its floor must end before, or they see
        too little.
        """
        seen = render(
            volume.density, volume.hidden, rays, self.config.space, self.config.sampling,
            jitter=jitter,
        )  # fmt: skip
        end = rays.origins_m[..., 2] + rays.directions[..., 2] * seen.far_m
        floor = (seen.far_m > 0) & (end < self.config.grid.lower_m[2] + _ON_THE_FLOOR_M)
        left = ((1 - seen.opacity) * ~floor)[..., None]
        hidden = seen.features + left * self.sky(rays.directions)
        return Seen(self.decode(hidden), seen.opacity, seen.depth_m, seen.spread_m)

    def decode(self, hidden: Tensor) -> Tensor:
        """Hidden features (..., C) in the space of texts, (..., D).

        The map is linear and keeps lengths, so that decoding a ray's sum is exactly the sum of its
        decoded samples, at a cost of one product a ray.
        """
        return hidden @ self.decoder().T

    def decoder(self) -> Tensor:
        """(D, C) orthonormal columns."""
        with torch.autocast(self.code.device.type, enabled=False):
            columns: Tensor = torch.linalg.qr(self.code.float()).Q
        return columns

    def encode_text(self, text: NDArray[np.float32]) -> NDArray[np.float32]:
        """Text vectors (N, D) as (N, C), to be compared with hidden features.

        The products are those with decoded features, so that voxels never need D numbers.
        """
        with torch.no_grad():
            encoded = torch.from_numpy(text).to(self.code.device) @ self.decoder()
        return np.asarray(encoded.cpu().numpy(), np.float32)


class Sky(nn.Module):
    """What lies behind everything: one feature.

    One that depended on the direction would learn that houses are to the left and right of streets:
    an answer so good that nothing else is found out about houses.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.feature = nn.Parameter(torch.randn(channels) / channels**0.5)

    def forward(self, directions: Tensor) -> Tensor:
        """(..., 3) unit vectors -> (..., C) unit vectors."""
        unit = functional.normalize(self.feature.float(), dim=0)
        return unit.expand(*directions.shape[:-1], len(unit))
