"""Tables (CSV) of what is said of a recording, one moment a row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bag_tools.table_rows import WHENS, Instant, Row, TableError, instant, read_rows
from vlm_nodes.clip_vlm.overlap import is_file_name

COLUMNS: Final = (*WHENS, 'caption', 'token')


@dataclass(frozen=True)
class CaptionRow:
    """One row.

    Attributes:
        line: Where the table says so.
        token: Name of the moment, and of its folder.
        seen: When the pictures were taken.
        caption: What is said of them; None where the cell is empty.
    """

    line: int
    token: str
    seen: Instant
    caption: str | None


def read_caption_rows(path: Path, stem: str) -> list[CaptionRow]:
    """The rows of a table, in its order.

    Args:
        path: The table.
        stem: Begins the tokens of rows that name none; the line's number ends them.

    Raises:
        TableError: A column is unknown or lacking, a moment is no number, or tokens repeat or
            cannot name a folder.
        OSError: The file cannot be read.
    """
    stem = re.sub(r'[^A-Za-z0-9_-]', '_', stem)
    found = [_row(row, stem) for row in read_rows(path, COLUMNS, 'caption')]
    if not found:
        raise TableError(f'{path} holds no caption')
    seen: dict[str, int] = {}
    for row in found:
        if row.token in seen:
            raise TableError(
                f'{path}, line {row.line}: token {row.token!r} is that of line {seen[row.token]}'
            )
        seen[row.token] = row.line
    return found


def _row(row: Row, stem: str) -> CaptionRow:
    seen = instant(row.where, row.values)
    if seen is None:
        raise TableError(f'{row.where}: no stamp or time_s, when the pictures were taken')
    token = row.values.get('token', f'{stem}-{row.line:06d}')
    if not is_file_name(token):
        raise TableError(
            f'{row.where}: token {token!r} is to be the name of a folder: letters, digits, _, - '
            'and . only, and no . first'
        )
    return CaptionRow(row.line, token, seen, row.values.get('caption'))
