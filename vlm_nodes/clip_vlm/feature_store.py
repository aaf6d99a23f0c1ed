"""What frozen models say of pictures, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bag_tools.whole_file import write_whole
from vlm_nodes.clip_vlm.clip_views import ClipViews
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.samples import CaptionedViews, read_views

Compute = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class FeatureStore:
    """A folder with one file of tokens a picture; a picture that changes gets another file."""

    def __init__(self, folder: Path, identity: str) -> None:
        """Keep what the model of this identity says below a folder."""
        name = hashlib.sha256(identity.encode()).hexdigest()[:16]
        self._folder = folder / name

    def fill(self, samples: Sequence[CaptionedViews], compute: Compute, what: str) -> int:
        """Compute what is not there yet.

        Args:
            samples: Whose pictures are looked at.
            compute: Of a picture (H, W, 3) uint8 RGB: (N, C).
            what: What is computed, for the progress bar.

        Returns:
            How many pictures were looked at.

        Raises:
            ClipVlmError: A picture cannot be read.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        count = 0
        for sample in tqdm(samples, unit='sample', desc=what, disable=None):
            files = {name: self._file(path) for name, path in sample.images.items()}
            missing = {n: p for n, p in sample.images.items() if not files[n].is_file()}
            if not missing:
                continue
            for name, rgb in read_views(replace(sample, images=missing)).items():
                stream = io.BytesIO()
                np.save(stream, compute(rgb).astype(np.float16))
                write_whole(files[name], stream.getvalue())
                count += 1
        return count

    def read(self, path: Path) -> NDArray[np.float32]:
        """Of a picture: (N, C) float32, kept as float16.

        Raises:
            ClipVlmError: It was never computed, or its file is damaged.
        """
        file = self._file(path)
        try:
            return np.load(file, allow_pickle=False).astype(np.float32)  # type: ignore[no-any-return]
        except (OSError, ValueError, EOFError) as error:
            raise ClipVlmError(f'{file}, features of {path}, cannot be read: {error}') from error

    def _file(self, path: Path) -> Path:
        try:
            about = path.stat()
        except OSError as error:
            raise ClipVlmError(
                f'picture {path} is missing: copy it, or leave such samples out with '
                '--require-files'
            ) from error
        key = f'{path.absolute()} {about.st_size} {about.st_mtime_ns}'
        return self._folder / f'{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy'


def clip_store(folder: Path, clip: ClipViews) -> FeatureStore:
    """The tokens of a CLIP and its configuration, below a folder that other models may share."""
    return FeatureStore(folder, f'{clip.identity} {json.dumps(clip.config.to_dict())}')
