"""What goes into a policy and what comes out: ticks and sequences of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from vlm_nodes.sarnn.config import SarnnConfig

Held = TypeVar('Held', bound='_Tensors')


@dataclass(frozen=True)
class _Tensors:
    """Tensors and mappings of tensors that share their leading shape."""

    def map(self: Held, change: Callable[[Tensor], Tensor]) -> Held:
        """The same with `change` applied to every tensor."""
        return replace(
            self, **{f.name: _mapped(getattr(self, f.name), change) for f in fields(self)}
        )

    def tick(self: Held, t: int) -> Held:
        """Tick t of a sequence, (B, T, ...) -> (B, ...), as views."""
        return self.map(lambda tensor: tensor[:, t])

    def window(self: Held, begin: int, end: int) -> Held:
        """Ticks begin to end - 1 of a sequence, as views."""
        return self.map(lambda tensor: tensor[:, begin:end])

    def detach(self: Held) -> Held:
        """The same values without what made them: no gradient flows further back."""
        return self.map(torch.Tensor.detach)

    def to(self: Held, device: torch.device | str) -> Held:
        """The same on another device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=True))


@dataclass(frozen=True)
class Observation(_Tensors):
    """What is sensed: leading shape (B,) for a tick, (B, T) for a sequence.

    `preprocess.Preprocessor` makes these tensors, for data sets and live inputs alike.

    Attributes:
        joints: (..., P) in [0, 1], by `SarnnConfig.joint_bounds`.
        images: Per camera (..., 3, H, W) in [0, 1], RGB.
        depth: (..., 1, h, w), 1 at the nearest of `DepthConfig.range_m`, 0 at the farthest and
            where there is no reading; None without depth.
        tactile: Per touch sensor (..., 3, h, w), image less the one without contact, in [-1, 1].
        clip: Per camera (..., C, gh, gw), patch features.
    """

    joints: Tensor
    images: Mapping[str, Tensor] = field(default_factory=dict)
    depth: Tensor | None = None
    tactile: Mapping[str, Tensor] = field(default_factory=dict)
    clip: Mapping[str, Tensor] = field(default_factory=dict)

    def check(self, config: SarnnConfig, leading: tuple[int, ...]) -> None:
        """Compare with what a policy needs.

        Args:
            config: The policy's.
            leading: The leading shape, (B,) or (B, T).

        Raises:
            ValueError: A part is missing, too much, or of another shape; the message names it.
        """
        _check_part('joints', self.joints, (*leading, config.joint_dim))
        image, tactile = (*leading, 3, *config.image_size), (*leading, 3, *config.tactile_size)
        _check_parts('images', self.images, dict.fromkeys(config.cameras, image))
        _check_parts('tactile', self.tactile, dict.fromkeys(config.tactile, tactile))
        clip, depth = config.clip, config.depth
        features = (*leading, clip.dim, *clip.grid) if clip else ()
        _check_parts('clip', self.clip, dict.fromkeys(config.cameras if clip else (), features))
        if (self.depth is None) != (depth is None):
            missing = 'is missing' if depth else 'is there, but the policy has none'
            raise ValueError(f'observation: depth {missing}')
        if depth and self.depth is not None:
            _check_part('depth', self.depth, (*leading, 1, *depth.size))


@dataclass(frozen=True)
class Prediction(_Tensors):
    """What is predicted of the next tick, and what was encoded of this one.

    Keypoints are by branch (`SarnnConfig.keypoint_dims`: `color`, `color/clip`), codes by stream
    (`SarnnConfig.code_names`: touch sensors, depth).

    Attributes:
        joints: (..., P) of the next tick, scaled as the observation's; not bounded.
        keypoints: Per branch (..., K, 2), (x, y) in the next image: 0 the left and upper edge, 1
            the right and lower one.
        codes: Per stream (..., code_dim) of the next tick.
        images: Per camera (..., 3, H, W), the next image; empty where not decoded, and of the
            chosen ticks alone where ticks were chosen.
        encoded_keypoints: Per branch (..., K, 2) in this tick's image. Those of tick t + 1 are
            what `keypoints` of tick t should have been.
        encoded_codes: Per stream (..., code_dim) of this tick.
    """

    joints: Tensor
    keypoints: Mapping[str, Tensor]
    codes: Mapping[str, Tensor]
    images: Mapping[str, Tensor]
    encoded_keypoints: Mapping[str, Tensor]
    encoded_codes: Mapping[str, Tensor]


@dataclass(frozen=True)
class State(_Tensors):
    """What is kept between ticks.

    Attributes:
        hidden: (B, rec_dim) of the recurrent layer.
        cell: (B, rec_dim).
        predicted: The last tick's prediction, which may be fed back; None before the first tick.
    """

    hidden: Tensor
    cell: Tensor
    predicted: Prediction | None = None


def join_ticks(predictions: Sequence[Prediction]) -> Prediction:
    """T predictions of leading shape (B,) as one of (B, T)."""
    first = predictions[0]
    joined: dict[str, Any] = {}
    for part in fields(first):
        values = [getattr(prediction, part.name) for prediction in predictions]
        joined[part.name] = (
            torch.stack(values, dim=1)
            if isinstance(values[0], Tensor)
            else {n: torch.stack([value[n] for value in values], dim=1) for n in values[0]}
        )
    return Prediction(**joined)


def _check_parts(
    what: str, parts: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    if set(parts) != set(shapes):
        raise ValueError(
            f'observation: {what} must be of {sorted(shapes) or "nothing"}, got '
            f'{sorted(parts) or "nothing"}'
        )
    for name, shape in shapes.items():
        _check_part(f'{what} of {name}', parts[name], shape)


def _check_part(what: str, part: Tensor, shape: tuple[int, ...]) -> None:
    if part.shape != shape:
        raise ValueError(f'observation: {what} must be {shape}, got {tuple(part.shape)}')


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if value is None:
        return None
    if isinstance(value, _Tensors):
        return value.map(change)
    if isinstance(value, Mapping):
        return {name: change(tensor) for name, tensor in value.items()}
    return change(value)
