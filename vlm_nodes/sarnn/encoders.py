"""Images, patch features, touch and depth to keypoints and codes; keypoints to images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlm_nodes.sarnn.config import Size
from vlm_nodes.sarnn.film import Film
from vlm_nodes.sarnn.keypoints import SpatialSoftmax, inverse_spatial_softmax


class CameraEncoder(nn.Module):
    """An image to keypoints, and to what the image decoder sees through.

    At half the image's size: with even kernels at stride 2 a feature's middle lies between the
    pixels it stands for, so that places agree, and the softmax finds places between features.

    Args:
        stem_dim: Channels of the first layer.
        trunk_dim: Channels of the second.
        k_dim: Keypoints.
        text_dim: D of the task's embedding, which modulates where to look; 0 without language.
    """

    def __init__(self, stem_dim: int, trunk_dim: int, k_dim: int, text_dim: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, stem_dim, 4, stride=2, padding=1)
        self.trunk = nn.Conv2d(stem_dim, trunk_dim, 3, padding=1)
        self.film = Film(text_dim, trunk_dim)
        self.to_heatmaps = nn.Conv2d(trunk_dim, k_dim, 3, padding=1)
        self.to_features = nn.Conv2d(trunk_dim, k_dim, 3, padding=1)
        self.softmax = SpatialSoftmax()

    def forward(self, images: Tensor, text: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            images: (N, 3, H, W).
            text: As `Film` has it.

        Returns:
            Keypoints (N, K, 2), and maps (N, trunk_dim, H / 2, W / 2), which `to_features` makes
            the decoder's features (N, K, H / 2, W / 2) of: only of images that are decoded.
        """
        # Channels last: twice as fast on CPUs for so few channels.
        images = (images - 0.5).contiguous(memory_format=torch.channels_last)
        seen = torch.relu_(self.trunk(torch.relu_(self.stem(images))))
        return self.softmax(self.to_heatmaps(self.film(seen, text))), seen


class ImageDecoder(nn.Module):
    """The next image from features, seen through windows around the predicted keypoints.

    Layers at half the image's size; the last gives four pixels a place (Shi et al. 2016, sub-pixel
    convolution).

    Args:
        k_dim: Keypoints.
        trunk_dim: Channels of the layer between.
        heatmap_size: Width of the windows.
    """

    def __init__(self, k_dim: int, trunk_dim: int, heatmap_size: float) -> None:
        super().__init__()
        self.heatmap_size = heatmap_size
        self.layers = nn.Sequential(
            nn.Conv2d(k_dim, trunk_dim, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(trunk_dim, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def forward(self, features: Tensor, keypoints: Tensor) -> Tensor:
        """(N, K, h, w) and (N, K, 2) -> (N, 3, 2 h, 2 w)."""
        size = (features.shape[-2], features.shape[-1])
        windows = inverse_spatial_softmax(keypoints, size, self.heatmap_size)
        gated = (features * windows).contiguous(memory_format=torch.channels_last)
        images: Tensor = self.layers(gated) + 0.5
        return images


class ClipBranch(nn.Module):
    """Frozen patch features, modulated by the task's text, to keypoints.

    Modulation and adapter are both linear in the features, so that they are one product with a
    matrix of each text: features are many, and are not changed one by one.

    Args:
        dim: C, numbers a patch.
        k_dim: Keypoints.
        text_dim: D of the task's embedding; 0 without language.
    """

    def __init__(self, dim: int, k_dim: int, text_dim: int) -> None:
        super().__init__()
        self.film = Film(text_dim, dim)
        self.adapter = nn.Linear(dim, k_dim)
        self.softmax = SpatialSoftmax()

    def forward(self, features: Tensor, text: Tensor | None) -> Tensor:
        """(N, C, gh, gw) -> keypoints (N, K, 2), text as `Film` has it."""
        weight: Tensor = self.adapter.weight
        bias: Tensor = self.adapter.bias
        sequences = 1
        if (change := self.film.scale_and_shift(text)) is not None:
            scale, shift = change
            sequences = len(scale)
            bias = bias + shift @ weight.T
            weight = weight * (1 + scale)[:, None]
        # Features of unit length have entries of about 1 / sqrt(C).
        weight = (weight * features.shape[1] ** 0.5).reshape(sequences, 1, -1, features.shape[1])
        patches = features.to(weight.dtype).reshape(sequences, -1, *features.shape[1:]).flatten(3)
        heatmaps = weight @ patches + bias.reshape(sequences, 1, -1, 1)
        keypoints: Tensor = self.softmax(heatmaps.reshape(len(features), -1, *features.shape[2:]))
        return keypoints


class CodeEncoder(nn.Module):
    """A touch or depth image to a small code in [-1, 1].

    Args:
        channels: Of the images: 3 of touch, 1 of depth.
        size: (h, w) of the images, multiples of 4.
        code_dim: Numbers of the code.
        gain: What images are multiplied by: fingertips' images differ from the one without contact
            by a tenth of their range or less.
    """

    def __init__(self, channels: int, size: Size, code_dim: int, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 8, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(8 * (size[0] // 4) * (size[1] // 4), code_dim),
            nn.Tanh(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(N, channels, h, w) -> (N, code_dim)."""
        code: Tensor = self.layers(images * self.gain)
        return code
