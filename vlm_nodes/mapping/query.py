"""Queries: what may be asked, and against what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vlm_nodes.mapping.text_encoder import TextEncoder

DEFAULT_NEGATIVES = ('object', 'thing', 'stuff', 'background')
OTHER = 'other'
MAX_TEXT_LENGTH = 1000


def check_text(text: str) -> None:
    """Refuse a text that cannot be encoded.

    Raises:
        ValueError: It is empty, too long, or not valid Unicode.
    """
    if not text.strip():
        raise ValueError(f'text {text!r} is empty')
    if len(text) > MAX_TEXT_LENGTH:
        raise ValueError(
            f'text has {len(text)} characters, at most {MAX_TEXT_LENGTH} are taken: '
            f'{text[:40]!r}...'
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f'text {text!r} is not valid Unicode') from error


def checked_negatives(text: str, negatives: Sequence[str]) -> list[str]:
    """The negatives without repetitions and without the text itself.

    Raises:
        ValueError: The text or a negative cannot be used, or there are no negatives.
    """
    for item in (text, *negatives):
        check_text(item)
    left = [n for n in dict.fromkeys(negatives) if n.strip().lower() != text.strip().lower()]
    if not left:
        raise ValueError(f'negatives {list(negatives)!r} leave nothing to hold {text!r} against')
    return left


def checked_labels(labels: Sequence[str]) -> list[str]:
    """Labels as a list.

    Raises:
        ValueError: There are none, one repeats, or one cannot be used.
    """
    names = list(labels)
    if not names:
        raise ValueError('labels are empty')
    for name in names:
        check_text(name)
    if len(set(names)) != len(names):
        raise ValueError(f'labels {names!r} repeat')
    return names


def check_percentile(percentile: float | None) -> None:
    """Refuse a percentile outside [0, 100] or NaN."""
    if percentile is not None and not 0 <= percentile <= 100:
        raise ValueError(f'percentile = {percentile!r} is not in [0, 100]')


def check_numbers(*, max_matches: int, min_score: float, min_voxels: int) -> None:
    """Refuse numbers of a query that make no sense.

    Raises:
        ValueError: The message names the number.
    """
    if not (math.isfinite(min_score) and 0 <= min_score <= 1):
        raise ValueError(f'min_score = {min_score!r} is not in [0, 1]')
    if max_matches < 1:
        raise ValueError(f'max_matches = {max_matches!r} is not at least 1')
    if min_voxels < 1:
        raise ValueError(f'min_voxels = {min_voxels!r} is not at least 1')


def encoder_arguments(encoder: TextEncoder | None) -> dict[str, Any]:
    """What `Encoder.load` needs to make this encoder again; empty for encoders of other classes."""
    config = getattr(encoder, 'config', None)
    return {
        name: getattr(config, name)
        for name in ('model', 'pretrained', 'method', 'image_size')
        if hasattr(config, name)
    }


def load_encoder(identity: str, arguments: dict[str, Any]) -> TextEncoder:
    """The encoder that a map names.

    Args:
        identity: What it must be.
        arguments: For `vlm_nodes.clip.encoder.Encoder.load`; without them the identity's parts are
            tried.

    Raises:
        ValueError: The map names none, or another one was found under its name.
    """
    if not identity:
        raise ValueError('the map has no encoder: give one to VoxelMap or VoxelMap.load')
    from vlm_nodes.clip.encoder import Encoder  # torch loads only for maps that need it

    model, *_, method = identity.split('/')
    encoder: TextEncoder = Encoder.load(**(arguments or {'model': model, 'method': method}))
    if encoder.identity != identity:
        raise ValueError(
            f'the map was made with encoder {identity!r}, but {encoder.identity!r} was found: '
            'load the right weights and give that encoder to VoxelMap.load'
        )
    return encoder
