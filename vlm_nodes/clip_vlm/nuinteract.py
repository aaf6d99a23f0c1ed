"""NuInteract's captions: a folder of JSON lists of records, most one file a drive.

Format: https://github.com/zc-zhao/DriveMonkey, `all_caption_public/`. A record has a token, the
pictures that it is of (`cam_path`) and a caption, a text or texts by view, as `gpt_caption` or,
in the public release, `gemini_caption`.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vlm_nodes.clip_vlm.captions import CaptionTable, compose, read_json
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.samples import NO_CAPTION, CaptionedViews, SampleSet, Tally
from vlm_nodes.surround import CAMERAS, SurroundError
from vlm_nodes.surround.index import channel_of_file
from vlm_nodes.surround.nuscenes import relative_path

_LOGGER = logging.getLogger(__name__)
FOLDER: Final = 'all_caption_public'
_FIELDS: Final = {
    'auto': ('gpt_caption', 'gemini_caption'),
    'gpt': ('gpt_caption',),
    'gemini': ('gemini_caption',),
}
NO_TOKEN: Final = 'record without a token'
JOINED: Final = 'joined with an earlier record of its sample'
OUTSIDE: Final = 'pictures outside of --data-root, left out'
OTHER: Final = 'pictures of cameras not asked for, left out'
BROKEN: Final = 'broken files, left out'


@dataclass
class _Record:
    """A sample's record, or several joined.

    Attributes:
        token: Of the sample.
        pictures: File name as given, by camera.
        captions: As given, by field.
    """

    token: str
    pictures: dict[str, str]
    captions: dict[str, Any]


def nuinteract_captions(
    folder: Path, *, source: str, strategy: str, cameras: Sequence[str]
) -> CaptionTable:
    """The captions alone, by sample token.

    Args:
        folder: `all_caption_public/`, or the folder that has it.
        source: 'gpt', 'gemini', or 'auto', which takes the first that there is.
        strategy: See `compose`.
        cameras: In order.

    Raises:
        ClipVlmError: There is no such folder, or it has no readable file.
    """
    tally = Tally()
    texts, fields = {}, {}
    for record in _read(folder, tally).values():
        text, field = _caption(record, source, strategy, cameras, tally.notes)
        if text:
            texts[record.token], fields[record.token] = text, field
        else:
            tally.skipped[NO_CAPTION] += 1
    # A reason to skip here is one to mention for who joins these with other samples.
    skipped = Counter({f'of NuInteract: {what}': n for what, n in tally.skipped.items()})
    return CaptionTable(texts, fields, skipped, tally.notes)


def open_nuinteract(
    folder: Path,
    root: Path,
    *,
    cameras: Sequence[str] | None = None,
    source: str = 'auto',
    strategy: str = 'overall',
    captions_needed: bool = True,
    require_files: bool = False,
    max_samples: int | None = None,
) -> SampleSet:
    """NuInteract's records with the pictures that they name.

    Args:
        folder: `all_caption_public/`, or the folder that has it.
        root: nuScenes' folder, which has the pictures.
        cameras: Which, in order; None takes those of nuScenes' six that records have.
        source: 'gpt', 'gemini', or 'auto', which takes the first that there is.
        strategy: See `compose`.
        captions_needed: Skip records without a caption.
        require_files: Skip records with a missing picture.
        max_samples: Keep the first so many.

    Raises:
        ClipVlmError: A folder is missing or has no readable file, or no record has a camera.
    """
    if not root.is_dir():
        raise ClipVlmError(f'{root} is not a folder: --data-root is that of nuScenes')
    tally = Tally(max_samples=max_samples)
    records = _read(folder, tally)
    chosen = _cameras(cameras, records, folder)
    samples: list[CaptionedViews] = []
    for record in records.values():
        pictures = _pictures(record, root, chosen, tally.notes)
        text, field = _caption(record, source, strategy, chosen, tally.notes)
        if captions_needed and not text:
            tally.skipped[NO_CAPTION] += 1
        elif not tally.skips(pictures, len(samples), require_files=require_files):
            samples.append(CaptionedViews(record.token, pictures, text or None, field))
    return SampleSet.of(samples, chosen, tally)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ClipVlmError(f'{folder} is not a folder: --nuinteract-dir is its {FOLDER}/')
    files = sorted(folder.glob('*.json')) or sorted((folder / FOLDER).glob('*.json'))
    if not files:
        raise ClipVlmError(f'{folder} has no .json files: --nuinteract-dir is its {FOLDER}/')
    return files


def _read(folder: Path, tally: Tally) -> dict[str, _Record]:
    """Records by token, those of one token joined: some releases have one a camera."""
    files = _files(folder)
    found: dict[str, _Record] = {}
    for row in _rows(files, tally):
        token = row.get('token') if isinstance(row, dict) else None
        if not isinstance(token, str) or not token:
            tally.skipped[NO_TOKEN] += 1
            continue
        pictures = _named_pictures(row.get('cam_path'))
        names = [name for name in _FIELDS['auto'] if row.get(name)]
        captions = {name: row[name] for name in names}
        if token in found:
            tally.skipped[JOINED] += 1
            found[token].pictures = pictures | found[token].pictures
            found[token].captions = captions | found[token].captions
        else:
            found[token] = _Record(token, pictures, captions)
    if tally.notes[BROKEN] == len(files):
        raise ClipVlmError(f'{folder} has no readable file: {len(files)} are broken; copy it again')
    return found


def _rows(files: Sequence[Path], tally: Tally) -> Iterator[Any]:
    for path in files:
        try:
            content = read_json(path)
            if not isinstance(content, list):
                raise ClipVlmError(f'{path} is no JSON list of records')
        except ClipVlmError as error:
            if not tally.notes[BROKEN]:
                _LOGGER.warning('left out: %s', error)
            tally.notes[BROKEN] += 1
            continue
        yield from content


def _named_pictures(value: Any) -> dict[str, str]:
    """File name by camera, from a mapping, a list of names, or one name."""
    if isinstance(value, Mapping):
        named = {str(camera).upper(): name for camera, name in value.items()}
        return {camera: name for camera, name in named.items() if isinstance(name, str) and name}
    names = value if isinstance(value, list) else [value]
    return {channel_of_file(name): name for name in names if isinstance(name, str) and name}


def _cameras(
    asked: Sequence[str] | None, records: Mapping[str, _Record], folder: Path
) -> tuple[str, ...]:
    known = {camera for record in records.values() for camera in record.pictures}
    if asked is None:
        return tuple(camera for camera in CAMERAS if camera in known) or CAMERAS
    if len(set(asked)) < len(asked):
        raise ClipVlmError(f'a camera is asked for twice: {", ".join(asked)}')
    wrong = [camera for camera in asked if camera not in known]
    if wrong:
        raise ClipVlmError(
            f'{folder}: no record has a picture of {", ".join(wrong)}; '
            f'their cameras are {", ".join(sorted(known)) or "none"}'
        )
    return tuple(asked)


def _pictures(
    record: _Record, root: Path, cameras: Sequence[str], notes: Counter[str]
) -> dict[str, Path]:
    notes[OTHER] += sum(camera not in cameras for camera in record.pictures)
    found = {}
    for camera in cameras:
        if camera in record.pictures:
            try:
                found[camera] = root / relative_path(_below_samples(record.pictures[camera]))
            except SurroundError:
                notes[OUTSIDE] += 1
    return found


def _below_samples(name: str) -> str:
    """A name from its last `samples` on, where records name the folders above as well."""
    parts = re.split(r'[/\\]+', name)
    if 'samples' not in parts:
        return name
    last = len(parts) - 1 - parts[::-1].index('samples')
    return '/'.join(parts[last:])


def _caption(
    record: _Record, source: str, strategy: str, cameras: Sequence[str], notes: Counter[str]
) -> tuple[str, str]:
    """Text and field of the first field with a text; both '' if there is none."""
    for name in _FIELDS[source]:
        text = compose(record.captions.get(name), strategy, cameras, notes)
        if text:
            notes[f'captions from {name}'] += 1
            return text, name
    return '', ''
