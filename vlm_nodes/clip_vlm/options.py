"""Options that the command lines of CLIP-VLM share: which CLIP, which Qwen, where they run."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from vlm_nodes.clip_vlm.clip_views import KINDS, ClipConfig
from vlm_nodes.clip_vlm.quantization import QUANTIZATIONS
from vlm_nodes.clip_vlm.qwen import DTYPES, Qwen
from vlm_nodes.clip_vlm.trained import Trained


def add_clip_arguments(parser: argparse.ArgumentParser) -> None:
    """Which CLIP looks at views, and which of its tokens are taken."""
    default = ClipConfig()
    add = parser.add_argument_group('CLIP').add_argument
    add('--clip-model', default=default.model, help='open_clip name or folder (default: tiny)')
    add('--clip-pretrained', help="its weights' tag or file")
    add('--weights-dir', type=Path, help='folder of fetched weights')
    add('--clip-tokens', choices=KINDS, default=default.kind, help='(default: patch)')
    add(
        '--clip-grid',
        type=int,
        nargs=2,
        metavar=('R', 'C'),
        help='rows and columns that patches are averaged to (default: 8 14)',
    )
    add('--clip-size', type=int, help='shorter side of pictures for patches')


def clip_config(options: argparse.Namespace) -> ClipConfig:
    """The CLIP of `add_clip_arguments`."""
    whole = (1, 1) if options.clip_tokens == 'pooled' else ClipConfig().grid
    return ClipConfig(
        options.clip_model,
        options.clip_pretrained,
        options.clip_tokens,
        tuple(options.clip_grid) if options.clip_grid else whole,
        options.clip_size,
    )


def add_qwen_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Which Qwen speaks."""
    add = parser.add_argument_group('Qwen').add_argument
    add(
        '--qwen',
        type=Path,
        required=required,
        metavar='DIR',
        help='folder of a Qwen2.5-VL, a Qwen3-VL or, for captions, a Qwen3'
        + ('' if required else ' (default: where it was in training)'),
    )
    add('--qwen-quant', choices=QUANTIZATIONS, default='none', help='needs a GPU (default: none)')
    add('--qwen-dtype', choices=sorted(DTYPES), help='default: fp32 on a CPU, bf16 on a GPU')


def load_qwen(options: argparse.Namespace, device: str) -> Qwen:
    """The Qwen of `add_qwen_arguments`."""
    return Qwen.load(
        options.qwen, dtype=options.qwen_dtype, quant=options.qwen_quant, device=device
    )


def device_of(options: argparse.Namespace) -> str:
    """Where a training of these options runs: each of its processes on its own GPU."""
    if options.accelerator == 'cpu' or not torch.cuda.is_available():
        return 'cpu'
    return f'cuda:{os.environ.get("LOCAL_RANK", "0")}'


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Where a checkpoint's CLIP and Qwen are now, and where they run."""
    add_qwen_arguments(parser, required=False)
    add = parser.add_argument_group('running').add_argument
    add('--clip-model', help='where CLIP is now (default: what it was called in training)')
    add('--clip-pretrained', help="its weights' tag or file")
    add('--weights-dir', type=Path, help='folder of fetched CLIP weights')
    add('--device', default='cpu', help='cpu, cuda or cuda:N (default: cpu)')
    add('--threads', type=int, default=0, help='CPU threads of torch; 0 for its own choice')


def load_trained(options: argparse.Namespace) -> Trained:
    """The checkpoint of an option `checkpoint`, with what `add_run_arguments` says."""
    if options.threads:
        torch.set_num_threads(options.threads)
    return Trained.load(
        options.checkpoint,
        base=options.qwen,
        clip_model=options.clip_model,
        clip_pretrained=options.clip_pretrained,
        device=options.device,
        dtype=options.qwen_dtype,
        quant=options.qwen_quant,
        weights_dir=options.weights_dir,
    )
