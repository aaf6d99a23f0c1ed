"""Pictures, a prompt and an answer as rows of tokens, in the chat format of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from vlm_nodes.clip_vlm.errors import ClipVlmError

SLOT: Final = -1
"""Stands for a token of the connector."""
IGNORED: Final = -100
"""Label of what no loss is computed of."""
_MARK: Final = '<views and prompt>'
_VISION: Final = ('<|vision_start|>', '<|vision_end|>')


def view_name(camera: str) -> str:
    """A camera's name in words: 'front left' of 'CAM_FRONT_LEFT'."""
    return camera.removeprefix('CAM_').replace('_', ' ').lower()


@dataclass(frozen=True)
class Rows:
    """Token rows of a batch.

    Attributes:
        ids: (B, L) int64; 0 where the connector's tokens go.
        slots: (B, L) bool, where the connector's tokens go.
        mask: (B, L) bool, False where a row is filled up.
        labels: (B, L) int64 of the tokens to be said, `IGNORED` elsewhere.
    """

    ids: Tensor
    slots: Tensor
    mask: Tensor
    labels: Tensor

    def to(self, device: Any) -> Rows:
        """The same elsewhere."""
        moved = (t.to(device) for t in (self.ids, self.slots, self.mask, self.labels))
        return Rows(*moved)


class Dialogue:
    """Writes rows: what the chat template puts first, each view's name and tokens, the prompt."""

    def __init__(self, tokenizer: Any, tokens_per_view: int) -> None:
        """Rows for a tokenizer and a connector."""
        self._tokenizer = tokenizer
        self._tokens_per_view = tokens_per_view
        # Without thinking aloud, where a template knows of it.
        text = tokenizer.apply_chat_template(
            [{'role': 'user', 'content': _MARK}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        if text.count(_MARK) != 1:
            raise ClipVlmError('the chat template of this tokenizer does not give the message back')
        self._before, self._after = (self._encode(part, special=True) for part in text.split(_MARK))
        known = tokenizer.get_vocab()
        self._open, self._close = ([known[t]] if t in known else [] for t in _VISION)

    def question(self, cameras: Sequence[str], prompt: str) -> list[int]:
        """The row up to the answer, `SLOT` where tokens of the connector go.

        Raises:
            ClipVlmError: The prompt is blank.
        """
        if not prompt.strip():
            raise ClipVlmError('the prompt is blank')
        row = list(self._before)
        for camera in cameras:
            row += self._encode(f'{view_name(camera)}: ')
            row += [*self._open, *[SLOT] * self._tokens_per_view, *self._close]
        return [*row, *self._encode(f'\n{prompt}'), *self._after]

    def answer(self, caption: str) -> list[int]:
        """A caption and its end token."""
        return [*self._encode(caption.strip()), int(self._tokenizer.eos_token_id)]

    def _encode(self, text: str, *, special: bool = False) -> list[int]:
        """Tokens; what looks like a special token is plain text unless it may be special."""
        ids: list[int] = self._tokenizer(
            text, add_special_tokens=False, split_special_tokens=not special
        )['input_ids']
        return ids


def make_rows(
    questions: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]] | None,
    pad_id: int,
) -> Rows:
    """Rows filled up to one length: behind the answers, or before questions that have none.

    Args:
        questions: Of `Dialogue.question`.
        answers: Of `Dialogue.answer`, one a question; None where they are to be generated.
        pad_id: What rows are filled up with.
    """
    said = answers if answers is not None else [[] for _ in questions]
    whole = [[*q, *a] for q, a in zip(questions, said, strict=True)]
    shape = (len(whole), max(len(row) for row in whole))
    ids = torch.full(shape, pad_id)
    mask = torch.zeros(shape, dtype=torch.bool)
    labels = torch.full(shape, IGNORED)
    for number, row in enumerate(whole):
        place = slice(0, len(row)) if answers is not None else slice(shape[1] - len(row), None)
        ids[number, place] = torch.tensor(row)
        mask[number, place] = True
        if answers is not None:
            start = len(questions[number])
            labels[number, start : len(row)] = torch.tensor(row[start:])
    slots = ids == SLOT
    return Rows(ids.masked_fill(slots, 0), slots, mask, labels)
