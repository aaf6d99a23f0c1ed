"""A checkpoint with the CLIP and the Qwen that belong to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vlm_nodes.clip_vlm.checkpoint import Checkpoint, check_belongs, load_checkpoint
from vlm_nodes.clip_vlm.clip_views import ClipViews
from vlm_nodes.clip_vlm.model import ClipVlm
from vlm_nodes.clip_vlm.qwen import Qwen


@dataclass(frozen=True)
class Trained:
    """All parts, which were checked to be of one training.

    Attributes:
        checkpoint: What was trained.
        clip: What looks at views.
        model: Connector, Qwen and adapters, in evaluation mode, where Qwen is.
    """

    checkpoint: Checkpoint
    clip: ClipViews
    model: ClipVlm

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        base: Path | str | None = None,
        clip_model: str | None = None,
        clip_pretrained: str | None = None,
        device: str = 'cpu',
        dtype: str | None = None,
        quant: str = 'none',
        weights_dir: Path | None = None,
    ) -> Trained:
        """All that a checkpoint needs.

        Args:
            folder: Of `train_clip_vlm --save`.
            base: Folder of the Qwen now; None for where it was in training.
            clip_model: Where CLIP is now; None for what it was called in training.
            clip_pretrained: Its weights' tag or file; None for those of training, or, of a given
                `clip_model`, beside it.
            device: torch device.
            dtype: Of Qwen, 'fp32' or 'bf16'; None for fp32 on the CPU and bf16 elsewhere.
            quant: 'none', 'bnb-8bit' or 'bnb-4bit'.
            weights_dir: Folder of fetched CLIP weights.

        Raises:
            ClipVlmError: A part is missing, damaged, or of another training.
            WeightsError: CLIP's weights cannot be found or loaded.
        """
        checkpoint = load_checkpoint(folder)
        page = checkpoint.page
        config = page.clip
        if clip_model is not None:
            config = replace(config, model=clip_model, pretrained=None)
        if clip_pretrained is not None:
            config = replace(config, pretrained=clip_pretrained)
        clip = ClipViews(config, device=device, weights_dir=weights_dir)
        qwen = Qwen.load(base or page.qwen.path, dtype=dtype, quant=quant, device=device)
        check_belongs(checkpoint, clip.identity, qwen.identity)
        model = ClipVlm(checkpoint.connector.to(qwen.device), qwen)
        if checkpoint.adapter is not None:
            model.load_adapter(checkpoint.adapter)
        return cls(checkpoint, clip, model.eval())
