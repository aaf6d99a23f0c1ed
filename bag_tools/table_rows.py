"""Rows of tables (CSV) that people write beside a recording: columns, moments and numbers."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

WHENS = ('stamp', 'time_s')


class TableError(ValueError):
    """A table cannot be used; the text names the line and the column."""


@dataclass(frozen=True)
class Instant:
    """A moment of a recording.

    Attributes:
        nanoseconds: Since the epoch of the stamps, or since the recording's first image.
        from_start: Whether it is the latter.
    """

    nanoseconds: int
    from_start: bool = False

    def stamp_ns(self, start_ns: int) -> int:
        """The stamp, where the first image's is `start_ns`."""
        return self.nanoseconds + (start_ns if self.from_start else 0)


@dataclass(frozen=True)
class Row:
    """A row that says something.

    Attributes:
        line: Where the table says so, its header being line 1.
        where: That in words, for errors.
        values: By column; empty cells are absent.
    """

    line: int
    where: str
    values: Mapping[str, str]


def read_rows(path: Path, columns: Sequence[str], needed: str) -> Iterator[Row]:
    """The rows of a table that are not empty.

    Args:
        path: The table; its first line names columns.
        columns: Those that are known.
        needed: The one that there must be.

    Raises:
        TableError: A column is unknown, or the needed one is absent.
        OSError: The file cannot be read.
    """
    with path.open(newline='', encoding='utf-8-sig') as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        names = tuple(reader.fieldnames or ())
        unknown = [name for name in names if name not in columns]
        if unknown or needed not in names:
            what = f'unknown columns {unknown}' if unknown else f'no column {needed!r}'
            raise TableError(f'{path}: {what}; known are {", ".join(columns)}')
        for row in reader:
            values = {k: v.strip() for k, v in row.items() if isinstance(v, str) and v.strip()}
            if values:
                yield Row(reader.line_num, f'{path}, line {reader.line_num}', values)


def instant(where: str, values: Mapping[str, str], prefix: str = '') -> Instant | None:
    """The moment that a row names as `stamp` or `time_s`, if it names one.

    Raises:
        TableError: It names both, or no number.
    """
    names = [prefix + name for name in WHENS if prefix + name in values]
    if len(names) > 1:
        raise TableError(f'{where}: both {" and ".join(names)}')
    if not names:
        return None
    # As decimals: a float of seconds since 1970 is off by a tenth of a microsecond.
    seconds = number(where, values, names[0])
    return Instant(round(seconds * 10**9), from_start=names[0].endswith('time_s'))


def number(where: str, values: Mapping[str, str], name: str) -> Decimal:
    """The number in a column.

    Raises:
        TableError: There is none.
    """
    if name not in values:
        raise TableError(f'{where}: no {name}')
    try:
        found = Decimal(values[name])
    except InvalidOperation:
        found = Decimal('nan')
    if not found.is_finite():
        raise TableError(f'{where}: {name} = {values[name]!r} is no number')
    return found
