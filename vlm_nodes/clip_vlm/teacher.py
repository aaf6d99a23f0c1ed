"""What Qwen's own vision tower says of a view: the target of distillation, never an input."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.qwen import Qwen

DEFAULT_PIXELS: Final = 512 * 28 * 28
"""Most pixels of a picture that the tower is given: 512 of its tokens with Qwen2.5-VL."""


class VisionTeacher:
    """The frozen vision tower, its tokens averaged over the cells of the connector's grid.

    Qwen3-VL's tower also feeds the first layers of the language model (deepstack). Those features
    have no place among input embeddings and are not taught.
    """

    def __init__(
        self, qwen: Qwen, token_grid: tuple[int, int], max_pixels: int = DEFAULT_PIXELS
    ) -> None:
        """Look through this Qwen's eyes.

        Raises:
            ClipVlmError: It has none, or its folder does not say how it wants its pictures.
        """
        if not qwen.has_eyes:
            raise ClipVlmError(
                f'{qwen.folder} holds a {qwen.identity.kind} without a vision tower: nothing to '
                'distill; train with --mode lm, or take a Qwen-VL'
            )
        self._qwen, self._grid = qwen, token_grid
        self.max_pixels = max_pixels
        self._prepare = _image_processor(qwen)

    @torch.inference_mode()
    def tokens(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Of a picture (H, W, 3) uint8 RGB: (rows * columns, hidden_size) float32."""
        side = self._prepare.patch_size * self._prepare.merge_size
        size = {'shortest_edge': min(4 * side * side, self.max_pixels)}
        inputs = self._prepare(
            images=[rgb], size={**size, 'longest_edge': self.max_pixels}, return_tensors='pt'
        )
        device = self._qwen.device
        grid_thw = inputs['image_grid_thw'].to(device)
        output = self._qwen.base.get_image_features(
            pixel_values=inputs['pixel_values'].to(device), image_grid_thw=grid_thw
        )
        (merged,) = output.pooler_output
        rows, columns = (int(n) // self._prepare.merge_size for n in grid_thw[0, 1:])
        grid = merged.float().reshape(rows, columns, -1).permute(2, 0, 1)
        cells = functional.adaptive_avg_pool2d(grid, self._grid)
        tokens: NDArray[np.float32] = cells.flatten(1).T.contiguous().cpu().numpy()
        return tokens


def _image_processor(qwen: Qwen) -> Any:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (  # type: ignore[import-untyped,unused-ignore]
        Qwen2VLImageProcessorPil,
    )

    try:
        return Qwen2VLImageProcessorPil.from_pretrained(qwen.folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise ClipVlmError(
            f'{qwen.folder} lacks preprocessor_config.json, which says how the vision tower wants '
            'its pictures'
        ) from error
