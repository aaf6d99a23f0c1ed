"""The convolutional trunk of `tiny`, registered with timm for open_clip's configuration to name.

A small residual network down to stride 32 whose stages are fused top-down into one map at stride 4,
as in a feature pyramid (Lin et al. 2017): fine enough for small things, wide enough to judge colour
by its surroundings.
"""

from dataclasses import dataclass
from typing import Any

from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class TrunkConfig:
    """Sizes of a `PyramidTrunk`.

    Attributes:
        stem: channels at stride 2.
        widths: channels of the stages at stride 4, 8, 16 and 32.
        depths: residual blocks of each stage.
        fused: channels of the fused map at stride 4.
    """

    stem: int = 24
    widths: tuple[int, ...] = (48, 96, 160, 224)
    depths: tuple[int, ...] = (2, 2, 2, 1)
    fused: int = 64

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            ValueError: stages and depths do not pair up, or a size is not positive.
        """
        if len(self.widths) != len(self.depths) or not self.widths:
            raise ValueError(f'one depth a width is needed, got {self.widths} and {self.depths}')
        if min(self.stem, self.fused, *self.widths, *self.depths) < 1:
            raise ValueError(f'sizes must be positive, got {self}')


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        """Sizes as for a convolution; the shortcut is projected where they change."""
        super().__init__()
        self.first = _convolution(inputs, outputs, 3, stride)
        self.second = _convolution(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(inputs, outputs, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        changed = self.second(functional.relu(self.first(features)))
        return functional.relu(changed + self.shortcut(features))


class PyramidTrunk(nn.Module):
    """Image -> one feature map at stride 4; what open_clip's timm adapter asks of a trunk."""

    def __init__(self, config: TrunkConfig) -> None:
        """Build untrained stages, laterals and the fusing convolution."""
        super().__init__()
        self.num_features = config.fused
        self.default_cfg = {'pool_size': (32, 32), 'input_size': (3, 128, 128)}
        self.feature_info = [{'num_chs': config.fused, 'reduction': 4, 'module': 'fuse'}]
        self.stem = _convolution(3, config.stem, 3, stride=2)
        widths = (config.stem, *config.widths)
        self.stages = nn.ModuleList(
            _stage(inputs, outputs, depth)
            for inputs, outputs, depth in zip(widths[:-1], widths[1:], config.depths, strict=True)
        )
        self.laterals = nn.ModuleList(
            _convolution(width, config.fused, 1) for width in config.widths
        )
        self.smooths = nn.ModuleList(
            _convolution(config.fused, config.fused, 3) for _ in config.widths
        )

    def reset_classifier(self, num_classes: int, global_pool: str = 'avg') -> None:
        """There is no classifier to remove; only average pooling and no classes are possible.

        Raises:
            ValueError: anything else is asked for.
        """
        if num_classes or global_pool != 'avg':
            raise ValueError(
                f'PyramidTrunk has no classifier and pools by avg, got {global_pool!r}'
            )

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, fused, ceil(H / 4), ceil(W / 4))."""
        features = functional.relu(self.stem(images))
        levels = []
        for stage in self.stages:
            features = stage(features)
            levels.append(features)
        fused: Tensor | None = None
        for level, lateral, smooth in reversed(
            list(zip(levels, self.laterals, self.smooths, strict=True))
        ):
            joined = lateral(level)
            if fused is not None:
                joined = joined + functional.interpolate(
                    fused, size=level.shape[-2:], mode='bilinear'
                )
            fused = functional.relu(smooth(functional.relu(joined)))
        assert fused is not None  # a configuration has at least one stage
        return fused

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Average over the places: (B, C, h, w) -> (B, C)."""
        return features.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, fused)."""
        return self.forward_head(self.forward_features(images))


def _stage(inputs: int, outputs: int, depth: int) -> nn.Sequential:
    blocks = [ResidualBlock(inputs, outputs, stride=2)]
    blocks += [ResidualBlock(outputs, outputs, stride=1) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)


@register_model  # type: ignore[untyped-decorator]
def vlm_pyramid_tiny(pretrained: bool = False, **_kwargs: Any) -> PyramidTrunk:
    """The trunk of `tiny`; timm's entry point.

    Raises:
        ValueError: pretrained weights are asked for; the trunk has none of its own.
    """
    if pretrained:
        raise ValueError('vlm_pyramid_tiny has no pretrained weights of its own')
    return PyramidTrunk(TrunkConfig())
