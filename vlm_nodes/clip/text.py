"""Names to unit vectors with any open_clip model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vlm_nodes.clip.prompts import captions

Tokenizer = Callable[[list[str]], Tensor]


def tokenize_captions(tokenize: Tokenizer, names: Sequence[str]) -> Tensor:
    """All prompts of all names.

    Returns:
        (N, T, L) token ids: N names, T templates, L the model's context length.

    Raises:
        ValueError: a name is empty.
    """
    sentences = [captions(name) for name in names]
    tokens = tokenize([sentence for group in sentences for sentence in group])
    return tokens.reshape(len(names), -1, tokens.shape[-1])


def embed_captions(model: Any, tokens: Tensor) -> Tensor:
    """Mean of the unit vectors of a name's prompts, unit length again.

    Args:
        model: open_clip model.
        tokens: (N, T, L).

    Returns:
        (N, D) float32.
    """
    features = functional.normalize(model.encode_text(tokens.flatten(0, 1)).float(), dim=-1)
    mean = features.reshape(*tokens.shape[:2], -1).mean(dim=1)
    return functional.normalize(mean, dim=-1)


def embed_one_each(model: Any, tokens: Tensor) -> Tensor:
    """Unit vectors of one randomly chosen prompt a name: (N, T, L) -> (N, D), for training."""
    template = torch.randint(tokens.shape[1], (len(tokens),), device=tokens.device)
    chosen = tokens[torch.arange(len(tokens), device=tokens.device), template]
    return functional.normalize(model.encode_text(chosen).float(), dim=-1)
