"""Pictures with semantic label images: the ground truth of Isaac Sim, MuJoCo or an annotator.

A data set is a folder with `images/NAME.jpg|png`, `labels/NAME.png` (uint16 or uint8 label ids, 0 =
unlabelled) and `labels.json` (`{"1": "floor", "7": "red mug", ...}`).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

UNLABELLED = 0

_IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg')


class LabelImageError(ValueError):
    """A data set of label images is incomplete; the message names the file."""


@dataclass(frozen=True)
class LabelImages:
    """A folder of pictures and label images.

    Attributes:
        folder: the data set.
        names: picture names, sorted.
        labels: label id -> label text.
    """

    folder: Path
    names: tuple[str, ...]
    labels: dict[int, str]
    _files: dict[str, Path]

    @classmethod
    def open(cls, folder: Path) -> 'LabelImages':
        """List a data set; reads no picture.

        Raises:
            LabelImageError: a part of it is missing or `labels.json` is not what it should be.
        """
        labels = _read_labels(folder / 'labels.json')
        files = {
            path.stem: path
            for path in sorted((folder / 'images').glob('*'))
            if path.suffix.lower() in _IMAGE_SUFFIXES
        }
        if not files:
            raise LabelImageError(f'no pictures (.png, .jpg) in {folder / "images"}')
        for name in files:
            if not (folder / 'labels' / f'{name}.png').is_file():
                raise LabelImageError(
                    f'picture {files[name]} has no label image {folder / "labels" / name}.png'
                )
        return cls(folder, tuple(files), labels, files)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
        """One picture and its labels.

        Returns:
            (H, W, 3) uint8 RGB and (H, W) uint16 label ids.

        Raises:
            LabelImageError: a file cannot be read, sizes differ, or an id has no text.
        """
        name = self.names[index]
        image = cv2.imread(str(self._files[name]), cv2.IMREAD_COLOR)
        if image is None:
            raise LabelImageError(f'cannot read {self._files[name]}')
        labels = self.read_labels(index)
        if labels.shape != image.shape[:2]:
            raise LabelImageError(
                f'{self._files[name]} is {image.shape[:2]} but its label image is {labels.shape}'
            )
        return np.ascontiguousarray(image[..., ::-1]).astype(np.uint8), labels

    def read_labels(self, index: int) -> NDArray[np.uint16]:
        """The label ids of one picture, (H, W) uint16; raises as `read` does."""
        path = self.folder / 'labels' / f'{self.names[index]}.png'
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if labels is None or labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
            raise LabelImageError(f'{path} is no readable uint16 or uint8 image of one channel')
        present = np.flatnonzero(np.bincount(labels.ravel())).tolist()
        unknown = set(present) - self.labels.keys() - {UNLABELLED}
        if unknown:
            raise LabelImageError(f'{path} holds label ids {sorted(unknown)} without a text')
        ids: NDArray[np.uint16] = labels.astype(np.uint16)
        return ids

    def pixel_counts(self) -> dict[int, int]:
        """Pixels of each label id that occurs in the data set; reads every label image."""
        counts = np.zeros(1 << 16, dtype=np.int64)
        for index in range(len(self)):
            counts += np.bincount(self.read_labels(index).ravel(), minlength=len(counts))
        return {int(i): int(counts[i]) for i in np.flatnonzero(counts) if i != UNLABELLED}


def _read_labels(path: Path) -> dict[int, str]:
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        labels = {int(number): str(text).strip() for number, text in content.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise LabelImageError(f'cannot read label texts from {path}: {error}') from error
    bad = [number for number, text in labels.items() if not 0 < number < 1 << 16 or not text]
    if bad or not labels:
        raise LabelImageError(f'{path} needs texts for ids 1 to 65535; wrong: {bad}')
    return labels
