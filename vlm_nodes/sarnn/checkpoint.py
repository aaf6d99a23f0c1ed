"""Policies on disk: weights as safetensors, their configuration as JSON, nothing that runs."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from bag_tools.whole_file import write_whole
from vlm_nodes.sarnn.config import SarnnConfig
from vlm_nodes.sarnn.model import Sarnn

FORMAT, VERSION = 'vlm_nodes sarnn', '1'


class CheckpointError(Exception):
    """A policy cannot be saved or loaded; the message names the file and the reason."""


def save_policy(path: Path, model: Sarnn) -> None:
    """Write a policy, whole or not at all: weights, configuration and text scale, without CLIP.

    Raises:
        CheckpointError: The folder is missing, full or read-only, or a weight is not finite.
    """
    weights = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    if bad := [name for name, value in weights.items() if not torch.isfinite(value).all()]:
        raise CheckpointError(f'{path}: not saved: {bad[0]} is not finite, training has diverged')
    metadata = {'format': FORMAT, 'version': VERSION, 'config': model.config.to_json()}
    try:
        write_whole(Path(path), save(weights, metadata))
    except OSError as error:
        raise CheckpointError(
            f'{path}: cannot save the policy: {error.strerror or error}'
        ) from error


def load_policy(path: Path, device: torch.device | str = 'cpu') -> Sarnn:
    """Read what `save_policy` wrote; in evaluation mode.

    Raises:
        CheckpointError: The file is missing, damaged, no policy, of another version, or does not
            fit its own configuration.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f'{path}: there is no such file')
    try:
        with safe_open(path, 'pt', device='cpu') as stream:
            metadata = stream.metadata() or {}
            weights = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f'{path}: no policy, or damaged ({error}): policies are the files that '
            'train_clip_sarnn writes'
        ) from error
    model = Sarnn(_config(path, metadata))
    _put_weights(path, model, weights)
    return model.to(device).eval()


def _config(path: Path, metadata: dict[str, str]) -> SarnnConfig:
    if metadata.get('format') != FORMAT:
        raise CheckpointError(f'{path}: holds weights, but not those of a CLIP-SARNN policy')
    if metadata.get('version') != VERSION:
        raise CheckpointError(
            f'{path}: version {metadata.get("version")} of the format; this is {VERSION}'
        )
    try:
        return SarnnConfig.from_json(metadata['config'])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f'{path}: its configuration is broken: {error}') from error


def _put_weights(path: Path, model: Sarnn, weights: dict[str, Tensor]) -> None:
    wanted = model.state_dict()
    if names := sorted(set(wanted) ^ set(weights)):
        raise CheckpointError(
            f'{path}: weights and configuration do not fit: {names[0]} is in one of them only '
            f'(of {len(names)})'
        )
    for name, value in weights.items():
        if value.shape != wanted[name].shape:
            raise CheckpointError(
                f'{path}: {name} is {tuple(value.shape)}, its configuration makes it '
                f'{tuple(wanted[name].shape)}'
            )
    model.load_state_dict(weights)
