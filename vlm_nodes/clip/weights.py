"""Which model and which file: names and paths to a configuration and checked weights, offline."""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from vlm_nodes.clip.backend import MODELS_DIR, open_clip

WEIGHTS_DIR_VARIABLE = 'VLM_WEIGHTS'
CONFIG_NAME = 'open_clip_config.json'
WEIGHTS_NAME = 'open_clip_model.safetensors'
"""Files of a model's own folder, as open_clip's `local-dir:` loads it."""

SUFFIXES = ('.safetensors', '.pt', '.pth', '.bin')

_OPENAI_ARCHIVE_KEYS = ('input_resolution', 'context_length', 'vocab_size')
"""Numbers that only OpenAI's own archives carry among their weights."""


class WeightsError(RuntimeError):
    """Weights are missing, unreadable, or of another model; the message says what to do."""


@dataclass(frozen=True)
class ModelSource:
    """A model's configuration and the file of its weights.

    Attributes:
        name: short name, part of the encoder's identity.
        config: open_clip's model configuration (`embed_dim`, `vision_cfg`, `text_cfg`, ...).
        weights: the file of the weights.
        preprocess: `mean` and `std` (3 numbers each, of RGB in [0, 1]).
    """

    name: str
    config: dict[str, Any]
    weights: Path
    preprocess: dict[str, tuple[float, ...]]


def default_weights_dir() -> Path:
    """The folder weights are looked for in: `$VLM_WEIGHTS`, else `~/.cache/vlm_nodes`."""
    return Path(os.environ.get(WEIGHTS_DIR_VARIABLE) or Path.home() / '.cache' / 'vlm_nodes')


def find_model(
    model: str, pretrained: str | None = None, weights_dir: Path | None = None
) -> ModelSource:
    """Resolve a model and its weights to files on this machine.

    Args:
        model: `tiny` (ships with the package), an open_clip model name such as `ViT-B-16`, a folder
            with `open_clip_config.json` and `open_clip_model.safetensors` (what training writes),
            or the path of a configuration `NAME.json`, whose weights lie beside it as
            `NAME.safetensors`.
        pretrained: an open_clip tag such as `openai`, or a path to a weights file.
        weights_dir: where `MODEL-TAG.safetensors` is looked for; `default_weights_dir()` where
            None.

    Returns:
        What to build and what to load into it.

    Raises:
        WeightsError: no such model, tag or file. One line, with the command that fetches what is
        missing.
    """
    name, config, preprocess, own_weights = _find_config(model)
    if pretrained is None:
        weights = _own_weights(model, own_weights)
        tag: dict[str, Any] = {}
    elif _is_path(pretrained):
        weights = _existing(Path(pretrained).expanduser(), model)
        tag = {}
    else:
        weights = _tagged_weights(model, pretrained, weights_dir or default_weights_dir())
        tag = open_clip.get_pretrained_cfg(model, pretrained)
    if tag.get('quick_gelu'):
        config['quick_gelu'] = True
    return ModelSource(name, config, weights, _mean_and_std({**preprocess, **tag}))


def find_config(model: str) -> ModelSource:
    """A model's configuration alone, to train it from scratch; its weights need not exist.

    Args:
        model: as for `find_model`.

    Returns:
        A source whose `weights` may be missing.

    Raises:
        WeightsError: no such model.
    """
    name, config, preprocess, weights = _find_config(model)
    return ModelSource(name, config, weights or Path(), _mean_and_std(preprocess))


def load_model(source: ModelSource) -> Any:
    """Build the model on the CPU and fill every one of its weights from the file.

    Returns:
        open_clip's CLIP or CustomTextCLIP, in evaluation mode, float32, without gradients.

    Raises:
        WeightsError: the file is damaged, holds code, or belongs to another architecture.
    """
    with _naming(source):
        state = _read_state_dict(source.weights)
        config = dict(source.config)
        if all(key in state for key in _OPENAI_ARCHIVE_KEYS):
            config['quick_gelu'] = True  # OpenAI trained with it; its archives do not say so
            for key in _OPENAI_ARCHIVE_KEYS:
                del state[key]
        model = build_model(config)
        _fill(model, _fitted(state, model))
    return model.eval().requires_grad_(False)


def build_model(config: dict[str, Any]) -> Any:
    """The untrained architecture of an open_clip configuration, in float32 on the CPU."""
    arguments = dict(config)
    custom_text = arguments.pop('custom_text', False)
    factory: Callable[..., Any] = open_clip.CustomTextCLIP if custom_text else open_clip.CLIP
    return factory(**arguments)


def make_tokenizer(config: dict[str, Any]) -> Callable[[list[str]], torch.Tensor]:
    """open_clip's byte-pair tokenizer at the model's context length.

    Raises:
        WeightsError: the model wants a tokenizer that would have to be fetched at run time.
    """
    text = config['text_cfg']
    if text.get('hf_tokenizer_name') or text.get('hf_model_name'):
        raise WeightsError(
            'models with a Hugging Face tokenizer are not supported: '
            'it would be fetched at run time'
        )
    tokenizer: Callable[[list[str]], torch.Tensor] = open_clip.SimpleTokenizer(
        context_length=text.get('context_length', 77)
    )
    return tokenizer


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open('rb') as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def weights_file_name(model: str, tag: str) -> str:
    """The name under which fetched weights are kept: `MODEL-TAG.safetensors`."""
    return f'{model}-{tag}.safetensors'.replace('/', '-')


def fetch_command(model: str, tag: str, folder: Path) -> str:
    """The command line that puts the weights of a tag into a folder."""
    return f'ros2 run vlm_nodes fetch_weights --model {model} --pretrained {tag} --to {folder}'


def _find_config(model: str) -> tuple[str, dict[str, Any], dict[str, Any], Path | None]:
    """Name, model configuration, preprocessing and, where they have a fixed place, the weights."""
    if (packaged := MODELS_DIR / f'{model}.json').is_file():
        return model, *_read_config(packaged), packaged.with_suffix('.safetensors')
    if Path(model).is_dir():
        folder = Path(model).absolute()
        return folder.name, *_read_config(folder / CONFIG_NAME), folder / WEIGHTS_NAME
    if model.endswith('.json'):
        path = Path(model)
        return path.stem, *_read_config(path), path.with_suffix('.safetensors')
    config = open_clip.get_model_config(model)
    if config is None:
        packaged_names = sorted(path.stem for path in MODELS_DIR.glob('*.json'))
        raise WeightsError(
            f'unknown model {model!r}: neither one of {packaged_names}, nor an open_clip model '
            f'name (such as ViT-B-16), nor a folder with {CONFIG_NAME}, nor the path of a NAME.json'
        )
    return model, config, {}, None


def _read_config(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Model part and preprocessing part of either of open_clip's two kinds of configuration."""
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise WeightsError(f'cannot read the model configuration {path}: {error}') from error
    config = content.get('model_cfg', content)
    missing = {'embed_dim', 'vision_cfg', 'text_cfg'} - set(config)
    if missing:
        raise WeightsError(f'{path} is no open_clip model configuration: {sorted(missing)} missing')
    return dict(config), dict(content.get('preprocess_cfg', {}))


def _own_weights(model: str, path: Path | None) -> Path:
    if path is None:
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise WeightsError(
            f'model {model} needs `pretrained`: a path (.pt, .safetensors) or one of {tags}'
        )
    return _existing(path, model)


def _is_path(pretrained: str) -> bool:
    return pretrained.endswith(SUFFIXES) or os.sep in pretrained


def _existing(path: Path, model: str) -> Path:
    if not path.is_file():
        raise WeightsError(
            f'weights of {model} not found: no file {path.name} in {path.parent.absolute()}; '
            'to fetch weights of open_clip: '
            + fetch_command('MODEL', 'TAG', path.parent.absolute())
        )
    return path


def _tagged_weights(model: str, tag: str, folder: Path) -> Path:
    wanted = folder / weights_file_name(model, tag)
    for suffix in SUFFIXES:
        if (path := wanted.with_name(wanted.name.removesuffix('.safetensors') + suffix)).is_file():
            return path
    if not open_clip.is_pretrained_cfg(model, tag):
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise WeightsError(
            f'{tag!r} is neither a weights file nor a tag of {model}; its tags are {tags}'
        )
    raise WeightsError(
        f'weights of {model} not found: no file {wanted.name} in {folder.absolute()}; '
        f'fetch them once with: {fetch_command(model, tag, folder.absolute())}'
    )


def _mean_and_std(given: dict[str, Any]) -> dict[str, tuple[float, ...]]:
    return {
        'mean': tuple(given.get('mean', open_clip.OPENAI_DATASET_MEAN)),
        'std': tuple(given.get('std', open_clip.OPENAI_DATASET_STD)),
    }


@contextmanager
def _naming(source: ModelSource) -> Iterator[None]:
    """Turns what the readers raise into one line that names the file and the model."""
    try:
        yield
    except (RuntimeError, SafetensorError, OSError, ValueError, EOFError, UnpicklingError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise WeightsError(
            f'cannot load {source.weights} as weights of {source.name}: {reason}'
        ) from error


def _read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == '.safetensors':
        return dict(load_file(path))
    if _is_torchscript(path):  # as OpenAI's archives are
        archive: Any = torch.jit.load(path, map_location='cpu')  # type: ignore[no-untyped-call]
        return dict(archive.state_dict())
    loaded = torch.load(path, map_location='cpu', weights_only=True)
    state = loaded.get('state_dict', loaded)
    return {key.removeprefix('module.'): value for key, value in state.items()}


def _fill(model: Any, state: dict[str, torch.Tensor]) -> None:
    """Load all tensors of a model; what does not fit is counted, with two names of each kind."""
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise RuntimeError(_differences(model.state_dict(), state) or str(error)) from error


def _differences(wanted: dict[str, torch.Tensor], given: dict[str, torch.Tensor]) -> str:
    """What one set of tensors lacks, has besides and has in other shapes; empty if nothing."""
    shared = [name for name in wanted if name in given]
    kinds = {
        'missing': [name for name in wanted if name not in given],
        'unexpected': [name for name in given if name not in wanted],
        'of another shape': [name for name in shared if wanted[name].shape != given[name].shape],
    }
    return '; '.join(
        f'{len(names)} tensors {kind} ({", ".join(names[:2])}{", ..." if len(names) > 2 else ""})'
        for kind, names in kinds.items()
        if names
    )


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith('/constants.pkl') for name in archive.namelist())


def _fitted(state: dict[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """Weights in float32 and in this model's naming."""
    fitted = {
        key: value.float() if value.is_floating_point() else value for key, value in state.items()
    }
    if 'positional_embedding' in fitted and not hasattr(model, 'positional_embedding'):
        fitted = open_clip.model.convert_to_custom_text_state_dict(fitted)
    if 'logit_scale' in fitted:
        fitted['logit_scale'] = fitted['logit_scale'].reshape(model.logit_scale.shape)
    return fitted
