"""Captioned pictures in a folder of their own, which training needs nothing beside.

DIR/manifest.json    {"cameras": [...], "samples": [{"token", "images": {CAM: path}, "caption"}]}
DIR/captions.json    {token: text}, for who reads captions alone
DIR/images/TOKEN/CAM.jpg
"""

from __future__ import annotations

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
    tally = Tally(max_samples=max_samples)
    samples: list[CaptionedViews] = []
    for number, row in enumerate(rows, start=1):
        where = f'{path}, sample {number}'
        token, images, caption = _checked(row, where)
        pictures = {
            name: path_inside(folder, images[name], where) for name in chosen if name in images
        }
        if captions_needed and caption is None:
            tally.skipped[NO_CAPTION] += 1
        elif not tally.skips(pictures, len(samples), require_files=require_files):
            samples.append(CaptionedViews(token, pictures, caption, MANIFEST))
    return SampleSet.of(samples, chosen, tally)


def path_inside(folder: Path, name: str, where: str) -> Path:
    """A path below a folder, from a relative name with either kind of slash.

    Raises:
        ClipVlmError: The name is whole, or leads out of the folder, maybe by a link.
    """
    parts = [part for part in re.split(r'[/\\]+', name) if part not in ('', '.')]
    is_whole = name[:1] in ('/', '\\') or name[1:2] == ':'
    path = folder.joinpath(*parts)
    if (
        is_whole
        or not parts
        or '..' in parts
        or not path.resolve().is_relative_to(folder.resolve())
    ):
        raise ClipVlmError(f'{where}: path {name!r} leaves {folder}, which is refused')
    return path


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
