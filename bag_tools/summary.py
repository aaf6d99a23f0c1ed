"""What a conversion did, as plain data for the report, the terminal and JSON."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bag_tools.plan import Plan
from bag_tools.survey import Survey, SurveyedStream

HISTOGRAM_BINS = 24
CURVE_POINTS = 400


def summarize(
    *,
    bag: str,
    name: str,
    outputs: list[str],
    found: Survey,
    plan: Plan,
    output_bytes: int,
    seconds: float,
    metadata: dict[str, Any],
    pictures: dict[str, dict[int, str]],
) -> dict[str, Any]:
    """A conversion's summary.

    Returns:
        `bag`, `name`, `outputs`, `status` ('converted', 'salvaged' or 'planned'), `ticks`,
        `duration_s` of the ticks, `bytes`, `seconds`, `streams` (by name: topic, counts, stamps,
        sync errors), `absent`, `problems`, `recovery`, `topics` (claimed counts), `curves` of the
        numbers and `pictures` of the images.
    """
    salvaged = bool(found.recovery)
    planned = 'converted' if outputs else 'planned'
    span = float(plan.ticks[-1] - plan.ticks[0]) / 1e9
    return {
        'bag': bag,
        'name': name,
        'outputs': outputs,
        'status': 'salvaged' if salvaged and outputs else planned,
        'ticks': len(plan.ticks),
        'rate_hz': (len(plan.ticks) - 1) / span if span else 0.0,
        'duration_s': span,
        'bag_duration_s': found.duration_s,
        'bytes': output_bytes,
        'seconds': seconds,
        'streams': {s.name: _stream(s, plan) for s in found.streams.values()},
        'absent': found.absent,
        'problems': [*found.problems, *plan.trimmed, *_losses(found, plan)],
        'recovery': list(found.recovery),
        'topics': {t.name: [t.msgtype, t.claimed] for t in found.topics.values()},
        'sha256': metadata.get('sha256'),
        'joint_names': metadata.get('joint_names'),
        'curves': {name: _curves(plan, name) for name in plan.numbers},
        'pictures': pictures,
    }


def _stream(stream: SurveyedStream, plan: Plan) -> dict[str, Any]:
    planned: Any = plan.images.get(stream.name) or plan.numbers[stream.name]
    report = stream.stamps.report
    shape = stream.maker.shape if stream.maker else (len(plan.names[stream.name]),)
    return {
        'topic': stream.topic.name,
        'type': stream.topic.msgtype,
        'kind': stream.settings.kind,
        'policy': stream.settings.chosen_policy,
        'shape': list(shape or ()),
        'claimed': stream.topic.claimed,
        'read': len(stream.header_ns),
        'bad': len(stream.bad),
        'first_bad': next(iter(stream.bad.values()), None),
        'rate_hz': report.rate_hz,
        'gaps': report.gaps,
        'longest_gap_s': report.longest_gap_s,
        'out_of_order': report.out_of_order,
        'jumps': report.jumps,
        'left_out': report.samples - report.used,
        'skew_s': report.skew_median_s,
        'skew_spread_s': report.skew_spread_s,
        'valid_ticks': int(planned.valid.sum()),
        'dropped_ticks': plan.dropped.get(stream.name, 0),
        'histogram': histogram(planned.error_ns[planned.valid]),
    }


def histogram(error_ns: NDArray[np.int64]) -> dict[str, Any]:
    """Counts of sync errors (sample less tick) in milliseconds, and where the bins lie."""
    errors = error_ns / 1e6
    if not len(errors):
        return {'counts': [], 'low_ms': 0.0, 'high_ms': 0.0}
    limit = max(float(np.abs(errors).max()), 1e-3)
    counts, edges = np.histogram(errors, bins=HISTOGRAM_BINS, range=(-limit, limit))
    return {'counts': counts.tolist(), 'low_ms': float(edges[0]), 'high_ms': float(edges[-1])}


def _losses(found: Survey, plan: Plan) -> list[str]:
    texts = []
    for stream in found.streams.values():
        where = f'{stream.name} ({stream.topic.name})'
        planned: Any = plan.images.get(stream.name) or plan.numbers[stream.name]
        lost = int((~planned.valid).sum())
        if stream.bad:
            first = next(iter(stream.bad.values()))
            texts.append(f'{where}: {len(stream.bad)} messages cannot be decoded, as: {first}')
        if lost:
            texts.append(
                f'{where}: {lost} of {len(plan.ticks)} ticks have no good sample within '
                f'{stream.settings.tolerance_s} s; they are held and marked in valid_{stream.name}'
            )
        if plan.dropped.get(stream.name):
            texts.append(f'{where}: {plan.dropped[stream.name]} ticks without it are dropped')
        if stream.series is not None and stream.series.not_finite:
            texts.append(f'{where}: {stream.series.not_finite} numbers are not finite')
    return texts


def _curves(plan: Plan, name: str) -> dict[str, Any]:
    values = plan.numbers[name].values
    step = max(1, -(-len(values) // CURVE_POINTS))
    return {
        'names': list(plan.names[name]),
        'seconds': ((plan.ticks[::step] - plan.ticks[0]) / 1e9).round(4).tolist(),
        'values': values[::step].T.round(5).tolist(),
    }
