"""A trained policy as a robot uses it: images, joints and a task in, the next joints out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vlm_nodes.sarnn.config import SarnnConfig
from vlm_nodes.sarnn.encoder_of import check_encoder
from vlm_nodes.sarnn.model import Sarnn
from vlm_nodes.sarnn.observation import Prediction
from vlm_nodes.sarnn.preprocess import Crop, PatchFeatures, Preprocessor

if TYPE_CHECKING:  # loads open_clip, which policies without CLIP do not need
    from vlm_nodes.clip.encoder import Encoder


@dataclass(frozen=True)
class Sensed:
    """What a robot senses at one tick.

    Attributes:
        images: By stream: (H, W, 3) uint8 RGB of cameras and touch sensors, (H, W) float32 metres
            of depth; of any size.
        joints: (P,) positions in the order of the policy's joints, radians or metres.
    """

    images: Mapping[str, NDArray[Any]]
    joints: NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """What a policy makes of one tick.

    Attributes:
        joints: (P,) positions that it wants next, radians or metres; not limited in any way.
        seen: By branch (`color`, `color/clip`), (K, 2) places (x, y) in [0, 1] that it attends to.
        expected: The same as expected in the next image.
        images: By camera, (h, w, 3) uint8 RGB that it expects next; empty where not asked for.
    """

    joints: NDArray[np.float64]
    seen: Mapping[str, NDArray[np.float32]]
    expected: Mapping[str, NDArray[np.float32]]
    images: Mapping[str, NDArray[np.uint8]]


class Policy:
    """A network with all it needs to be run tick by tick.

    Not safe to call from several threads, but for `set_task` and `lacks_task`.

    Args:
        model: In evaluation mode.
        encoder: Of texts, and of patch features; None for policies that know neither.
        crops: What is cut from images before they are resized, by stream.
        measured: Share of the measurement against the last prediction, 0 to 1.

    Raises:
        ValueError: The encoder is missing or another than in training, or a crop is of no stream.
    """

    def __init__(
        self,
        model: Sarnn,
        *,
        encoder: Encoder | None = None,
        crops: Mapping[str, Crop] | None = None,
        measured: float = 1.0,
    ) -> None:
        self.config = config = model.config
        self.task = ''
        self._model = model
        self._encoder = encoder
        self._measured = measured
        self._crops = dict(crops or {})
        self._preprocessor = Preprocessor(config, crops)
        check_encoder(config, encoder)
        self._patches = _patch_features(config, encoder, crops or {})
        self._device = next(model.parameters()).device
        self._embedding: Tensor | None = None
        self._references: dict[str, NDArray[np.uint8]] = {}
        self._state = model.initial_state(1)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Of the P joints."""
        return self.config.joint_names

    @property
    def lacks_task(self) -> bool:
        """Whether it takes a task and was told none."""
        return bool(self.config.text_dim) and self._embedding is None

    def warm_up(self) -> None:
        """Run once on black images: the first tick of a model is slow, and should be no robot's."""
        told, bounds = self._embedding, np.array(self.config.joint_bounds)
        if self.lacks_task:
            self._embedding = torch.zeros(1, self.config.text_dim, device=self._device)
        self.step(Sensed(self._black_images(), bounds.mean(axis=0)), with_images=True)
        self._embedding = told
        self.reset(forget_touch=True)

    def set_task(self, text: str) -> str:
        """Tell it what to do; returns '' or a warning.

        Raises:
            ValueError: The text is empty, or the policy knows no language.
        """
        text = text.strip()
        if not text:
            raise ValueError('the task is empty: say in words what to do')
        if self._encoder is None or not self.config.text_dim:
            raise ValueError('this policy was trained without language: it cannot be told a task')
        embedding = torch.from_numpy(self._encoder.encode_text([text])).to(self._device)
        self._embedding, self.task = embedding, text
        if text in self.config.tasks:
            return ''
        known = ', '.join(map(repr, self.config.tasks)) or 'none that it names'
        return f'{text!r} is none of the tasks trained on ({known}): watch what it does'

    def reset(self, *, forget_touch: bool) -> None:
        """Forget all ticks so far.

        Args:
            forget_touch: Take the next images of touch sensors as those without contact.
        """
        self._state = self._model.initial_state(1)
        if forget_touch:
            self._references = {}

    def step(self, sensed: Sensed, *, with_images: bool) -> Step:
        """Predict the next tick.

        Raises:
            ValueError: An image is missing, of the wrong kind, or smaller than its crop.
        """
        for name in self.config.tactile:
            if name in sensed.images:
                self._references.setdefault(name, np.array(sensed.images[name]))
        clip = {name: make(sensed.images[name][None])[0] for name, make in self._patches.items()}
        observation = self._preprocessor.observe(
            dict(zip(self.joint_names, sensed.joints.tolist(), strict=True)),
            sensed.images,
            self._references,
            clip,
        ).to(self._device)
        with torch.inference_mode():
            prediction, self._state = self._model.step(
                observation,
                self._embedding,
                self._state,
                measured=self._measured,
                # What is fed back has to be decoded.
                decode_images=with_images or self._measured < 1,
            )
            return self._read(prediction)

    def _black_images(self) -> dict[str, NDArray[Any]]:
        config = self.config
        sizes = dict.fromkeys(config.cameras, config.image_size)
        sizes |= dict.fromkeys(config.tactile, config.tactile_size)
        sizes |= {name: (top + h, left + w) for name, (left, top, w, h) in self._crops.items()}
        images: dict[str, NDArray[Any]] = {
            name: np.zeros((*sizes[name], 3), dtype=np.uint8)
            for name in (*config.cameras, *config.tactile)
        }
        if depth := config.depth:
            size = sizes.get(depth.stream, depth.size)
            images[depth.stream] = np.zeros(size, dtype=np.float32)
        return images

    def _read(self, prediction: Prediction) -> Step:
        return Step(
            joints=self._preprocessor.unscale(prediction.joints[0]),
            seen={name: t[0].cpu().numpy() for name, t in prediction.encoded_keypoints.items()},
            expected={name: t[0].cpu().numpy() for name, t in prediction.keypoints.items()},
            images={name: _pixels(tensor[0]) for name, tensor in prediction.images.items()},
        )


def check_device(name: str) -> None:
    """Look whether a torch device is there.

    Raises:
        ValueError: It is none, or not there.
    """
    if name != 'cpu':
        from vlm_nodes.clip.encoder import EncoderConfig

        EncoderConfig(device=name)


def _patch_features(
    config: SarnnConfig, encoder: Encoder | None, crops: Mapping[str, Crop]
) -> dict[str, PatchFeatures]:
    if config.clip is None or encoder is None:
        return {}
    return {name: PatchFeatures(encoder, config.clip, crops.get(name)) for name in config.cameras}


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    """(3, h, w) in [0, 1], perhaps beyond -> (h, w, 3) uint8."""
    known = torch.nan_to_num(image).clamp(0, 1)
    return np.asarray((known * 255).round().byte().permute(1, 2, 0).cpu().numpy())
