"""CLIP-VLM: a connector, a frozen Qwen, and adapters where they are asked for."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from vlm_nodes.clip_vlm.backend import peft
from vlm_nodes.clip_vlm.batches import Batch, Views
from vlm_nodes.clip_vlm.connector import Connector
from vlm_nodes.clip_vlm.dialogue import IGNORED, Dialogue, Rows
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.losses import caption_loss
from vlm_nodes.clip_vlm.qwen import Qwen

LANGUAGE_LAYERS: Final = (
    r'model\.(language_model\.)?layers\.\d+\.(self_attn|mlp)\.'
    r'(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)'
)
"""What adapters are put on, the whole name: nothing of a vision tower, whose blocks are not called
layers. Bare names such as `gate_proj` would change the tower, and so the teacher."""
EMBEDDINGS: Final = ('embed_tokens', 'lm_head')


@dataclass(frozen=True)
class LoraOptions:
    """Low-rank adapters (Hu et al. 2021).

    Attributes:
        rank: Of the changes.
        alpha: They are scaled by alpha / rank.
        dropout: Of their input.
        train_embeddings: Whether input and output embeddings are trained whole as well, which
            a model needs that has never learned a language.

    Raises:
        ClipVlmError: A value is out of its range; the message holds it.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    train_embeddings: bool = False

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        if self.rank < 1 or self.alpha < 1:
            raise ClipVlmError(
                f'rank and alpha of LoRA must be at least 1, are {self.rank} and {self.alpha}'
            )
        if not 0 <= self.dropout < 1:
            raise ClipVlmError(f'dropout of LoRA must be at least 0, below 1, is {self.dropout}')


class ClipVlm(nn.Module):
    """Views and a prompt to text.

    Attributes:
        connector: What is trained.
        qwen: Frozen but for adapters.
        dialogue: Writes its rows.
    """

    def __init__(self, connector: Connector, qwen: Qwen) -> None:
        """Join both.

        Raises:
            ClipVlmError: Their widths differ.
        """
        super().__init__()
        if connector.config.hidden_size != qwen.hidden_size:
            raise ClipVlmError(
                f'the connector makes tokens of width {connector.config.hidden_size}, '
                f'{qwen.folder} takes {qwen.hidden_size}: they are not of one training'
            )
        self.connector = connector
        self.qwen = qwen
        self.dialogue = Dialogue(qwen.tokenizer, connector.config.tokens_per_view)

    @property
    def has_adapter(self) -> bool:
        """Whether there are adapters."""
        return hasattr(self.qwen.model, 'peft_config')

    def add_adapter(self, options: LoraOptions) -> None:
        """Put fresh adapters on the language layers.

        Raises:
            ClipVlmError: Embeddings are to be trained where input and output share them.
        """
        base = self.qwen.base
        if options.train_embeddings and base.config.get_text_config().tie_word_embeddings:
            raise ClipVlmError(
                f'--train-embeddings: input and output of {self.qwen.folder} share their '
                'embeddings, which cannot be trained apart'
            )
        config = peft.LoraConfig(
            r=options.rank,
            lora_alpha=options.alpha,
            lora_dropout=options.dropout,
            target_modules=LANGUAGE_LAYERS,
            modules_to_save=list(EMBEDDINGS) if options.train_embeddings else None,
        )
        with _without_hints():
            self.qwen.model = peft.get_peft_model(base, config)

    def load_adapter(self, folder: Path, *, trainable: bool = False) -> None:
        """Put adapters on that peft wrote.

        Raises:
            ClipVlmError: They are damaged, or of another model.
        """
        try:
            with _without_hints():
                self.qwen.model = peft.PeftModel.from_pretrained(
                    self.qwen.base, str(folder), is_trainable=trainable
                )
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            reason = ' '.join(str(error).split())[:300]
            raise ClipVlmError(f'cannot load adapters of {folder}: {reason}') from error

    def see(self, views: Views) -> Tensor:
        """(B, V, T, hidden_size) tokens of views."""
        tokens: Tensor = self.connector(views.features, views.cameras, views.present)
        return tokens

    def embed(self, views: Views, rows: Rows) -> Tensor:
        """Rows as the language model reads them: its own embeddings, and the connector's tokens."""
        seen = self.see(views)[views.present].flatten(0, 1)
        embedded = self.qwen.embed(rows.ids)
        return embedded.masked_scatter(rows.slots[..., None], seen.to(embedded.dtype))

    def caption_logits(self, views: Views, rows: Rows) -> Tensor:
        """(K, vocabulary) of the K tokens that have labels, each from what comes before it."""
        hidden = self.qwen(self.embed(views, rows), rows.mask)
        before = hidden[:, :-1][rows.labels[:, 1:] != IGNORED]
        return self.qwen.logits(before)

    def caption_loss(self, batch: Batch) -> Tensor:
        """Cross-entropy of the captions and their end tokens."""
        if batch.rows is None:
            raise ClipVlmError('a batch without text has no captions to be learned')
        return caption_loss(self.caption_logits(batch.views, batch.rows), batch.rows.labels)

    def trainable(self) -> dict[str, Tensor]:
        """What is trained, by name."""
        return {n: p for n, p in self.named_parameters() if p.requires_grad}


@contextmanager
def _without_hints() -> Iterator[None]:
    """Of names that transformers changed and peft still uses."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)
        yield


@dataclass(frozen=True)
class Part:
    """A row of the report of what is trained.

    Attributes:
        name: Of the part.
        trained: How many weights are trained.
        frozen: How many are not.
    """

    name: str
    trained: int
    frozen: int


def parts_of(model: ClipVlm, clip_parameters: int) -> list[Part]:
    """What is trained and what is frozen, CLIP and the vision tower apart."""
    groups: dict[str, list[Any]] = {
        'connector': [], 'vision tower': [], 'language model': [], 'adapters': [],
    }  # fmt: skip
    for name, parameter in model.named_parameters():
        if name.startswith('connector.'):
            groups['connector'].append(parameter)
        elif 'lora_' in name or '.modules_to_save.' in name:
            groups['adapters'].append(parameter)
        elif '.visual.' in name:
            groups['vision tower'].append(parameter)
        else:
            groups['language model'].append(parameter)
    rows = [Part('CLIP', 0, clip_parameters)]
    for name, group in groups.items():
        trained = sum(p.numel() for p in group if p.requires_grad)
        rows.append(Part(name, trained, sum(p.numel() for p in group) - trained))
    return rows


def report(parts: list[Part]) -> str:
    """`parts_of` in words, a line each."""
    lines = [
        f'{part.name:16} {part.trained:>14,} trained {part.frozen:>16,} frozen'
        for part in parts
        if part.trained + part.frozen
    ]
    return '\n'.join(lines)


def make_connector(config: Any, seed: int) -> Connector:
    """An untrained connector whose weights follow from a seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Connector(config)
