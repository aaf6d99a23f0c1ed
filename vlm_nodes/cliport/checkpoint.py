"""Trained weights and what they belong to, in a folder; nothing frozen is stored."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from bag_tools.whole_file import write_whole
from vlm_nodes.clip.weights import sha256
from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.config import ModelConfig
from vlm_nodes.cliport.model import CliportModel

CONFIG_NAME: Final = 'cliport_config.json'
WEIGHTS_NAME: Final = 'cliport_model.safetensors'


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or of another model; the message says what to do."""


def save_checkpoint(
    model: CliportModel,
    folder: Path,
    *,
    half: bool = False,
    training: dict[str, Any] | None = None,
) -> None:
    """Write the trained weights and the configuration, each file whole or not at all.

    Args:
        model: To write.
        folder: Made where it is missing.
        half: float16 instead of float32.
        training: What is to be remembered about where the weights come from; JSON values.
    """
    dtype = torch.float16 if half else torch.float32
    state = {key: value.detach().cpu().to(dtype) for key, value in model.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / WEIGHTS_NAME, save({k: v.contiguous() for k, v in state.items()}))
    model_name, pretrained = model.clip.names or (None, None)
    page = {
        'model': asdict(model.config),
        'clip': {
            'model': model_name,
            'pretrained': pretrained,
            'identity': model.clip.identity,
        },
        'weights': sha256(folder / WEIGHTS_NAME),
        'training': training or {},
    }
    write_whole(folder / CONFIG_NAME, (json.dumps(page, indent=2) + '\n').encode())


def load_checkpoint(
    folder: Path, clip: FrozenClip | None = None, weights_dir: Path | None = None
) -> CliportModel:
    """A trained model in evaluation mode, in float32 on the CPU.

    Args:
        folder: What `save_checkpoint` wrote.
        clip: The CLIP it was trained with; None to load it by its name.
        weights_dir: Where that CLIP's weights are looked for.

    Raises:
        CheckpointError: A file is missing or damaged, both do not belong together, or the CLIP
            is another one.
        WeightsError: The CLIP cannot be loaded.
    """
    page = read_page(folder)
    weights = folder / WEIGHTS_NAME
    if not weights.is_file():
        raise CheckpointError(f'no file {WEIGHTS_NAME} in {folder}')
    if sha256(weights) != page['weights']:
        raise CheckpointError(
            f'{weights} is not the file that {CONFIG_NAME} beside it was written with: '
            'it is damaged, or of another training'
        )
    try:
        config = ModelConfig.from_dict(page['model'])
        state = load_file(weights)
    except (ValueError, SafetensorError) as error:
        raise CheckpointError(f'cannot read {folder}: {error}') from error
    clip = clip or _its_clip(page['clip'], folder, weights_dir)
    if clip.identity != page['clip']['identity']:
        raise CheckpointError(
            f'{folder} was trained with the CLIP {page["clip"]["identity"]}, not {clip.identity}'
        )
    model = CliportModel(config, clip)
    _fill(model, {key: value.float() for key, value in state.items()}, folder)
    return model.eval()


def read_page(folder: Path) -> dict[str, Any]:
    """The configuration's page: `model`, `clip`, `weights` (SHA-256) and `training`.

    Raises:
        CheckpointError: It is missing or not such a page.
    """
    path = folder / CONFIG_NAME
    try:
        page = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise CheckpointError(f'cannot read a CLIPort checkpoint from {folder}: {error}') from error
    wanted = {'model': dict, 'clip': dict, 'weights': str, 'training': dict}
    if not isinstance(page, dict) or not all(
        isinstance(page.get(key), kind) for key, kind in wanted.items()
    ):
        raise CheckpointError(f'{path} is no page of a CLIPort checkpoint: it needs {list(wanted)}')
    if not isinstance(page['clip'].get('identity'), str):
        raise CheckpointError(f'{path} does not say which CLIP it was trained with')
    return page


def _its_clip(names: dict[str, Any], folder: Path, weights_dir: Path | None) -> FrozenClip:
    if not names.get('model'):
        raise CheckpointError(f'{folder} does not say how to load its CLIP, {names["identity"]}')
    return FrozenClip.load(names['model'], names.get('pretrained'), weights_dir)


def _fill(model: CliportModel, state: dict[str, torch.Tensor], folder: Path) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = ' '.join(str(error).split())[:300]
        raise CheckpointError(f'{folder} holds weights of another model: {reason}') from error
