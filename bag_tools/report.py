"""The report of a run: one HTML file that needs nothing else, and the same as JSON."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from bag_tools.whole_file import write_whole

Result = dict[str, Any]
_HEAVY = ('pictures', 'curves')
_COLORS = ('#2563eb', '#dc2626', '#059669', '#d97706', '#7c3aed', '#0891b2', '#db2777', '#65a30d')
_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:76em;padding:0 1em;color:#1f2937}
h1{font-size:1.5em}h2{font-size:1.2em;margin-top:2em;border-top:1px solid #e5e7eb;padding-top:1em}
table{border-collapse:collapse;margin:.6em 0}
th,td{padding:.2em .7em;text-align:right;border-bottom:1px solid #e5e7eb;white-space:nowrap}
th:first-child,td:first-child,th.l,td.l{text-align:left}
.bad{color:#b91c1c}.warn{color:#b45309}.good{color:#047857}
.sheet{display:grid;grid-template-columns:8em repeat(8,120px);gap:4px;align-items:center;
overflow-x:auto}
.sheet img{display:block;width:120px}.note{color:#6b7280}ul{margin:.3em 0;padding-left:1.2em}
svg{background:#f9fafb;border:1px solid #e5e7eb}
"""


def write_reports(out: Path, run: Result, results: list[Result]) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` into a folder, each whole.

    Args:
        out: The folder.
        run: What was asked: `command`, `version`, `started`.
        results: The bags' results in order.

    Returns:
        The two files.
    """
    out.mkdir(parents=True, exist_ok=True)
    page, data = out / 'report.html', out / 'report.json'
    write_whole(page, report_html(run, results).encode())
    write_whole(data, (json.dumps(report_data(run, results), indent=1) + '\n').encode())
    return page, data


def report_data(run: Result, results: list[Result]) -> Result:
    """The run as JSON holds it: everything but pictures and curves."""
    light = [{k: v for k, v in result.items() if k not in _HEAVY} for result in results]
    return {**run, 'bags': light}


def report_html(run: Result, results: list[Result]) -> str:
    """The run as a page."""
    rows = ''.join(_overview(i, result) for i, result in enumerate(results))
    parts = ''.join(_bag(i, result) for i, result in enumerate(results))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>rosbag2npz</title>'
        f'<style>{_STYLE}</style></head><body><h1>rosbag2npz</h1>'
        f'<p class="note">{_text(run.get("started", ""))} &middot; '
        f'<code>{_text(run.get("command", ""))}</code></p>'
        '<table><tr><th>bag</th><th class="l">outcome</th><th>ticks</th><th>Hz</th><th>s</th>'
        f'<th>MB</th><th>problems</th></tr>{rows}</table>{parts}</body></html>\n'
    )


def _overview(number: int, result: Result) -> str:
    kind = {'failed': 'bad', 'salvaged': 'warn'}.get(result['status'], 'good')
    link = f'<a href="#bag{number}">{_text(result["name"])}</a>'
    outcome = f'<td class="l {kind}">{_text(result["status"])}</td>'
    if 'ticks' not in result:
        return f'<tr><td>{link}</td>{outcome}<td colspan="5"></td></tr>'
    count = len(result['problems']) + len(result['recovery'])
    return (
        f'<tr><td>{link}</td>{outcome}<td>{result["ticks"]}</td><td>{result["rate_hz"]:.2f}</td>'
        f'<td>{result["duration_s"]:.2f}</td><td>{result["bytes"] / 1e6:.1f}</td>'
        f'<td>{count or ""}</td></tr>'
    )


def _bag(number: int, result: Result) -> str:
    head = f'<h2 id="bag{number}">{_text(result["name"])}</h2>'
    if 'ticks' not in result:
        return f'{head}<p class="bad">{_text(result.get("error", result["status"]))}</p>'
    return (
        f'{head}<p class="note">{_text(result["bag"])}</p>'
        + _list('Salvaged', 'bad', result['recovery'])
        + _list('Problems', 'warn', result['problems'])
        + _list('Not in the bag', 'note', [f'{k}: {v}' for k, v in result['absent'].items()])
        + _sheet(result)
        + _streams(result)
        + ''.join(_curves(name, curves) for name, curves in result.get('curves', {}).items())
    )


def _list(title: str, kind: str, items: list[str]) -> str:
    if not items:
        return ''
    inside = ''.join(f'<li>{_text(item)}</li>' for item in items)
    return f'<p class="{kind}">{title}</p><ul class="{kind}">{inside}</ul>'


def _sheet(result: Result) -> str:
    """The contact sheet: a row a stream, a column a tick."""
    pictures: dict[str, dict[int, str]] = result.get('pictures', {})
    columns = sorted({int(row) for rows in pictures.values() for row in rows})
    cells = ''
    for name in [n for n in result['streams'] if n in pictures]:
        rows = pictures[name]
        by_row = {int(row): png for row, png in rows.items()}
        cells += f'<div>{_text(name)}</div>'
        for column in columns:
            png = by_row.get(column)
            title = f'{name}, tick {column}'
            cells += (
                f'<img alt="{_text(title)}" title="{_text(title)}" '
                f'src="data:image/png;base64,{png}">'
                if png
                else '<div class="bad">none</div>'
            )
        cells += '<div></div>' * (8 - len(columns))
    return f'<div class="sheet">{cells}</div>' if cells else ''


def _streams(result: Result) -> str:
    head = (
        '<tr><th>stream</th><th class="l">topic</th><th>read</th><th>claimed</th><th>bad</th>'
        '<th>Hz</th><th>gaps</th><th>longest</th><th>skew</th><th>valid ticks</th>'
        '<th class="l">sample less tick, ms</th></tr>'
    )
    rows = ''.join(
        f'<tr><td>{_text(name)}</td><td class="l">{_text(s["topic"])}</td><td>{s["read"]}</td>'
        f'<td>{s["claimed"]}</td><td>{s["bad"] or ""}</td><td>{s["rate_hz"]:.2f}</td>'
        f'<td>{s["gaps"] or ""}</td><td>{s["longest_gap_s"]:.3f} s</td>'
        f'<td>{s["skew_s"] * 1e3:.1f} ms</td><td>{s["valid_ticks"]} of {result["ticks"]}</td>'
        f'<td class="l">{_bars(s["histogram"])}</td></tr>'
        for name, s in result['streams'].items()
    )
    return f'<table>{head}{rows}</table>'


def _bars(histogram: Result) -> str:
    counts = histogram['counts']
    if not counts:
        return ''
    width, height, tallest = 168, 32, max(counts)
    step = width / len(counts)
    bars = ''.join(
        f'<rect x="{i * step:.1f}" y="{height - height * n / tallest:.1f}" '
        f'width="{step - 1:.1f}" height="{height * n / tallest:.1f}" fill="#2563eb"/>'
        for i, n in enumerate(counts)
        if n
    )
    low, high = histogram['low_ms'], histogram['high_ms']
    return f'{low:.2f} <svg width="{width}" height="{height}">{bars}</svg> {high:.2f}'


def _curves(name: str, curves: Result) -> str:
    seconds, values = curves['seconds'], curves['values']
    flat = [value for row in values for value in row]
    if len(seconds) < 2 or not flat:
        return ''
    width, height, pad = 900, 180, 6
    low, high = min(flat), max(flat)
    across = (width - 2 * pad) / (seconds[-1] - seconds[0])
    up = (height - 2 * pad) / ((high - low) or 1.0)
    lines, legend = '', ''
    for i, (label, row) in enumerate(zip(curves['names'], values, strict=True)):
        color = _COLORS[i % len(_COLORS)]
        points = ' '.join(
            f'{pad + (t - seconds[0]) * across:.1f},{height - pad - (v - low) * up:.1f}'
            for t, v in zip(seconds, row, strict=True)
        )
        lines += f'<polyline points="{points}" fill="none" stroke="{color}"/>'
        legend += f'<span style="color:{color}">{_text(label)}</span> '
    return (
        f'<p>{_text(name)}: {low:.3f} to {high:.3f} over {seconds[-1] - seconds[0]:.2f} s</p>'
        f'<svg width="{width}" height="{height}">{lines}</svg><p>{legend}</p>'
    )


def _text(value: object) -> str:
    return html.escape(str(value))
