"""Image and camera messages of a bag as arrays and cameras."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.image import ImageError, image_to_cvimage
from rosbags.image.image import to_cvtype

from vlm_nodes.geometry.camera import Camera
from vlm_nodes.geometry.compressed_depth import unpack_compressed_depth
from vlm_nodes.geometry.depth import depth_to_metres

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'

# RGB from Y - 16, U - 128, V - 128 (ITU-R BT.601, limited range), as OpenCV has it for NV21.
_BT601 = np.array([[1.164, 0, 1.596], [1.164, -0.391, -0.813], [1.164, 2.018, 0]], np.float32)
# OpenCV's types, such as 8UC3: numbers and channels, but not which channel is which colour.
_NUMBERS_ALONE = re.compile(r'(8U|8S|16U|16S|32S|32F|64F)C\d+')
_JPEG_START, _JPEG_END = b'\xff\xd8', b'\xff\xd9'


class DecodeError(Exception):
    """A message's image cannot be decoded; the text says what is wrong with it."""


def color_image(message: Any) -> NDArray[np.uint8]:
    """A colour image from a sensor_msgs Image or CompressedImage.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        DecodeError: The encoding is not one of colour, or the data are short or broken.
    """
    return np.require(color_pixels(message), requirements=['O', 'W', 'C'])


def color_pixels(message: Any) -> NDArray[np.uint8]:
    """As `color_image`, but without a copy where the message holds RGB already.

    Returns:
        (H, W, 3) uint8 RGB; possibly a read-only view of the message, rows padded.

    Raises:
        DecodeError: The encoding is not one of colour, or the data are short or broken.
    """
    if hasattr(message, 'format'):
        _check_jpeg(message)
        return np.asarray(_imdecode(message.data, cv2.IMREAD_COLOR_RGB, message.format), np.uint8)
    if message.encoding == 'rgb8':
        width = int(message.width)
        return _rows(message, width * 3)[:, : width * 3].reshape(int(message.height), width, 3)
    if _NUMBERS_ALONE.fullmatch(message.encoding):
        raise DecodeError(f'encoding {message.encoding!r} does not say its order of colours')
    try:
        if message.encoding in ('nv21', 'nv24'):
            return _from_two_planes(message)
        return np.asarray(image_to_cvimage(_packed(message), 'rgb8'), dtype=np.uint8)
    except (ImageError, cv2.error, TypeError, ValueError) as error:
        raise DecodeError(f'image of encoding {message.encoding!r}: {error}') from error


def depth_image(message: Any) -> NDArray[np.float32]:
    """A depth image from an Image (16UC1, 32FC1) or a CompressedImage (compressedDepth or PNG).

    Returns:
        (H, W) float32 metres, NaN where there is no reading.

    Raises:
        DecodeError: The encoding is not one of depth, or the data are short or broken.
    """
    image, encoding = _compressed_depth(message) if hasattr(message, 'format') else _raw(message)
    try:
        return depth_to_metres(image, encoding)
    except ValueError as error:
        raise DecodeError(str(error)) from error


def depth_millimetres(message: Any, unit_m: float = 0.001) -> NDArray[np.uint16]:
    """A depth image in millimetres from what `depth_image` takes.

    Args:
        message: An Image or CompressedImage.
        unit_m: Metres of one unit of integer encodings; REP-118 says millimetres.

    Returns:
        (H, W) uint16 millimetres, 0 where there is no reading or one beyond 65.534 m.

    Raises:
        DecodeError: The encoding is not one of depth, or the data are short or broken.
    """
    compressed = hasattr(message, 'format')
    image, encoding = _compressed_depth(message) if compressed else _raw(message)
    if encoding in ('16UC1', 'mono16') and image.dtype == np.uint16 and unit_m == 0.001:
        return np.where(image == np.uint16(65535), np.uint16(0), image)
    try:
        metres = depth_to_metres(image, encoding)
    except ValueError as error:
        raise DecodeError(str(error)) from error
    scale = 1e3 if encoding == '32FC1' else unit_m * 1e6
    millimetres = np.nan_to_num(np.rint(metres * np.float32(scale)), nan=0.0)
    millimetres[millimetres > 65534] = 0
    return np.asarray(millimetres, dtype=np.uint16)


def camera(message: Any) -> Camera:
    """The camera of a sensor_msgs/CameraInfo of either ROS, binning and region applied.

    Raises:
        DecodeError: The camera is not calibrated (zero K), or its numbers make no camera.
    """
    roi = message.roi
    try:
        return Camera.from_calibration(
            (int(message.width), int(message.height)),
            getattr(message, 'k', getattr(message, 'K', ())),
            message.distortion_model,
            getattr(message, 'd', getattr(message, 'D', ())),
            region=(int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height)),
            binning=(int(message.binning_x), int(message.binning_y)),
        )
    except ValueError as error:
        raise DecodeError(f'camera_info of {message.header.frame_id!r}: {error}') from error


def _packed(message: Any) -> SimpleNamespace:
    """The image with the padding at the end of its rows taken away."""
    _, _, dtype, channels = to_cvtype(message.encoding)
    row = int(message.width) * channels * np.dtype(dtype).itemsize
    return SimpleNamespace(
        width=int(message.width),
        height=int(message.height),
        encoding=message.encoding,
        is_bigendian=bool(message.is_bigendian),
        data=np.ascontiguousarray(_rows(message, row)[:, :row]),
    )


def _rows(message: Any, row: int) -> NDArray[np.uint8]:
    """(H, step) bytes of an image whose rows need `row` bytes each."""
    height, step = int(message.height), int(message.step)
    data = np.frombuffer(message.data, dtype=np.uint8)
    if step < row:
        raise DecodeError(
            f'step {step} is less than {message.width} pixels of {message.encoding} take ({row})'
        )
    if data.size < height * step:
        raise DecodeError(
            f'{message.width}x{height} {message.encoding} with step {step} needs {height * step} '
            f'bytes, the message holds {data.size}'
        )
    return data[: height * step].reshape(height, step)


def _from_two_planes(message: Any) -> NDArray[np.uint8]:
    """RGB of brightness and, after it, colour differences: every fourth V, U or every U, V."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    luma = _rows(message, width)[:, :width]
    rest = np.frombuffer(message.data, dtype=np.uint8)[height * step :]
    if message.encoding == 'nv21':
        chroma = rest[: height // 2 * step].reshape(height // 2, step)[:, :width]
        pairs = np.ascontiguousarray(chroma).reshape(height // 2, width // 2, 2)
        rgb = cv2.cvtColorTwoPlane(np.ascontiguousarray(luma), pairs, cv2.COLOR_YUV2RGB_NV21)
        return np.asarray(rgb, dtype=np.uint8)
    chroma = rest[: height * 2 * step].reshape(height, 2 * step)[:, : 2 * width]
    ycc = np.dstack([luma, chroma.reshape(height, width, 2)]).astype(np.float32)
    rgb = (ycc - np.array([16, 128, 128], np.float32)) @ _BT601.T
    return np.asarray(np.clip(np.rint(rgb), 0, 255), dtype=np.uint8)


def _raw(message: Any) -> tuple[NDArray[Any], str]:
    try:
        return np.asarray(image_to_cvimage(_packed(message))), str(message.encoding)
    except (ImageError, TypeError, ValueError) as error:
        raise DecodeError(f'depth image of encoding {message.encoding!r}: {error}') from error


def _compressed_depth(message: Any) -> tuple[NDArray[Any], str]:
    try:
        return unpack_compressed_depth(np.asarray(message.data), message.format)
    except ValueError as error:
        raise DecodeError(str(error)) from error


def is_jpeg(data: bytes) -> bool:
    """Whether data begin as a JPEG does."""
    return data.startswith(_JPEG_START)


def is_cut_jpeg(data: bytes) -> bool:
    """Whether data begin as a JPEG, but have no end.

    The decoder fills one that is cut short with grey and says nothing.
    """
    return is_jpeg(data) and data.rfind(_JPEG_END) < 0


def _check_jpeg(message: Any) -> None:
    data = bytes(message.data)
    if is_cut_jpeg(data):
        raise DecodeError(f'{len(data)} bytes of format {message.format!r} are no whole image')


def _imdecode(data: Any, flags: int, format_: str) -> NDArray[Any]:
    buffer = np.frombuffer(data, dtype=np.uint8)
    image = cv2.imdecode(buffer, flags) if buffer.size else None
    if image is None:
        raise DecodeError(f'{buffer.size} bytes of format {format_!r} are no whole image')
    return np.asarray(image)
