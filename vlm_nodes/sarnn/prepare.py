"""From a data set and options to a policy that can be trained, and the tensors to train it on."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vlm_nodes.sarnn.config import (
    ClipBranchConfig,
    DepthConfig,
    SarnnConfig,
    Size,
    TextConfig,
    without_method,
)
from vlm_nodes.sarnn.data import Sequences, check_streams
from vlm_nodes.sarnn.features import Describe, data_set_features
from vlm_nodes.sarnn.preprocess import PatchFeatures
from vlm_nodes.sarnn.recordings import Recordings, RecordingsError

if TYPE_CHECKING:
    from pathlib import Path

    from vlm_nodes.clip.encoder import Encoder

TOUCH_PREFIX, DEPTH_STREAM = 'gelsight', 'depth'


@dataclass(frozen=True)
class Prepared:
    """A policy to train, and what it is trained and tested on.

    Attributes:
        config: The policy's.
        embeddings: Of its tasks, (D,) by text; empty without language.
        train: Episodes to train on.
        test: Episodes to test on.
    """

    config: SarnnConfig
    embeddings: dict[str, NDArray[np.float32]]
    train: Sequences
    test: Sequences


def prepare(recordings: Recordings, options: argparse.Namespace) -> Prepared:
    """Decide what a policy looks like, and make everything that it is trained on.

    Args:
        recordings: The data set.
        options: As `train_options.make_parser` has them.

    Raises:
        RecordingsError: The data set lacks what the options ask for.
        WeightsError: The encoder cannot be loaded.
        ValueError: An option is out of its range.
    """
    config = _plan(recordings, options)
    # Before an encoder is loaded and thousands of images go through it.
    check_streams(recordings, config, options.target)
    encoder = None
    if not (options.no_clip and options.no_language):
        encoder = _load_encoder(options)
        config = _with_encoder(config, recordings, options, encoder)
    return with_tensors(recordings, config, encoder, options.target, options.cache)


def with_tensors(
    recordings: Recordings,
    config: SarnnConfig,
    encoder: Encoder | None,
    target: str,
    cache: Path | None,
) -> Prepared:
    """Everything that a policy is trained and tested on.

    Args:
        recordings: The data set.
        config: The policy's.
        encoder: Its encoder; None for a policy without CLIP and without language.
        target: As `Sequences` has it.
        cache: Folder of CLIP's features; None for the one beside the data set.

    Raises:
        RecordingsError: The data set lacks what the policy needs.
        ValueError: It is another encoder than the policy's.
    """
    embeddings: dict[str, NDArray[np.float32]] = {}
    features: dict[str, dict[str, NDArray[np.float16]]] = {}
    if encoder is not None and config.text_dim:
        texts = list(recordings.task_texts)
        embeddings = dict(zip(texts, encoder.encode_text(texts), strict=True))
    if encoder is not None and config.clip:
        describe = _describer(encoder, config.clip)
        features = data_set_features(
            recordings, config.cameras, config.clip, describe, cache, _with_bar
        )
    train, test = (
        Sequences(
            recordings,
            split,
            config,
            features=features.get(split.folder.name),
            embeddings=embeddings,
            target=target,
        )
        for split in (recordings.train, recordings.test)
    )
    return Prepared(config, embeddings, train, test)


def _load_encoder(options: argparse.Namespace) -> Encoder:
    from vlm_nodes.clip.encoder import Encoder

    best = 'cuda' if torch.cuda.is_available() else 'cpu'
    return Encoder.load(
        options.clip_model,
        options.clip_pretrained,
        method=options.clip_method,
        device=best if options.device == 'auto' else options.device,
        weights_dir=options.weights_dir,
        image_size=options.clip_image_size,
    )


def _plan(recordings: Recordings, options: argparse.Namespace) -> SarnnConfig:
    """The policy but for what depends on the encoder."""
    cameras = tuple(options.cameras or (recordings.main_camera,))
    found = tuple(name for name in recordings.streams if name.startswith(TOUCH_PREFIX))
    depth = options.depth or (DEPTH_STREAM if DEPTH_STREAM in recordings.streams else None)
    least, greatest = recordings.joint_bounds.tolist()
    return SarnnConfig(
        joint_names=recordings.joint_names,
        joint_bounds=(tuple(least), tuple(greatest)),
        cameras=cameras,
        image_size=_image_size(recordings, cameras[0], options.image_size),
        depth=DepthConfig(depth, range_m=tuple(options.depth_range))
        if depth and not options.no_depth
        else None,
        tactile=() if options.no_touch else tuple(options.touch or found),
        tasks=recordings.task_texts,
        rate_hz=recordings.rate_hz,
        k_dim=options.k_dim,
        rec_dim=options.rec_dim,
        heatmap_size=options.heatmap_size,
    )


def _with_encoder(
    config: SarnnConfig, recordings: Recordings, options: argparse.Namespace, encoder: Encoder
) -> SarnnConfig:
    made_by = encoder.config
    if options.no_clip:
        text = TextConfig(made_by.model, made_by.pretrained, without_method(encoder.identity))
        return replace(config, text_dim=encoder.dim, text=text)
    height, width = source_size = _recorded_size(recordings, config.cameras[0])
    scale = options.clip_grid / min(source_size)
    branch = ClipBranchConfig(
        model=made_by.model,
        pretrained=made_by.pretrained,
        method=made_by.method,
        identity=encoder.identity,
        dim=encoder.dim,
        grid=(round(height * scale), round(width * scale)),
        image_size=made_by.image_size,
        source_size=source_size,
        k_dim=options.clip_k_dim,
    )
    return replace(config, clip=branch, text_dim=0 if options.no_language else encoder.dim)


def _image_size(recordings: Recordings, camera: str, given: list[int] | None) -> Size:
    if given is None:
        return _recorded_size(recordings, camera)
    if len(given) > 2:
        raise ValueError(f'--image_size takes a height and a width, got {given}')
    return given[0], given[-1]


def _recorded_size(recordings: Recordings, camera: str) -> Size:
    stream = recordings.streams.get(camera)
    if stream is None or len(stream.shape) != 3:
        raise RecordingsError(
            f'{recordings.folder} has no camera {camera}; it has {", ".join(recordings.streams)}'
        )
    return stream.shape[0], stream.shape[1]


def _describer(encoder: Encoder, branch: ClipBranchConfig) -> Callable[[], Describe]:
    def describe() -> Describe:
        return PatchFeatures(encoder, branch)

    return describe


def _with_bar(rows: range, what: str) -> Iterable[int]:
    return tqdm(rows, desc=what, unit='episode', leave=False, disable=None)
