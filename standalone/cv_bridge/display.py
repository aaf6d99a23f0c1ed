"""Any image as one that a screen can show, by the rules of upstream's cvtColorForDisplay."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cv_bridge.conversions import COLOR_TARGETS, as_mat, cvtColor2, saturate
from cv_bridge.encodings import Encoding, parse_encoding
from cv_bridge.label_colors import LABEL_COLORS_BGR

Image = NDArray[Any]

GUESSABLE_BITS = (8, 16, 32)
NO_COLORMAP = -1
MIDDLE_GRAY = 128


def cvtColorForDisplay(
    source: Image,
    encoding_in: str,
    encoding_out: str,
    do_dynamic_scaling: bool = False,
    min_image_value: float = 0.0,
    max_image_value: float = 0.0,
    colormap: int = NO_COLORMAP,
) -> Image:
    """Convert an image to one of 8 bits that can be shown.

    32SC1 to bgr8 paints every label in a colour of its own. Otherwise one channel is scaled, if
    asked for, and the result converted as ``cvtColor2`` does.

    Args:
        source: ``(H, W)`` or ``(H, W, C)``.
        encoding_in: The image's encoding.
        encoding_out: An 8-bit colour or mono encoding; '' for bgr8.
        do_dynamic_scaling: Whether the least finite value becomes 0 and the greatest 255.
        min_image_value: The value that becomes 0, unless scaling is dynamic.
        max_image_value: The value that becomes 255. Equal to ``min_image_value``: no scaling.
        colormap: One of OpenCV's colour maps to lay over the scaled image; -1 for none.

    Returns:
        ``(H, W)`` or ``(H, W, C)`` uint8.

    Raises:
        RuntimeError: ``encoding_out`` is no 8-bit colour or mono encoding, several channels were
            to be scaled, or there is no conversion.
    """
    image, encoding = as_mat(source), parse_encoding(encoding_in)
    encoding_out = _output_encoding(encoding, encoding_out)
    if encoding_out == 'bgr8' and encoding_in == '32SC1':
        return _paint_labels(image)
    if do_dynamic_scaling:
        min_image_value, max_image_value = _finite_range(image)
        if min_image_value == max_image_value:
            return _uniform_gray(image.shape[:2], parse_encoding(encoding_out).channels)
    if min_image_value != max_image_value:
        scaled = _scale(image, encoding, min_image_value, max_image_value)
        if colormap == NO_COLORMAP:
            return cvtColor2(scaled, 'mono8', encoding_out)
        return cvtColor2(_apply_colormap(scaled, image, colormap), 'bgr8', encoding_out)
    try:
        return cvtColor2(image, 'mono16' if encoding_in == '16UC1' else encoding_in, encoding_out)
    except RuntimeError as error:
        raise RuntimeError(
            f"cannot convert an image from '{encoding_in}' to '{encoding_out}' for display: {error}"
        ) from error


def _output_encoding(source: Encoding, wanted: str) -> str:
    if not wanted:
        if source.bits not in GUESSABLE_BITS:
            raise RuntimeError(f'[{source.name}]: output encoding is empty and cannot be guessed')
        return 'bgr8'
    target = parse_encoding(wanted)
    if target.bits != 8 or target.family not in COLOR_TARGETS:
        raise RuntimeError(f'[{wanted}] is no color or mono encoding of 8 bits')
    return wanted


def _paint_labels(labels: Image) -> Image:
    # The remainder of a negative label is negative or 0; a negative one has no colour.
    index = np.fmod(labels, len(LABEL_COLORS_BGR))
    painted = LABEL_COLORS_BGR[np.maximum(index, 0)]
    painted[(index < 0) | (labels == -1)] = 0
    return painted


def _finite_range(image: Image) -> tuple[float, float]:
    if image.ndim == 3:
        raise RuntimeError('scaling an image with more than one channel is unsupported')
    finite = image[np.isfinite(image)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _uniform_gray(shape: tuple[int, ...], channels: int) -> Image:
    return np.full(shape if channels == 1 else (*shape, channels), MIDDLE_GRAY, np.uint8)


def _scale(image: Image, encoding: Encoding, low: float, high: float) -> Image:
    if encoding.channels != 1 or image.ndim == 3:
        raise RuntimeError('scaling an image with more than one channel is unsupported')
    above_low = image.astype(np.float64) - low
    if image.dtype.kind != 'f':
        above_low = saturate(above_low, image.dtype.name).astype(np.float64)
    return saturate(above_low, 'uint8', 255.0 / (high - low))


def _apply_colormap(scaled: Image, image: Image, colormap: int) -> Image:
    colored: Image = cv2.applyColorMap(scaled, colormap)
    if image.dtype == np.float32:
        colored[np.isnan(image)] = 0
    return colored
