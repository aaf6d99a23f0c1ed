"""One CLIP for everything: levels of picture features, a map in the space of texts, and texts.

It is frozen: in evaluation mode always, no gradients, and no part of a checkpoint. It is no
`nn.Module`, so that no `train()`, optimiser or `state_dict()` of a network around it can reach it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vlm_nodes.clip.dense import ModifiedResNet, TimmModel, dense_features
from vlm_nodes.clip.text import Tokenizer, embed_captions, tokenize_captions
from vlm_nodes.clip.trunk import PyramidTrunk
from vlm_nodes.clip.weights import find_model, load_model, make_tokenizer, sha256

LEVEL_STRIDES = (4, 8, 16, 32)

NOTHING_WORDS = ('and', 'to', 'it', 'with')
"""Words that name nothing one can see: what CLIP makes of them, it makes of any word."""

TEXT_CACHE_SIZE = 4096


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """What CLIP sees.

    Attributes:
        levels: (B, C, H / s, W / s) at strides s of 4, 8, 16 and 32.
        joint: (B, D, h, w) in the space of the texts, unit length.
    """

    levels: tuple[Tensor, ...]
    joint: Tensor


class FrozenClip:
    """A CLIP with a convolutional image tower: OpenAI's ResNets, or `tiny`."""

    def __init__(
        self,
        model: Any,
        tokenize: Tokenizer,
        normalisation: dict[str, tuple[float, ...]],
        identity: str,
        names: tuple[str, str | None] | None = None,
    ) -> None:
        """Wrap an open_clip model.

        Args:
            model: With its weights; becomes frozen.
            tokenize: Its tokenizer.
            normalisation: `mean` and `std` of RGB in [0, 1].
            identity: Says which weights these are; checkpoints keep it.
            names: What `load` finds it by, model and pretrained; None if it was not loaded.

        Raises:
            ValueError: The image tower has no convolutional levels.
        """
        self._model = model.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self._visual = model.visual
        self._stages = _stages(model.visual)
        self._tokenize = tokenize
        self._mean, self._std = (
            torch.tensor(normalisation[key]).reshape(1, 3, 1, 1) for key in ('mean', 'std')
        )
        self._texts: dict[str, Tensor] = {}
        self._device = torch.device('cpu')
        self._lock = threading.Lock()
        self.identity = identity
        self.names = names
        with torch.no_grad():
            probe = self.features(torch.zeros(1, 3, 64, 64))
        self.level_widths = tuple(int(level.shape[1]) for level in probe.levels)
        self.joint_dim = int(probe.joint.shape[1])
        self.nothing = functional.normalize(self.embed_texts(NOTHING_WORDS).mean(dim=0), dim=0)

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenClip:
        """Itself: what never changes is shared by all copies of a network."""
        return self

    @classmethod
    def load(
        cls, model: str = 'tiny', pretrained: str | None = None, weights_dir: Path | None = None
    ) -> FrozenClip:
        """Load a model with its weights, found as by `vlm_nodes.clip.weights.find_model`.

        Raises:
            WeightsError: The model or its weights cannot be found or loaded.
            ValueError: Its image tower is a transformer.
        """
        source = find_model(model, pretrained, weights_dir)
        identity = f'{source.name}/{sha256(source.weights)[:16]}'
        tokenize = make_tokenizer(source.config)
        return cls(load_model(source), tokenize, source.preprocess, identity, (model, pretrained))

    @torch.no_grad()
    def features(self, color: Tensor) -> ClipFeatures:
        """See pictures.

        Args:
            color: (B, 3, H, W) in [0, 1], both sides multiples of 32.
        """
        self._move(color.device)
        pictures = ((color - self._mean) / self._std).contiguous(memory_format=torch.channels_last)
        with self._lock, _outputs(self._stages) as levels:
            joint = dense_features(self._visual, pictures).permute(0, 3, 1, 2)
        return ClipFeatures(tuple(levels), functional.normalize(joint.float(), dim=1))

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts, each once and then from memory; (N, D) unit vectors.

        Raises:
            ValueError: A text is empty.
        """
        if new := [text for text in dict.fromkeys(texts) if text not in self._texts]:
            if len(self._texts) + len(new) > TEXT_CACHE_SIZE:
                self._texts.clear()
                new = list(dict.fromkeys(texts))
            tokens = tokenize_captions(self._tokenize, new).to(self._device)
            # What is kept must not depend on the precision around the first call.
            with torch.autocast(self._device.type, enabled=False):
                embedded = embed_captions(self._model, tokens).cpu()
            self._texts.update(zip(new, embedded, strict=True))
        return torch.stack([self._texts[text] for text in texts])

    def _move(self, device: torch.device) -> None:
        if device != self._device:
            self._model.to(device)
            self._mean, self._std = self._mean.to(device), self._std.to(device)
            self._device = device


def _stages(visual: Any) -> tuple[Any, ...]:
    """The parts of an image tower that give the levels at strides 4, 8, 16 and 32."""
    if isinstance(visual, ModifiedResNet):
        return visual.layer1, visual.layer2, visual.layer3, visual.layer4
    if isinstance(visual, TimmModel) and isinstance(visual.trunk, PyramidTrunk):
        return tuple(visual.trunk.stages)
    raise ValueError(
        'CLIPort needs the levels of a convolutional image tower (RN50, RN101, RN50x4, tiny), '
        f'got {type(visual).__name__}'
    )


@contextmanager
def _outputs(modules: Sequence[Any]) -> Iterator[list[Tensor]]:
    """What modules return while the context is open, in the order of their calls."""
    outputs: list[Tensor] = []
    hooks = [
        m.register_forward_hook(lambda _m, _i, output: outputs.append(output)) for m in modules
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()
