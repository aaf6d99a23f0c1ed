"""What the demonstration shows of its answers: tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vlm_nodes.mapping.instances import MapMatch
from vlm_nodes.mapping.pictures import (
    Image,
    TopDownView,
    framed,
    heat_map,
    mark_matches,
    top_down_color,
    write_picture,
)

_TRUTH_COLOR = (255, 255, 255)
UNSEEN_MARK = '*'


@dataclass(frozen=True)
class Asked:
    """A query and what came of it.

    Attributes:
        text: What was asked for.
        matches: Best first.
        latency_ms: From the call to the answer.
        truth: (3,) metres, where it truly is; None where that is not known.
        unseen: Whether no training picture showed this pair of colour and kind.
    """

    text: str
    matches: list[MapMatch]
    latency_ms: float
    truth: NDArray[np.float64] | None = None
    unseen: bool = False

    @property
    def best(self) -> MapMatch | None:
        """The best match."""
        return self.matches[0] if self.matches else None

    @property
    def error_m(self) -> float | None:
        """How far the best match is from the truth; None where either is missing."""
        if self.best is None or self.truth is None:
            return None
        return float(np.linalg.norm(self.best.centroid - self.truth))


def table(asked: Sequence[Asked]) -> str:
    """The answers, one a line; with errors where truth is known."""
    with_truth = any(one.truth is not None for one in asked)
    width = max([14, *(len(one.text) + 2 for one in asked)])
    head = f'{"query":{width}} {"found (x, y, z) m":22}'
    head += f' {"truly at (x, y, z) m":22} {"error m":>8}' if with_truth else f' {"size m":18}'
    lines = [f'{head} {"score":>6} {"ms":>7}']
    lines += [_row(one, width, with_truth) for one in asked]
    if any(one.unseen for one in asked):
        lines.append(f'{UNSEEN_MARK} no training picture showed this kind of thing in this colour')
    return '\n'.join(lines)


def _row(one: Asked, width: int, with_truth: bool) -> str:
    name = f'{one.text} {UNSEEN_MARK}' if one.unseen else one.text
    best = one.best
    found = _position(best.centroid) if best else 'nothing'
    row = f'{name:{width}} {found:22}'
    if with_truth:
        error = f'{one.error_m:8.2f}' if one.error_m is not None else f'{"-":>8}'
        row += f' {_position(one.truth) if one.truth is not None else "-":22} {error}'
    else:
        row += f' {" x ".join(f"{side:.2f}" for side in best.size) if best else "-":18}'
    score = f'{best.score:6.2f}' if best else f'{"-":>6}'
    return f'{row} {score} {one.latency_ms:7.1f}'


def _position(xyz: NDArray[np.float64]) -> str:
    x, y, z = xyz
    return f'({x:5.2f}, {y:5.2f}, {z:5.2f})'


@dataclass(frozen=True)
class MapCloud:
    """A map as it was published.

    Attributes:
        points: (N, 3) metres.
        colors: (N, 3) uint8 RGB.
        voxel_size_m: Edge of a voxel.
    """

    points: NDArray[np.float32]
    colors: NDArray[np.uint8]
    voxel_size_m: float

    def view(self) -> TopDownView:
        """What a picture from above shows."""
        return TopDownView.around(self.points, self.voxel_size_m)

    def extent(self) -> str:
        """Its size in words."""
        low, high = self.points.min(axis=0), self.points.max(axis=0)
        return ' x '.join(f'{side:.1f}' for side in high - low) + ' m'


def write_map(path: Path, cloud: MapCloud, asked: Sequence[Asked], title: str) -> None:
    """Write the map from above, with best matches in boxes and true places as circles."""
    view = cloud.view()
    picture = top_down_color(cloud.points, cloud.colors, view)
    picture = mark_matches(picture, view, [one.best for one in asked if one.best])
    for one in asked:
        if one.truth is not None:
            picture = _with_truth(picture, view, one.truth)
    write_picture(path, framed(picture, view, title))


def write_heat(
    path: Path,
    cloud: MapCloud,
    scored: tuple[NDArray[np.float32], NDArray[np.float32]],
    one: Asked,
    title: str,
) -> None:
    """Write the scores of one query from above, (N, 3) points and (N,) scores, over the map."""
    view = cloud.view()
    background = top_down_color(cloud.points, cloud.colors, view)
    picture = heat_map(*scored, view, background, one.matches[:1])
    if one.truth is not None:
        picture = _with_truth(picture, view, one.truth)
    write_picture(path, framed(picture, view, title))


def _with_truth(picture: Image, view: TopDownView, truth: NDArray[np.float64]) -> Image:
    marked = picture.copy()
    center, radius = view.pixel(truth[0], truth[1]), max(6, view.cell_px)
    cv2.circle(marked, center, radius, (0, 0, 0), 4, cv2.LINE_AA)
    cv2.circle(marked, center, radius, _TRUTH_COLOR, 2, cv2.LINE_AA)
    return marked
