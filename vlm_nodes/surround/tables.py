"""nuScenes' JSON tables, row by row: `sample_data.json` has 2.6 million and need not fit in memory.

Format: https://www.nuscenes.org/nuscenes#data-format; a table is one JSON list of flat objects.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from vlm_nodes.surround.errors import SurroundError

NAMES: Final = ('scene', 'sample', 'sample_data', 'calibrated_sensor', 'sensor', 'ego_pose')
Row = dict[str, Any]

_CHUNK: Final = 1 << 20
_SIGN: Final = re.compile(r'\S')
# No row is nearly as long; what does not parse by then is broken, not cut.
_LONGEST_ROW: Final = 1 << 20


def find_tables(root: Path, version: str | None) -> tuple[Path, Path]:
    """The folder of the tables and the folder that their file names start from.

    Args:
        root: The data set's folder (with `samples/` and `v1.0-mini/` or the like), or that of the
            tables.
        version: Name of the tables' folder; may be left out where there is only one.

    Raises:
        SurroundError: There are no tables, or several and no version is given.
    """
    if not root.is_dir():
        raise SurroundError(f'{root} is not a folder')
    if version is not None:
        if root.name == version and (root / 'sample.json').is_file():
            return root, root.parent
        if not (root / version).is_dir():
            raise SurroundError(f'{root} has no {version}; it has {_listed(_versions(root))}')
        return root / version, root
    if (root / 'sample.json').is_file():
        return root, root.parent
    found = _versions(root)
    if len(found) == 1:
        return root / found[0], root
    if found:
        raise SurroundError(f'{root} has {_listed(found)}: say which with version')
    raise SurroundError(
        f'{root} has no nuScenes tables: expected sample.json in a folder such as '
        f'{root / "v1.0-mini"}'
    )


def _versions(root: Path) -> list[str]:
    return sorted(path.parent.name for path in root.glob('*/sample.json'))


def _listed(names: list[str]) -> str:
    return ', '.join(names) or 'no tables at all'


def table_path(folder: Path, name: str) -> Path:
    """The file of a table.

    Raises:
        SurroundError: It is missing.
    """
    path = folder / f'{name}.json'
    if not path.is_file():
        raise SurroundError(
            f'table {path} is missing; needed are {", ".join(f"{n}.json" for n in NAMES)}'
        )
    return path


def rows(path: Path) -> Iterator[Row]:
    """The rows of a table, one at a time.

    Raises:
        SurroundError: The file is no JSON list of objects, or ends too early.
    """
    with path.open('rb') as stream:
        window = _Window(path, codecs.getreader('utf-8-sig')(stream))
        if window.next_sign() != '[':
            raise SurroundError(f'{path} is not a JSON list of rows')
        window.at += 1
        count = 0
        while (sign := window.next_sign()) != ']':
            if count:
                if sign != ',':
                    raise SurroundError(f'{path} is broken after row {count}; copy it again')
                window.at += 1
            row = window.next_value(count)
            if not isinstance(row, dict):
                raise SurroundError(f'{path}: row {count + 1} is not an object')
            yield row
            count += 1


class _Window:
    """The part of a file that is being parsed."""

    def __init__(self, path: Path, stream: codecs.StreamReader) -> None:
        self._path, self._stream = path, stream
        self._text, self.at = '', 0
        self._decoder = json.JSONDecoder()

    def next_sign(self) -> str:
        """The next character that is no white space, '' at the end; `at` is left on it."""
        while True:
            found = _SIGN.search(self._text, self.at)
            if found:
                self.at = found.start()
                return found.group()
            if not self._grow():
                return ''

    def next_value(self, count: int) -> Any:
        """The value that begins at the next sign; `count` rows came before it."""
        self.next_sign()
        while True:
            try:
                value, self.at = self._decoder.raw_decode(self._text, self.at)
            except json.JSONDecodeError as error:
                left = len(self._text) - self.at
                if left > _LONGEST_ROW or not self._grow():
                    raise SurroundError(
                        f'{self._path} is broken after row {count}: {error.msg}; copy it again'
                    ) from None
            else:
                return value

    def _grow(self) -> bool:
        try:
            more = self._stream.read(_CHUNK)
        except UnicodeDecodeError as error:
            raise SurroundError(f'{self._path} is not text in UTF-8: {error.reason}') from None
        self._text, self.at = self._text[self.at :] + more, 0
        return bool(more)
