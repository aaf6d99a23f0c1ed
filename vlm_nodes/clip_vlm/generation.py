"""Text from embeddings, piece by piece, until it ends or is no longer wanted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlm_nodes.clip_vlm.backend import transformers
from vlm_nodes.clip_vlm.batches import Views
from vlm_nodes.clip_vlm.dialogue import Rows
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.model import ClipVlm


@dataclass(frozen=True)
class Generated:
    """An answer.

    Attributes:
        text: What is said.
        tokens: How many were generated, the end token among them.
        first_token_s: From the call to the first token; None where there is none.
        cancelled: Whether it was cut short because it was no longer wanted.
    """

    text: str
    tokens: int
    first_token_s: float | None
    cancelled: bool


class _Pieces(transformers.TextStreamer):  # type: ignore[misc]
    """Hands on whole words as they come, and remembers when the first token did."""

    def __init__(self, tokenizer: Any, on_text: Callable[[str], None] | None) -> None:
        super().__init__(tokenizer, skip_special_tokens=True)
        self._on_text = on_text
        self.first_token_s: float | None = None
        self._start_s = time.monotonic()

    def put(self, value: Tensor) -> None:
        # generate() first hands over its input's tokens, of which embeddings have none.
        if value.numel() == 0:
            return
        if self.first_token_s is None:
            self.first_token_s = time.monotonic() - self._start_s
        super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if text and self._on_text is not None:
            self._on_text(text)


class _Cancelled(transformers.StoppingCriteria):  # type: ignore[misc]
    """Stops all rows once the text is no longer wanted."""

    def __init__(self, cancelled: Callable[[], bool]) -> None:
        self._cancelled = cancelled
        self.is_met = False

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        self.is_met = self.is_met or self._cancelled()
        return torch.full((len(input_ids),), self.is_met, device=input_ids.device)


def generate(
    model: ClipVlm,
    views: Views,
    rows: Rows,
    *,
    max_new_tokens: int,
    cancelled: Callable[[], bool] | None = None,
    on_text: Callable[[str], None] | None = None,
) -> list[Generated]:
    """The likeliest next token, again and again (greedy): the same input gives the same text.

    Args:
        model: In evaluation mode.
        views: Of B samples, on the model's device.
        rows: Without answers.
        max_new_tokens: Most tokens of an answer.
        cancelled: Asked before each token; True ends all answers where they are.
        on_text: Is given the pieces of the answer as they come; for one sample only.

    Returns:
        B answers.

    Raises:
        ClipVlmError: `max_new_tokens` is below 1, or pieces of several answers are asked for.
    """
    if max_new_tokens < 1:
        raise ClipVlmError(f'max_new_tokens must be at least 1, is {max_new_tokens}')
    if on_text is not None and len(rows.ids) > 1:
        raise ClipVlmError('pieces can be given of one answer at a time')
    streamer = _Pieces(model.qwen.tokenizer, on_text) if len(rows.ids) == 1 else None
    stop = _Cancelled(cancelled or (lambda: False))
    with torch.inference_mode():
        output = model.qwen.model.generate(
            inputs_embeds=model.embed(views, rows),
            attention_mask=rows.mask.long(),
            generation_config=_greedy(model, max_new_tokens),
            stopping_criteria=transformers.StoppingCriteriaList([stop]),
            streamer=streamer,
        )
    first_token_s = streamer.first_token_s if streamer is not None else None
    return [_answer(model, row.tolist(), first_token_s, stop.is_met) for row in output]


def _answer(
    model: ClipVlm, ids: list[int], first_token_s: float | None, is_stopped: bool
) -> Generated:
    ended = model.qwen.end_id in ids
    if ended:
        ids = ids[: ids.index(model.qwen.end_id) + 1]
    text = model.qwen.tokenizer.decode(ids, skip_special_tokens=True).strip()
    return Generated(text, len(ids), first_token_s, is_stopped and not ended)


def _greedy(model: ClipVlm, max_new_tokens: int) -> Any:
    # Only the end token that captions were taught with: models list further ones of their own.
    return transformers.GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=model.qwen.end_id,
        pad_token_id=model.qwen.pad_id,
    )
