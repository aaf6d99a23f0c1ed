"""What an image encoding's name means: sensor_msgs/image_encodings and REP-118."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import cv2
from rosbags.image.image import Format, ImageFormatError, to_cvtype

# By name, since cv2's constants are plain numbers.
DEPTH_OF_DTYPE = {
    'uint8': cv2.CV_8U,
    'int8': cv2.CV_8S,
    'uint16': cv2.CV_16U,
    'int16': cv2.CV_16S,
    'int32': cv2.CV_32S,
    'float32': cv2.CV_32F,
    'float64': cv2.CV_64F,
}
DTYPE_OF_DEPTH = {depth: dtype for dtype, depth in DEPTH_OF_DTYPE.items()}
NAME_OF_DTYPE = {
    'uint8': '8U',
    'int8': '8S',
    'uint16': '16U',
    'int16': '16S',
    'int32': '32S',
    'float32': '32F',
    'float64': '64F',
}
MAX_CHANNELS = 512  # CV_CN_MAX
_CHANNEL_SHIFT = 3  # CV_CN_SHIFT

# Encodings that keep luma and chroma apart: rows of bytes that one row of pixels takes.
PLANAR_ROWS = {'nv12': Fraction(3, 2), 'nv21': Fraction(3, 2), 'nv24': Fraction(3)}


@dataclass(frozen=True)
class Encoding:
    """An encoding as OpenCV sees it.

    ``family`` is the meaning of the channels, ``Format.GENERIC`` where the encoding tells none,
    and None for nv24, which OpenCV has no name for.
    """

    name: str
    bits: int
    family: Format | None
    dtype: str
    channels: int

    @property
    def is_color(self) -> bool:
        """Whether the encoding says what its channels mean."""
        return self.family is not Format.GENERIC

    @property
    def rows_per_pixel_row(self) -> Fraction:
        """Rows of the array that one row of pixels takes: 1 unless the encoding is planar."""
        return PLANAR_ROWS.get(self.name, Fraction(1))

    @property
    def cvtype(self) -> int:
        """OpenCV's type number, such as CV_8UC3."""
        return DEPTH_OF_DTYPE[self.dtype] | (self.channels - 1) << _CHANNEL_SHIFT


@lru_cache(maxsize=512)
def parse_encoding(encoding: str) -> Encoding:
    """Return the meaning of an encoding's name.

    Raises:
        RuntimeError: There is no such encoding.
    """
    if encoding == 'nv24':
        return Encoding(encoding, 8, None, 'uint8', 1)
    # sensor_msgs' abstract names, such as '8UC', have one channel.
    name = encoding + '1' if encoding.endswith('C') else encoding
    try:
        bits, family, dtype, channels = to_cvtype(name)
    except ImageFormatError:
        raise RuntimeError(f'Unrecognized image encoding [{encoding}]') from None
    if not 1 <= channels <= MAX_CHANNELS:
        raise RuntimeError(
            f'Unrecognized image encoding [{encoding}]: 1 to {MAX_CHANNELS} channels are possible'
        )
    return Encoding(encoding, bits, family, dtype, channels)


def getCvType(encoding: str) -> int:
    """Return OpenCV's type number of an encoding, CV_8UC3 for 'rgb8'.

    Raises:
        RuntimeError: There is no such encoding.
    """
    return parse_encoding(encoding).cvtype


def CV_MAT_CNWrap(i: int) -> int:
    """Return the number of channels of one of OpenCV's type numbers."""
    return (i >> _CHANNEL_SHIFT) % MAX_CHANNELS + 1


def CV_MAT_DEPTHWrap(i: int) -> int:
    """Return the depth, CV_8U and the like, of one of OpenCV's type numbers."""
    return i % (1 << _CHANNEL_SHIFT)
