"""Curves as pictures, drawn with OpenCV: axes, ticks, a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Color = tuple[int, int, int]

# Colours told apart by most people, also colour-blind ones (after Okabe and Ito).
CURVE_COLORS: tuple[Color, ...] = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (90, 90, 90),
    (148, 103, 189),
)
PAPER: Color = (255, 255, 255)
INK: Color = (40, 40, 40)
_GRID: Color = (225, 225, 225)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 30, 28


@dataclass(frozen=True)
class Curve:
    """Points of a curve.

    Attributes:
        label: In the legend; empty for none.
        x: (n,) places along the horizontal axis.
        y: (n,) values; what is not finite is left out.
        color: RGB.
        dashed: Draw every second piece.
    """

    label: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    color: Color
    dashed: bool = False


def plot(
    curves: Sequence[Curve],
    *,
    title: str,
    size: tuple[int, int] = (300, 480),
    log: bool = False,
) -> Image:
    """Curves in one picture.

    Args:
        curves: At least one; drawn in order.
        title: Above them.
        size: (H, W) in pixels.
        log: A logarithmic vertical axis; values of 0 and less are left out.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = size
    picture: Image = np.full((height, width, 3), PAPER, dtype=np.uint8)
    shown = [_shown(curve, log) for curve in curves]
    low, high = _range(np.concatenate([y for _, y in shown]), log)
    first, last = _range(np.concatenate([x for x, _ in shown]), log=False, margin=0.0)
    inner = (_TOP, height - _BOTTOM, _LEFT, width - _RIGHT)

    def place(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        across = inner[2] + (x - first) / (last - first) * (inner[3] - inner[2])
        down = inner[1] - (y - low) / (high - low) * (inner[1] - inner[0])
        return np.stack([across, down], axis=-1)

    _axes(picture, inner, (first, last), (low, high), log)
    for curve, (x, y) in zip(curves, shown, strict=True):
        _draw(picture, place(x, y), curve)
    _legend(picture, curves, title)
    return picture


def _shown(curve: Curve, log: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What of a curve is drawn, with logarithms where the axis is of those."""
    x, y = np.asarray(curve.x, dtype=np.float64), np.asarray(curve.y, dtype=np.float64)
    good = np.isfinite(y) & ((y > 0) | (not log))
    return x[good], np.log10(y[good]) if log else y[good]


def _range(values: NDArray[np.float64], log: bool, margin: float = 0.05) -> tuple[float, float]:
    if len(values) == 0:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    span = high - low
    if span < 1e-12 * max(1.0, abs(low)):
        return low - 0.5, high + 0.5
    if log:
        margin = max(margin, 0.05)
    return low - margin * span, high + margin * span


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers between two others, about `count` of them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((m * power for m in (1, 2, 5) if m * power >= raw), 10 * power)
    begin = math.ceil(low / step)
    return [n * step for n in range(begin, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, and between them 2 and 5 where there are few."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    steps = (1, 2, 5) if high - low < 2.5 else (1,)
    ticks = [power + math.log10(step) for power in powers for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def _axes(
    picture: Image,
    inner: tuple[int, int, int, int],
    across: tuple[float, float],
    up: tuple[float, float],
    log: bool,
) -> None:
    top, bottom, left, right = inner
    for tick in _log_ticks(*up) if log else _ticks(*up, 5):
        y = round(bottom - (tick - up[0]) / (up[1] - up[0]) * (bottom - top))
        cv2.line(picture, (left, y), (right, y), _GRID, 1)
        text = f'{10**tick:.0e}' if log else f'{tick:.4g}'
        _write(picture, text, (4, y + 4), INK, 0.36)
    for tick in _ticks(*across, 6):
        x = round(left + (tick - across[0]) / (across[1] - across[0]) * (right - left))
        cv2.line(picture, (x, top), (x, bottom), _GRID, 1)
        _write(picture, f'{tick:g}', (x - 6, bottom + 16), INK, 0.36)
    cv2.rectangle(picture, (left, top), (right, bottom), INK, 1)


def _draw(picture: Image, points: NDArray[np.float64], curve: Curve) -> None:
    # A sixteenth of a pixel: OpenCV takes whole numbers with a shift.
    fixed = np.round(points * 16).astype(np.int32)
    if len(fixed) == 1:
        cv2.circle(picture, tuple(int(v) for v in fixed[0]), 40, curve.color, -1, cv2.LINE_AA, 4)
        return
    pieces = list(pairwise(fixed))
    for begin, end in pieces[:: 2 if curve.dashed else 1]:
        ends = (tuple(int(v) for v in begin), tuple(int(v) for v in end))
        cv2.line(picture, *ends, curve.color, 1, cv2.LINE_AA, 4)


def _legend(picture: Image, curves: Sequence[Curve], title: str) -> None:
    """The title, and beside it the curves' names; where there is no room, the title is cut."""
    x = picture.shape[1] - _RIGHT
    for curve in reversed([curve for curve in curves if curve.label]):
        x -= _width(curve.label)
        _write(picture, curve.label, (x, 18), curve.color, 0.4)
        x -= 10
    while title and _width(title) > x - _LEFT:
        title = title[:-1]
    _write(picture, title, (_LEFT, 18), INK, 0.4)


def _width(text: str) -> int:
    (width, _), _ = cv2.getTextSize(text, _FONT, 0.4, 1)
    return int(width)


def _write(picture: Image, text: str, at: tuple[int, int], color: Color, scale: float) -> None:
    cv2.putText(picture, text, at, _FONT, scale, color, 1, cv2.LINE_AA)
