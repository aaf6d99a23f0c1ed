"""From one encoding to another, by the rules of upstream's cvtColor."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.image.image import CONVERSIONS, Format

from cv_bridge.encodings import Encoding, parse_encoding

Image = NDArray[Any]

COLOR_TARGETS = frozenset({Format.GRAY, Format.RGB, Format.BGR, Format.RGBA, Format.BGRA})
BAYER = frozenset({Format.BAYER_RG, Format.BAYER_BG, Format.BAYER_GB, Format.BAYER_GR})
BAYER_TARGETS = frozenset({Format.GRAY, Format.RGB, Format.BGR})

# White is 255 in 8 bits and 65535 in 16.
SCALE_OF_BITS = {(8, 16): 65535.0 / 255.0, (16, 8): 255.0 / 65535.0}


def cvtColor2(image: Image, encoding_in: str, encoding_out: str) -> Image:
    """Convert an image to another encoding.

    Colours are converted by OpenCV, at the source's depth; then 8 bits are scaled to 16 and 16 to
    8 (white stays white), and any other change of depth rounds and saturates. Encodings without
    a meaning, such as 8UC3, convert only to ones with as many channels.

    Args:
        image: ``(H, W)`` or ``(H, W, C)``; ``(H * 3 / 2, W)`` for nv12 and nv21, ``(H * 3, W)``
            for nv24.
        encoding_in: The image's encoding.
        encoding_out: The wanted encoding; '' keeps the image's.

    Returns:
        An array of its own, with no third axis for a single channel.

    Raises:
        RuntimeError: An encoding is unknown, the two have no conversion, or the image does not
            have the shape of its encoding.
    """
    image = as_mat(image)
    if encoding_out in ('', encoding_in):
        return image.copy()
    source, target = parse_encoding(encoding_in), parse_encoding(encoding_out)
    converted = image
    if source.is_color and target.is_color:
        converted = _convert_color(image, source, target)
    else:
        _check_plain_conversion(source, target)
    if converted.dtype.name != target.dtype:
        scale = SCALE_OF_BITS.get((source.bits, target.bits), 1.0)
        return saturate(converted, target.dtype, scale)
    return image.copy() if converted is image else converted


def as_mat(image: Image) -> Image:
    """Return an array as OpenCV can take it: native byte order, 32-bit integers, 2 or 3 axes.

    Raises:
        RuntimeError: The array is no image.
    """
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3):
        shape = getattr(image, 'shape', None)
        raise RuntimeError(f'not an image of 2 or 3 axes: {type(image).__name__}, shape {shape}')
    dtype = np.dtype(np.int32) if image.dtype.name in ('int64', 'uint64') else image.dtype
    native = image.astype(dtype.newbyteorder('='), copy=False)
    return native[:, :, 0] if native.ndim == 3 and native.shape[2] == 1 else native


def _check_plain_conversion(source: Encoding, target: Encoding) -> None:
    if target.is_color:
        raise RuntimeError(
            f'[{source.name}] does not say what its channels mean, so it has no conversion to '
            f'the color format [{target.name}]'
        )
    if source.channels != target.channels:
        raise RuntimeError(
            f'[{source.name}] has {source.channels} channels and [{target.name}] has '
            f'{target.channels}; without a color meaning on both sides they must be as many'
        )


def _convert_color(image: Image, source: Encoding, target: Encoding) -> Image:
    if source.family == target.family and source.family not in BAYER:
        return image
    targets = BAYER_TARGETS if source.family in BAYER else COLOR_TARGETS
    if target.family not in targets:
        raise RuntimeError(f'Unsupported conversion from [{source.name}] to [{target.name}]')
    if (image.shape[2] if image.ndim == 3 else 1) != source.channels:
        raise RuntimeError(f'an image of shape {image.shape} is no [{source.name}]')
    convert = _convert_nv24 if source.name == 'nv24' else _convert_by_code
    try:
        return convert(image, source, target)
    except (cv2.error, ValueError) as error:
        raise RuntimeError(
            f'cannot convert an image of shape {image.shape} and type {image.dtype} '
            f'from [{source.name}] to [{target.name}]: {error}'
        ) from error


def _convert_by_code(image: Image, source: Encoding, target: Encoding) -> Image:
    code = CONVERSIONS[Format(source.family), Format(target.family)]
    assert code is not None  # families that are equal have been dealt with
    converted: Image = cv2.cvtColor(image, code)
    return converted


def _convert_nv24(image: Image, source: Encoding, target: Encoding) -> Image:
    height, rest = divmod(image.shape[0], 3)
    if rest:
        raise ValueError(f'{source.name} takes 3 rows of bytes a row of pixels')
    luma, chroma = image[:height], image[height:].reshape(height, -1, 2)
    # OpenCV reads chroma of full resolution only if every pixel is written twice, as UYVY.
    twice = np.empty((height, 2 * image.shape[1], 2), np.uint8)
    twice[:, 0::2, 0], twice[:, 1::2, 0] = chroma[:, :, 0], chroma[:, :, 1]
    twice[:, 0::2, 1] = twice[:, 1::2, 1] = luma
    code = CONVERSIONS[Format.YUV_UYVY, Format(target.family)]
    assert code is not None
    return np.ascontiguousarray(cv2.cvtColor(twice, code)[:, ::2])


def saturate(image: Image, dtype: str, scale: float = 1.0) -> Image:
    """Return ``image * scale`` as another type, as cv::Mat::convertTo does.

    Values become integers by rounding to the nearest (ties to even) and clipping to what the type
    holds; of NaN and the infinities the type's lowest value is made. A float type takes no scale.
    """
    if np.dtype(dtype).kind == 'f':
        return image.astype(dtype)
    # OpenCV scales in single precision, and otherwise converts without loss.
    values: Any = image.astype(np.float64 if scale == 1.0 else np.float32)
    values *= scale
    limits = np.iinfo(dtype)
    if image.dtype.kind == 'f':
        np.copyto(values, limits.min, where=~np.isfinite(values))
    np.rint(values, out=values)
    return np.asarray(values.clip(limits.min, limits.max), dtype)
