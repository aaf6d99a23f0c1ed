"""Pictures and a prompt to text, from a trained checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vlm_nodes.clip_vlm.batches import Views, places_of
from vlm_nodes.clip_vlm.dialogue import make_rows
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.generation import generate
from vlm_nodes.clip_vlm.trained import Trained


@dataclass(frozen=True)
class Description:
    """What was said of some views.

    Attributes:
        text: The answer, as far as it went.
        cameras: Whose pictures were looked at, in the order that they were given to the model.
        tokens: How many were generated.
        time_to_first_token_s: From the call on; None where there was none.
        latency_s: Of the whole call, CLIP's part in it too.
        cancelled: Whether it was cut short because it was no longer wanted.
    """

    text: str
    cameras: tuple[str, ...]
    tokens: int
    time_to_first_token_s: float | None
    latency_s: float
    cancelled: bool


class Captioner:
    """A trained CLIP-VLM, ready to describe. Not for several threads at once."""

    def __init__(self, trained: Trained) -> None:
        """Describe with this.

        Raises:
            ClipVlmError: It was never taught to speak.
        """
        if trained.checkpoint.page.mode != 'lm':
            folder = trained.checkpoint.folder
            raise ClipVlmError(
                f'{folder} was distilled only and was never taught to speak: go on with '
                f'train_clip_vlm --mode lm --init {folder}'
            )
        self.trained = trained

    @classmethod
    def load(
        cls,
        folder: Path | str,
        *,
        base: Path | str | None = None,
        clip_model: str | None = None,
        clip_pretrained: str | None = None,
        device: str = 'cpu',
        dtype: str | None = None,
        quant: str = 'none',
        weights_dir: Path | None = None,
    ) -> Captioner:
        """A captioner of a checkpoint of `train_clip_vlm --mode lm`.

        See `Trained.load` for the arguments and what is raised.
        """
        return cls(
            Trained.load(
                folder,
                base=base,
                clip_model=clip_model,
                clip_pretrained=clip_pretrained,
                device=device,
                dtype=dtype,
                quant=quant,
                weights_dir=weights_dir,
            )
        )

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras it knows, in order; any of them may be missing."""
        return self.trained.checkpoint.page.connector.cameras

    @property
    def prompt(self) -> str:
        """The prompt that it was trained with."""
        return self.trained.checkpoint.page.prompt

    def describe(
        self,
        images: Mapping[str, NDArray[np.uint8]],
        prompt: str | None = None,
        *,
        max_new_tokens: int = 128,
        cancelled: Callable[[], bool] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Description:
        """What the views show, in words; greedy, so the same views give the same text.

        Args:
            images: (H, W, 3) uint8 RGB by camera, at least one, in any order.
            prompt: What is asked; None for the prompt of training.
            max_new_tokens: Most tokens of the answer.
            cancelled: Asked before each picture and after each token; True ends it there.
            on_text: Is given each piece of the answer as it comes; together they are the answer.

        Raises:
            ClipVlmError: There is no picture, a camera is not known, a picture is none, the prompt
                is blank or `max_new_tokens` is below 1.
        """
        start_s = time.monotonic()
        if not images:
            raise ClipVlmError('there is no picture to describe')
        model, clip = self.trained.model, self.trained.clip
        places = places_of(images, self.cameras)
        names = tuple(self.cameras[place] for place in places)
        question = model.dialogue.question(names, self.prompt if prompt is None else prompt)
        seen = []
        for name in names:
            if cancelled is not None and cancelled():
                return Description('', names, 0, None, time.monotonic() - start_s, cancelled=True)
            seen.append(clip.tokens(_checked(name, images[name])))
        views = Views.of([(places, torch.from_numpy(np.stack(seen)))])
        rows = make_rows([question], None, model.qwen.pad_id)
        before_s = time.monotonic() - start_s
        (answer,) = generate(
            model,
            views.to(model.qwen.device),
            rows.to(model.qwen.device),
            max_new_tokens=max_new_tokens,
            cancelled=cancelled,
            on_text=on_text,
        )
        first_s = None if answer.first_token_s is None else before_s + answer.first_token_s
        return Description(
            answer.text,
            names,
            answer.tokens,
            first_s,
            time.monotonic() - start_s,
            cancelled=answer.cancelled,
        )


def _checked(name: str, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ClipVlmError(
            f'the picture of {name} must be (H, W, 3) uint8 RGB, is {image.shape} {image.dtype}'
        )
    return image
