"""A first meaning for the words of an untrained text tower.

Untrained, the tower puts all captions close together; patches then have nothing to be pulled apart
to, and captions no reason to part. Colours get over it, shapes do not for a long time. So before
any picture, every word gets a direction of its own, and the tower learns to put a caption at the
sum of its words. Training goes on from there.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vlm_nodes.clip.text import embed_one_each

LEARNING_RATE = 3e-3


def word_sums(texts: Sequence[str], dim: int, generator: torch.Generator) -> Tensor:
    """Unit vectors that add up from one direction a word.

    Args:
        texts: N texts of words between spaces.
        dim: D; the directions are orthogonal where there are no more words than that.
        generator: draws the directions.

    Returns:
        (N, D) float32.
    """
    words = sorted({word for text in texts for word in text.split()})
    directions = torch.randn(max(len(words), dim), dim, generator=generator)
    directions[:dim] = torch.linalg.qr(directions[:dim]).Q
    sums = [sum(directions[words.index(word)] for word in text.split()) for text in texts]
    return functional.normalize(torch.stack([torch.as_tensor(row) for row in sums]), dim=-1)


def spread_captions(
    model: Any, tokens: Tensor, texts: Sequence[str], *, steps: int = 400, seed: int = 0
) -> float:
    """Train the text tower alone to put captions at the sums of their words.

    Args:
        model: untrained open_clip model.
        tokens: (N, T, L) prompts of the texts.
        texts: N texts, each of at least one word.
        steps: of Adam, one prompt a text in each.
        seed: of the directions.

    Returns:
        Mean cosine between captions and their places at the end.
    """
    dim = embed_one_each(model, tokens[:1]).shape[-1]
    places = word_sums(texts, dim, torch.Generator().manual_seed(seed))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
    cosine = torch.zeros(())
    for _ in range(steps):
        cosine = (embed_one_each(model, tokens) * places).sum(-1).mean()
        optimizer.zero_grad()
        (1 - cosine).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return float(cosine.detach())
