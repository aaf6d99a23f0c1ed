"""Does a recording of posed RGB-D fuse, and if not, which of the usual mistakes explains it?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import product

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry.camera import Camera
from vlm_nodes.geometry.frame import RgbdFrame
from vlm_nodes.mapping.color_registration import ColorCamera, ColorCheck, ColorFit
from vlm_nodes.mapping.datasets import UP_AXES, Correction
from vlm_nodes.mapping.reprojection import (
    DepthCheck,
    Fit,
    FramePair,
    PairConfig,
    choose_pairs,
)

AS_GIVEN = Correction()

_AXES_TEXTS = {
    'opengl': 'camera axes are OpenGL (y up, z backward), not optical',
    'body': 'camera axes are body axes (x forward, y left, z up), not optical',
    'turned': 'optical poses were turned from body to optical axes once too often '
    '(or base_from_camera is transposed)',
}
_SCALE_TEXTS = {
    0.001: 'depth is in millimetres, taken for metres',
    1000.0: 'depth is in metres, taken for millimetres',
    0.2: 'depth has 5000 units a metre, taken for 1000',
    0.1: 'depth has 10000 units a metre, taken for 1000',
}
# A room's depth lies within these, whatever camera saw it.
_PLAUSIBLE_DEPTH_M = (0.03, 80.0)


@dataclass(frozen=True)
class CheckConfig:
    """When something counts as fitting, and as fitting better.

    Attributes:
        pairs: Which frames are held against each other.
        max_error_share: Depth fits if its median difference is at most this share of it,
        min_agreement: and at least this share of the readings that meet agree to 2 %,
        min_overlap: and at least this share of the readings meet.
        better_by: A mistake is named if this much more of all readings agree without it.
        color_better_by: Colour is unregistered if another camera raises `ColorFit.gain` this much,
        color_rest: and leaves at most this share of what the camera as given leaves uncorrelated,
        color_shift_px: and moves colour by at least this much, in a picture 640 pixels wide.
    """

    pairs: PairConfig = field(default_factory=PairConfig)
    max_error_share: float = 0.03
    min_agreement: float = 0.5
    min_overlap: float = 0.1
    better_by: float = 0.15
    color_better_by: float = 0.08
    color_rest: float = 0.7
    color_shift_px: float = 5.0

    def __post_init__(self) -> None:
        """Check every value and name the bad one."""
        for name in ('max_error_share', 'min_agreement', 'min_overlap', 'better_by', 'color_rest'):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f'{name} = {getattr(self, name)} must be above 0, and 1 at most')
        for name in ('color_better_by', 'color_shift_px'):
            if not getattr(self, name) >= 0:
                raise ValueError(f'{name} = {getattr(self, name)} must be 0 or more')


class Verdict(Enum):
    """What a check ends in."""

    FUSES = 'fuses'
    MISTAKE = 'mistake'
    DOES_NOT_FUSE = 'does not fuse'
    CANNOT_TELL = 'cannot tell'


@dataclass(frozen=True)
class Hypothesis:
    """A way in which the recording may have been stored, and how depth fits if it was.

    Attributes:
        text: In words.
        correction: What would put it right.
        fit: How depth fits then.
    """

    text: str
    correction: Correction
    fit: Fit


@dataclass(frozen=True)
class ColorHypothesis:
    """A colour camera that may be right, and how colours fit if it is."""

    text: str
    camera: Camera
    fit: ColorFit


@dataclass(frozen=True)
class Report:
    """What a check found.

    Attributes:
        verdict: The end of it.
        text: The verdict in a sentence, with the options that cure it.
        frames: Frames read.
        pairs: Pairs of frames held against each other.
        hypotheses: The recording as given, then with each usual mistake put right.
        color: Colour as given, as if registered, and fitted; empty where depth does not fit.
        notes: What else was noticed.
        correction: What makes depth fit best.
    """

    verdict: Verdict
    text: str
    frames: int
    pairs: tuple[FramePair, ...]
    hypotheses: tuple[Hypothesis, ...]
    color: tuple[ColorHypothesis, ...]
    notes: tuple[str, ...]
    correction: Correction


def check(frames: Iterable[RgbdFrame], config: CheckConfig | None = None) -> Report:
    """Check a recording. Its frames are read once; only the pairs are kept.

    Args:
        frames: The recording, in order.
        config: When something counts as fitting.
    """
    config = config or CheckConfig()
    counted = _Counted(frames)
    pairs = choose_pairs(counted, config.pairs)
    if not pairs:
        return _undecided(counted.count)
    depth = DepthCheck(pairs, config.pairs.points)
    hypotheses = _hypotheses(depth, config)
    best = _best(hypotheses, config)
    color = _color(pairs, best.correction, config) if _fits(best.fit, config) else ()
    verdict, text = _judge(hypotheses, best, color, config)
    return Report(
        verdict=verdict,
        text=text,
        frames=counted.count,
        pairs=tuple(pairs),
        hypotheses=tuple(hypotheses),
        color=color,
        notes=_notes(pairs, hypotheses, best, config),
        correction=best.correction,
    )


def options_for(correction: Correction) -> str:
    """The command line options of the tools that put a mistake right."""
    options = ['--poses-inverted'] if correction.poses_inverted else []
    if correction.camera_axes != 'optical':
        options.append(f'--camera-axes {correction.camera_axes}')
    if correction.depth_scale != 1:
        options.append(f'--depth-scale {correction.depth_scale:g}')
    return ' '.join(options)


class _Counted:
    """Frames as they pass, counted."""

    def __init__(self, frames: Iterable[RgbdFrame]) -> None:
        self._frames = frames
        self.count = 0

    def __iter__(self) -> Iterator[RgbdFrame]:
        for frame in self._frames:
            self.count += 1
            yield frame


def _undecided(count: int) -> Report:
    what = 'holds no frame' if count == 0 else 'holds one frame' if count == 1 else 'never moves'
    text = f'the recording {what}: there is nothing to hold against each other'
    return Report(Verdict.CANNOT_TELL, text, count, (), (), (), (), AS_GIVEN)


def _text(correction: Correction) -> str:
    parts = ['poses are inverted (camera-from-map)'] if correction.poses_inverted else []
    if correction.camera_axes != 'optical':
        parts.append(_AXES_TEXTS[correction.camera_axes])
    if correction.depth_scale != 1:
        parts.append(_SCALE_TEXTS[correction.depth_scale])
    return '; '.join(parts) or 'as given'


def _hypotheses(depth: DepthCheck, config: CheckConfig) -> list[Hypothesis]:
    """The recording as given and each single mistake; all of two or more where none explains it."""

    def tried(corrections: Iterable[Correction]) -> list[Hypothesis]:
        return [Hypothesis(_text(c), c, depth.fit(c)) for c in corrections]

    every = [
        Correction(inverted, axes, scale)
        for inverted, axes, scale in product(
            (False, True), ('optical', *_AXES_TEXTS), (1.0, *_SCALE_TEXTS)
        )
    ]
    single = tried(c for c in every if _mistakes(c) <= 1)
    if any(_fits(h.fit, config) for h in single):
        return single
    combined = [h for h in tried(c for c in every if _mistakes(c) > 1) if _fits(h.fit, config)]
    return single + combined


def _mistakes(correction: Correction) -> int:
    return (
        correction.poses_inverted
        + (correction.camera_axes != 'optical')
        + (correction.depth_scale != 1)
    )


def _fits(fit: Fit, config: CheckConfig) -> bool:
    return (
        fit.overlap >= config.min_overlap
        and fit.median_share <= config.max_error_share
        and fit.agreement >= config.min_agreement * fit.overlap
        and _is_plausible(fit)
    )


def _is_plausible(fit: Fit) -> bool:
    return bool(_PLAUSIBLE_DEPTH_M[0] <= fit.median_depth_m <= _PLAUSIBLE_DEPTH_M[1])


def _best(hypotheses: list[Hypothesis], config: CheckConfig) -> Hypothesis:
    """What fits clearly best; the recording as given where nothing is clearly better."""
    given = hypotheses[0]
    # Depth that cannot be metres is wrong, however well it fits.
    given_agreement = given.fit.agreement if _is_plausible(given.fit) else 0.0
    fitting = [h for h in hypotheses[1:] if _fits(h.fit, config)]
    best = max(fitting, key=lambda h: h.fit.agreement, default=given)
    return best if best.fit.agreement >= given_agreement + config.better_by else given


def _color(
    pairs: list[FramePair], correction: Correction, config: CheckConfig
) -> tuple[ColorHypothesis, ...]:
    try:
        check_color = ColorCheck(pairs, correction, config.pairs.points)
    except ValueError:
        return ()
    cameras = {'as given': check_color.given}
    if not _same_camera(check_color.given, check_color.registered(), pairs[0].first):
        cameras['as if registered to depth'] = check_color.registered()
    cameras['fitted'] = check_color.fitted()
    return tuple(
        ColorHypothesis(text, camera.camera, check_color.fit(camera))
        for text, camera in cameras.items()
    )


def _same_camera(given: ColorCamera, registered: ColorCamera, frame: RgbdFrame) -> bool:
    return given.camera == registered.camera and np.array_equal(
        frame.map_from_color, frame.map_from_depth
    )


def _judge(
    hypotheses: list[Hypothesis],
    best: Hypothesis,
    color: tuple[ColorHypothesis, ...],
    config: CheckConfig,
) -> tuple[Verdict, str]:
    given = hypotheses[0]
    color_text = _color_mistake(color, config)
    if best is not given:
        causes = [best, *_alike(hypotheses, best, config)]
        text = 'does not fuse as given, but fits if ' + ', or if '.join(
            f'{h.text}: {options_for(h.correction)}' for h in causes
        )
        return Verdict.MISTAKE, text + (f'; also {color_text}' if color_text else '')
    if not _fits(given.fit, config):
        return _misfit(given.fit, config)
    # A camera that only turns says nothing of units; one that hardly moves nothing of poses.
    if any(h.correction.depth_scale == 1 for h in _alike(hypotheses, given, config)):
        return Verdict.CANNOT_TELL, (
            'fits as given, but so it would with a usual mistake in the poses (see the note): '
            'record some more, moving and turning the camera about two axes'
        )
    if color_text:
        return Verdict.MISTAKE, f'depth fuses, but {color_text}'
    return Verdict.FUSES, (
        f'fuses: depth agrees to {given.fit.median_error_m * 1e3:.1f} mm '
        f'({given.fit.median_share:.1%}) in median'
    )


def _misfit(fit: Fit, config: CheckConfig) -> tuple[Verdict, str]:
    if fit.overlap < config.min_overlap:
        return Verdict.CANNOT_TELL, (
            f'only {fit.overlap:.0%} of the readings of one frame are seen by the next: too little '
            'to tell, and no usual mistake explains it'
        )
    if not _is_plausible(fit) and fit.median_share <= config.max_error_share:
        return Verdict.MISTAKE, (
            f'depth and poses fit each other, but not in metres: depth is {fit.median_depth_m:.4g} '
            'in median; convert both to metres'
        )
    return Verdict.DOES_NOT_FUSE, (
        f'does not fuse: depth differs by {fit.median_error_m * 1e3:.0f} mm '
        f'({fit.median_share:.1%}) in median, and no usual mistake explains it; look at '
        'intrinsics, stamps of poses against images, and drift of the poses'
    )


def _color_mistake(color: tuple[ColorHypothesis, ...], config: CheckConfig) -> str:
    """What is wrong with colour, in words; empty where nothing is."""
    if not color:
        return ''
    given = color[0]
    best = max(color[1:], key=lambda h: np.nan_to_num(h.fit.gain, nan=-1.0))
    shift_px = best.fit.shift_px * 640 / given.camera.width
    better_by = best.fit.gain - given.fit.gain
    rest = (1 - best.fit.correlation) / max(1 - given.fit.correlation, 1e-9)
    if better_by < config.color_better_by or rest > config.color_rest:
        return ''
    if shift_px < config.color_shift_px:
        return ''
    camera = best.camera
    return (
        f'colour is not registered to depth as given: it lies {best.fit.shift_px:.0f} px off; '
        f'{best.text} fits better: --color-intrinsics {camera.fx:.1f} {camera.fy:.1f} '
        f'{camera.cx:.1f} {camera.cy:.1f}'
    )


def _notes(
    pairs: list[FramePair], hypotheses: list[Hypothesis], best: Hypothesis, config: CheckConfig
) -> tuple[str, ...]:
    notes = []
    if near := _alike(hypotheses, best, config):
        texts = '; or '.join(h.text for h in near)
        notes.append(f"the camera's motion does not tell apart: {best.text}; or {texts}")
    up = _up_axis([pair.first for pair in pairs], best.correction)
    if up != 'z':
        notes.append(
            f"the map frame's {up} points up, not z, going by the cameras: for pictures from above "
            f'and heights give --up={up}'
        )
    return tuple(notes)


def _alike(hypotheses: list[Hypothesis], best: Hypothesis, config: CheckConfig) -> list[Hypothesis]:
    """What fits about as well as the best."""
    if not _fits(best.fit, config):
        return []
    return [
        h
        for h in hypotheses
        if h is not best
        and _fits(h.fit, config)
        and abs(h.fit.agreement - best.fit.agreement) < config.better_by / 3
    ]


def _up_axis(frames: list[RgbdFrame], correction: Correction) -> str:
    """The map's axis that the images' up is nearest to, in the mean."""
    ups: NDArray[np.float64] = np.stack([-correction.pose(f.map_from_depth)[:3, 1] for f in frames])
    mean = ups.mean(axis=0)
    towards = {name: float(turn[2, :3] @ mean) for name, turn in UP_AXES.items()}
    # Cameras that look down from above say little: keep z unless another axis is clearly nearer.
    return max(towards, key=lambda name: towards[name] + (0.3 if name == 'z' else 0.0))
