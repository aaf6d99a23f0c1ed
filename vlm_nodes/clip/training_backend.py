"""Lightning, made importable here: torchmetrics, which it imports, imports torchvision."""

import os

from vlm_nodes.clip.torchvision_import import ensure_torchvision

ensure_torchvision()

import lightning.pytorch as lightning  # noqa: E402 - it imports torchvision

__all__ = ['is_first_process', 'lightning']


def is_first_process() -> bool:
    """Whether this process was started by somebody: Lightning starts those of further devices.

    They run the same command line, where the first has begun to write.
    """
    return os.environ.get('LOCAL_RANK', '0') == '0'
