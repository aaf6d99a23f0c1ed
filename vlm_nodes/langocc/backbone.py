"""Pictures to features at one stride: a convolutional trunk and a feature pyramid over it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from vlm_nodes.clip import backend as _torchvision_is_importable_after_this  # noqa: F401
from vlm_nodes.clip.trunk import ResidualBlock
from vlm_nodes.langocc.config import LangOccConfig
from vlm_nodes.langocc.errors import LangOccError

_STRIDES: Final = (4, 8, 16, 32)
_SMALL: Final = (32, 48, 80, 112)
_RESNET50: Final = (256, 512, 1024, 2048)


class SmallTrunk(nn.Module):
    """Seven residual blocks, features at strides 4 to 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU()
        )
        widths = (24, *_SMALL)
        self.stages = nn.ModuleList(
            nn.Sequential(
                ResidualBlock(before, after, stride=2),
                *(ResidualBlock(after, after, stride=1) for _ in range(number < 3)),
            )
            for number, (before, after) in enumerate(pairwise(widths))
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> features at strides 4, 8, 16 and 32."""
        features, levels = self.stem(images), []
        for stage in self.stages:
            features = stage(features)
            levels.append(features)
        return levels


class Backbone(nn.Module):
    """Normalised pictures to features at the configuration's stride (FPN, Lin et al. 2017)."""

    def __init__(self, config: LangOccConfig) -> None:
        super().__init__()
        small = config.backbone == 'small'
        self.trunk: Any = SmallTrunk() if small else _resnet50()
        self._first = _STRIDES.index(config.stride)
        widths = (_SMALL if small else _RESNET50)[self._first :]
        self.laterals = nn.ModuleList(nn.Conv2d(width, config.neck, 1) for width in widths)
        self.smooth = nn.Sequential(
            nn.Conv2d(config.neck, config.neck, 3, padding=1, bias=False),
            nn.BatchNorm2d(config.neck),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, neck, H / stride, W / stride)."""
        levels = self.trunk(images)[self._first :]
        fused: Tensor | None = None
        for level, lateral in reversed(list(zip(levels, self.laterals, strict=True))):
            joined = lateral(level)
            if fused is not None:
                joined = joined + functional.interpolate(
                    fused, size=level.shape[-2:], mode='bilinear'
                )
            fused = joined
        smooth: Tensor = self.smooth(fused)
        return smooth


def _resnet50() -> Any:
    import timm

    return timm.create_model(
        'resnet50', pretrained=False, features_only=True, out_indices=(1, 2, 3, 4)
    )


def load_resnet50(backbone: Backbone, path: Path) -> None:
    """Fill the trunk with weights of torchvision's or timm's ResNet-50, which share their names.

    Args:
        backbone: Of a configuration with `resnet50`.
        path: `.safetensors`, or what torch saved.

    Raises:
        LangOccError: The file is missing, broken, or of another network.
    """
    if not path.is_file():
        raise LangOccError(f'there are no backbone weights {path}')
    try:
        if path.suffix == '.safetensors':
            state = load_file(path)
        else:
            state = torch.load(path, map_location='cpu', weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise LangOccError(f'cannot read backbone weights {path}: {error}') from error
    except Exception as error:  # pickle's own errors, which share no base
        raise LangOccError(f'{path} holds no plain weights: {error}') from error
    kept = {name: value for name, value in state.items() if not name.startswith('fc.')}
    try:
        backbone.trunk.load_state_dict(kept)
    except RuntimeError as error:
        reason = ' '.join(str(error).split())[:300]
        raise LangOccError(f'{path} is not of a ResNet-50: {reason}') from error
