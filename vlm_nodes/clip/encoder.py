"""Texts and images into one space: CLIP behind arrays."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vlm_nodes.clip.dense import METHODS, dense_features, dense_method, patch_stride
from vlm_nodes.clip.text import embed_captions, tokenize_captions
from vlm_nodes.clip.weights import find_model, load_model, make_tokenizer, sha256

PRECISIONS = {'fp32': None, 'fp16': torch.float16, 'bf16': torch.bfloat16}

TEXT_CACHE_SIZE = 4096

DENSE_ENLARGEMENT_PERCENT = 150
"""Shorter side for dense encoding, of the side trained on: CLIP's 224 gives the papers' 336."""


@dataclass(frozen=True)
class EncoderConfig:
    """What to load and how to run it.

    Attributes:
        model: `tiny`, an open_clip model name, or the path of a `NAME.json` configuration.
        pretrained: open_clip tag or path of a weights file; None for models whose weights lie
            beside them.
        method: dense method for transformers: `naclip`, `maskclip` or `sc_clip`.
        device: torch device, such as `cpu`, `cuda` or `cuda:1`.
        precision: `fp32`, or autocast to `fp16` or `bf16`.
        weights_dir: folder of fetched weights; None for `$VLM_WEIGHTS`, else `~/.cache/vlm_nodes`.
        image_size: shorter side in pixels that images are resized to before dense encoding; None
            for the model's own.
        num_threads: torch's CPU threads, a setting of the whole process; None leaves it.
    """

    model: str = 'tiny'
    pretrained: str | None = None
    method: str = 'naclip'
    device: str = 'cpu'
    precision: str = 'fp32'
    weights_dir: Path | None = None
    image_size: int | None = None
    num_threads: int | None = None

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: a value is out of its range; the message holds it.
        """
        if self.method not in METHODS:
            raise ValueError(f'method must be one of {METHODS}, got {self.method!r}')
        if self.precision not in PRECISIONS:
            raise ValueError(
                f'precision must be one of {tuple(PRECISIONS)}, got {self.precision!r}'
            )
        if self.image_size is not None and not 16 <= self.image_size <= 4096:
            raise ValueError(f'image_size must be 16 to 4096 pixels, got {self.image_size}')
        if self.num_threads is not None and self.num_threads < 1:
            raise ValueError(f'num_threads must be at least 1, got {self.num_threads}')
        _check_device(self.device)


class Encoder:
    """A CLIP model with its weights: text, image and dense patch features as unit vectors.

    Safe to call from several threads: texts that were encoded before are answered at once, other
    calls to one tower wait for each other.
    """

    def __init__(self, config: EncoderConfig) -> None:
        """Load the weights and run one warm-up image and text.

        Raises:
            WeightsError: the model or its weights cannot be found or loaded.
            ValueError: the image tower fits no dense method.
        """
        if config.num_threads is not None:
            torch.set_num_threads(config.num_threads)
        source = find_model(config.model, config.pretrained, config.weights_dir)
        self.config = config
        self._model: Any = load_model(source).to(config.device)
        self._device = torch.device(config.device)
        self._autocast_type = PRECISIONS[config.precision]
        self._tokenize = make_tokenizer(source.config)
        self._visual: Any = self._model.visual
        method = dense_method(self._visual, config.method)
        self._method = config.method
        self._stride = patch_stride(self._visual)
        self._native_size = _native_size(self._visual)
        self._dense_size = config.image_size or self._native_size * DENSE_ENLARGEMENT_PERCENT // 100
        self._mean, self._std = (
            torch.tensor(source.preprocess[key], device=self._device).reshape(1, 3, 1, 1)
            for key in ('mean', 'std')
        )
        self._text_cache: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._text_lock = threading.Lock()
        self._image_lock = threading.Lock()
        self.identity = f'{source.name}/{sha256(source.weights)[:16]}/{method}'
        self.dim = int(source.config['embed_dim'])
        self.logit_scale = float(self._model.logit_scale.detach().exp())
        self.parameters = int(sum(weight.numel() for weight in self._model.parameters()))
        self._warm_up()

    @classmethod
    def load(
        cls,
        model: str = 'tiny',
        pretrained: str | None = None,
        *,
        method: str = 'naclip',
        device: str = 'cpu',
        precision: str = 'fp32',
        weights_dir: Path | None = None,
        image_size: int | None = None,
        num_threads: int | None = None,
    ) -> 'Encoder':
        """Load an encoder; see `EncoderConfig` for the arguments, `Encoder` for what is raised."""
        return cls(
            EncoderConfig(
                model, pretrained, method, device, precision, weights_dir, image_size, num_threads
            )
        )

    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts, each the mean over the prompt templates.

        Args:
            texts: N names or phrases, such as 'red mug'. Long ones are cut to what the tower reads.

        Returns:
            (N, D) float32, unit length.

        Raises:
            ValueError: a text is empty.
            TypeError: one string instead of a sequence of strings.
        """
        if isinstance(texts, str):
            raise TypeError(f'texts must be a sequence of strings, got the string {texts[:20]!r}')
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        distinct = list(dict.fromkeys(texts))
        with self._text_lock:
            new = [text for text in distinct if text not in self._text_cache]
            if new:
                self._text_cache.update(zip(new, self._embed(new), strict=True))
            for text in distinct:
                self._text_cache.move_to_end(text)
            embeddings = np.stack([self._text_cache[text] for text in texts])
            while len(self._text_cache) > TEXT_CACHE_SIZE:
                self._text_cache.popitem(last=False)
        return embeddings

    def encode_image(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed whole images, resized to the model's own size, the centre square of each.

        Args:
            images: (B, H, W, 3) uint8 RGB.

        Returns:
            (B, D) float32, unit length.

        Raises:
            ValueError: another shape or type.
        """
        _check_images(images, 'images must be (B, H, W, 3) uint8', 4)
        if len(images) == 0:
            return np.zeros((0, self.dim), dtype=np.float32)
        with self._image_lock, torch.inference_mode(), self._autocast():
            resized = _resize(self._to_tensor(images), self._native_size, 1)
            square = _centre_square(resized, self._native_size)
            features = self._visual(self._normalise(square))
            return _unit(features)

    def encode_dense(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed every patch of an image of any size.

        The image is resized, shorter side to `image_size`, both sides rounded to whole patches.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            (h, w, D) float32, unit length; patch (i, j) covers image rows [i H / h, (i + 1) H / h)
            and columns [j W / w, (j + 1) W / w).

        Raises:
            ValueError: another shape or type.
        """
        _check_images(image, 'image must be (H, W, 3) uint8', 3)
        features: NDArray[np.float32] = self.encode_dense_batch(image[None])[0]
        return features

    def encode_dense_batch(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed every patch of images of one size: for small ones in half the time of one by one.

        Args:
            images: (B, H, W, 3) uint8 RGB.

        Returns:
            (B, h, w, D) float32, each as `encode_dense` has it.

        Raises:
            ValueError: another shape or type.
        """
        _check_images(images, 'images must be (B, H, W, 3) uint8', 4)
        with self._image_lock, torch.inference_mode(), self._autocast():
            resized = _resize(self._to_tensor(images), self._dense_size, self._stride)
            return _unit(dense_features(self._visual, self._normalise(resized), self._method))

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        """N names -> (N, D)."""
        with torch.inference_mode(), self._autocast():
            tokens = tokenize_captions(self._tokenize, texts).to(self._device)
            return _unit(embed_captions(self._model, tokens))

    def _autocast(self) -> AbstractContextManager[object]:
        if self._autocast_type is None:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=self._autocast_type)

    def _to_tensor(self, images: NDArray[np.uint8]) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, 3, H, W) float in [0, 1] on the device."""
        tensor = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
        return tensor.permute(0, 3, 1, 2).float() / 255

    def _normalise(self, images: Tensor) -> Tensor:
        normalised: Tensor = (images - self._mean) / self._std
        return normalised.contiguous(memory_format=torch.channels_last)

    def _warm_up(self) -> None:
        """The first call of a model is slow; it should be neither a frame nor a query."""
        self.encode_dense(np.zeros((self._dense_size, self._dense_size, 3), dtype=np.uint8))
        self.encode_text(['object', 'thing', 'stuff', 'background'])


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f'device must be cpu, cuda or cuda:N, got {name!r}') from error
    if device.type == 'cuda' and not torch.cuda.is_available():
        raise ValueError(f'device {name!r} asked for, but torch sees no CUDA device')
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise ValueError(f'device {name!r} asked for, but torch sees {count} CUDA device(s)')


def _native_size(visual: Any) -> int:
    size = visual.image_size
    return int(min(size) if isinstance(size, (tuple, list)) else size)


def _check_images(images: NDArray[np.uint8], what: str, ndim: int) -> None:
    shape = getattr(images, 'shape', None)
    kind = getattr(images, 'dtype', type(images).__name__)
    if shape is None or len(shape) != ndim or shape[-1] != 3 or kind != np.uint8:
        raise ValueError(f'{what} RGB, got shape {shape} of {kind}')
    if 0 in shape[-3:]:
        raise ValueError(f'{what} RGB with at least one pixel, got shape {shape}')


def _resize(images: Tensor, shorter: int, multiple: int) -> Tensor:
    """Shorter side to a length, both sides rounded to a multiple; (B, 3, H, W) in [0, 1]."""
    scale = shorter / min(images.shape[-2:])
    size = [max(round(side * scale / multiple), 1) * multiple for side in images.shape[-2:]]
    if size == list(images.shape[-2:]):
        return images
    return functional.interpolate(images, size=size, mode='bicubic', antialias=True).clamp(0, 1)


def _centre_square(images: Tensor, side: int) -> Tensor:
    top, left = (round((length - side) / 2) for length in images.shape[-2:])
    return images[..., top : top + side, left : left + side]


def _unit(features: Tensor) -> NDArray[np.float32]:
    normalised: NDArray[np.float32] = functional.normalize(features.float(), dim=-1).cpu().numpy()
    return normalised
