"""The CLIP encoder that a trained policy needs, found again and checked to be the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vlm_nodes.sarnn.config import SarnnConfig

if TYPE_CHECKING:  # loads open_clip, which policies without CLIP and language do not need
    from vlm_nodes.clip.encoder import Encoder


def load_encoder_of(
    config: SarnnConfig,
    *,
    model: str | None = None,
    pretrained: str | None = None,
    weights_dir: Path | None = None,
    device: str = 'cpu',
    num_threads: int | None = None,
) -> Encoder | None:
    """The encoder that a policy was trained with; None if it needs none.

    Args:
        config: The policy's.
        model: Where the model is now; None for what it was called in training.
        pretrained: Where its weights are now; None for where they were in training, or, of a given
            `model`, beside it.
        weights_dir: Folder of fetched weights; None for the usual one.
        device: torch device.
        num_threads: CPU threads of the whole process; None leaves them.

    Raises:
        ValueError: The model or its weights cannot be found or loaded, or are not those of
            training; the message says which those were.
    """
    recorded = config.clip or config.text
    if recorded is None:
        return None
    from vlm_nodes.clip.encoder import Encoder
    from vlm_nodes.clip.weights import WeightsError

    clip = config.clip
    try:
        encoder = Encoder.load(
            model or recorded.model,
            pretrained or (None if model else recorded.pretrained),
            method=clip.method if clip else 'naclip',  # of images: texts are the same with any
            device=device,
            weights_dir=weights_dir,
            image_size=clip.image_size if clip else None,
            num_threads=num_threads,
        )
    except WeightsError as error:
        raise ValueError(
            f'the encoder of this policy ({recorded.identity}) cannot be loaded: {error}'
        ) from error
    check_encoder(config, encoder)
    return encoder


def check_encoder(config: SarnnConfig, encoder: Encoder | None) -> None:
    """Whether an encoder is the one that a policy was trained with.

    Raises:
        ValueError: It is another one, or None where one is needed; the message names both.
    """
    recorded = config.clip or config.text
    if recorded is None:
        return
    if encoder is None:
        raise ValueError(f'the policy needs the encoder {recorded.identity}')
    if config.clip:
        config.clip.check_encoder(encoder.identity, encoder.dim)
    if config.text:
        config.text.check_encoder(encoder.identity)
    if config.text_dim not in (0, encoder.dim):
        raise ValueError(
            f'the policy hears tasks as {config.text_dim} numbers, but {encoder.identity} makes '
            f'{encoder.dim}'
        )
