"""A trained network on disk: weights, configuration, and which CLIP its features are of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from bag_tools.whole_file import write_whole
from vlm_nodes.clip.projection import FeatureProjection
from vlm_nodes.clip.weights import sha256
from vlm_nodes.langocc.config import LangOccConfig
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.model import LangOcc
from vlm_nodes.langocc.ray_store import RayStore
from vlm_nodes.surround import VoxelGrid

CONFIG_NAME: Final = 'langocc_config.json'
WEIGHTS_NAME: Final = 'langocc_model.safetensors'
_REDUCER: Final = 'reducer.'


@dataclass(frozen=True)
class FeatureSpace:
    """What a network's features mean.

    Attributes:
        model: CLIP, as `Encoder.load` takes it.
        pretrained: Its weights' tag or file.
        identity: The encoder's identity; texts of another one mean nothing here.
        projection: The reducer that texts go through; None where features are full.
    """

    model: str
    pretrained: str | None
    identity: str
    projection: FeatureProjection | None

    @classmethod
    def of(cls, store: RayStore) -> FeatureSpace:
        """The space of a store's rays."""
        page = store.page
        return cls(page.model, page.pretrained, page.identity, store.projection)


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and what belongs to it.

    Attributes:
        model: In evaluation mode, on the CPU.
        space: Of its features.
        training: What is remembered about where the weights come from.
    """

    model: LangOcc
    space: FeatureSpace
    training: dict[str, Any]


def save_checkpoint(
    folder: Path,
    model: LangOcc,
    space: FeatureSpace,
    *,
    half: bool = False,
    training: dict[str, Any] | None = None,
) -> None:
    """Write a network, each file whole or not at all; the folder is made where it is missing."""
    dtype = torch.float16 if half else torch.float32
    state = {
        key: (value.to(dtype) if value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in model.state_dict().items()
    }
    if space.projection is not None:
        for name, array in space.projection.to_arrays().items():
            state[_REDUCER + name] = torch.from_numpy(array)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / WEIGHTS_NAME, save(state))
    page = {
        'model': model.config.to_dict(),
        'clip': {
            'model': space.model,
            'pretrained': space.pretrained,
            'identity': space.identity,
        },
        'weights': sha256(folder / WEIGHTS_NAME),
        'training': training or {},
    }
    write_whole(folder / CONFIG_NAME, (json.dumps(page, indent=2) + '\n').encode())


def load_checkpoint(folder: Path, grid: VoxelGrid | None = None) -> Checkpoint:
    """A trained network.

    Args:
        folder: What `save_checkpoint` wrote.
        grid: The grid that is wanted; None takes any.

    Raises:
        LangOccError: A file is missing or damaged, both do not belong together, or the network
            is of another grid.
    """
    page = _read_page(folder / CONFIG_NAME)
    weights = folder / WEIGHTS_NAME
    if not weights.is_file():
        raise LangOccError(f'no file {WEIGHTS_NAME} in {folder}')
    if sha256(weights) != page['weights']:
        raise LangOccError(
            f'{weights} is not the file that {CONFIG_NAME} beside it was written with: '
            'it is damaged, or of another training'
        )
    config = LangOccConfig.from_dict(page['model'])
    if grid is not None and config.grid != grid:
        raise LangOccError(
            f'{folder} was trained for voxels {_words(config.grid)}, not {_words(grid)}'
        )
    try:
        state = load_file(weights)
        reducer = {
            key.removeprefix(_REDUCER): np.asarray(state.pop(key).numpy())
            for key in sorted(state)
            if key.startswith(_REDUCER)
        }
        projection = FeatureProjection.from_arrays(reducer) if reducer else None
        model = LangOcc(config)
        model.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
        )
        clip = page['clip']
        space = FeatureSpace(clip['model'], clip['pretrained'], clip['identity'], projection)
    except (SafetensorError, RuntimeError, ValueError, KeyError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise LangOccError(f'{folder} holds no LangOcc network: {reason}') from error
    return Checkpoint(model.eval(), space, page['training'])


def _words(grid: VoxelGrid) -> str:
    return f'from {grid.lower_m} to {grid.upper_m} m in {grid.voxel_m} m'


def _read_page(path: Path) -> dict[str, Any]:
    try:
        page = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise LangOccError(f'cannot read a LangOcc checkpoint from {path}: {error}') from error
    wanted = {'model': dict, 'clip': dict, 'weights': str, 'training': dict}
    if not isinstance(page, dict) or not all(
        isinstance(page.get(key), kind) for key, kind in wanted.items()
    ):
        raise LangOccError(f'{path} is no page of a LangOcc checkpoint: it needs {list(wanted)}')
    return page
