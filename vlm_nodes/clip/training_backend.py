"""Lightning, made importable here: torchmetrics, which it imports, imports torchvision."""

from vlm_nodes.clip.torchvision_import import ensure_torchvision

ensure_torchvision()

import lightning.pytorch as lightning  # noqa: E402 - it imports torchvision

__all__ = ['lightning']
