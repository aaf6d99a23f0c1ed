"""From recorded or live arrays to what a policy sees: one piece, so that both agree.

Images are brought to the policy's size as `rosbag2npz` brings them to the data set's, by the same
function, and only then scaled: a live image that is cropped and resized here is the recorded one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from bag_tools.decode import DecodeError
from bag_tools.images import NO_DIFFERENCE, fit
from bag_tools.settings import StreamSettings
from vlm_nodes.sarnn.config import ClipBranchConfig, SarnnConfig, Size
from vlm_nodes.sarnn.observation import Observation

if TYPE_CHECKING:  # open_clip takes seconds to import, and policies without CLIP do not need it
    from vlm_nodes.clip.encoder import Encoder

Crop = tuple[int, int, int, int]
"""Left, top, width and height in pixels, as `crop` of `rosbag2npz`'s configuration."""


class Preprocessor:
    """Makes the tensors of `Observation`.

    Sequences and single ticks go in alike: leading shapes are kept. Images go through `fit` (which
    may be done once for a data set) and then `image`, `depth` or `tactile`.

    Args:
        config: The policy's.
        crops: What is cut from images before they are resized, by stream: for live inputs what
            `rosbag2npz` cut from the recorded ones; none for a data set.

    Raises:
        ValueError: A crop is of a stream that the policy does not have.
    """

    def __init__(self, config: SarnnConfig, crops: Mapping[str, Crop] | None = None) -> None:
        self.config = config
        self._sizes = dict.fromkeys(config.cameras, config.image_size)
        self._sizes |= dict.fromkeys(config.tactile, config.tactile_size)
        if config.depth:
            self._sizes[config.depth.stream] = config.depth.size
        self._crops = dict(crops or {})
        for stream in self._crops:
            self._size(stream)
        low, high = np.asarray(config.joint_bounds, dtype=np.float64)
        self._low, self._range = low, high - low

    def joints(self, positions: ArrayLike) -> Tensor:
        """(..., P) positions in the order of `joint_names` -> (..., P) float32, bounds to [0, 1].

        Raises:
            ValueError: Another number of joints.
        """
        values = np.asarray(positions, dtype=np.float64)
        if values.shape[-1:] != (self.config.joint_dim,):
            raise ValueError(
                f'joints must be (..., {self.config.joint_dim}): '
                f'{", ".join(self.config.joint_names)}; got {values.shape}'
            )
        return torch.from_numpy(((values - self._low) / self._range).astype(np.float32))

    def joints_by_name(self, positions: Mapping[str, float]) -> Tensor:
        """(P,) float32 from positions by name, in any order; other joints are passed over.

        Raises:
            ValueError: A joint is missing or not finite; the message names it.
        """
        names = self.config.joint_names
        if missing := [name for name in names if name not in positions]:
            raise ValueError(
                f'no position of {", ".join(missing)}; there are {", ".join(positions) or "none"}'
            )
        values = np.array([positions[name] for name in names], dtype=np.float64)
        if not np.isfinite(values).all():
            bad = names[int(np.flatnonzero(~np.isfinite(values))[0])]
            raise ValueError(f'the position of {bad} is {positions[bad]}')
        return self.joints(values)

    def unscale(self, joints: Tensor) -> NDArray[np.float64]:
        """(..., P) scaled joints -> (..., P) positions, the inverse of `joints`."""
        scaled = joints.detach().cpu().numpy().astype(np.float64)
        return np.asarray(scaled * self._range + self._low)

    def fit(self, stream: str, images: NDArray[Any]) -> NDArray[Any]:
        """Bring images to the policy's size, cropped where the stream has a crop.

        Args:
            stream: A camera, a touch sensor, or the stream of depth.
            images: (..., H, W, 3) uint8 RGB, or of depth (..., H, W) as `depth` takes it.

        Returns:
            The same type, (..., h, w, 3) or (..., h, w): colours averaged, depth by its nearest
            reading. The same array where nothing changes.

        Raises:
            ValueError: The policy has no such stream, the images are of another shape or type, or
                the crop does not lie in them.
        """
        self._check_images(stream, images)
        try:
            return fit_images(images, self._size(stream), self._crops.get(stream, ()))
        except ValueError as error:
            raise ValueError(f'{stream}: {error}') from error

    def image(self, images: NDArray[np.uint8]) -> Tensor:
        """(..., h, w, 3) uint8 RGB of the policy's size -> (..., 3, h, w) float32 in [0, 1]."""
        return _channels_first(images).float() / 255

    def tactile(
        self, images: NDArray[np.uint8], reference: NDArray[np.uint8] | None = None
    ) -> Tensor:
        """A touch sensor's images less the one without contact.

        Args:
            images: (..., h, w, 3) uint8 RGB of the policy's size.
            reference: The image without contact, of the same size, which broadcasts against them:
                (h, w, 3), or (B, 1, h, w, 3) of (B, T, h, w, 3). None where `rosbag2npz` took it
                off already (`subtract: true`), which left 128 where nothing differs.

        Returns:
            (..., 3, h, w) float32 in [-1, 1].
        """
        before = NO_DIFFERENCE if reference is None else _channels_first(reference).float()
        return (_channels_first(images).float() - before) / 255

    def depth(self, images: NDArray[Any]) -> Tensor:
        """Depth images as nearness.

        Args:
            images: (..., h, w) of the policy's size: float metres, where NaN, infinite, 0 and less
                are no reading, or uint16 millimetres, where 0 and 65535 are none.

        Returns:
            (..., 1, h, w) float32: 1 at the nearest of the range and before it, 0 at the farthest,
            beyond it, and where there is no reading.

        Raises:
            ValueError: The policy has no depth.
        """
        if self.config.depth is None:
            raise ValueError('the policy was trained without depth')
        near, far = self.config.depth.range_m
        if images.dtype == np.uint16:
            metres = np.where(images == 65535, 0, images).astype(np.float32) / np.float32(1000)
        else:
            metres = images.astype(np.float32)
        known = np.isfinite(metres) & (metres > 0)
        nearness = (far - np.where(known, metres, far)) / (far - near)
        return torch.from_numpy(nearness.clip(0, 1).astype(np.float32)).unsqueeze(-3)

    def observe(
        self,
        positions: Mapping[str, float],
        images: Mapping[str, NDArray[Any]],
        references: Mapping[str, NDArray[np.uint8]] | None = None,
        clip: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> Observation:
        """One tick of live inputs.

        Args:
            positions: Joint positions by name.
            images: By stream: (H, W, 3) uint8 RGB of cameras and touch sensors, (H, W) of depth;
                of any size. Streams that the policy does not have are passed over.
            references: By touch sensor (H, W, 3) uint8 RGB without contact, of the images' size.
            clip: By camera (C, gh, gw), as `PatchFeatures` gives them; for policies with CLIP.

        Returns:
            An observation of leading shape (1,).

        Raises:
            ValueError: A joint, a stream or a reference is missing; the message names it.
        """
        config, references, clip = self.config, references or {}, clip or {}
        self._check_streams(images, references)
        fitted = {stream: self.fit(stream, images[stream]) for stream in self._sizes}
        touched = {
            name: self.tactile(fitted[name], self.fit(name, references[name]))
            for name in config.tactile
        }
        return Observation(
            joints=self.joints_by_name(positions),
            images={name: self.image(fitted[name]) for name in config.cameras},
            depth=self.depth(fitted[config.depth.stream]) if config.depth else None,
            tactile=touched,
            clip={
                name: torch.from_numpy(patches).float() for name, patches in (clip or {}).items()
            },
        ).map(lambda tensor: tensor.unsqueeze(0))

    def _check_streams(self, images: Mapping[str, Any], references: Mapping[str, Any]) -> None:
        if missing := [stream for stream in self._sizes if stream not in images]:
            raise ValueError(f'no image of {", ".join(missing)}, with which the policy was trained')
        if missing := [stream for stream in self.config.tactile if stream not in references]:
            raise ValueError(f'no image without contact of {", ".join(missing)}')

    def _size(self, stream: str) -> Size:
        if stream not in self._sizes:
            raise ValueError(
                f'the policy has no stream {stream}; it has {", ".join(self._sizes) or "none"}'
            )
        return self._sizes[stream]

    def _check_images(self, stream: str, images: NDArray[Any]) -> None:
        if self.config.depth and stream == self.config.depth.stream:
            good = images.ndim >= 2 and (images.dtype == np.uint16 or images.dtype.kind == 'f')
            wanted = '(..., H, W) float metres or uint16 millimetres'
        else:
            good = images.ndim >= 3 and images.shape[-1] == 3 and images.dtype == np.uint8
            wanted = '(..., H, W, 3) uint8 RGB'
        if not good or 0 in images.shape:
            raise ValueError(f'{stream}: {wanted} needed, got {images.shape} {images.dtype}')


class PatchFeatures:
    """Images to the patch features of a policy's CLIP branch.

    Args:
        encoder: That the policy was trained with.
        branch: The policy's.
        crop: What is cut from live images first; none for a data set.

    Raises:
        ValueError: It is another encoder than in training.
    """

    def __init__(
        self, encoder: Encoder, branch: ClipBranchConfig, crop: Crop | None = None
    ) -> None:
        branch.check_encoder(encoder.identity, encoder.dim)
        self._encoder, self._branch, self._crop = encoder, branch, crop or ()

    def __call__(self, images: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """(N, H, W, 3) uint8 RGB -> (N, C, gh, gw) float32, patches averaged to the grid."""
        recorded = fit_images(images, self._branch.source_size, self._crop)
        patches = torch.from_numpy(self._encoder.encode_dense_batch(recorded)).permute(0, 3, 1, 2)
        pooled = functional.adaptive_avg_pool2d(patches, self._branch.grid)
        # Kept in 16 bits in training: the live policy hears the same numbers.
        return np.asarray(pooled.half().float().numpy())


def fit_images(images: NDArray[Any], size: Size, crop: Sequence[int] = ()) -> NDArray[Any]:
    """Crop and resize images as `rosbag2npz` does; see `Preprocessor.fit`.

    Raises:
        ValueError: The crop does not lie in the images.
    """
    color = images.dtype == np.uint8
    trailing = 3 if color else 2
    height, width = images.shape[-trailing:][:2]
    if not crop and (height, width) == size:
        return images
    kind = 'color' if color else 'depth'
    settings = StreamSettings(('live',), kind, crop=tuple(crop), resize=(size[1], size[0]))
    leading, one = images.shape[:-trailing], images.shape[-trailing:]
    try:
        resized = np.stack([fit(image, settings) for image in images.reshape(-1, *one)])
    except DecodeError as error:
        raise ValueError(str(error)) from error
    return resized.reshape(*leading, *resized.shape[1:])


def _channels_first(images: NDArray[np.uint8]) -> Tensor:
    """(..., h, w, 3) -> (..., 3, h, w)."""
    tensor = torch.from_numpy(np.ascontiguousarray(images))
    return tensor.movedim(-1, -3)
