"""What a policy is made of: saved with its weights, and enough to build it and to feed it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

Size = tuple[int, int]
CLIP_SUFFIX = '/clip'
"""Ends the name of a camera's CLIP branch: `color/clip`."""


@dataclass(frozen=True)
class DepthConfig:
    """How depth images are seen.

    Attributes:
        stream: Name of the data set's stream.
        size: (H, W) that images are brought to.
        range_m: Nearest and farthest depth that still differ to the policy.
    """

    stream: str = 'depth'
    size: Size = (32, 32)
    range_m: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: A value is out of its range; the message names it.
        """
        _check_name('depth.stream', self.stream)
        _check_size('depth.size', self.size, 8, 4)
        near, far = self.range_m
        if not (math.isfinite(far) and 0 <= near < far):
            raise ValueError(f'depth.range_m = {self.range_m} must be 0 <= nearest < farthest')


@dataclass(frozen=True)
class TextConfig:
    """Which encoder embedded the tasks of a policy that hears them but has no CLIP branch.

    Attributes:
        model: The encoder's `EncoderConfig.model`.
        pretrained: Its `EncoderConfig.pretrained`.
        identity: Its `Encoder.identity` less the dense method, which changes no text.
    """

    model: str
    pretrained: str | None
    identity: str

    def __post_init__(self) -> None:
        """Check the names.

        Raises:
            ValueError: One is empty; the message names it.
        """
        for name in ('model', 'identity'):
            if not getattr(self, name):
                raise ValueError(f'text.{name} is empty: it names the encoder of the tasks')

    def check_encoder(self, identity: str) -> None:
        """Compare with `Encoder.identity` of the encoder at hand.

        Raises:
            ValueError: It is another one than in training; the message names both.
        """
        if without_method(identity) != self.identity:
            raise ValueError(
                f'the tasks of this policy were embedded by the encoder {self.identity}, but this '
                f'one is {without_method(identity)}: load model {self.model!r}'
            )


@dataclass(frozen=True)
class ClipBranchConfig:
    """Which encoder made the patch features, and what is made of them.

    Attributes:
        model: The encoder's `EncoderConfig.model`.
        pretrained: Its `EncoderConfig.pretrained`.
        method: Its dense method.
        identity: `Encoder.identity`: name, digest of the weights and method, checked at load.
        dim: C, numbers a patch.
        grid: (gh, gw) patches that features are pooled to.
        image_size: The encoder's `image_size`: shorter side before dense encoding; None its own.
        source_size: (H, W) that images are brought to before they go to the encoder: the size of
            the recorded images, since what the encoder sees must be as it was in training.
        k_dim: Keypoints a camera.
    """

    model: str
    pretrained: str | None
    method: str
    identity: str
    dim: int
    grid: Size
    image_size: int | None
    source_size: Size
    k_dim: int = 4

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: A value is out of its range; the message names it.
        """
        _check_count('clip.dim', self.dim, 1)
        _check_size('clip.grid', self.grid, 2, 1)
        _check_size('clip.source_size', self.source_size, 1, 1)
        _check_count('clip.k_dim', self.k_dim, 1)

    def check_encoder(self, identity: str, dim: int) -> None:
        """Compare with the encoder at hand.

        Raises:
            ValueError: It is another one than in training; the message names both.
        """
        if (identity, dim) != (self.identity, self.dim):
            raise ValueError(
                f'the policy was trained with the encoder {self.identity} ({self.dim} numbers a '
                f'patch), but this one is {identity} ({dim}): load model {self.model!r}, '
                f'method {self.method!r}'
            )


@dataclass(frozen=True)
class SarnnConfig:
    """A policy: what it sees, feels and is told, and its sizes.

    Attributes:
        joint_names: P joints, in the order of the joint vectors.
        joint_bounds: Least and greatest value of each joint in training; they scale to 0 and 1.
        cameras: Streams of colour images, by their names in the data set.
        image_size: (H, W) that they are brought to, even numbers.
        depth: The stream of depth, or None.
        tactile: Streams of touch sensors' images.
        tactile_size: (H, W) that those are brought to, multiples of 4.
        clip: The branch on CLIP's patch features, one a camera, or None.
        tasks: Texts of the tasks trained on.
        text_dim: D, numbers of a task's text embedding; 0 without language.
        text: What embeds tasks where there is language but no CLIP branch; else None, since a CLIP
            branch's encoder embeds them too.
        rate_hz: Ticks a second of the recordings.
        k_dim: Keypoints a camera.
        rec_dim: Size of the recurrent state.
        heatmap_size: Width of the window around a predicted keypoint through which the image
            decoder sees: exp(-distance^2 / heatmap_size).
        stem_dim: Channels of the camera encoder's first layer.
        trunk_dim: Channels of its second layer and of the image decoder.
        code_dim: Numbers that a touch or depth image becomes.
        task_dim: Numbers that a task's embedding becomes for the recurrent layer.
        residual: Predict the change of joints, keypoints and codes instead of their value.
    """

    joint_names: tuple[str, ...]
    joint_bounds: tuple[tuple[float, ...], tuple[float, ...]]
    cameras: tuple[str, ...] = ('color',)
    image_size: Size = (64, 64)
    depth: DepthConfig | None = None
    tactile: tuple[str, ...] = ()
    tactile_size: Size = (24, 32)
    clip: ClipBranchConfig | None = None
    tasks: tuple[str, ...] = ()
    text_dim: int = 0
    text: TextConfig | None = None
    rate_hz: float = 10.0
    k_dim: int = 8
    rec_dim: int = 128
    heatmap_size: float = 0.1
    stem_dim: int = 16
    trunk_dim: int = 32
    code_dim: int = 8
    task_dim: int = 16
    residual: bool = True

    def __post_init__(self) -> None:
        """Check every value and how they fit together.

        Raises:
            ValueError: A value is out of its range; the message names it.
        """
        if not self.joint_names:
            raise ValueError('joint_names is empty: a policy moves at least one joint')
        self._check_names()
        self._check_bounds()
        _check_size('image_size', self.image_size, 16, 2)
        _check_size('tactile_size', self.tactile_size, 8, 4)
        for name in ('k_dim', 'rec_dim', 'stem_dim', 'trunk_dim', 'code_dim', 'task_dim'):
            _check_count(name, getattr(self, name), 1)
        _check_count('text_dim', self.text_dim, 0)
        for name in ('heatmap_size', 'rate_hz'):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f'{name} = {value} must be a positive number')
        if self.clip and not self.cameras:
            raise ValueError('clip needs at least one camera: cameras is empty')
        self._check_text()

    @property
    def joint_dim(self) -> int:
        """P."""
        return len(self.joint_names)

    @property
    def keypoint_dims(self) -> dict[str, int]:
        """Keypoints of each branch: cameras by name, and their CLIP branches as `color/clip`."""
        dims = dict.fromkeys(self.cameras, self.k_dim)
        if self.clip:
            dims |= dict.fromkeys((name + CLIP_SUFFIX for name in self.cameras), self.clip.k_dim)
        return dims

    @property
    def code_names(self) -> tuple[str, ...]:
        """Streams that become codes: touch sensors, then depth."""
        return (*self.tactile, *([self.depth.stream] if self.depth else []))

    def to_json(self) -> str:
        """The configuration as JSON text, for `from_json`."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> SarnnConfig:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is no JSON object, has keys that are not known, lacks some, or a value
                is out of its range.
        """
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError('the configuration is no JSON object')
        for key, part in (
            ('depth', DepthConfig),
            ('clip', ClipBranchConfig),
            ('text', TextConfig),
        ):
            if values.get(key) is not None:
                values[key] = _build(part, values[key])
        made = _build(cls, values)
        if not isinstance(made, cls):
            raise TypeError(f'{cls.__name__} expected')
        return made

    def _check_names(self) -> None:
        streams = (*self.cameras, *self.code_names)
        for what, names in (('joint_names', self.joint_names), ('streams', streams)):
            for name in names:
                _check_name(what, name)
            if twins := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f'{what} has {", ".join(twins)} more than once')

    def _check_text(self) -> None:
        if self.text_dim and not (self.clip or self.text):
            raise ValueError(
                f'text_dim = {self.text_dim}, but neither clip nor text says which encoder embeds '
                'the tasks'
            )
        if self.text and (self.clip or not self.text_dim):
            raise ValueError('text is for policies that have a text_dim and no clip')

    def _check_bounds(self) -> None:
        low, high = self.joint_bounds
        if not len(low) == len(high) == self.joint_dim:
            raise ValueError(
                f'joint_bounds are of {len(low)} and {len(high)} joints, joint_names has '
                f'{self.joint_dim}'
            )
        for name, least, greatest in zip(self.joint_names, low, high, strict=True):
            if not (math.isfinite(least) and math.isfinite(greatest) and least < greatest):
                raise ValueError(
                    f'joint_bounds of {name} are {least} and {greatest}: finite numbers, the first '
                    'the smaller, are needed'
                )


def without_method(identity: str) -> str:
    """An `Encoder.identity`, name/digest/method, without the dense method."""
    return identity.rpartition('/')[0]


def _build(kind: type[Any], values: Any) -> Any:
    """A dataclass from JSON's values: exactly its fields, lists as tuples."""
    if not isinstance(values, dict):
        raise ValueError(f'{kind.__name__} is written as {type(values).__name__}, not an object')
    if unknown := sorted(set(values) - {field.name for field in fields(kind)}):
        raise ValueError(f'{kind.__name__} has no {", ".join(unknown)}')
    needed = {field.name for field in fields(kind) if field.default is MISSING}
    if missing := sorted(needed - set(values)):
        raise ValueError(f'{kind.__name__} lacks {", ".join(missing)}')
    return kind(**{key: _tuples(value) for key, value in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _check_name(what: str, name: str) -> None:
    # Names become parts of parameters' names, which may hold no dot; `/` marks CLIP's branches.
    if not name or (what != 'joint_names' and any(sign in name for sign in './')):
        raise ValueError(f'{what}: {name!r} is no name (empty, or with a dot or a slash)')


def _check_count(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f'{name} = {value!r} must be a whole number >= {least}')


def _check_size(name: str, size: Sequence[int], least: int, multiple: int) -> None:
    good = len(size) == 2 and all(
        isinstance(side, int) and side >= least and side % multiple == 0 for side in size
    )
    if not good:
        step = f' and multiples of {multiple}' if multiple > 1 else ''
        raise ValueError(f'{name} = {tuple(size)} must be (H, W), both >= {least}{step}')
