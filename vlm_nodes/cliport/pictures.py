"""Pictures of heightmaps, of where a network would pick and place, and of what it does.

All are (columns scale, rows scale, 3) uint8 RGB: x runs down and y to the right, which is the table
from above as somebody sees it who stands across from the robot. Drawn the other way round, rows
downwards, it would be its mirror image.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vlm_nodes.cliport.heightmap import Heightmap
from vlm_nodes.cliport.poses import PixelPose

Image = NDArray[np.uint8]
Color = tuple[int, int, int]

SCALE = 3
PICK_COLOR: Color = (60, 220, 90)
PLACE_COLOR: Color = (255, 90, 200)
# A blue that no table has: what is dark and what was not seen are told apart.
_HOLE_COLOR: Color = (24, 28, 70)
_OUTLINE: Color = (0, 0, 0)
_INK: Color = (240, 240, 240)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def scene_picture(heightmap: Heightmap, scale: int = SCALE) -> Image:
    """The table's colours from above; holes are dark blue."""
    colors = np.where(heightmap.seen[..., None], heightmap.color, np.array(_HOLE_COLOR))
    return _seen_from_above(colors.astype(np.uint8), scale)


def height_picture(heightmap: Heightmap, scale: int = SCALE) -> Image:
    """Heights from the lowest (dark) to the highest (bright) that were seen; holes dark blue."""
    low, high = _span(heightmap)
    share = np.clip((heightmap.height_m - low) / max(high - low, 1e-3), 0, 1)
    tinted = _tinted(share, cv2.COLORMAP_VIRIDIS)
    tinted[~heightmap.seen] = _HOLE_COLOR
    return _seen_from_above(tinted, scale)


def affordance_picture(
    heightmap: Heightmap, probability: NDArray[np.floating], scale: int = SCALE
) -> Image:
    """Where a network would pick or place, glowing over the table in grey.

    Args:
        heightmap: What the network saw.
        probability: (H, W) or (angles, H, W); the greatest over angles is shown, from none to the
            map's own greatest.
        scale: Pixels of the picture for one of the heightmap.

    Raises:
        ValueError: The maps' sizes differ.
    """
    p = np.asarray(probability, dtype=np.float64)
    p = p.max(axis=0) if p.ndim == 3 else p
    if p.shape != heightmap.seen.shape:
        raise ValueError(f'probability is {p.shape}, the heightmap {heightmap.seen.shape}')
    # The square root shows the second best place too, which often is a hundredth of the best.
    glow = np.sqrt(np.clip(p, 0, None) / max(float(p.max()), 1e-300))[..., None]
    gray = cv2.cvtColor(heightmap.color, cv2.COLOR_RGB2GRAY)[..., None] * 0.6
    mixed = (1 - glow) * gray + glow * _tinted(glow[..., 0], cv2.COLORMAP_INFERNO)
    return _seen_from_above(np.rint(mixed).astype(np.uint8), scale)


def action_picture(
    heightmap: Heightmap,
    pick: PixelPose,
    place: PixelPose,
    *,
    footprint_px: int = 12,
    scale: int = SCALE,
    picture: Image | None = None,
) -> Image:
    """A pick and a place: two squares, their turns, and an arrow from one to the other.

    Args:
        heightmap: The table.
        pick: Where, and the tool's angle.
        place: Where, and how far the tool turns from the pick, as in `poses.labels_of_poses`.
        footprint_px: Side of the squares in pixels of the heightmap.
        scale: Pixels of the picture for one of the heightmap.
        picture: Drawn on in place of the table's colours, such as an affordance; it is not changed.
    """
    canvas = scene_picture(heightmap, scale) if picture is None else picture.copy()
    placed = PixelPose(place.row, place.col, pick.angle_rad + place.angle_rad)
    start, end = (_center(pose, scale) for pose in (pick, placed))
    for color, width in ((_OUTLINE, 4), (_INK, 2)):
        cv2.arrowedLine(canvas, start, end, color, width, cv2.LINE_AA, tipLength=0.08)
    _square(canvas, pick, PICK_COLOR, footprint_px, scale)
    _square(canvas, placed, PLACE_COLOR, footprint_px, scale)
    return canvas


def titled(picture: Image, title: str) -> Image:
    """A picture under its title, which is cut where it is too long."""
    bar = np.full((26, picture.shape[1], 3), 24, dtype=np.uint8)
    # OpenCV's fonts hold ASCII only and print '?' for the rest.
    text = title.encode('ascii', 'replace').decode()
    cv2.putText(bar, text, (6, 18), _FONT, 0.5, _INK, 1, cv2.LINE_AA)
    return np.concatenate([bar, picture])


def _seen_from_above(image: Image, scale: int) -> Image:
    turned = image.transpose(1, 0, 2)
    return np.ascontiguousarray(turned.repeat(scale, axis=0).repeat(scale, axis=1))


def _span(heightmap: Heightmap) -> tuple[float, float]:
    """Heights to show, but for the few that stick out."""
    if not heightmap.seen.any():
        return 0.0, 1.0
    low, high = np.percentile(heightmap.height_m[heightmap.seen], (0.5, 99.5))
    return float(low), float(high)


def _tinted(share: NDArray[np.floating], colormap: int) -> Image:
    gray = np.clip(255 * np.asarray(share), 0, 255).astype(np.uint8)
    return np.asarray(
        cv2.cvtColor(cv2.applyColorMap(gray, colormap), cv2.COLOR_BGR2RGB), dtype=np.uint8
    )


def _center(pose: PixelPose, scale: int) -> tuple[int, int]:
    return round((pose.row + 0.5) * scale), round((pose.col + 0.5) * scale)


def _square(canvas: Image, pose: PixelPose, color: Color, side_px: int, scale: int) -> None:
    """A square turned by an angle, with a line to the side that its x axis points to."""
    cos, sin = np.cos(pose.angle_rad), np.sin(pose.angle_rad)
    half = side_px * scale / 2
    # Columns, along x, are the picture's v and rows its u.
    x_axis, y_axis = half * np.array([sin, cos]), half * np.array([cos, -sin])
    center = np.array(_center(pose, scale))
    corners = [center + a * x_axis + b * y_axis for a, b in ((1, 1), (1, -1), (-1, -1), (-1, 1))]
    outline = np.rint(corners).astype(np.int32)
    tip = tuple(int(v) for v in np.rint(center + x_axis))
    for drawn, width in ((_OUTLINE, 4), (color, 2)):
        cv2.polylines(canvas, [outline], True, drawn, width, cv2.LINE_AA)
        cv2.line(canvas, tuple(int(v) for v in center), tip, drawn, width, cv2.LINE_AA)
