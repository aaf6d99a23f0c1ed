from __future__ import annotations

import array
import math
import sys
from typing import Any

import cv2
import numpy as np
import sensor_msgs.msg
from numpy.typing import NDArray

from cv_bridge.conversions import cvtColor2
from cv_bridge.encodings import (
    DTYPE_OF_DEPTH,
    NAME_OF_DTYPE,
    CV_MAT_CNWrap,
    CV_MAT_DEPTHWrap,
    Encoding,
    getCvType,
    parse_encoding,
)

Image = NDArray[Any]

NAMED_CHANNELS = (1, 2, 3, 4)  # OpenCV has constants for no more
FORMAT_EXAMPLES = 'jpg, png, bmp, tiff'


class CvBridgeError(TypeError):
    """What the methods of ``CvBridge`` raise when they fail."""


class CvBridge:
    """Converts images between OpenCV's arrays and ROS messages."""

    def __init__(self) -> None:
        self.cvtype_to_name = {
            getCvType(f'{name}C{channels}'): f'{name}C{channels}'
            for name in NAME_OF_DTYPE.values()
            for channels in NAMED_CHANNELS
        }
        self.cvdepth_to_numpy_depth = dict(DTYPE_OF_DEPTH)
        # Upstream's table works both ways.
        self.numpy_type_to_cvtype = {
            **NAME_OF_DTYPE,
            **{name: dtype for dtype, name in NAME_OF_DTYPE.items()},
        }

    def dtype_with_channels_to_cvtype2(self, dtype: np.dtype[Any], n_channels: int) -> str:
        """Return the encoding, such as '8UC3', of a numpy type and a number of channels.

        Raises:
            CvBridgeError: OpenCV has no such type.
        """
        try:
            return f'{self.numpy_type_to_cvtype[dtype.name]}C{n_channels}'
        except KeyError:
            raise CvBridgeError(
                f'no image encoding holds {dtype.name}: convert the array to one of '
                f'{", ".join(NAME_OF_DTYPE)}'
            ) from None

    def cvtype2_to_dtype_with_channels(self, cvtype: int) -> tuple[str, int]:
        """Return the numpy type's name and the number of channels of OpenCV's type number."""
        return self.cvdepth_to_numpy_depth[CV_MAT_DEPTHWrap(cvtype)], CV_MAT_CNWrap(cvtype)

    def encoding_to_cvtype2(self, encoding: str) -> int:
        """Return OpenCV's type number of an encoding, CV_8UC3 for 'rgb8'.

        Raises:
            CvBridgeError: There is no such encoding.
        """
        try:
            return getCvType(encoding)
        except RuntimeError as error:
            raise CvBridgeError(error) from error

    def encoding_to_dtype_with_channels(self, encoding: str) -> tuple[str, int]:
        """Return the numpy type's name and the number of channels of an encoding.

        Raises:
            CvBridgeError: There is no such encoding.
        """
        return self.cvtype2_to_dtype_with_channels(self.encoding_to_cvtype2(encoding))

    def compressed_imgmsg_to_cv2(
        self, cmprs_img_msg: sensor_msgs.msg.CompressedImage, desired_encoding: str = 'passthrough'
    ) -> Image:
        """Decode a sensor_msgs/CompressedImage.

        Args:
            cmprs_img_msg: The message, of any format that OpenCV reads. Its ``format`` text is
                not looked at: the data tells what it is.
            desired_encoding: An encoding, or 'passthrough' for what the data holds: one channel,
                BGR or BGRA, 8 or 16 bits.

        Returns:
            ``(H, W)`` or ``(H, W, C)``.

        Raises:
            CvBridgeError: The data cannot be decoded or converted.
        """
        image = _decode(cmprs_img_msg)
        if desired_encoding == 'passthrough':
            return image
        return _convert(image, _decoded_encoding(image), desired_encoding)

    def imgmsg_to_cv2(
        self, img_msg: sensor_msgs.msg.Image, desired_encoding: str = 'passthrough'
    ) -> Image:
        """Convert a sensor_msgs/Image to an array.

        Args:
            img_msg: The message.
            desired_encoding: An encoding, or 'passthrough' for the message's own.

        Returns:
            ``(H, W)``, or ``(H, W, C)`` for several channels, in native byte order. With
            'passthrough' it shares the message's memory, unless rows are padded or bytes have
            to be swapped. nv12 and nv21 give ``(H * 3 / 2, W)``, nv24 gives ``(H * 3, W)``.

        Raises:
            CvBridgeError: The encoding is unknown, the sizes contradict each other, or there is
                no conversion.
        """
        image = _array_of(img_msg, self._encoding(img_msg.encoding))
        if desired_encoding == 'passthrough':
            return image
        return _convert(image, img_msg.encoding, desired_encoding)

    def cv2_to_compressed_imgmsg(
        self, cvim: Image, dst_format: str = 'jpg'
    ) -> sensor_msgs.msg.CompressedImage:
        """Encode an array as a sensor_msgs/CompressedImage.

        Args:
            cvim: ``(H, W)`` or ``(H, W, C)``, colours as BGR or BGRA.
            dst_format: A file name extension that OpenCV writes, such as jpg, png, bmp, tiff.

        Raises:
            TypeError: ``cvim`` is no numpy array.
            CvBridgeError: The format is unknown or cannot hold such an array.
        """
        _check_is_array(cvim)
        try:
            native = cvim.astype(cvim.dtype.newbyteorder('='), copy=False)
            done, encoded = cv2.imencode(f'.{dst_format}', native)
        except cv2.error as error:
            raise CvBridgeError(_encode_failure(cvim, dst_format, error)) from error
        if not done:
            raise CvBridgeError(_encode_failure(cvim, dst_format, 'the encoder failed'))
        message = sensor_msgs.msg.CompressedImage()
        message.format = dst_format
        message.data.frombytes(encoded)
        return message

    def cv2_to_imgmsg(
        self, cvim: Image, encoding: str = 'passthrough', header: Any = None
    ) -> sensor_msgs.msg.Image:
        """Convert an array to a sensor_msgs/Image.

        Args:
            cvim: ``(H, W)`` or ``(H, W, C)``.
            encoding: What the array is said to hold, or 'passthrough' for its type alone, such as
                8UC3. Nothing is converted.
            header: The message's std_msgs/Header; an empty one by default.

        Raises:
            TypeError: ``cvim`` is no numpy array.
            CvBridgeError: The array is no image, or not of the encoding's type.
        """
        _check_is_array(cvim)
        message = sensor_msgs.msg.Image()
        if header is not None:
            message.header = header
        message.encoding, message.height = self._encoding_and_height(cvim, encoding)
        message.width = cvim.shape[1]
        message.is_bigendian = int(_is_bigendian(cvim.dtype))
        message.step = math.prod(cvim.shape[1:]) * cvim.dtype.itemsize
        message.data.frombytes(np.ascontiguousarray(cvim).reshape(-1).view(np.uint8))
        return message

    def _encoding_and_height(self, cvim: Image, encoding: str) -> tuple[str, int]:
        if cvim.ndim not in (2, 3):
            raise CvBridgeError(f'an image has 2 or 3 axes, this array has shape {cvim.shape}')
        channels = cvim.shape[2] if cvim.ndim == 3 else 1
        cv_type = self.dtype_with_channels_to_cvtype2(cvim.dtype, channels)
        if encoding == 'passthrough':
            return cv_type, cvim.shape[0]
        parsed = self._encoding(encoding)
        if (parsed.dtype, parsed.channels) != (cvim.dtype.name, channels):
            raise CvBridgeError(
                f'encoding specified as {encoding}, but image has incompatible type {cv_type}'
            )
        return encoding, _pixel_rows(cvim.shape[0], parsed)

    def _encoding(self, encoding: str) -> Encoding:
        try:
            return parse_encoding(encoding)
        except RuntimeError as error:
            raise CvBridgeError(error) from error


def _check_is_array(cvim: object) -> None:
    if not isinstance(cvim, (np.ndarray, np.generic)):
        raise TypeError(f'Your input type is not a numpy array: {type(cvim).__name__}')


def _convert(image: Image, encoding: str, desired_encoding: str) -> Image:
    try:
        return cvtColor2(image, encoding, desired_encoding)
    except RuntimeError as error:
        raise CvBridgeError(error) from error


def _is_bigendian(dtype: np.dtype[Any]) -> bool:
    return dtype.byteorder == '>' or (dtype.byteorder == '=' and sys.byteorder == 'big')


def _pixel_rows(array_rows: int, encoding: Encoding) -> int:
    """Return the height in pixels of an array of so many rows; they differ if it is planar."""
    height = array_rows / encoding.rows_per_pixel_row
    if height.denominator != 1:
        raise CvBridgeError(
            f'{encoding.name} takes {encoding.rows_per_pixel_row} rows of bytes a row of pixels, '
            f'which {array_rows} rows are no multiple of'
        )
    return height.numerator


def _array_of(img_msg: Any, encoding: Encoding) -> Image:
    data = img_msg.data
    if isinstance(data, list):
        data = array.array('B', data)
    dtype = np.dtype(encoding.dtype)
    rows, width, step = _array_rows(img_msg, encoding), img_msg.width, img_msg.step
    pixel_size = dtype.itemsize * encoding.channels
    _check_sizes(img_msg, rows, width * pixel_size)
    if encoding.name == 'nv24' and step != width:
        return _without_nv24_padding(np.frombuffer(data, np.uint8), rows // 3, width, step)
    swapped = dtype.itemsize > 1 and bool(img_msg.is_bigendian) != (sys.byteorder == 'big')
    axes = 2 if encoding.channels == 1 else 3
    image: Image = np.ndarray(
        (rows, width, encoding.channels)[:axes],
        dtype.newbyteorder() if swapped else dtype,
        data,
        strides=(step, pixel_size, dtype.itemsize)[:axes],
    )
    return image.astype(dtype) if swapped else np.ascontiguousarray(image)


def _check_sizes(img_msg: Any, rows: int, row_size: int) -> None:
    step, size = img_msg.step, len(img_msg.data)
    if step < row_size:
        raise _malformed(img_msg, f'step is {step}, but a row of pixels takes {row_size} bytes')
    if rows * step != size:
        raise _malformed(img_msg, f'{rows} rows of {step} bytes are not the {size} bytes of data')


def _array_rows(img_msg: Any, encoding: Encoding) -> int:
    """Return the rows of bytes in a message.

    Some publishers of planar images count these as the height, others the rows of pixels.
    """
    height = int(img_msg.height)
    rows = height * encoding.rows_per_pixel_row
    return height if img_msg.step * height == len(img_msg.data) else int(rows)


def _without_nv24_padding(data: Image, height: int, width: int, step: int) -> Image:
    # A row of chroma is two rows of luma long, and padded at its end only.
    luma = data[: height * step].reshape(height, step)[:, :width]
    chroma = data[height * step :].reshape(height, 2 * step)[:, : 2 * width]
    return np.concatenate([luma, chroma.reshape(2 * height, width)])


def _malformed(img_msg: Any, reason: str) -> CvBridgeError:
    return CvBridgeError(
        f'Image is wrongly formed: {reason} (encoding {img_msg.encoding!r}, '
        f'height {img_msg.height}, width {img_msg.width}, step {img_msg.step}, '
        f'len(data) {len(img_msg.data)})'
    )


def _decode(cmprs_img_msg: Any) -> Image:
    data = cmprs_img_msg.data
    if isinstance(data, list):
        data = array.array('B', data)
    buffer = np.frombuffer(data, np.uint8)
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED) if len(buffer) else None
    except cv2.error:
        image = None
    if image is None:
        hint = ''
        if 'compresseddepth' in cmprs_img_msg.format.lower():
            hint = '; compressedDepth has a header before the image, which cv_bridge does not read'
        raise CvBridgeError(
            f'cannot decode a compressed image: format {cmprs_img_msg.format!r}, '
            f'{len(buffer)} bytes that begin with {buffer[:8].tobytes().hex(" ")!r}{hint}'
        )
    decoded: Image = image
    return decoded


def _decoded_encoding(image: Image) -> str:
    channels = image.shape[2] if image.ndim == 3 else 1
    color = {1: 'mono', 3: 'bgr', 4: 'bgra'}.get(channels)
    bits = {'uint8': '8', 'uint16': '16'}.get(image.dtype.name)
    if color is None or bits is None:
        return f'{NAME_OF_DTYPE.get(image.dtype.name)}C{channels}'
    return color + bits


def _encode_failure(cvim: Image, dst_format: str, reason: object) -> str:
    return (
        f'cannot encode an array of shape {cvim.shape} and type {cvim.dtype} as {dst_format!r} '
        f'(formats are {FORMAT_EXAMPLES} and the like): {reason}'
    )
