"""What a conversion makes of a bag: its streams, its clock and its policies, read from YAML."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from bag_tools.reader import DISTROS

KINDS = ('color', 'depth', 'joints', 'fields')
POLICIES = ('nearest', 'latest', 'linear')
STAMPS = ('header', 'receive')
MISSING_CHOICES = ('mark', 'drop', 'refuse')
SPANS = ('all', 'common')
JUMP_CHOICES = ('longest', 'refuse')
JOINT_VALUES = ('position', 'velocity', 'effort')
# Names that the output gives to what no stream is.
RESERVED = ('stamps', 'joint_names', 'valid', 'metadata', 'actions')

T = TypeVar('T')


class SettingsError(ValueError):
    """A configuration asks for something that does not exist or makes no sense."""


def _choose(owner: str, name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingsError(f'{owner}{name} = {value!r} must be one of {", ".join(allowed)}')


def _need(good: bool, text: str) -> None:
    if not good:
        raise SettingsError(text)


@dataclass(frozen=True)
class StreamSettings:
    """One stream of the output.

    Attributes:
        topics: Topics to take it from; the first that the bag holds messages of is used;
            '*' stands for any part of a name.
        kind: 'color' (RGB uint8), 'depth' (uint16 millimetres), 'joints' (JointState or
            JointTrajectory, matched by name) or 'fields' (numbers of any message).
        policy: 'nearest', 'latest' (not after the tick) or, for numbers, 'linear'. None takes
            nearest for images and linear for numbers.
        tolerance_s: Furthest that a sample may lie from its tick, in seconds; for 'linear' each
            of the two samples.
        missing: What is done with a tick that has no sample within the tolerance: 'mark' it in the
            stream's valid mask and hold the sample before, 'drop' the tick, or 'refuse' the bag.
        required: Whether a bag without this stream is refused rather than converted without it.
        stamp: 'header' or 'receive'; None takes the clock's.
        offset_s: Known latency of the sensor's stamps, taken off them, in seconds.
        crop: Images: left, top, width and height in pixels of what is kept.
        resize: Images: width and height in pixels after the crop.
        reference: Images: 'first' keeps the episode's first image as its reference (a GelSight
            without contact), a path reads it from an image file.
        subtract: Whether the reference is taken off the images: image - reference + 128, clipped.
        unit_m: Depth: metres of one unit of integer encodings.
        joints: Joints to keep, in this order; empty keeps all.
        values: Joints: any of position, velocity and effort.
        fields: Fields: dotted paths of numbers or arrays of numbers, such as 'linear.x'.
    """

    topics: tuple[str, ...]
    kind: str
    policy: str | None = None
    tolerance_s: float = 0.05
    missing: str = 'mark'
    required: bool = False
    stamp: str | None = None
    offset_s: float = 0.0
    crop: tuple[int, ...] = ()
    resize: tuple[int, ...] = ()
    reference: str | None = None
    subtract: bool = False
    unit_m: float = 0.001
    joints: tuple[str, ...] = ()
    values: tuple[str, ...] = ('position',)
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        _need(bool(self.topics), 'topics must name at least one topic')
        _choose('', 'kind', self.kind, KINDS)
        _choose('', 'missing', self.missing, MISSING_CHOICES)
        if self.policy is not None:
            _choose('', 'policy', self.policy, POLICIES)
        if self.stamp is not None:
            _choose('', 'stamp', self.stamp, STAMPS)
        _need(self.tolerance_s > 0, f'tolerance_s = {self.tolerance_s} must be above 0')
        _need(math.isfinite(self.offset_s), f'offset_s = {self.offset_s} must be finite')
        _need(self.unit_m > 0, f'unit_m = {self.unit_m} must be above 0')
        self._check_images()
        self._check_numbers()

    def _check_images(self) -> None:
        _need(not self.crop or len(self.crop) == 4, f'crop = {self.crop} must be x, y, w, h')
        _need(not self.resize or len(self.resize) == 2, f'resize = {self.resize} must be w, h')
        _need(all(v >= 0 for v in self.crop[:2]), f'crop = {self.crop} begins outside the image')
        _need(all(v > 0 for v in (*self.crop[2:], *self.resize)), 'crop and resize need sizes > 0')
        if not self.is_image:
            given = [n for n in ('crop', 'resize', 'reference', 'subtract') if getattr(self, n)]
            _need(not given, f'{", ".join(given)} fit images, not kind {self.kind!r}')
        elif self.policy == 'linear':
            raise SettingsError('policy linear fits numbers, not images: blended images are ghosts')
        _need(self.kind == 'color' or not self.reference, 'reference fits kind color')
        _need(bool(self.reference) or not self.subtract, 'subtract needs a reference')

    def _check_numbers(self) -> None:
        for value in self.values:
            _choose('', 'values', value, JOINT_VALUES)
        _need(bool(self.values), 'values must name at least one of position, velocity, effort')
        _need(len(set(self.joints)) == len(self.joints), f'joints = {self.joints} names one twice')
        if self.kind == 'fields':
            _need(bool(self.fields), "kind 'fields' needs fields, such as [linear.x, angular.z]")

    @property
    def is_image(self) -> bool:
        """Whether the stream is of images."""
        return self.kind in ('color', 'depth')

    @property
    def chosen_policy(self) -> str:
        """The policy, with its default by kind."""
        return self.policy or ('nearest' if self.is_image else 'linear')


@dataclass(frozen=True)
class ClockSettings:
    """The one clock that everything is resampled on.

    Attributes:
        rate_hz: Ticks a second; exclusive with `reference`.
        reference: Stream whose samples are the ticks.
        stamp: 'header', or 'receive' for the times at which the recorder received the messages.
        span: 'all' ticks from the first sample to the last, or those 'common' to all streams.
            None takes all with a reference and common with a rate.
        jump_s: Step of a header clock, against the receive clock or backwards, that is a jump.
        jumps: 'longest' converts a stream's longest stretch between jumps and reports the rest;
            'refuse' refuses the bag.
    """

    rate_hz: float | None = None
    reference: str | None = None
    stamp: str = 'header'
    span: str | None = None
    jump_s: float = 1.0
    jumps: str = 'longest'

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        _need(
            (self.rate_hz is None) != (self.reference is None),
            'clock needs one of rate_hz and reference',
        )
        if self.rate_hz is not None:
            _need(0 < self.rate_hz <= 10_000, f'rate_hz = {self.rate_hz} must be above 0')
        _choose('', 'stamp', self.stamp, STAMPS)
        _choose('', 'jumps', self.jumps, JUMP_CHOICES)
        if self.span is not None:
            _choose('', 'span', self.span, SPANS)
        _need(self.jump_s > 0, f'jump_s = {self.jump_s} must be above 0')

    @property
    def chosen_span(self) -> str:
        """The span, with its default by clock."""
        return self.span or ('all' if self.reference else 'common')


@dataclass(frozen=True)
class ActionSettings:
    """What `actions` holds.

    Attributes:
        source: Numbers stream whose next value is the action: actions[t] = source[t + 1]. None
            takes the first stream of joints.
        command: Numbers stream of commands, taken at the tick itself; instead of `source`.
    """

    source: str | None = None
    command: str | None = None


@dataclass(frozen=True)
class Settings:
    """A whole configuration.

    Attributes:
        streams: The output's streams by name.
        clock: Ticks.
        actions: What actions are.
        distro: ROS 2 release whose definitions serve bags without their own.
        message_folders: Folders of .msg files (PACKAGE/msg/NAME.msg) for types of one's own.
        task: What is done in these bags, in words; noted in the metadata.
    """

    streams: dict[str, StreamSettings]
    clock: ClockSettings = field(default_factory=lambda: ClockSettings(reference='color'))
    actions: ActionSettings = field(default_factory=ActionSettings)
    distro: str = 'jazzy'
    message_folders: tuple[str, ...] = ()
    task: str | None = None

    def __post_init__(self) -> None:
        """Check that names refer to streams, and the release to one that is known."""
        _choose('', 'distro', self.distro, DISTROS)
        _need(bool(self.streams), 'streams must hold at least one stream')
        for name in self.streams:
            _need(name.isidentifier(), f'stream name {name!r} must be letters, digits and _')
            bad = name in RESERVED or name.startswith('valid_')
            _need(not bad, f'stream name {name!r} is what another output is called')
        named: tuple[tuple[str, str | None], ...] = (
            ('clock.reference', self.clock.reference),
            ('actions.source', self.actions.source),
            ('actions.command', self.actions.command),
        )
        for where, wanted in named:
            if wanted is None:
                continue
            if wanted not in self.streams:
                near = _did_you_mean(wanted, self.streams)
                raise SettingsError(f'{where} = {wanted!r} is no stream{near}')
            images = self.streams[wanted].is_image and where.startswith('actions')
            _need(not images, f'{where} = {wanted!r} is a stream of images')

    @property
    def action_source(self) -> str | None:
        """The stream whose next value is the action; None where there is none."""
        joints = (name for name, stream in self.streams.items() if stream.kind == 'joints')
        return self.actions.source or next(joints, None)

    def digest(self) -> str:
        """SHA-256 of everything that decides the output."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def with_options(self, distro: str | None, task: str | None) -> Settings:
        """These settings with another ROS 2 release or task, where one is given."""
        return replace(self, distro=distro or self.distro, task=task or self.task)


def default_settings() -> Settings:
    """The topic table of the package: camera, depth, two GelSights and joints."""
    camera = '/camera/color/image_raw'
    depth = '/camera/depth/image_rect_raw'
    return Settings(
        {
            'color': StreamSettings(
                (camera, f'{camera}/compressed'), 'color', 'nearest', required=True
            ),
            'depth': StreamSettings((depth, f'{depth}/compressedDepth'), 'depth'),
            'gelsight1': StreamSettings(_gelsight(1), 'color'),
            'gelsight2': StreamSettings(_gelsight(2), 'color'),
            'joints_state': StreamSettings(('/joint_states',), 'joints', 'linear', required=True),
        }
    )


def _gelsight(number: int) -> tuple[str, ...]:
    base = f'/gelsight{number}'
    return (
        f'{base}/raspicam_node/image/compressed',
        f'{base}/image/compressed',
        f'{base}/*/image/compressed',
        f'{base}/image_raw/compressed',
        f'{base}/image_raw',
    )


def load_settings(path: Path) -> Settings:
    """Settings from a YAML file.

    Raises:
        SettingsError: The file is no YAML, or has an unknown key or a bad value; the text names
            the file, the key and the nearest known key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except OSError as error:
        raise SettingsError(f'{path} cannot be read: {error.strerror}') from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f'{path} is no YAML: {error}') from error
    try:
        return settings_from(content)
    except SettingsError as error:
        raise SettingsError(f'{path}: {error}') from error


def settings_from(content: object) -> Settings:
    """Settings from what YAML or JSON gives.

    Raises:
        SettingsError: An unknown key or a bad value.
    """
    top = _mapping('the file', content)
    _check_keys('', top, Settings)
    streams = _mapping('streams', top.get('streams', {}))
    made: dict[str, Any] = {
        'streams': {
            str(name): _build(f'streams.{name}.', given, StreamSettings)
            for name, given in streams.items()
        }
    }
    images = [name for name, stream in made['streams'].items() if stream.is_image]
    made['clock'] = (
        _build('clock.', top['clock'], ClockSettings)
        if 'clock' in top
        else ClockSettings(reference=next(iter(images), 'color'))
    )
    if 'actions' in top:
        made['actions'] = _build('actions.', top['actions'], ActionSettings)
    for name in ('distro', 'message_folders', 'task'):
        if name in top:
            made[name] = _convert(name, top[name], typing.get_type_hints(Settings)[name])
    return Settings(**made)


def _build(where: str, given: object, kind: type[T]) -> T:
    values = _mapping(where.rstrip('.'), given)
    _check_keys(where, values, kind)
    hints = typing.get_type_hints(kind)
    made = {name: _convert(where + name, value, hints[name]) for name, value in values.items()}
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.name not in made]  # type: ignore[arg-type]
    if needed:
        raise SettingsError(f'{where}{needed[0]} is missing')
    try:
        return kind(**made)
    except SettingsError as error:
        raise SettingsError(f'{where}{error}') from error


def _mapping(where: str, given: object) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise SettingsError(f'{where} must be a table of keys and values, not {given!r}')
    return given


def _check_keys(where: str, given: Mapping[str, Any], kind: type[Any]) -> None:
    known = [f.name for f in fields(kind)]
    for name in given:
        if name not in known:
            raise SettingsError(f'unknown key {where}{name}{_did_you_mean(str(name), known)}')


def _did_you_mean(name: str, known: typing.Iterable[str]) -> str:
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f': did you mean {close[0]}?' if close else f'; known are {", ".join(names)}'


def _convert(where: str, value: object, hint: Any) -> Any:
    options = typing.get_args(hint)
    if type(None) in options:
        if value is None:
            return None
        hint = next(option for option in options if option is not type(None))
    if typing.get_origin(hint) is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_scalar(where, item, typing.get_args(hint)[0]) for item in items)
    return _scalar(where, value, hint)


def _scalar(where: str, value: object, kind: type[Any]) -> Any:
    good = isinstance(value, kind) or (kind is float and isinstance(value, int))
    if not good or (isinstance(value, bool) and kind is not bool):
        raise SettingsError(f'{where} = {value!r} must be of type {kind.__name__}')
    return float(value) if kind is float else value  # type: ignore[arg-type]
