"""Captioned pictures written as `vlm_nodes.clip_vlm.overlap` reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from bag_tools.decode import is_cut_jpeg, is_jpeg
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.overlap import CAPTIONS, FORMAT, IMAGES, MANIFEST, is_file_name
from vlm_nodes.clip_vlm.samples import Tally, counts_text

HOLDS: Final = (MANIFEST, CAPTIONS, IMAGES)
_QUALITY: Final = (cv2.IMWRITE_JPEG_QUALITY, 95)


class OverlapWriter:
    """A folder in the making.

    Args:
        folder: Where nothing is yet.
        cameras: Of the manifest, in order.

    Raises:
        ClipVlmError: A camera's name cannot name a file.
    """

    def __init__(self, folder: Path, cameras: Sequence[str]) -> None:
        self._folder, self._cameras = folder, tuple(cameras)
        self._rows: dict[str, dict[str, Any]] = {}
        for name in cameras:
            _check_name('camera', name)
        (folder / IMAGES).mkdir(parents=True)

    def add(self, token: str, pictures: Mapping[str, bytes], caption: str | None) -> None:
        """Write a sample.

        Args:
            token: Its name, and that of its folder.
            pictures: JPEG files by camera.
            caption: What is said of them, if anything is.

        Raises:
            ClipVlmError: The token cannot name a folder, or was there before.
        """
        _check_name('token', token)
        if token in self._rows:
            raise ClipVlmError(f'token {token!r} is there twice')
        named = {camera: f'{IMAGES}/{token}/{camera}.jpg' for camera in self._cameras}
        images = {camera: name for camera, name in named.items() if camera in pictures}
        (self._folder / IMAGES / token).mkdir()
        for camera, name in images.items():
            (self._folder / name).write_bytes(pictures[camera])
        self._rows[token] = {'token': token, 'images': images, 'caption': caption}

    def finish(self, source: Mapping[str, str], tally: Tally) -> str:
        """Write the manifest and the captions, which make the folder whole.

        Args:
            source: Where samples and captions are from, in words.
            tally: What became of the samples that were not written; it goes along.

        Returns:
            The counts in words.

        Raises:
            ClipVlmError: There is no sample.
        """
        counts, notes = tally.counts(len(self._rows)), dict(+tally.notes)
        text = counts_text(counts, notes)
        if not self._rows:
            raise ClipVlmError(f'no sample is left: {"; ".join(text.splitlines())}')
        manifest = {
            'format': FORMAT,
            'source': dict(source),
            'cameras': self._cameras,
            'counts': counts,
            'notes': notes,
            'samples': list(self._rows.values()),
        }
        captions = {token: row['caption'] for token, row in self._rows.items() if row['caption']}
        for name, content in ((MANIFEST, manifest), (CAPTIONS, captions)):
            (self._folder / name).write_text(
                json.dumps(content, indent=1, ensure_ascii=False) + '\n', encoding='utf-8'
            )
        return text


def jpeg_of_file(path: Path) -> bytes:
    """A picture file as JPEG: as it is where it is one.

    Raises:
        ClipVlmError: It is missing, is no picture, or is cut short.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ClipVlmError(f'picture {path} cannot be read: {error.strerror}') from None
    if is_cut_jpeg(data):
        raise ClipVlmError(f'picture {path} is cut short: copy it again')
    if is_jpeg(data):
        return data
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if bgr is None:
        raise ClipVlmError(f'{path} is not a picture')
    return jpeg_of_pixels(bgr[..., ::-1])


def jpeg_of_pixels(rgb: NDArray[Any]) -> bytes:
    """(H, W, 3) uint8 RGB as JPEG."""
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    content: bytes = cv2.imencode('.jpg', bgr, _QUALITY)[1].tobytes()
    return content


def _check_name(what: str, name: str) -> None:
    if not is_file_name(name):
        raise ClipVlmError(
            f'{what} {name!r} is to be the name of a file or folder: letters, digits, _, - and . '
            'only, and no . first'
        )
