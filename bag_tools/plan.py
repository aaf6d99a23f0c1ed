"""Which sample goes to which tick: worked out from stamps alone, before any image is decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bag_tools.joints import Sampled
from bag_tools.reader import BagError
from bag_tools.resample import Match, Stamps, match, rate_ticks
from bag_tools.settings import Settings
from bag_tools.survey import Survey, SurveyedStream


@dataclass(frozen=True)
class PlannedImages:
    """Which message makes each row of an image stream.

    Attributes:
        ordinal: (T,) int64 ordinal of the message in the order of receipt, -1 for none.
        valid: (T,) bool whether it lies within the tolerance.
        error_ns: (T,) int64 its stamp less the tick.
    """

    ordinal: NDArray[np.int64]
    valid: NDArray[np.bool_]
    error_ns: NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """A conversion, worked out.

    Attributes:
        ticks: (T,) int64 nanoseconds.
        images: By stream.
        numbers: By stream.
        names: Column names of each stream of numbers.
        actions: (T, P) float32, or None where no stream gives them.
        actions_valid: (T,) bool.
        dropped: Ticks left out for each stream whose `missing` is 'drop'.
        trimmed: Sentences on what lies before the first and after the last tick and is left out.
    """

    ticks: Stamps
    images: dict[str, PlannedImages]
    numbers: dict[str, Sampled]
    names: dict[str, tuple[str, ...]]
    actions: NDArray[np.float32] | None
    actions_valid: NDArray[np.bool_]
    dropped: dict[str, int]
    trimmed: tuple[str, ...]


def make_plan(found: Survey, settings: Settings, where: str) -> Plan:
    """Give each tick its samples.

    Args:
        found: What the first pass found. Messages known to be bad are passed over in streams
            whose missing ticks are dropped.
        settings: Clock and policies.
        where: The bag's name for messages.

    Raises:
        BagError: There is no tick, or a stream refuses a bag with missing ticks.
    """
    ticks, trimmed = _ticks(found, settings)
    if not len(ticks):
        spans = '; '.join(f'{s.name} {_span_text(s)}' for s in found.streams.values())
        raise BagError(f'{where}: its streams have no time in common ({spans})')
    images = {s.name: _plan_images(s, ticks) for s in found.streams.values() if s.maker}
    names = {s.name: _columns(s, where) for s in found.streams.values() if s.series}
    numbers = {name: _plan_numbers(found.streams[name], names[name], ticks) for name in names}
    plan = Plan(
        ticks, images, numbers, names, None, np.zeros(0, dtype=np.bool_), {}, tuple(trimmed)
    )
    plan = _drop(plan, found, where)
    return _with_actions(plan, settings)


def _ticks(found: Survey, settings: Settings) -> tuple[Stamps, list[str]]:
    clock = settings.clock
    if clock.reference is not None:
        ticks = np.unique(found.streams[clock.reference].stamps.stamps)
    else:
        rate = clock.rate_hz or 1.0
        first, last = _span(found, common=clock.chosen_span == 'common')
        ticks = rate_ticks(first, last, rate)
    if clock.chosen_span == 'all':
        return ticks, []
    first, last = _span(found, common=True)
    whole = _span(found, common=False)
    ticks = ticks[(ticks >= first) & (ticks <= last)]
    return ticks, _trimmed(found, (first, last), whole)


def _span(found: Survey, *, common: bool) -> tuple[int, int]:
    firsts = [int(s.stamps.stamps[0]) for s in found.streams.values()]
    lasts = [int(s.stamps.stamps[-1]) for s in found.streams.values()]
    return (max(firsts), min(lasts)) if common else (min(firsts), max(lasts))


def _trimmed(found: Survey, used: tuple[int, int], whole: tuple[int, int]) -> list[str]:
    texts = []
    late, early = (used[0] - whole[0]) / 1e9, (whole[1] - used[1]) / 1e9
    if late > 1:
        name = max(found.streams.values(), key=lambda s: int(s.stamps.stamps[0])).name
        texts.append(f'{name} begins {late:.1f} s late: what the others hold before is left out')
    if early > 1:
        name = min(found.streams.values(), key=lambda s: int(s.stamps.stamps[-1])).name
        texts.append(f'{name} ends {early:.1f} s early: what the others hold after is left out')
    return texts


def _span_text(stream: SurveyedStream) -> str:
    stamps = stream.stamps.stamps
    return f'{stamps[0] / 1e9:.3f} to {stamps[-1] / 1e9:.3f} s'


def _plan_images(stream: SurveyedStream, ticks: Stamps) -> PlannedImages:
    stamps, order = stream.stamps.stamps, stream.stamps.order
    if stream.settings.missing == 'drop' and stream.bad:
        good = ~np.isin(order, np.fromiter(stream.bad, dtype=np.int64))
        stamps, order = stamps[good], order[good]
    tolerance = round(stream.settings.tolerance_s * 1e9)
    found: Match = match(stream.settings.chosen_policy, stamps, ticks, tolerance)
    ordinal = np.full(len(ticks), -1, dtype=np.int64)
    known = found.index >= 0
    ordinal[known] = order[found.index[known]]
    return PlannedImages(ordinal, found.valid, found.error_ns)


def _columns(stream: SurveyedStream, where: str) -> tuple[str, ...]:
    assert stream.series is not None
    names, wanted = stream.series.names, stream.settings.joints
    if not wanted:
        return names
    suffixes = ['' if value == 'position' else f'/{value}' for value in stream.settings.values]
    columns = tuple(joint + suffix for suffix in suffixes for joint in wanted)
    if missing := [name for name in columns if name not in names]:
        raise BagError(
            f'{where}: {stream.topic.name} never names {", ".join(missing)}; '
            f'it names {", ".join(names)}'
        )
    return columns


def _plan_numbers(stream: SurveyedStream, names: tuple[str, ...], ticks: Stamps) -> Sampled:
    assert stream.series is not None
    tolerance = round(stream.settings.tolerance_s * 1e9)
    return stream.series.sample(
        names, stream.stamp_of(), ticks, stream.settings.chosen_policy, tolerance
    )


def _drop(plan: Plan, found: Survey, where: str) -> Plan:
    """The plan without the ticks that a stream wants dropped."""
    keep = np.ones(len(plan.ticks), dtype=np.bool_)
    dropped: dict[str, int] = {}
    for name, valid in valid_masks(plan).items():
        missing = found.streams[name].settings.missing
        count = int((~valid).sum())
        if missing == 'refuse' and count:
            refuse_missing(found.streams[name], plan.ticks, valid, where)
        if missing == 'drop':
            keep &= valid
            dropped[name] = count
    if not keep.any():
        raise BagError(f'{where}: no tick is left, each lacks one of {", ".join(dropped)}')
    return replace(
        plan,
        ticks=plan.ticks[keep],
        images={name: _rows(images, keep) for name, images in plan.images.items()},
        numbers={name: _rows(numbers, keep) for name, numbers in plan.numbers.items()},
        dropped=dropped,
    )


def refuse_missing(
    stream: SurveyedStream, ticks: Stamps, valid: NDArray[np.bool_], where: str
) -> None:
    """Refuse a bag whose stream may miss no tick.

    Raises:
        BagError: Always.
    """
    at = float(ticks[~valid][0] - ticks[0]) / 1e9
    raise BagError(
        f'{where}: {stream.name} ({stream.topic.name}) has no good sample within '
        f'{stream.settings.tolerance_s} s of {int((~valid).sum())} of {len(valid)} ticks, the '
        f'first {at:.3f} s in, and its missing is refuse'
    )


def valid_masks(plan: Plan) -> dict[str, NDArray[np.bool_]]:
    """(T,) bool by stream."""
    streams: dict[str, Any] = {**plan.images, **plan.numbers}
    return {name: stream.valid for name, stream in streams.items()}


def _rows(item: Any, keep: NDArray[np.bool_]) -> Any:
    return replace(item, **{name: array[keep] for name, array in vars(item).items()})


def _with_actions(plan: Plan, settings: Settings) -> Plan:
    source, command = settings.action_source, settings.actions.command
    if command is not None:
        if command not in plan.numbers:
            raise BagError(f'the bag has no {command}, which actions.command names')
        taken = plan.numbers[command]
        return replace(plan, actions=taken.values, actions_valid=taken.valid)
    if source is None or source not in plan.numbers:
        return plan
    taken = plan.numbers[source]
    values = np.concatenate((taken.values[1:], taken.values[-1:]))
    # After the last tick nothing is recorded: its action repeats the last state, and is held.
    valid = np.append(taken.valid[1:], False)
    return replace(plan, actions=values, actions_valid=valid)


def array_bytes(plan: Plan, found: Survey) -> int:
    """Bytes of the arrays that the plan makes."""
    count, total = len(plan.ticks), 8 * len(plan.ticks)
    for name in plan.images:
        maker = found.streams[name].maker
        assert maker is not None
        assert maker.shape is not None
        total += count * (math.prod(maker.shape) * np.dtype(maker.dtype).itemsize + 1)
    total += sum(s.values.nbytes + count for s in plan.numbers.values())
    return total + (plan.actions.nbytes + count if plan.actions is not None else 0)
