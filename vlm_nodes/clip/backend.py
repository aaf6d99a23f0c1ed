"""open_clip, made importable here and knowing this package's own models.

Everything in `vlm_nodes.clip` takes open_clip from this module.
"""

from pathlib import Path

from vlm_nodes.clip.torchvision_import import ensure_torchvision

ensure_torchvision()

import open_clip  # noqa: E402 - it imports torchvision

from vlm_nodes.clip import trunk as trunk  # noqa: E402 - registers the trunk of `tiny` with timm

MODELS_DIR = Path(__file__).parent / 'models'

open_clip.add_model_config(MODELS_DIR)

__all__ = ['MODELS_DIR', 'open_clip']
