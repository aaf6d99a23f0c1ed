"""The folder that a training writes into, and may go on in."""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bag_tools.whole_file import write_whole

OPTIONS: Final = 'options.json'
LAST: Final = 'last.ckpt'


def is_first_process() -> bool:
    """Whether this process was started by somebody: Lightning starts those of further devices.

    They run the same command line, where the first has begun to write.
    """
    return os.environ.get('LOCAL_RANK', '0') == '0'


def check_counts(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Options that must be at least 1.

    Raises:
        ValueError: One is less; the message names it.
    """
    for name in names:
        if getattr(options, name) < 1:
            option = name.replace('_', '-')
            raise ValueError(f'--{option} must be at least 1, is {getattr(options, name)}')


def check_folder(folder: Path, *, resume: bool, option: str, ours: str | None = None) -> None:
    """Whether a training may begin, or go on, in a folder; only its first process asks.

    Args:
        folder: It.
        resume: Whether it goes on.
        option: Which names the folder.
        ours: Name of what may be there before.

    Raises:
        ValueError: It is to go on, but there is nothing.
        FileExistsError: It is to begin, but there is something.
    """
    if not is_first_process():
        return
    if resume:
        if not (folder / LAST).is_file():
            raise ValueError(f'there is nothing to resume: no file {folder / LAST}')
    elif folder.exists() and any(path.name != ours for path in folder.iterdir()):
        raise FileExistsError(
            f'{folder} is not empty: go on with --resume, or choose another {option}'
        )


def keep_page(
    folder: Path, page: Mapping[str, Any], *, resume: bool, alike: Sequence[Sequence[str]]
) -> None:
    """Write down what is trained; a training that goes on must be the same.

    Args:
        folder: Of the training; it is made where it is missing.
        page: What to write, as `OPTIONS`; what JSON has no word for is written as text.
        resume: Whether it goes on.
        alike: Keys, and keys within them, of what must be the same then.

    Raises:
        ValueError: Something else was trained before; the message names what differs.
    """
    if not is_first_process():
        return
    path, new = folder / OPTIONS, json.loads(json.dumps(page, default=str))
    if resume and path.is_file():
        old = json.loads(path.read_text(encoding='utf-8'))
        other = [keys[-1] for keys in alike if _of(old, keys) != _of(new, keys)]
        if other:
            raise ValueError(f'{folder} cannot be resumed: {", ".join(other)} differ')
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(new, indent=2) + '\n').encode())


def _of(page: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        page = page.get(key)
    return page
