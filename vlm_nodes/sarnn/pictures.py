"""What a policy looks at and what it predicts, as pictures. All are (H, W, 3) uint8 RGB."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image as PillowImage

from bag_tools.whole_file import write_whole
from vlm_nodes.sarnn.overlay import draw_keypoints
from vlm_nodes.sarnn.plots import CURVE_COLORS, INK, PAPER, Curve, Image, plot

_CAPTION_PX = 18
_GAP_PX = 4


def keypoint_frame(
    recorded: Image,
    predicted: Image,
    seen: Sequence[ArrayLike],
    expected: Sequence[ArrayLike],
    caption: str,
) -> Image:
    """One tick: the recorded image with the keypoints in it, beside it the predicted next image.

    Keypoints are drawn as `policy_node` draws them on `~/keypoints`; the predicted image has the
    crosses alone.

    Args:
        recorded: (H, W, 3) of this tick.
        predicted: (H, W, 3) of the next tick.
        seen: Keypoints of this tick, as `draw_keypoints` takes them.
        expected: Those predicted of the next tick.
        caption: Above the images.
    """
    panels = [draw_keypoints(recorded, seen, expected), draw_keypoints(predicted, [], expected)]
    gap = np.full((panels[0].shape[0], _GAP_PX, 3), PAPER, dtype=np.uint8)
    row = np.concatenate([panels[0], gap, panels[1]], axis=1)
    head: Image = np.full((_CAPTION_PX, row.shape[1], 3), PAPER, dtype=np.uint8)
    cv2.putText(head, caption, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.38, INK, 1, cv2.LINE_AA)
    framed: Image = np.concatenate([head, row])
    return framed


def joint_picture(
    names: Sequence[str],
    recorded: NDArray[np.float64],
    one_step: NDArray[np.float64],
    closed: NDArray[np.float64],
    title: str,
) -> Image:
    """Recorded and predicted joints of an episode, a panel a joint.

    Args:
        names: P joints.
        recorded: (T, P) in the joints' units.
        one_step: (T - 1, P) predicted from measurements, of ticks 1 to T - 1.
        closed: (T - 1, P) predicted from the model's own predictions.
        title: Behind each joint's name.
    """
    ticks = np.arange(len(recorded), dtype=np.float64)
    panels = [
        plot(
            [
                Curve('recorded', ticks, recorded[:, joint], CURVE_COLORS[6]),
                Curve('one step', ticks[1:], one_step[:, joint], CURVE_COLORS[0]),
                Curve('closed loop', ticks[1:], closed[:, joint], CURVE_COLORS[1], dashed=True),
            ],
            title=f'{name}: {title}',
            size=(200, 420),
        )
        for joint, name in enumerate(names)
    ]
    return tiled(panels, columns=2)


def loss_picture(history: Sequence[Mapping[str, float]]) -> Image:
    """Errors of training and of test episodes by epoch, a panel a part.

    Args:
        history: A row a validation: `epoch`, and values such as `train/joints` and `val/joints`.
    """
    parts = [
        part
        for part in ('loss', 'joints', 'joints_closed', 'image', 'keypoints', 'touch')
        if any(f'{stage}/{part}' in row for stage in ('train', 'val') for row in history)
    ]
    panels = []
    for part in parts:
        curves = []
        for stage, color in (('train', CURVE_COLORS[0]), ('val', CURVE_COLORS[1])):
            key = f'{stage}/{part}'
            rows = [row for row in history if key in row]
            if rows:
                x = np.array([row['epoch'] for row in rows], dtype=np.float64)
                y = np.array([row[key] for row in rows], dtype=np.float64)
                curves.append(Curve({'train': 'train', 'val': 'test'}[stage], x, y, color))
        panels.append(plot(curves, title=f'{part} by epoch', size=(240, 400), log=True))
    return tiled(panels, columns=3 if len(panels) > 4 else 2)


def tiled(panels: Sequence[Image], columns: int) -> Image:
    """Panels of one size in rows, the last row filled up with paper."""
    columns = min(columns, len(panels))
    empty = np.full_like(panels[0], PAPER[0])
    padded = [*panels, *[empty] * (-len(panels) % columns)]
    rows = [
        np.concatenate(padded[at : at + columns], axis=1) for at in range(0, len(padded), columns)
    ]
    return np.concatenate(rows)


def write_png(path: Path, picture: Image) -> None:
    """Write a picture whole."""
    good, data = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not good:
        raise OSError(f'{path} cannot be written as PNG')
    write_whole(path, data.tobytes())


def write_gif(path: Path, frames: Sequence[Image], rate_hz: float) -> None:
    """Write frames of one size as a GIF that begins again at its end."""
    images = [
        PillowImage.fromarray(frame).quantize(128, dither=PillowImage.Dither.NONE)
        for frame in frames
    ]
    content = io.BytesIO()
    images[0].save(
        content,
        format='GIF',
        save_all=True,
        append_images=images[1:],
        duration=max(20, round(1000 / rate_hz)),
        loop=0,
    )
    write_whole(path, content.getvalue())


def write_mp4(path: Path, frames: Sequence[Image], rate_hz: float) -> None:
    """Write frames of one size as MP4.

    Raises:
        OSError: This build of OpenCV cannot write it.
    """
    height, width = (side - side % 2 for side in frames[0].shape[:2])
    part = path.with_name(f'.{path.stem}.part.mp4')
    writer = cv2.VideoWriter(str(part), cv2.VideoWriter.fourcc(*'mp4v'), rate_hz, (width, height))
    try:
        if not writer.isOpened():
            raise OSError(f'OpenCV cannot write {path}: it has no MPEG-4 encoder')
        for frame in frames:
            writer.write(cv2.cvtColor(frame[:height, :width], cv2.COLOR_RGB2BGR))
        writer.release()
        part.replace(path)
    finally:
        writer.release()
        part.unlink(missing_ok=True)
