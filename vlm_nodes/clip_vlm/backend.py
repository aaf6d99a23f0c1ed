"""transformers and peft, made importable here and kept from the network.

transformers imports torchvision. Everything in `vlm_nodes.clip_vlm` takes both from this module.
"""

import os

from vlm_nodes.clip.torchvision_import import ensure_torchvision

ensure_torchvision()
# Models are folders on this machine; nothing is looked up on the way.
os.environ.setdefault('HF_HUB_OFFLINE', '1')

import peft  # noqa: E402 - after the settings above
import transformers  # noqa: E402

# Tools have progress bars and lines of their own.
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()

__all__ = ['peft', 'transformers']
