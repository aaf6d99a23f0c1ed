"""Pictures of maps from above and of depth held against depth. All are (H, W, 3) uint8 RGB.

From above, +x points right and +y up, as on a map whose north is up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bag_tools.whole_file import write_whole

Image = NDArray[np.uint8]
Color = tuple[int, int, int]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PAPER: Color = (24, 24, 28)
_INK: Color = (240, 240, 240)
_MARGIN_PX = 16
_BAR_HEIGHT_PX = 44
# Colours told apart by most people, also colour-blind ones (after Okabe and Ito).
MARK_COLORS: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (120, 140, 255),
    (255, 255, 255),
)


class Match(Protocol):
    """What a match in a map has to say to be marked: centre and size in metres."""

    @property
    def label(self) -> str:
        """What was asked for."""
        ...

    @property
    def score(self) -> float:
        """How well it fits, 0 to 1."""
        ...

    @property
    def centroid(self) -> ArrayLike:
        """(3,) metres."""
        ...

    @property
    def size(self) -> ArrayLike:
        """(3,) metres along the axes."""
        ...


@dataclass(frozen=True)
class TopDownView:
    """Where a patch of floor lies in a picture.

    Attributes:
        x_min: Left edge in metres.
        y_max: Top edge in metres.
        columns: Cells from left to right.
        rows: Cells from top to bottom.
        cell_m: Edge of a cell in metres.
        cell_px: Edge of a cell in pixels.
    """

    x_min: float
    y_max: float
    columns: int
    rows: int
    cell_m: float
    cell_px: int

    @classmethod
    def around(cls, points: ArrayLike, cell_m: float, picture_px: int = 900) -> TopDownView:
        """A view of all points, whose longer side takes about `picture_px` pixels.

        Args:
            points: (N, 3) metres; no points give a view of one square metre.
            cell_m: Edge of a cell in metres: the map's voxel size.
            picture_px: Length aimed at in pixels.

        Raises:
            ValueError: The cell's edge is not positive.
        """
        if not cell_m > 0:
            raise ValueError(f'cell_m = {cell_m} must be positive')
        xy = np.asarray(points, dtype=np.float64).reshape(-1, 3)[:, :2]
        if not len(xy):
            xy = np.array([[-0.5, -0.5], [0.5, 0.5]])
        low = np.floor(xy.min(axis=0) / cell_m)
        high = np.floor(xy.max(axis=0) / cell_m) + 1
        columns, rows = (int(n) for n in high - low)
        cell_px = max(1, round(picture_px / max(columns, rows)))
        return cls(low[0] * cell_m, high[1] * cell_m, columns, rows, cell_m, cell_px)

    @property
    def width_px(self) -> int:
        """Width in pixels."""
        return self.columns * self.cell_px

    @property
    def height_px(self) -> int:
        """Height in pixels."""
        return self.rows * self.cell_px

    def pixel(self, x: float, y: float) -> tuple[int, int]:
        """Pixel (u, v) of a place on the floor in metres."""
        scale = self.cell_px / self.cell_m
        return round((x - self.x_min) * scale), round((self.y_max - y) * scale)

    def cells(self, points: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Rows and columns of the cells of (N, 3) points, clipped to the view."""
        xyz = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        columns = np.floor((xyz[:, 0] - self.x_min) / self.cell_m).astype(np.intp)
        rows = np.floor((self.y_max - xyz[:, 1]) / self.cell_m).astype(np.intp)
        return np.clip(rows, 0, self.rows - 1), np.clip(columns, 0, self.columns - 1)

    def enlarged(self, cells: Image) -> Image:
        """Cells, (rows, columns, 3), as a picture of this view's size."""
        size = (self.width_px, self.height_px)
        return np.asarray(cv2.resize(cells, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def top_down_color(points: ArrayLike, colors: ArrayLike, view: TopDownView) -> Image:
    """The map from above: of each column the colour of its highest voxel.

    Args:
        points: (N, 3) metres.
        colors: (N, 3) uint8 RGB.
        view: What to show.
    """
    xyz = np.asarray(points, dtype=np.float64).reshape(-1, 3)
    cells = np.full((view.rows, view.columns, 3), _PAPER, dtype=np.uint8)
    order = np.argsort(xyz[:, 2], kind='stable')  # the highest is written last and stays
    rows, columns = view.cells(xyz[order])
    cells[rows, columns] = np.asarray(colors, dtype=np.uint8).reshape(-1, 3)[order]
    return view.enlarged(cells)


def heat_map(
    points: ArrayLike,
    scores: ArrayLike,
    view: TopDownView,
    background: Image,
    matches: Sequence[Match] = (),
) -> Image:
    """Scores from above: of each column the highest, over a grey picture, with its colour bar.

    Args:
        points: (N, 3) metres.
        scores: (N,) 0 to 1.
        view: What to show.
        background: The same view in colour.
        matches: Boxes to draw in.
    """
    values = np.asarray(scores, dtype=np.float64).ravel()
    grid = np.zeros((view.rows, view.columns))
    rows, columns = view.cells(points)
    np.maximum.at(grid, (rows, columns), values)
    top = max(float(values.max(initial=0.0)), 1e-6)
    tint = view.enlarged(_tinted(grid / top))
    share = view.enlarged(np.repeat((255 * grid / top)[..., None], 3, axis=2).astype(np.uint8))
    weight = 0.15 + 0.8 * share.astype(np.float64) / 255
    gray = cv2.cvtColor(cv2.cvtColor(background, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    mixed = (gray * 0.7 * (1 - weight) + tint * weight).astype(np.uint8)
    mixed = mark_matches(mixed, view, matches)
    return _stacked([mixed, _color_bar(view.width_px, 'score 0', f'{top:.2f}')])


def mark_matches(picture: Image, view: TopDownView, matches: Sequence[Match]) -> Image:
    """A picture from above with each match's box, number and label drawn in.

    Matches of one label share a colour. Labels keep clear of each other where there is room.
    """
    marked = picture.copy()
    labels = list(dict.fromkeys(match.label for match in matches))
    taken: list[tuple[int, int, int, int]] = []
    for match in matches:
        color = MARK_COLORS[labels.index(match.label) % len(MARK_COLORS)]
        box = _match_box(match, view)
        cv2.rectangle(marked, box[:2], box[2:], (0, 0, 0), 4)
        cv2.rectangle(marked, box[:2], box[2:], color, 2)
        center = np.asarray(match.centroid, dtype=np.float64)
        cv2.drawMarker(marked, view.pixel(center[0], center[1]), color, cv2.MARKER_CROSS, 12, 2)
    for match in matches:
        color = MARK_COLORS[labels.index(match.label) % len(MARK_COLORS)]
        text = f'{match.label} {match.score:.2f}'
        taken.append(_tag(marked, text, _match_box(match, view), color, taken))
    return marked


def framed(picture: Image, view: TopDownView, title: str) -> Image:
    """A picture from above with its title, a scale bar in metres and the axes."""
    body = cv2.copyMakeBorder(
        picture, 0, 0, _MARGIN_PX, _MARGIN_PX, cv2.BORDER_CONSTANT, value=_PAPER
    )
    width = max(body.shape[1], 360)
    return _stacked([_title_bar(title, width), np.asarray(body), _legend(view, width)])


def depth_picture(depth_m: NDArray[np.floating], near_m: float, far_m: float) -> Image:
    """Depth in colours from near to far; black where there is no reading."""
    known = np.isfinite(depth_m)
    share = (np.where(known, depth_m, near_m) - near_m) / max(far_m - near_m, 1e-9)
    return _masked(_tinted(1 - np.clip(share, 0, 1), cv2.COLORMAP_VIRIDIS), known)


def error_picture(error_m: NDArray[np.floating], top_m: float) -> Image:
    """Differences of depth in colours: none is dark, `top_m` and more bright; black is unknown."""
    known = np.isfinite(error_m)
    share = np.clip(np.abs(np.where(known, error_m, 0.0)) / top_m, 0, 1)
    return _masked(_tinted(share), known)


def panels(pictures: Sequence[tuple[str, Image]], columns: int, height_px: int = 300) -> Image:
    """Titled pictures in rows of equal height, from left to right."""
    titled = [
        _stacked([_title_bar(title, picture.shape[1]), picture])
        for title, picture in ((t, _of_height(p, height_px)) for t, p in pictures)
    ]
    rows = [titled[i : i + columns] for i in range(0, len(titled), columns)]
    return _stacked([np.hstack([_padded(p, row) for p in row]) for row in rows])


def write_picture(path: Path, picture: Image) -> None:
    """Write a picture; the file appears whole or not at all.

    Raises:
        OSError: It cannot be written.
        ValueError: The name ends in no image format that is known.
    """
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    try:
        ok, data = cv2.imencode(path.suffix, bgr)
    except cv2.error as error:
        raise ValueError(f'{path}: {path.suffix!r} is no image format that is known') from error
    if not ok:
        raise ValueError(f'{path}: the picture could not be encoded as {path.suffix}')
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data.tobytes())


def _tinted(share: NDArray[np.floating], colormap: int = cv2.COLORMAP_INFERNO) -> Image:
    gray = np.clip(255 * np.asarray(share), 0, 255).astype(np.uint8)
    return np.asarray(
        cv2.cvtColor(cv2.applyColorMap(gray, colormap), cv2.COLOR_BGR2RGB), dtype=np.uint8
    )


def _masked(picture: Image, known: NDArray[np.bool_]) -> Image:
    return np.where(known[..., None], picture, np.uint8(0)).astype(np.uint8)


def _text_size(text: str, scale: float) -> tuple[int, int]:
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    return width, height + baseline


def _put(picture: Image, text: str, left: int, baseline: int, color: Color, scale: float) -> None:
    cv2.putText(picture, _ascii(text), (left, baseline), _FONT, scale, color, 1, cv2.LINE_AA)


def _ascii(text: str) -> str:
    # OpenCV's fonts hold ASCII only and print '?' for the rest.
    return text.encode('ascii', 'replace').decode()


def _title_bar(title: str, width: int) -> Image:
    scale = 0.6
    while _text_size(title, scale)[0] > width - 2 * _MARGIN_PX and scale > 0.35:
        scale -= 0.05
    lines = _wrapped(title, width - 2 * _MARGIN_PX, scale)
    bar = np.full((14 + 22 * len(lines), width, 3), _PAPER, dtype=np.uint8)
    for index, line in enumerate(lines):
        _put(bar, line, _MARGIN_PX, 24 + 22 * index, _INK, scale)
    return bar


def _wrapped(text: str, width: int, scale: float) -> list[str]:
    lines = ['']
    for word in text.split():
        longer = f'{lines[-1]} {word}'.strip()
        if lines[-1] and _text_size(longer, scale)[0] > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _legend(view: TopDownView, width: int) -> Image:
    """Scale bar, and which way x and y point."""
    bar = np.full((_BAR_HEIGHT_PX, width, 3), _PAPER, dtype=np.uint8)
    length_m = _round_length(0.3 * view.width_px * view.cell_m / view.cell_px)
    length_px = round(length_m * view.cell_px / view.cell_m)
    left, middle = _MARGIN_PX, _BAR_HEIGHT_PX // 2
    cv2.line(bar, (left, middle), (left + length_px, middle), _INK, 2)
    for end in (left, left + length_px):
        cv2.line(bar, (end, middle - 5), (end, middle + 5), _INK, 2)
    _put(bar, f'{length_m:g} m', left + length_px + 10, middle + 5, _INK, 0.5)
    x, y = width - 70, _BAR_HEIGHT_PX - 10
    cv2.arrowedLine(bar, (x, y), (x + 28, y), _INK, 1, cv2.LINE_AA, tipLength=0.3)
    cv2.arrowedLine(bar, (x, y), (x, y - 28), _INK, 1, cv2.LINE_AA, tipLength=0.3)
    _put(bar, 'x', x + 34, y + 4, _INK, 0.45)
    _put(bar, 'y', x - 14, y - 20, _INK, 0.45)
    return bar


def _round_length(length_m: float) -> float:
    """The longest of 1, 2 and 5 times a power of ten that is not longer than this."""
    power = 10.0 ** np.floor(np.log10(max(length_m, 1e-3)))
    return float(power * max(n for n in (1, 2, 5) if n * power <= max(length_m, 1e-3) * (1 + 1e-9)))


def _color_bar(width: int, low: str, high: str) -> Image:
    bar = np.full((30, width, 3), _PAPER, dtype=np.uint8)
    left, right = 80, max(90, width - 70)
    ramp = np.linspace(0, 1, right - left)[None].repeat(12, axis=0)
    bar[9:21, left:right] = _tinted(ramp)[:, : width - left]
    _put(bar, low, 4, 20, _INK, 0.45)
    _put(bar, high, right + 8, 20, _INK, 0.45)
    return bar


def _match_box(match: Match, view: TopDownView) -> tuple[int, int, int, int]:
    """Pixels (left, top, right, bottom) of a match's box, at least a few pixels wide."""
    center = np.asarray(match.centroid, dtype=np.float64)
    half = np.maximum(np.asarray(match.size, dtype=np.float64) / 2, view.cell_m)
    left, top = view.pixel(center[0] - half[0], center[1] + half[1])
    right, bottom = view.pixel(center[0] + half[0], center[1] - half[1])
    return left, top, right, bottom


def _tag(
    picture: Image,
    text: str,
    box: tuple[int, int, int, int],
    color: Color,
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int, int, int]:
    """Write a label at a box, where no other label is, and return the place it takes."""
    scale = 0.5
    width, height = _text_size(_ascii(text), scale)
    width, height = width + 8, height + 6
    place = _free_place(picture, (width, height), box, taken)
    left, top, right, bottom = place
    cv2.rectangle(picture, (left, top), (right, bottom), (0, 0, 0), -1)
    cv2.rectangle(picture, (left, top), (right, bottom), color, 1)
    _put(picture, text, left + 4, bottom - 7, color, scale)
    return place


def _free_place(
    picture: Image,
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int, int, int]:
    width, height = size
    left, top, right, bottom = box
    tries = [
        (left, top - height - 2),
        (left, bottom + 3),
        (right + 3, top),
        (left - width - 3, top),
    ]
    tries += [(left, bottom + 3 + step * (height + 2)) for step in range(1, 8)]
    places = [_inside(picture, x, y, width, height) for x, y in tries]
    return next((p for p in places if not any(_overlap(p, q) for q in taken)), places[0])


def _inside(
    picture: Image, left: int, top: int, width: int, height: int
) -> tuple[int, int, int, int]:
    left = int(np.clip(left, 0, max(0, picture.shape[1] - width - 1)))
    top = int(np.clip(top, 0, max(0, picture.shape[0] - height - 1)))
    return left, top, left + width, top + height


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _of_height(picture: Image, height: int) -> Image:
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    return np.asarray(
        cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8
    )


def _padded(picture: Image, row: Sequence[Image]) -> Image:
    height = max(other.shape[0] for other in row)
    below = height - picture.shape[0]
    return np.asarray(
        cv2.copyMakeBorder(picture, below, 0, 0, 6, cv2.BORDER_CONSTANT, value=_PAPER),
        dtype=np.uint8,
    )


def _stacked(pictures: Sequence[Image]) -> Image:
    """Pictures below each other, narrower ones filled up on the right."""
    width = max(picture.shape[1] for picture in pictures)
    return np.vstack(
        [
            cv2.copyMakeBorder(
                picture, 0, 0, 0, width - picture.shape[1], cv2.BORDER_CONSTANT, value=_PAPER
            )
            for picture in pictures
        ]
    ).astype(np.uint8)
