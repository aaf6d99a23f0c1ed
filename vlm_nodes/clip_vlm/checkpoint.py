"""A trained connector on disk, its adapters beside it, and what both belong to."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save

from bag_tools.whole_file import write_whole
from vlm_nodes.clip.weights import sha256
from vlm_nodes.clip_vlm.clip_views import ClipConfig
from vlm_nodes.clip_vlm.connector import Connector, ConnectorConfig
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.qwen import QwenIdentity

FORMAT: Final = 1
MODES: Final = ('distill', 'lm')
PAGE_NAME: Final = 'clip_vlm.json'
CONNECTOR_NAME: Final = 'connector.safetensors'
ADAPTER: Final = 'adapter'
ADAPTER_FILES: Final = ('adapter_model.safetensors', 'adapter_config.json')
"""peft's own names, in its own folder."""


@dataclass(frozen=True)
class Page:
    """What a checkpoint says of itself.

    Attributes:
        mode: What it was trained for: 'distill' or 'lm'.
        prompt: That it was trained with.
        clip: Whose tokens it takes.
        clip_identity: Of that CLIP's weights and method.
        qwen: Whose tokens it makes.
        connector: Its sizes.
        lora: peft's configuration of the adapters; None without any.
        training: What is remembered about where the weights come from.

    Raises:
        ClipVlmError: The mode is not known.
    """

    mode: str
    prompt: str
    clip: ClipConfig
    clip_identity: str
    qwen: QwenIdentity
    connector: ConnectorConfig
    lora: Mapping[str, Any] | None = None
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the mode."""
        if self.mode not in MODES:
            raise ClipVlmError(f'unknown mode {self.mode!r}; choose of {", ".join(MODES)}')


@dataclass(frozen=True)
class Checkpoint:
    """A trained connector.

    Attributes:
        folder: It lies in.
        page: What it says of itself.
        connector: In evaluation mode, on the CPU.
    """

    folder: Path
    page: Page
    connector: Connector

    @property
    def adapter(self) -> Path | None:
        """The folder of its adapters, as peft loads it; None without any."""
        return self.folder / ADAPTER if self.page.lora is not None else None


def save_checkpoint(folder: Path, page: Page, connector: Connector, adapted: Any = None) -> None:
    """Write a connector and adapters; the page that holds their hashes comes last.

    Args:
        folder: Is made where it is missing.
        page: `lora` is filled in from `adapted`.
        connector: The weights.
        adapted: A peft model; None without adapters.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.detach().float().cpu().contiguous()
        for name, value in connector.state_dict().items()
    }
    write_whole(folder / CONNECTOR_NAME, save(state))
    hashes = {CONNECTOR_NAME: sha256(folder / CONNECTOR_NAME)}
    lora = None
    if adapted is not None:
        _save_adapter(folder, adapted)
        for name in ADAPTER_FILES:
            hashes[f'{ADAPTER}/{name}'] = sha256(folder / ADAPTER / name)
        lora = json.loads((folder / ADAPTER / ADAPTER_FILES[1]).read_text(encoding='utf-8'))
    write_whole(folder / PAGE_NAME, _written(page, lora, hashes))


def _save_adapter(folder: Path, adapted: Any) -> None:
    (folder / ADAPTER).mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix='.adapter') as part:
        # Embeddings that are trained are among the modules to save already.
        adapted.save_pretrained(part, save_embedding_layers=False)
        for name in ADAPTER_FILES:
            write_whole(folder / ADAPTER / name, (Path(part) / name).read_bytes())


def _written(page: Page, lora: Any, hashes: dict[str, str]) -> bytes:
    from vlm_nodes.clip_vlm.backend import peft, transformers

    config = page.connector
    content = {
        'format': FORMAT,
        'mode': page.mode,
        'prompt': page.prompt,
        'cameras': list(config.cameras),
        'tokens_per_view': config.tokens_per_view,
        'clip_dim': config.clip_dim,
        'hidden_size': config.hidden_size,
        'clip': {**page.clip.to_dict(), 'identity': page.clip_identity},
        'qwen': asdict(page.qwen),
        'connector': config.to_dict(),
        'lora': lora,
        'versions': {'transformers': transformers.__version__, 'peft': peft.__version__},
        'hashes': hashes,
        'training': dict(page.training),
    }
    return (json.dumps(content, indent=2) + '\n').encode()


def load_checkpoint(folder: Path | str) -> Checkpoint:
    """A trained connector.

    Args:
        folder: What `save_checkpoint` wrote.

    Raises:
        ClipVlmError: A file is missing or damaged, files do not belong together, or a shape is
            not what the page says.
    """
    folder = Path(folder)
    content = _read_page(folder / PAGE_NAME)
    for name, wanted in content['hashes'].items():
        path = folder / name
        if not path.is_file():
            raise ClipVlmError(f'no file {name} in {folder}')
        if sha256(path) != wanted:
            raise ClipVlmError(
                f'{path} is not the file that {PAGE_NAME} was written with: it is damaged, or of '
                'another training'
            )
    try:
        clip = dict(content['clip'])
        identity = str(clip.pop('identity'))
        page = Page(
            mode=content['mode'],
            prompt=content['prompt'],
            clip=ClipConfig.from_dict(clip),
            clip_identity=identity,
            qwen=QwenIdentity(**content['qwen']),
            connector=ConnectorConfig.from_dict(content['connector']),
            lora=content['lora'],
            training=content['training'],
        )
    except (TypeError, KeyError) as error:
        raise ClipVlmError(f'{folder / PAGE_NAME} lacks something: {error}') from error
    connector = Connector(page.connector)
    try:
        connector.load_state_dict(load_file(folder / CONNECTOR_NAME))
    except (SafetensorError, RuntimeError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise ClipVlmError(
            f'{folder / CONNECTOR_NAME} does not fit {PAGE_NAME}: {reason}'
        ) from error
    return Checkpoint(folder, page, connector.eval())


def _read_page(path: Path) -> dict[str, Any]:
    try:
        page = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise ClipVlmError(f'cannot read a CLIP-VLM checkpoint from {path}: {error}') from error
    if not isinstance(page, dict) or not isinstance(page.get('hashes'), dict):
        raise ClipVlmError(f'{path} is no page of a CLIP-VLM checkpoint')
    if page.get('format') != FORMAT:
        raise ClipVlmError(f'{path} has format {page.get("format")}, this version reads {FORMAT}')
    return page


def check_belongs(checkpoint: Checkpoint, clip_identity: str, qwen: QwenIdentity) -> None:
    """Whether a CLIP and a Qwen are those that a connector was trained with.

    Raises:
        ClipVlmError: One is another; the message names both.
    """
    page = checkpoint.page
    if clip_identity != page.clip_identity:
        raise ClipVlmError(
            f'{checkpoint.folder} was trained with the CLIP {page.clip_identity}, this is '
            f'{clip_identity}'
        )
    trained = page.qwen
    if (qwen.kind, qwen.hidden_size) != (trained.kind, trained.hidden_size) or (
        qwen.fingerprint != trained.fingerprint
    ):
        raise ClipVlmError(
            f'{checkpoint.folder} was trained with a {trained.kind} of width {trained.hidden_size} '
            f'({trained.path}, {trained.fingerprint}); {qwen.path} is a {qwen.kind} of width '
            f'{qwen.hidden_size} ({qwen.fingerprint})'
        )
