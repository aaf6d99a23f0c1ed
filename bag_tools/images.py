"""Images of a stream as the output holds them: decoded, cropped, resized, less a reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from bag_tools.decode import DecodeError, color_pixels, depth_millimetres
from bag_tools.settings import StreamSettings

FIRST = 'first'
# What an image that equals its reference becomes, so that darker and brighter both fit uint8.
NO_DIFFERENCE = 128


@dataclass
class ImageMaker:
    """Turns messages of one stream into rows of its array.

    Attributes:
        settings: The stream's settings.
        shape: Shape of every row, (H, W, 3) or (H, W); None until the first image is known.
        reference: (H, W, 3) uint8 image without contact, or None.
    """

    settings: StreamSettings
    shape: tuple[int, ...] | None = None
    reference: NDArray[np.uint8] | None = None

    @property
    def dtype(self) -> type[np.generic]:
        """Type of the rows."""
        return np.uint8 if self.settings.kind == 'color' else np.uint16

    def learn(self, message: Any) -> None:
        """Take the shape from an image, and the reference where it is the first image.

        Raises:
            DecodeError: The image cannot be decoded.
        """
        image = self._prepared(message)
        self.shape = image.shape
        if self.settings.reference is None:
            return
        if self.settings.reference == FIRST:
            self.reference = np.array(image)
        else:
            self.reference = read_reference(Path(self.settings.reference), self.settings)
        if self.reference.shape != image.shape:
            raise DecodeError(
                f'the reference is {_size(self.reference)}, the images are {_size(image)}'
            )

    def __call__(self, message: Any) -> NDArray[Any]:
        """One row, possibly a read-only view of the message.

        Raises:
            DecodeError: The image is broken, or of another size than the first.
        """
        image = self._prepared(message)
        if image.shape != self.shape:
            raise DecodeError(f'an image of {_size(image)} among those of {self.shape}')
        if self.reference is not None and self.settings.subtract:
            return subtract_reference(image, self.reference)
        return image

    def _prepared(self, message: Any) -> NDArray[Any]:
        if self.settings.kind == 'color':
            return fit(color_pixels(message), self.settings)
        return fit(depth_millimetres(message, self.settings.unit_m), self.settings)


def fit(image: NDArray[Any], settings: StreamSettings) -> NDArray[Any]:
    """An image cropped, then resized: colours averaged, depth by its nearest reading.

    Raises:
        DecodeError: The crop does not lie in the image.
    """
    if settings.crop:
        left, top, width, height = settings.crop
        if left + width > image.shape[1] or top + height > image.shape[0]:
            raise DecodeError(f'crop {settings.crop} does not lie in an image of {_size(image)}')
        image = image[top : top + height, left : left + width]
    if not settings.resize or settings.resize == (image.shape[1], image.shape[0]):
        return image
    # Between a cup and the wall behind it there is nothing: depth is never averaged.
    smaller = settings.resize[0] < image.shape[1] or settings.resize[1] < image.shape[0]
    color = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    how = color if settings.kind == 'color' else cv2.INTER_NEAREST_EXACT
    return np.asarray(cv2.resize(image, settings.resize, interpolation=how))


def subtract_reference(image: NDArray[np.uint8], reference: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 image - reference + 128, clipped."""
    difference = image.astype(np.int16) - reference + NO_DIFFERENCE
    return np.asarray(np.clip(difference, 0, 255), dtype=np.uint8)


def read_reference(path: Path, settings: StreamSettings) -> NDArray[np.uint8]:
    """A reference image from a file, cropped and resized as the stream's images.

    Raises:
        DecodeError: It is no image.
    """
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR) if path.is_file() else None
    if bgr is None:
        raise DecodeError(f'reference {path} is no image file')
    return np.asarray(fit(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), settings), dtype=np.uint8)


def _size(image: NDArray[Any]) -> str:
    return f'{image.shape[1]}x{image.shape[0]}'
