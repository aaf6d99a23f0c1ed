"""Which text each episode's task has: from patterns of file names, or from the episode itself."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bag_tools.bag_files import TASK_KEY
from bag_tools.episode import Episode, EpisodeError

_TABLE_SUFFIXES = ('.csv', '.yaml', '.yml', '.json')


@dataclass(frozen=True)
class TaskRule:
    """Files of a pattern have a task.

    Attributes:
        pattern: Shell pattern of a file's name, such as 'red_*', or of the end of its path, such as
            'monday/*.npz'. The suffix may be left out.
        text: The task in words.

    Raises:
        ValueError: One of them is empty.
    """

    pattern: str
    text: str

    def __post_init__(self) -> None:
        """Refuse what says nothing."""
        if not self.pattern or not self.text:
            raise ValueError(f'task {self.text!r} for the files {self.pattern!r}: one is empty')

    def fits(self, path: Path) -> bool:
        """Whether a file is one of the pattern's."""
        return path.match(self.pattern) or path.with_suffix('').match(self.pattern)


def rules_from_texts(items: Sequence[str]) -> list[TaskRule]:
    """Rules from 'PATTERN=TEXT'; a 'TEXT' alone is for all files."""
    rules = []
    for item in items:
        pattern, equals, text = item.partition('=')
        rules.append(TaskRule(pattern.strip(), text.strip()) if equals else TaskRule('*', item))
    return rules


def read_rules(path: Path) -> list[TaskRule]:
    """Rules from a table, in its order.

    A CSV has a pattern and a text in each line, a first line 'pattern,task' if you like; YAML and
    JSON hold a mapping of patterns to texts.

    Raises:
        ValueError: The file is of another kind, cannot be read as a table, or is empty.
    """
    if path.suffix not in _TABLE_SUFFIXES:
        raise ValueError(f'{path} is no table of tasks: {", ".join(_TABLE_SUFFIXES)} are read')
    rows = _csv_rows(path) if path.suffix == '.csv' else _mapping_rows(path)
    if not rows:
        raise ValueError(f'{path} holds no task')
    try:
        return [TaskRule(pattern, text) for pattern, text in rows]
    except ValueError as error:
        raise ValueError(f'{path}: {error}') from error


def tasks_of(episodes: Sequence[Episode], rules: Sequence[TaskRule]) -> list[str]:
    """The task of each episode: of the first rule that fits, else what its metadata say.

    Metadata say it as 'task', or what the recorder noted does: `--custom-data task='...'`.

    Raises:
        EpisodeError: Episodes have none; the text names them all.
    """
    found = [_task_of(episode, rules) for episode in episodes]
    missing = [str(e.path) for e, task in zip(episodes, found, strict=True) if task is None]
    if missing:
        raise EpisodeError(
            f'no task is known for {len(missing)} of {len(episodes)} episodes: '
            f'{", ".join(missing)}; name it by pattern, in a table, or as {TASK_KEY!r} in their '
            'metadata'
        )
    return [task for task in found if task is not None]


def unused_rules(episodes: Sequence[Episode], rules: Sequence[TaskRule]) -> list[TaskRule]:
    """Rules that are the first to fit no episode: mostly a slip of the pen."""
    used = {_first_rule(episode.path, rules) for episode in episodes}
    return [rule for rule in rules if rule not in used]


def _task_of(episode: Episode, rules: Sequence[TaskRule]) -> str | None:
    rule = _first_rule(episode.path, rules)
    if rule is not None:
        return rule.text
    noted = episode.metadata.get('custom_data') or {}
    text = episode.metadata.get(TASK_KEY, noted.get(TASK_KEY))
    return text.strip() if isinstance(text, str) and text.strip() else None


def _first_rule(path: Path, rules: Sequence[TaskRule]) -> TaskRule | None:
    return next((rule for rule in rules if rule.fits(path)), None)


def _csv_rows(path: Path) -> list[tuple[str, str]]:
    try:
        with path.open(newline='', encoding='utf-8-sig') as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file) if any(row)]
    except csv.Error as error:
        raise ValueError(f'{path} cannot be read: {error}') from error
    if rows and rows[0][-1].lower() == TASK_KEY:
        del rows[0]
    for line, row in enumerate(rows, start=1):
        if len(row) != 2:
            raise ValueError(
                f'{path}, entry {line} has {len(row)} cells: a pattern and a text are needed '
                '(a text with a comma needs quotes)'
            )
    return [(row[0], row[1]) for row in rows]


def _mapping_rows(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_text(encoding='utf-8')
        values: Any = json.loads(text) if path.suffix == '.json' else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f'{path} cannot be read: {error}') from error
    if not isinstance(values, Mapping):
        raise ValueError(f'{path} holds no mapping of patterns to texts')
    if bad := [key for key, text in values.items() if not isinstance(text, str)]:
        raise ValueError(f'{path}: the task of {bad[0]!r} is no text')
    return [(str(pattern), text.strip()) for pattern, text in values.items()]
