"""CLIP-SARNN: from cameras, touch, depth, joints and a task in words to the next tick of them.

After SARNN (Ichiwara et al. 2022): a recurrent layer over joints and the keypoints that the camera
encoders attend to predicts the next joints and keypoints, and the next image is decoded from what
is seen around the latter. Here also over keypoints of CLIP's patch features, codes of touch and
depth, and the task's text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from vlm_nodes.sarnn.config import CLIP_SUFFIX, SarnnConfig
from vlm_nodes.sarnn.encoders import CameraEncoder, ClipBranch, CodeEncoder, ImageDecoder
from vlm_nodes.sarnn.film import TextScale
from vlm_nodes.sarnn.mixing import check_share, mix_named, mix_observation
from vlm_nodes.sarnn.observation import Observation, Prediction, State, join_ticks

TACTILE_GAIN, DEPTH_GAIN, PLACE_GAIN = 4.0, 1.0, 4.0


class _Encoded(NamedTuple):
    """What the recurrent layer reads, and the maps that images are decoded from."""

    joints: Tensor
    keypoints: dict[str, Tensor]
    codes: dict[str, Tensor]
    maps: dict[str, Tensor]


class Sarnn(nn.Module):
    """The policy's network.

    Fed with its own prediction instead of measurements to any share: `measured` is 1 for
    measurements alone (teacher forcing), 0 for predictions alone (closed loop), between for a mix.
    Joints, images, codes and the keypoints of CLIP's branches are mixed (CLIP's features of an
    image that was never seen cannot be had). The first tick, before which nothing was predicted, is
    always measured.

    Args:
        config: Inputs and sizes.
    """

    def __init__(self, config: SarnnConfig) -> None:
        super().__init__()
        self.config = config
        names, text_dim, k_dim = config.cameras, config.text_dim, config.k_dim
        self.text_scale = TextScale(text_dim) if text_dim else None
        self.to_task = nn.Linear(text_dim, config.task_dim) if text_dim else None
        self.cameras = nn.ModuleDict(
            {n: CameraEncoder(config.stem_dim, config.trunk_dim, k_dim, text_dim) for n in names}
        )
        self.decoders = nn.ModuleDict(
            {n: ImageDecoder(k_dim, config.trunk_dim, config.heatmap_size) for n in names}
        )
        clip = config.clip
        self.clips = nn.ModuleDict(
            {n: ClipBranch(clip.dim, clip.k_dim, text_dim) for n in names} if clip else {}
        )
        self.touch = nn.ModuleDict(
            {
                n: CodeEncoder(3, config.tactile_size, config.code_dim, TACTILE_GAIN)
                for n in config.tactile
            }
        )
        depth = config.depth
        self.depth = CodeEncoder(1, depth.size, config.code_dim, DEPTH_GAIN) if depth else None
        points = 2 * sum(config.keypoint_dims.values())
        codes = config.code_dim * len(config.code_names)
        task = config.task_dim if text_dim else 0
        inputs = config.joint_dim + points + codes + task
        self.recurrent = nn.LSTM(inputs, config.rec_dim, batch_first=True)
        self.to_outputs = nn.Linear(config.rec_dim, config.joint_dim + points + codes)
        if config.residual:
            # Nearly nothing changes from tick to tick: a fair guess to begin with.
            nn.init.normal_(self.to_outputs.weight, std=0.01)
            nn.init.zeros_(self.to_outputs.bias)

    def initial_state(self, batch_size: int) -> State:
        """The state before the first tick, of `batch_size` sequences."""
        zeros = self.to_outputs.weight.new_zeros(batch_size, self.config.rec_dim)
        return State(zeros, zeros)

    def step(
        self,
        observation: Observation,
        task: Tensor | None,
        state: State,
        *,
        measured: float = 1.0,
        decode_images: bool = True,
    ) -> tuple[Prediction, State]:
        """Predict the next tick.

        Args:
            observation: Of this tick, leading shape (B,).
            task: (B, D) text embeddings, as the encoder gives them; None without language.
            state: As `initial_state` or the last call gave it.
            measured: Share of the measurement against the last prediction, 0 to 1.
            decode_images: Predict the next images too.

        Returns:
            The prediction, leading shape (B,), and the state after this tick.

        Raises:
            ValueError: Something that the configuration names is missing, of another shape, or too
                much; or predictions are to be fed back of which the images were not decoded.
        """
        check_share(measured)
        batch = len(state.hidden)
        observation.check(self.config, (batch,))
        text = self._scaled_text(task, batch)
        fed_back = state.predicted if measured < 1 else None
        if fed_back is not None:
            observation = mix_observation(observation, fed_back, measured)
        encoded = self._encode(observation, text)
        fed = encoded if fed_back is None else _mix_encoded(encoded, fed_back, measured)
        # The same weights as the fused sequence's, without its overhead for a single tick.
        inputs = self._recurrent_input(fed, text)
        hidden, cell = torch.lstm_cell(
            inputs, (state.hidden, state.cell), *self.recurrent.parameters()
        )
        prediction = self._predict(fed, encoded, hidden)
        if decode_images:
            images = self._decode(encoded.maps, prediction.keypoints)
            prediction = replace(prediction, images=images)
        return prediction, State(hidden, cell, prediction)

    def forward(
        self,
        observations: Observation,
        task: Tensor | None = None,
        state: State | None = None,
        *,
        measured: float = 1.0,
        decode_images: bool | Tensor = True,
    ) -> tuple[Prediction, State]:
        """Predict the next tick of every tick of a sequence.

        With `measured` 1 each encoder and decoder runs once over all ticks.

        Args:
            observations: Leading shape (B, T).
            task: (B, D) text embeddings; None without language.
            state: To go on from; None begins.
            measured: Share of the measurement against the last prediction, 0 to 1.
            decode_images: Predict the next images too; or, (n,) int64, of these ticks alone. The
                latter needs `measured` 1.

        Returns:
            The predictions, leading shape (B, T) (images of chosen ticks (B, n)), and the state
            after the last tick.

        Raises:
            ValueError: As `step`.
        """
        batch, ticks = observations.joints.shape[:2]
        state = self.initial_state(batch) if state is None else state
        if measured != 1:
            if isinstance(decode_images, Tensor):
                raise ValueError('measured < 1 feeds images back: decode those of all ticks')
            return self._tick_by_tick(observations, task, state, measured, decode_images)
        observations.check(self.config, (batch, ticks))
        text = self._scaled_text(task, batch)
        encoded = self._encode(observations.map(lambda tensor: tensor.flatten(0, 1)), text)
        inputs = self._recurrent_input(encoded, text).reshape(batch, ticks, -1)
        begin = state.hidden.unsqueeze(0), state.cell.unsqueeze(0)
        outputs, (hidden, cell) = self.recurrent(inputs, begin)
        flat = self._predict(encoded, encoded, outputs.flatten(0, 1))
        made = flat.map(lambda tensor: tensor.reshape(batch, ticks, *tensor.shape[1:]))
        last = made.tick(-1)
        if decode_images is not False:
            rows = None if decode_images is True else _rows(decode_images, batch, ticks)
            images = {
                name: image.reshape(batch, -1, *image.shape[1:])
                for name, image in self._decode(encoded.maps, flat.keypoints, rows).items()
            }
            made = replace(made, images=images)
            last = made.tick(-1) if rows is None else last
        return made, State(hidden[0], cell[0], last)

    def _tick_by_tick(
        self,
        observations: Observation,
        task: Tensor | None,
        state: State,
        measured: float,
        decode_images: bool,
    ) -> tuple[Prediction, State]:
        made = []
        for t in range(observations.joints.shape[1]):
            prediction, state = self.step(
                observations.tick(t), task, state, measured=measured, decode_images=decode_images
            )
            made.append(prediction)
        return join_ticks(made), state

    def _scaled_text(self, task: Tensor | None, batch: int) -> Tensor | None:
        """(B, D) embeddings as the network hears them; None without language."""
        if self.text_scale is None:
            return None
        dim = self.config.text_dim
        if task is None or task.shape != (batch, dim):
            shape = None if task is None else tuple(task.shape)
            raise ValueError(f'task must be embeddings of shape {(batch, dim)}, got {shape}')
        scaled: Tensor = self.text_scale(task)
        return scaled

    def _encode(self, observation: Observation, text: Tensor | None) -> _Encoded:
        """Encode an observation of leading shape (N,)."""
        keypoints, maps = {}, {}
        for name, camera in self.cameras.items():
            keypoints[name], maps[name] = camera(observation.images[name], text)
        for name, clip in self.clips.items():
            keypoints[name + CLIP_SUFFIX] = clip(observation.clip[name], text)
        codes = {name: touch(observation.tactile[name]) for name, touch in self.touch.items()}
        if self.config.depth and self.depth is not None:
            codes[self.config.depth.stream] = self.depth(observation.depth)
        return _Encoded(observation.joints, keypoints, codes, maps)

    def _recurrent_input(self, fed: _Encoded, text: Tensor | None) -> Tensor:
        """(N, inputs): joints, keypoints, codes and the task, which is the same at all ticks."""
        places = [fed.joints, *(points.flatten(1) for points in fed.keypoints.values())]
        # About mean 0 and spread 1, as the layer's initial weights expect.
        parts = [(place - 0.5) * PLACE_GAIN for place in places] + list(fed.codes.values())
        if self.to_task is not None and text is not None:
            parts.append(self.to_task(text).repeat_interleave(len(fed.joints) // len(text), dim=0))
        return torch.cat(parts, dim=-1)

    def _predict(self, fed: _Encoded, encoded: _Encoded, hidden: Tensor) -> Prediction:
        """(N, rec_dim) -> the prediction, still without images."""
        joints, keypoints, codes = fed.joints, fed.keypoints, fed.codes
        sizes = [joints.shape[-1], *(2 * points.shape[-2] for points in keypoints.values())]
        sizes += [code.shape[-1] for code in codes.values()]
        outputs = iter(self.to_outputs(hidden).split(sizes, dim=-1))
        before = 1.0 if self.config.residual else 0.0
        return Prediction(
            joints=joints * before + next(outputs),
            keypoints={
                name: points * before + next(outputs).reshape(points.shape)
                for name, points in keypoints.items()
            },
            codes={name: code * before + next(outputs) for name, code in codes.items()},
            images={},
            encoded_keypoints=encoded.keypoints,
            encoded_codes=encoded.codes,
        )

    def _decode(
        self,
        maps: Mapping[str, Tensor],
        keypoints: Mapping[str, Tensor],
        rows: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The next image of each camera, of some rows (n,) or all, (n, 3, H, W)."""
        images = {}
        for name, decoder in self.decoders.items():
            seen, points = maps[name], keypoints[name]
            if rows is not None:
                seen, points = seen[rows], points[rows]
            camera = cast('CameraEncoder', self.cameras[name])
            images[name] = decoder(camera.to_features(seen), points)
        return images


def _rows(ticks: Tensor, batch: int, length: int) -> Tensor:
    """Rows of some ticks (n,) of every sequence, where sequences lie one behind the other."""
    begins = torch.arange(batch, device=ticks.device) * length
    return (begins[:, None] + ticks[None]).flatten()


def _mix_encoded(encoded: _Encoded, predicted: Prediction, measured: float) -> _Encoded:
    """Codes and CLIP's keypoints mixed; joints and images were, before they were encoded."""
    of_clip = {n: points for n, points in encoded.keypoints.items() if n.endswith(CLIP_SUFFIX)}
    keypoints = encoded.keypoints | mix_named(of_clip, predicted.keypoints, measured)
    codes = mix_named(encoded.codes, predicted.codes, measured)
    return encoded._replace(keypoints=keypoints, codes=codes)
