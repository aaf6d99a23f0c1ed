"""What CLIP says of a view: a grid of patch tokens, or one token of the whole picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from vlm_nodes.clip.encoder import Encoder
from vlm_nodes.clip_vlm.errors import ClipVlmError

KINDS: Final = ('patch', 'pooled')


@dataclass(frozen=True)
class ClipConfig:
    """Which CLIP, and which of its tokens.

    Attributes:
        model: As `Encoder.load` takes it.
        pretrained: Its weights' tag or file.
        kind: 'patch' or 'pooled'.
        grid: Rows and columns that patch features are averaged to; (1, 1) for pooled ones.
        image_size: Shorter side that pictures are resized to for patches; None for the model's.
        method: Of patch features.

    Raises:
        ClipVlmError: A value is out of its range; the message holds it.
    """

    model: str = 'tiny'
    pretrained: str | None = None
    kind: str = 'patch'
    grid: tuple[int, int] = (8, 14)
    image_size: int | None = None
    method: str = 'naclip'

    def __post_init__(self) -> None:
        """Check the values."""
        if self.kind not in KINDS:
            raise ClipVlmError(f'unknown tokens {self.kind!r}; choose of {", ".join(KINDS)}')
        if min(self.grid) < 1 or (self.kind == 'pooled' and self.grid != (1, 1)):
            raise ClipVlmError(f'a grid of {self.kind} tokens cannot be {self.grid}')

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, page: dict[str, Any]) -> ClipConfig:
        """Of what `to_dict` gave.

        Raises:
            ClipVlmError: A value is missing, unknown or bad.
        """
        try:
            return cls(**{**page, 'grid': tuple(page['grid'])})
        except (TypeError, KeyError) as error:
            raise ClipVlmError(f'no configuration of a CLIP: {error}') from error


class ClipViews:
    """A frozen CLIP that looks at one view at a time."""

    def __init__(
        self, config: ClipConfig, *, device: str = 'cpu', weights_dir: Path | None = None
    ) -> None:
        """Load it.

        Raises:
            WeightsError: The model or its weights cannot be found or loaded.
            ValueError: A value makes no sense to it.
        """
        self.config = config
        self._encoder = Encoder.load(
            config.model,
            config.pretrained,
            method=config.method,
            device=device,
            weights_dir=weights_dir,
            image_size=config.image_size,
        )

    @property
    def identity(self) -> str:
        """Model, weights and method, as features depend on them."""
        return self._encoder.identity

    @property
    def dim(self) -> int:
        """Width of its tokens."""
        return self._encoder.dim

    @property
    def parameters(self) -> int:
        """How many weights it has."""
        return self._encoder.parameters

    def tokens(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of a picture (H, W, 3) uint8 RGB: (rows * columns, dim) float32."""
        if self.config.kind == 'pooled':
            return self._encoder.encode_image(rgb[None])
        patches = torch.from_numpy(self._encoder.encode_dense(rgb))
        cells = functional.adaptive_avg_pool2d(patches.permute(2, 0, 1), self.config.grid)
        tokens: NDArray[np.float32] = cells.flatten(1).T.contiguous().numpy()
        return tokens
