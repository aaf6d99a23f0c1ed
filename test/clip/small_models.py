"""Small untrained models in open_clip's format, for tests of what does not depend on training."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from vlm_nodes.clip.weights import CONFIG_NAME, WEIGHTS_NAME, build_model

TEXT = {'context_length': 12, 'vocab_size': 49408, 'width': 16, 'heads': 2, 'layers': 1}


def small_config(**vision: Any) -> dict[str, Any]:
    """A three-block ViT of 8 x 8 patches on 32 x 32 pixels, where nothing else is given."""
    tower = {'image_size': 32, 'layers': 3, 'width': 24, 'head_width': 8, 'patch_size': 8}
    return {'embed_dim': 12, 'vision_cfg': {**tower, **vision}, 'text_cfg': dict(TEXT)}


def write_model(folder: Path, config: dict[str, Any], seed: int = 0) -> Any:
    """An untrained model as training would write it; returns the model."""
    torch.manual_seed(seed)
    model = build_model(config).eval().requires_grad_(False)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / WEIGHTS_NAME)
    (folder / CONFIG_NAME).write_text(json.dumps({'model_cfg': config}))
    return model
