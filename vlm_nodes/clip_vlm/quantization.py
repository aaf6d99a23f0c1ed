"""Language models in 8 or 4 bits, by bitsandbytes."""

from __future__ import annotations

import importlib.util
from typing import Any, Final

import torch

from vlm_nodes.clip_vlm.backend import transformers
from vlm_nodes.clip_vlm.errors import ClipVlmError

QUANTIZATIONS: Final = ('none', 'bnb-8bit', 'bnb-4bit')
KEPT_WHOLE: Final = ('visual', 'lm_head')
"""Modules that stay unquantised: the vision tower, which teaches, and the output embedding."""


def quantization_config(name: str) -> Any:
    """The configuration of a quantization for transformers; None for 'none'. Needs no GPU.

    'bnb-8bit' is LLM.int8 (Dettmers et al. 2022); 'bnb-4bit' is QLoRA's (Dettmers et al. 2023):
    normal floats, constants quantised too, computed in bfloat16.

    Raises:
        ClipVlmError: The name is not known.
    """
    if name not in QUANTIZATIONS:
        raise ClipVlmError(f'unknown quantization {name!r}; choose of {", ".join(QUANTIZATIONS)}')
    if name == 'none':
        return None
    skipped = list(KEPT_WHOLE)
    if name == 'bnb-8bit':
        return transformers.BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type='nf4',
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=skipped,
    )


def check_can_quantize(name: str) -> None:
    """Whether this machine can load a quantised model.

    Raises:
        ClipVlmError: bitsandbytes or a GPU is missing.
    """
    if name == 'none':
        return
    if importlib.util.find_spec('bitsandbytes') is None:
        raise ClipVlmError(
            f'--qwen-quant {name} needs the package bitsandbytes, which is not installed: '
            'pip install --no-deps bitsandbytes==0.50.2'
        )
    if not torch.cuda.is_available():
        raise ClipVlmError(
            f'--qwen-quant {name} needs an NVIDIA GPU, and torch sees none: '
            'leave it out, or take a smaller model'
        )
