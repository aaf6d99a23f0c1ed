"""Questions about what cameras see: which pictures are looked at, and what ends an answer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.clip_vlm.captioner import Captioner, Description
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.live.requests import Request


@dataclass(frozen=True)
class Answer:
    """What came of a question, as far as it came.

    Attributes:
        refusal: Why there is no answer; '' where there is.
        kind: Of refusal, in a word or two.
        description: What was said; None where nothing was.
        prompt: What was asked.
        missing: Cameras whose pictures were wanted and not looked at, and why.
        complete: Whether the text came to its own end.
        note: What its reader should know; '' where nothing.
        first_token_s: From the question to the first token; None where there was none.
        took_s: From the question to its end.
    """

    refusal: str = ''
    kind: str = ''
    description: Description | None = None
    prompt: str = ''
    missing: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False
    note: str = ''
    first_token_s: float | None = None
    took_s: float = 0.0

    @property
    def text(self) -> str:
        """What was said, maybe only its beginning."""
        return self.description.text if self.description else ''

    @property
    def message(self) -> str:
        """Why there is no answer, or what its reader should know."""
        left_out = [f'{name} is left out: {why}' for name, why in self.missing.items()]
        return '; '.join(filter(None, (self.refusal, self.note, *left_out)))

    def page(self, stamp_ns: int, now_ns: int, *, asked: bool) -> dict[str, Any]:
        """The answer as JSON has it.

        Args:
            stamp_ns: The latest stamp of its pictures.
            now_ns: Now, on the same clock.
            asked: Whether somebody asked, or it came at its rate.
        """
        said = self.description
        assert said is not None  # refusals are not published
        writing_s = said.latency_s - (said.time_to_first_token_s or 0.0)
        rate = (said.tokens - 1) / writing_s if said.tokens > 1 and writing_s > 0 else None
        return {
            'text': said.text,
            'prompt': self.prompt,
            'stamp': {'sec': stamp_ns // 10**9, 'nanosec': stamp_ns % 10**9},
            'age_s': round((now_ns - stamp_ns) / 1e9, 3),
            'cameras': list(said.cameras),
            'missing': dict(self.missing),
            'tokens': said.tokens,
            'tokens_per_s': None if rate is None else round(rate, 2),
            'time_to_first_token_s': _rounded(self.first_token_s),
            'latency_s': _rounded(self.took_s),
            'complete': self.complete,
            'asked': asked,
        }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


@dataclass(eq=False)
class DescribeRequest(Request[Answer]):
    """A question under way.

    Attributes:
        prompt: What is asked; '' for the prompt of training.
        cameras: Whose pictures; empty for all.
        max_new_tokens: Most tokens of the answer.
        asked: Whether somebody asked; otherwise it came at its rate.
        over: Why nobody waits for the answer any more; '' while somebody does.
    """

    prompt: str
    cameras: tuple[str, ...]
    max_new_tokens: int
    asked: bool
    over: str = ''

    def end(self, why: str) -> None:
        """Nobody waits for the answer any more."""
        self.over = self.over or why
        self.cancelled.set()


class Describer:
    """Answers from pictures with a captioner, in one thread.

    Attributes:
        cameras: Whose pictures it may be asked about, in the captioner's order.

    Args:
        captioner: What speaks.
        cameras: Those of the captioner's that there are; empty takes all.
        need_all: Refuse where a picture that is wanted is missing; otherwise do without it.
        longest_s: An answer is ended after so many seconds.

    Raises:
        ClipVlmError: The captioner does not know a camera, or one is named twice.
    """

    def __init__(
        self,
        captioner: Captioner,
        cameras: Sequence[str] = (),
        *,
        need_all: bool = False,
        longest_s: float = 60.0,
    ) -> None:
        known = captioner.cameras
        if unknown := [name for name in cameras if name not in known]:
            raise ClipVlmError(
                f'the checkpoint knows no camera {", ".join(unknown)}; its cameras are '
                f'{", ".join(known)}'
            )
        if len(set(cameras)) < len(cameras):
            raise ClipVlmError(f'a camera is named twice: {", ".join(cameras)}')
        self._captioner, self._need_all, self._longest_s = captioner, need_all, longest_s
        self.cameras = tuple(name for name in known if not cameras or name in cameras)

    def warm_up(self) -> None:
        """Look at black pictures, so that the first question is as quick as others."""
        black = np.zeros((32, 32, 3), np.uint8)
        self._captioner.describe(dict.fromkeys(self.cameras, black), None, max_new_tokens=2)

    def wanted(self, request: DescribeRequest) -> tuple[str, ...]:
        """The cameras that a request is about."""
        return request.cameras or self.cameras

    def refusal(self, request: DescribeRequest) -> str:
        """Why a request cannot be answered whatever is seen; '' where it can."""
        unknown = [name for name in request.cameras if name not in self.cameras]
        if unknown:
            return f'no camera {", ".join(unknown)}; there are {", ".join(self.cameras)}'
        if request.prompt and not request.prompt.strip():
            return 'the prompt is blank'
        return ''

    def answer(
        self,
        request: DescribeRequest,
        images: Mapping[str, NDArray[np.uint8]],
        missing: Mapping[str, str],
    ) -> Answer:
        """What the pictures show.

        Args:
            request: What is asked. It is looked at before each token, and may be ended meanwhile.
            images: (H, W, 3) uint8 RGB of the cameras that are wanted and there.
            missing: Why others are not there.

        Raises:
            ClipVlmError: A picture is none.
        """
        if not images or (missing and self._need_all):
            why = '; '.join(f'{name}: {reason}' for name, reason in missing.items())
            return Answer(f'no picture of {why}', 'no pictures')
        prompt = request.prompt or self._captioner.prompt
        start_s = time.monotonic()
        late_s = start_s + self._longest_s
        said = self._captioner.describe(
            images,
            prompt,
            max_new_tokens=request.max_new_tokens,
            cancelled=lambda: request.cancelled.is_set() or time.monotonic() > late_s,
        )
        waited_s = start_s - request.asked_s
        first_s = said.time_to_first_token_s
        known = Answer(
            description=said,
            prompt=prompt,
            missing=missing,
            complete=not said.cancelled and said.tokens < request.max_new_tokens,
            first_token_s=None if first_s is None else waited_s + first_s,
            took_s=waited_s + said.latency_s,
        )
        if request.over:
            return replace(known, refusal=request.over, kind='cancelled', complete=False)
        if said.cancelled:
            note = f'ended after {self._longest_s:g} s (longest_s), {said.tokens} tokens'
            return replace(known, note=note)
        return known
