"""Qwen, frozen: Qwen2.5-VL, Qwen3-VL or the text-only Qwen3, from a folder on this machine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from vlm_nodes.clip_vlm.backend import transformers
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.quantization import check_can_quantize, quantization_config

CLASSES: Final = {
    'qwen2_5_vl': 'Qwen2_5_VLForConditionalGeneration',
    'qwen3_vl': 'Qwen3VLForConditionalGeneration',
    'qwen3': 'Qwen3ForCausalLM',
}
"""transformers' class of each kind that can be used; the last has no vision tower."""

DTYPES: Final = {'fp32': torch.float32, 'bf16': torch.bfloat16}
_ENDS: Final = 1 << 20


@dataclass(frozen=True)
class QwenIdentity:
    """Which Qwen something was trained with.

    Attributes:
        path: Its folder then, on the machine of then.
        kind: A key of `CLASSES`.
        hidden_size: Width of its tokens.
        fingerprint: Of its configuration and weights; see `fingerprint`.
    """

    path: str
    kind: str
    hidden_size: int
    fingerprint: str


class Qwen(nn.Module):
    """A Qwen whose own weights never change, fed with embeddings.

    Attributes:
        model: transformers' model, in a peft model once there are adapters.
        tokenizer: Its tokenizer, with a chat template.
        identity: Which one it is.
        folder: It was loaded from.
    """

    def __init__(self, model: Any, tokenizer: Any, identity: QwenIdentity, folder: Path) -> None:
        """Freeze the model."""
        super().__init__()
        self.model = model.requires_grad_(False)
        self.tokenizer = tokenizer
        self.identity = identity
        self.folder = folder

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        dtype: str | None = None,
        quant: str = 'none',
        device: str = 'cpu',
    ) -> Qwen:
        """A Qwen from its folder, in evaluation mode.

        Args:
            folder: As Hugging Face lays it out: `config.json`, safetensors, a tokenizer.
            dtype: 'fp32' or 'bf16'; None for fp32 on the CPU and bf16 elsewhere.
            quant: One of `quantization.QUANTIZATIONS`.
            device: torch device.

        Raises:
            ClipVlmError: There is no such folder, it holds another kind of model, a file is
                damaged, or this machine cannot quantise.
        """
        folder = Path(folder).expanduser()
        config = _read_config(folder)
        check_can_quantize(quant)
        chosen = DTYPES[dtype or ('fp32' if torch.device(device).type == 'cpu' else 'bf16')]
        kind = str(config.model_type)
        options: dict[str, Any] = {
            'dtype': chosen,
            'local_files_only': True,
            # They are refused below, by their names.
            'ignore_mismatched_sizes': True,
        }
        if quant != 'none':
            options |= {'quantization_config': quantization_config(quant), 'device_map': device}
        try:
            loader = getattr(transformers, CLASSES[kind])
            model, found = loader.from_pretrained(folder, output_loading_info=True, **options)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:
            raise ClipVlmError(f'cannot load {folder}: {_short(error)}') from error
        _check_whole(folder, found)
        _check_tokenizer(folder, tokenizer)
        identity = QwenIdentity(
            str(folder), kind, int(config.get_text_config().hidden_size), fingerprint(folder)
        )
        qwen = cls(model if quant != 'none' else model.to(device), tokenizer, identity, folder)
        return qwen.eval()

    @property
    def base(self) -> Any:
        """The model of transformers; adapters, where there are any, sit inside of it."""
        return self.model.get_base_model() if hasattr(self.model, 'peft_config') else self.model

    @property
    def has_eyes(self) -> bool:
        """Whether it has a vision tower."""
        return CLASSES[self.identity.kind] != CLASSES['qwen3']

    @property
    def hidden_size(self) -> int:
        """Width of its tokens."""
        return self.identity.hidden_size

    @property
    def dtype(self) -> torch.dtype:
        """Of its embeddings."""
        dtype: torch.dtype = self.base.get_input_embeddings().weight.dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where it is."""
        device: torch.device = self.base.get_input_embeddings().weight.device
        return device

    @property
    def end_id(self) -> int:
        """The token that ends an answer."""
        return int(self.tokenizer.eos_token_id)

    @property
    def pad_id(self) -> int:
        """The token that fills rows up; masked everywhere."""
        pad = self.tokenizer.pad_token_id
        return self.end_id if pad is None else int(pad)

    def embed(self, ids: Tensor) -> Tensor:
        """(B, L) token numbers -> (B, L, hidden_size)."""
        embedded: Tensor = self.base.get_input_embeddings()(ids)
        return embedded

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """The last layer's output, before the output embedding.

        Position numbers count the tokens of a row that are not masked, on all of Qwen-VL's three
        axes alike: the connector's tokens have no place in a picture's grid, as Qwen's own have.

        Args:
            embedded: (B, L, hidden_size).
            mask: (B, L) bool, False where a row is padded, on either side.

        Returns:
            (B, L, hidden_size).
        """
        core = self.base.model
        layers = core.language_model if self.has_eyes else core
        output = layers(
            inputs_embeds=embedded,
            attention_mask=mask.long(),
            position_ids=position_ids(mask),
            use_cache=False,
        )
        hidden: Tensor = output.last_hidden_state
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., hidden_size) -> (..., vocabulary), float32."""
        scores: Tensor = self.base.get_output_embeddings()(hidden)
        return scores.float()

    def weights_hash(self) -> str:
        """SHA-256 over its own weights in memory, adapters and copies to be trained left out."""
        digest = hashlib.sha256()
        for name, value in sorted(own_weights(self.model).items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def position_ids(mask: Tensor) -> Tensor:
    """(B, L) bool -> (B, L) numbers of the tokens that are not masked, from 0; 0 where masked."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


def own_weights(model: nn.Module) -> dict[str, Tensor]:
    """A model's weights by their names without adapters, whether it has adapters or not."""
    found = {}
    for name, value in model.state_dict().items():
        if 'lora_' in name or '.modules_to_save.' in name:
            continue
        plain = name.removeprefix('base_model.model.')
        found[plain.replace('.base_layer.', '.').replace('.original_module.', '.')] = value
    return found


def fingerprint(folder: Path) -> str:
    """16 hexadecimal digits that tell a model's folder from others.

    They are of `config.json`, and of each file of weights its name, its size and its first and last
    MiB: reading several gigabytes would take minutes.
    """
    digest = hashlib.sha256((folder / 'config.json').read_bytes())
    for path in sorted(folder.glob('*.safetensors')):
        size = path.stat().st_size
        digest.update(f'{path.name} {size}'.encode())
        with path.open('rb') as stream:
            digest.update(stream.read(_ENDS))
            stream.seek(max(0, size - _ENDS))
            digest.update(stream.read(_ENDS))
    return digest.hexdigest()[:16]


def _read_config(folder: Path) -> Any:
    if not (folder / 'config.json').is_file():
        raise ClipVlmError(
            f'no Qwen in {folder}: config.json, safetensors and a tokenizer are needed, fetched '
            'before (hf download Qwen/Qwen2.5-VL-3B-Instruct --local-dir DIR)'
        )
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        raise ClipVlmError(f'cannot read {folder / "config.json"}: {_short(error)}') from error
    if config.model_type not in CLASSES:
        raise ClipVlmError(
            f'{folder} holds a {config.model_type!r}; what can be used is {", ".join(CLASSES)}'
        )
    return config


def _check_whole(folder: Path, found: dict[str, Any]) -> None:
    """Refuse what transformers would fill up with random numbers."""
    wrong = {
        what: sorted(map(str, found.get(key) or ()))
        for what, key in (('missing', 'missing_keys'), ('of another shape', 'mismatched_keys'))
    }
    reasons = [f'{len(names)} {what} ({names[0]}, ...)' for what, names in wrong.items() if names]
    if reasons:
        raise ClipVlmError(f'the weights in {folder} are not whole: {"; ".join(reasons)}')


def _check_tokenizer(folder: Path, tokenizer: Any) -> None:
    if not tokenizer.chat_template:
        raise ClipVlmError(
            f'the tokenizer in {folder} has no chat template: take an -Instruct model'
        )
    if tokenizer.eos_token_id is None:
        raise ClipVlmError(f'the tokenizer in {folder} has no end token')


def _short(error: Exception) -> str:
    return ' '.join(str(error).split())[:300]
