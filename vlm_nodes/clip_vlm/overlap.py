"""Captioned pictures in a folder of their own, which training needs nothing beside.

DIR/manifest.json    {"cameras": [...], "samples": [{"token", "images": {CAM: path}, "caption"}]}
DIR/captions.json    {token: text}, for who reads captions alone
DIR/images/TOKEN/CAM.jpg
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vlm_nodes.clip_vlm.captions import read_json
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.samples import NO_CAPTION, CaptionedViews, SampleSet, Tally

MANIFEST: Final = 'manifest.json'
CAPTIONS: Final = 'captions.json'
IMAGES: Final = 'images'
FORMAT: Final = 1
_SLASHES: Final = re.compile(r'[/\\]+')
_NAME: Final = re.compile(r'[A-Za-z0-9_-][A-Za-z0-9_.-]*')


def open_overlap(
    folder: Path,
    *,
    cameras: Sequence[str] | None = None,
    captions_needed: bool = True,
    require_files: bool = False,
    max_samples: int | None = None,
) -> SampleSet:
    """The samples of such a folder, in the manifest's order.

    Args:
        folder: That has the manifest.
        cameras: Which, in order; None takes the manifest's.
        captions_needed: Skip samples without a caption.
        require_files: Skip samples with a missing picture.
        max_samples: Keep the first so many.

    Raises:
        ClipVlmError: The manifest is missing or broken, has no such camera, or names a path
            outside of the folder.
    """
    path = folder / MANIFEST
    manifest = read_json(path)
    rows = manifest.get('samples') if isinstance(manifest, dict) else None
    if not isinstance(rows, list):
        raise ClipVlmError(f"{path} has no list 'samples'")
    chosen = _cameras(cameras, manifest.get('cameras'), path)
    tally, inside = Tally(max_samples=max_samples), _PathsInside(folder)
    samples: list[CaptionedViews] = []
    for number, row in enumerate(rows, start=1):
        where = f'{path}, sample {number}'
        token, images, caption = _checked(row, where)
        pictures = {name: inside.path(images[name], where) for name in chosen if name in images}
        if captions_needed and caption is None:
            tally.skipped[NO_CAPTION] += 1
        elif not tally.skips(pictures, len(samples), require_files=require_files):
            samples.append(CaptionedViews(token, pictures, caption, MANIFEST))
    return SampleSet.of(samples, chosen, tally)


class _PathsInside:
    """Paths below a folder, from relative names with either kind of slash."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._root = folder, os.path.realpath(folder)
        self._is_inside: dict[str, bool] = {}

    def path(self, name: str, where: str) -> Path:
        """The path.

        Raises:
            ClipVlmError: The name is whole, or leads out of the folder, maybe by a link.
        """
        parts = [part for part in _SLASHES.split(name) if part not in ('', '.')]
        is_whole = name[:1] in ('/', '\\') or name[1:2] == ':'
        if not is_whole and parts and '..' not in parts:
            path = os.path.join(self._folder, *parts)  # noqa: PTH118 - ten times as quick
            if not self._leaves(path):
                return Path(path)
        raise ClipVlmError(f'{where}: path {name!r} leaves {self._folder}, which is refused')

    def _leaves(self, path: str) -> bool:
        """Whether links lead out; each folder is followed once."""
        above, _ = os.path.split(path)
        if above not in self._is_inside:
            self._is_inside[above] = self._ends_inside(above)
        return not self._is_inside[above] or (
            os.path.islink(path) and not self._ends_inside(path)  # noqa: PTH114
        )

    def _ends_inside(self, path: str) -> bool:
        real = os.path.realpath(path)
        return real == self._root or real.startswith(self._root.rstrip(os.sep) + os.sep)


def is_file_name(text: str) -> bool:
    """Whether a token or a camera may name a file or a folder as it is."""
    return _NAME.fullmatch(text) is not None


def _cameras(asked: Sequence[str] | None, known: Any, path: Path) -> tuple[str, ...]:
    names = known if isinstance(known, list) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ClipVlmError(f"{path} has no list of names 'cameras'")
    chosen = tuple(asked or names)
    if len(set(chosen)) < len(chosen):
        raise ClipVlmError(f'{path}: a camera is named twice: {", ".join(chosen)}')
    wrong = [name for name in chosen if name not in names]
    if wrong:
        raise ClipVlmError(f'{path} has no {", ".join(wrong)}; its cameras are {", ".join(names)}')
    return chosen


def _checked(row: Any, where: str) -> tuple[str, Mapping[str, str], str | None]:
    token = row.get('token') if isinstance(row, dict) else None
    if not isinstance(token, str) or not token:
        raise ClipVlmError(f'{where} has no token')
    images = row.get('images')
    if not isinstance(images, dict) or not all(isinstance(name, str) for name in images.values()):
        raise ClipVlmError(f"{where}: 'images' is no object of cameras and paths")
    caption = row.get('caption')
    if caption is not None and not isinstance(caption, str):
        raise ClipVlmError(f'{where}: its caption is no text')
    return token, images, (caption or '').strip() or None
