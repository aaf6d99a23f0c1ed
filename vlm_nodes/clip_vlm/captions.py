"""Captions as files give them, one text or texts of views, and what becomes of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vlm_nodes.clip_vlm.errors import ClipVlmError

SOURCES: Final = ('auto', 'gpt', 'gemini')
STRATEGIES: Final = ('overall', 'per_view_concat')

MADE: Final = 'OVERALL absent, caption made from FRONT and BACK'
FROM_CAMERA: Final = 'FRONT or BACK absent, taken from CAM_FRONT or CAM_BACK'
FROM_OVERALL: Final = 'no text of a view, OVERALL taken'
VIEW_WITHOUT: Final = 'views without a text of their own'


@dataclass(frozen=True)
class CaptionTable:
    """Texts by sample token.

    Attributes:
        texts: The captions.
        source: Where they are from, by token.
        skipped: Entries without a usable text, by reason.
        notes: Which fallbacks were taken, and how often.
    """

    texts: Mapping[str, str]
    source: Mapping[str, str]
    skipped: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)


def read_json(path: Path) -> Any:
    """What a JSON file says; it may begin with a byte order mark, as editors on Windows write.

    Raises:
        ClipVlmError: It is missing, or broken; the text says where.
    """
    if not path.is_file():
        raise ClipVlmError(f'{path} is missing')
    try:
        return json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise ClipVlmError(
            f'{path} is broken JSON: line {error.lineno}, column {error.colno}: {error.msg}'
        ) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise ClipVlmError(f'{path} is no JSON text: {error}') from None


def read_captions(path: Path, *, strategy: str, cameras: Sequence[str]) -> CaptionTable:
    """Captions of a JSON file {sample token: text}, or {sample token: {view: text}}.

    Raises:
        ClipVlmError: The file is missing, broken, or says nothing of this kind.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ClipVlmError(f'{path} is no JSON object of sample tokens and their texts')
    table = CaptionTable({}, {})
    texts, source = {}, {}
    for token, value in content.items():
        text = compose(value, strategy, cameras, table.notes)
        if text:
            texts[token], source[token] = text, path.name
        else:
            table.skipped['caption without a text'] += 1
    return CaptionTable(texts, source, table.skipped, table.notes)


def compose(value: Any, strategy: str, cameras: Sequence[str], notes: Counter[str]) -> str:
    """One text from a caption: a text, or texts of views (CAM_*), FRONT, BACK and OVERALL.

    Args:
        value: As a JSON file has it.
        strategy: 'overall': OVERALL, then FRONT and BACK; 'per_view_concat': the text of each
            camera, in their order, or OVERALL where there is none.
        cameras: In order.
        notes: Fallbacks taken are counted here.

    Returns:
        '' where the value has no such text.
    """
    if isinstance(value, str):
        return value.strip()
    if not isinstance(value, Mapping):
        return ''
    parts = {
        str(key).strip().upper(): text.strip()
        for key, text in value.items()
        if isinstance(text, str) and text.strip()
    }
    if strategy == 'per_view_concat':
        return _views(parts, cameras, notes)
    return _overall(parts, notes)


def _overall(parts: Mapping[str, str], notes: Counter[str]) -> str:
    ends = [parts.get(name, parts.get(f'CAM_{name}', '')) for name in ('FRONT', 'BACK')]
    text = _joined([parts.get('OVERALL', ''), *ends])
    if text and 'OVERALL' not in parts:
        notes[MADE] += 1
    if any(name not in parts and f'CAM_{name}' in parts for name in ('FRONT', 'BACK')):
        notes[FROM_CAMERA] += 1
    return text


def _views(parts: Mapping[str, str], cameras: Sequence[str], notes: Counter[str]) -> str:
    texts = [parts.get(name, parts.get(name.removeprefix('CAM_'), '')) for name in cameras]
    if any(texts):
        notes[VIEW_WITHOUT] += texts.count('')
        return _joined(texts)
    text = _overall(parts, notes)
    if text:
        notes[FROM_OVERALL] += 1
    return text


def _joined(texts: Sequence[str]) -> str:
    """Texts one after the other; of several, each ends like a sentence."""
    found = [text for text in texts if text]
    if len(found) > 1:
        found = [text if text[-1] in '.!?' else f'{text}.' for text in found]
    return ' '.join(found)
