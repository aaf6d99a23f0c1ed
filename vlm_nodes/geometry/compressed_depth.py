"""What image_transport's compressedDepth plugin sends, as depth."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry.depth import depth_to_metres

# compressed_depth_image_transport's ConfigHeader: an enum, then the two quantisation parameters.
_HEADER = struct.Struct('<iff')


def decode_compressed_depth(data: bytes | NDArray[np.uint8], format_: str) -> NDArray[np.float32]:
    """Depth in metres from what `unpack_compressed_depth` takes.

    Returns:
        (H, W) float32 metres, NaN where there is no reading.

    Raises:
        ValueError: The format is not one of depth, or the data are short or broken.
    """
    return depth_to_metres(*unpack_compressed_depth(data, format_))


def unpack_compressed_depth(
    data: bytes | NDArray[np.uint8], format_: str
) -> tuple[NDArray[np.uint16] | NDArray[np.float32], str]:
    """A depth image as it was before it was compressed.

    Takes the compressedDepth transport's PNG, of integers ('16UC1; compressedDepth png') and of
    quantised inverse depth ('32FC1; compressedDepth png'), and a bare 16-bit PNG ('16UC1; png').

    Args:
        data: A CompressedImage's data.
        format_: Its format, whose part before the semicolon is the encoding.

    Returns:
        (H, W) uint16, or float32 for 32FC1, and the encoding.

    Raises:
        ValueError: The format is not one of depth, or the data are short or broken.
    """
    buffer = np.frombuffer(data, dtype=np.uint8)
    encoding, _, transport = (part.strip() for part in format_.partition(';'))
    if 'rvl' in transport.lower():
        raise ValueError(f'depth of format {format_!r}: RVL is not read, publish PNG instead')
    if 'compressedDepth' not in transport:
        return _decode_png(buffer, format_), encoding
    if buffer.size <= _HEADER.size:
        raise ValueError(f'depth of format {format_!r} holds {buffer.size} bytes only')
    _, a, b = _HEADER.unpack(buffer[: _HEADER.size].tobytes())
    image = _decode_png(buffer[_HEADER.size :], format_)
    if encoding != '32FC1':
        return image, encoding
    return _from_inverse_depth(image, a, b), encoding


def _from_inverse_depth(image: NDArray[np.uint16], a: float, b: float) -> NDArray[np.float32]:
    """Metres of the quantised inverse depth q in which float images travel: a / (q - b)."""
    metres = np.full(image.shape, np.nan, dtype=np.float32)
    known = image > 0
    with np.errstate(divide='ignore'):  # a header of nonsense; what is not finite is no reading
        metres[known] = a / (image[known].astype(np.float64) - b)
    return metres


def _decode_png(buffer: NDArray[np.uint8], format_: str) -> NDArray[np.uint16]:
    image = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED) if buffer.size else None
    if image is None or image.ndim != 2 or image.dtype != np.uint16:
        raise ValueError(f'{buffer.size} bytes of format {format_!r} are no whole image of 16 bits')
    return np.asarray(image, dtype=np.uint16)
