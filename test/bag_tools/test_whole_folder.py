from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from bag_tools.whole_folder import check_free, whole_folder

HOLDS = ('*.txt',)


def fill(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / 'a.txt').write_text(text)


def write(path: Path, text: str, *, overwrite: bool = False) -> None:
    with whole_folder(path, overwrite=overwrite, holds=HOLDS) as folder:
        assert folder.name == path.name
        assert not folder.exists()
        fill(folder, text)
        assert not (path / 'a.txt').exists() or (path / 'a.txt').read_text() != text


def test_it_appears_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    write(tmp_path / 'deep' / 'out', 'one')
    assert (tmp_path / 'deep' / 'out' / 'a.txt').read_text() == 'one'
    assert [p.name for p in (tmp_path / 'deep').iterdir()] == ['out']


def stop_half_way(path: Path) -> None:
    with whole_folder(path, overwrite=True, holds=HOLDS) as folder:
        fill(folder, 'half')
        raise RuntimeError


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / 'out', 'one')
    with pytest.raises(RuntimeError):
        stop_half_way(tmp_path / 'out')
    assert (tmp_path / 'out' / 'a.txt').read_text() == 'one'
    assert [p.name for p in tmp_path.iterdir()] == ['out']


def test_a_block_that_makes_nothing_loses_nothing(tmp_path: Path) -> None:
    write(tmp_path / 'out', 'one')
    with (
        pytest.raises(FileNotFoundError),
        whole_folder(tmp_path / 'out', overwrite=True, holds=HOLDS),
    ):
        pass
    assert (tmp_path / 'out' / 'a.txt').read_text() == 'one'


def test_only_what_the_tool_writes_is_replaced_and_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / 'out'
    write(out, 'one')
    with pytest.raises(FileExistsError, match='exists already: give another name, or --overwrite'):
        write(out, 'two')
    write(out, 'two', overwrite=True)
    assert (out / 'a.txt').read_text() == 'two'
    (out / 'photo.jpg').write_text('mine')
    with pytest.raises(FileExistsError, match=r'holds photo\.jpg, which this tool does not write'):
        write(out, 'three', overwrite=True)
    file = tmp_path / 'file'
    file.write_text('mine')
    with pytest.raises(FileExistsError, match='is a file'):
        check_free(file, overwrite=True, holds=HOLDS)
    empty = tmp_path / 'empty'
    empty.mkdir()
    write(empty, 'four')
    assert (empty / 'a.txt').read_text() == 'four'


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen(['true'])
    ended.wait()
    dead, alive = (tmp_path / f'.out.partial-{pid}-x' for pid in (ended.pid, os.getppid()))
    for folder in (dead, alive):
        fill(folder, 'half')
    write(tmp_path / 'out', 'one')
    assert not dead.exists()
    assert alive.exists()
