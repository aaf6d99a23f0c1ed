"""Noise on what a policy is given in training; what it should predict stays clean.

Joints get noise a tick, so that a policy learns to come back to the way it was shown. Images get
one draw a sequence of what light and a camera do for minutes, and noise a tick. CLIP's features,
touch and depth are left as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from vlm_nodes.sarnn.observation import Observation


@dataclass(frozen=True)
class Augmentation:
    """How much is changed; each draw is between none and this much.

    Attributes:
        joint_stdev: Standard deviation of the joints' noise, of their range.
        offset_share: Share of that noise which stays the same over a sequence.
        brightness: Added to images in [0, 1], up to plus or minus this.
        contrast: Factor of images about their mean, up to 1 plus or minus this.
        image_stdev: Standard deviation of pixels' noise.
        erase: Largest share of the sides of a rectangle that is painted over in a sequence; 0 for
            none. A rectangle is drawn for every second sequence.

    Raises:
        ValueError: A number is out of its range.
    """

    joint_stdev: float = 0.02
    offset_share: float = 0.0
    brightness: float = 0.1
    contrast: float = 0.2
    image_stdev: float = 0.02
    erase: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers and name the bad one."""
        for name, most in (
            ('joint_stdev', 10.0),
            ('offset_share', 1.0),
            ('brightness', 1.0),
            ('contrast', 1.0),
            ('image_stdev', 1.0),
            ('erase', 1.0),
        ):
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise ValueError(f'{name} = {value} must be from 0 to {most:g}')

    def __call__(self, inputs: Observation, generator: Generator) -> Observation:
        """Changed inputs of a batch of sequences, (B, T).

        Args:
            inputs: Left as they are.
            generator: What is drawn from, on the CPU.
        """
        images = {name: self._images(image, generator) for name, image in inputs.images.items()}
        return replace(inputs, joints=self._joints(inputs.joints, generator), images=images)

    def _joints(self, joints: Tensor, generator: Generator) -> Tensor:
        if self.joint_stdev == 0:
            return joints
        each = _normal(joints.shape, joints, generator)
        whole = _normal((joints.shape[0], 1, joints.shape[2]), joints, generator)
        share = self.offset_share
        # Variances add up to joint_stdev squared, whatever the share.
        noise: Tensor = (1 - share) ** 0.5 * each + share**0.5 * whole
        return joints + self.joint_stdev * noise

    def _images(self, images: Tensor, generator: Generator) -> Tensor:
        batch = images.shape[0]
        changed = images
        if self.contrast or self.brightness:
            factor = 1 + self.contrast * _signed(batch, images, generator)
            offset = self.brightness * _signed(batch, images, generator)
            mean = images.mean(dim=(1, 2, 3, 4), keepdim=True)
            changed = changed * factor + (mean * (1 - factor) + offset)
        if self.image_stdev:
            level = self.image_stdev * torch.rand(1, generator=generator).item()
            changed = changed + level * _noise_like(changed, generator)
        changed = changed.clamp(0, 1)
        if self.erase:
            self._erase(changed, generator)
        return changed

    def _erase(self, images: Tensor, generator: Generator) -> None:
        """Paint a rectangle of one colour over all images of some sequences, in place."""
        size = images.shape[-2:]
        for sequence in images:
            draw = torch.rand(8, generator=generator).tolist()
            if draw[0] < 0.5:
                continue
            high, wide = (
                max(1, round(n * self.erase * d)) for n, d in zip(size, draw[1:3], strict=True)
            )
            top, left = int((size[0] - high) * draw[3]), int((size[1] - wide) * draw[4])
            colour = torch.tensor(draw[5:8]).to(images).reshape(3, 1, 1)
            sequence[:, :, top : top + high, left : left + wide] = colour


def _normal(shape: tuple[int, ...] | torch.Size, like: Tensor, generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator).to(like)


def _noise_like(images: Tensor, generator: Generator) -> Tensor:
    """Noise drawn where the images are: a generator of theirs, seeded by the one on the CPU."""
    seed = int(torch.randint(2**62, (1,), generator=generator).item())
    drawer = torch.Generator(device=images.device).manual_seed(seed)
    return torch.randn(images.shape, generator=drawer, device=images.device, dtype=images.dtype)


def _signed(batch: int, like: Tensor, generator: Generator) -> Tensor:
    """One number from -1 to 1 a sequence, (B, 1, 1, 1, 1)."""
    return (2 * torch.rand(batch, 1, 1, 1, 1, generator=generator) - 1).to(like)
