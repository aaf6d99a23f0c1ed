"""Recording demonstrations: the same seeds, the same bytes, whatever was there before."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vlm_nodes.cliport import demos
from vlm_nodes.cliport.demos import collect, seed_of
from vlm_nodes.cliport.episode import Episode, episode_files
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.simulation.tabletop import make_task
from vlm_nodes.simulation.tabletop.layout import NoRoomError

REPOSITORY = Path(__file__).resolve().parents[2]
TASK = make_task('put-block-in-bowl', mode='train')
WORKSPACE = Workspace()


def command(*arguments):
    return subprocess.run(
        [sys.executable, '-m', 'vlm_nodes.cliport.demos', *arguments],
        cwd=REPOSITORY,
        env=os.environ | {'PYTHONPATH': str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    out = tmp_path_factory.mktemp('data')
    return collect(TASK, 3, out, WORKSPACE, quiet=True)


def test_seeds_of_the_modes_do_not_meet():
    seeds = {mode: [seed_of(mode, i) for i in range(1000)] for mode in ('train', 'val', 'test')}
    assert seeds['train'][:3] == [0, 2, 4]
    assert seeds['val'][:3] == [1, 3, 5]
    assert seeds['test'][:3] == [10001, 10003, 10005]
    assert not set(seeds['train']) & set(seeds['test'])
    assert not set(seeds['val']) & set(seeds['test'])
    with pytest.raises(ValueError, match='from 10001 on'):
        seed_of('val', 5000)
    with pytest.raises(ValueError, match="mode 'all'"):
        seed_of('all', 0)


def test_an_episode_holds_what_was_seen_and_done(recorded):
    files = episode_files(recorded.folder)
    assert recorded.folder.name == 'put-block-in-bowl-seen-colors-train'
    assert [path.name for path in files] == ['000000.zip', '000002.zip', '000004.zip']
    assert recorded.file_bytes == sum(path.stat().st_size for path in files)
    for path in files:
        episode = Episode.load(path)
        assert episode.total_reward == pytest.approx(1)
        assert [each.name for each in episode.cameras] == ['front', 'left', 'right']
        assert 'mujoco' in episode.provenance['simulator']
        for step, after in zip(episode.steps, [*episode.steps[1:], None], strict=True):
            before = step.heightmap
            later = after.heightmap if after else episode.final
            assert before.coverage > 0.99
            row, column = np.floor(WORKSPACE.pixels(step.pick[None, :3, 3])[0]).astype(int)
            assert before.height_m[row, column] == pytest.approx(0.04, abs=2e-3)
            assert step.pick[2, 3] == pytest.approx(0.04, abs=2e-3)
            # What was there is gone.
            assert later.height_m[row, column] < 0.03


def test_bytes_do_not_depend_on_what_was_there_or_on_workers(recorded, tmp_path):
    before = {path.name: path.read_bytes() for path in episode_files(recorded.folder)}
    folder = tmp_path / recorded.folder.name
    folder.mkdir()
    kept = folder / '000000.zip'
    kept.write_bytes(before['000000.zip'])
    written_at = kept.stat().st_mtime_ns
    (folder / '000002.zip').write_bytes(before['000002.zip'][:-100])
    summary = collect(TASK, 3, tmp_path, WORKSPACE, workers=2, quiet=True)
    assert (summary.written, summary.kept) == (2, 1)
    assert kept.stat().st_mtime_ns == written_at
    assert {path.name: path.read_bytes() for path in episode_files(folder)} == before


def test_seeds_at_which_the_expert_fails_are_left_out(tmp_path, monkeypatch):
    def fails_at_0(task, seed, workspace):
        if seed == 0:
            return demos.Recording(seed, None, 2, '0.50 of the task done in 2 steps')
        return demos.Recording(seed, b'content', 1)

    monkeypatch.setattr(demos, '_record_seed', fails_at_0)
    summary = collect(TASK, 2, tmp_path, WORKSPACE, quiet=True)
    assert summary.failed == ((0, '0.50 of the task done in 2 steps'),)
    assert sorted(path.name for path in summary.folder.iterdir()) == ['000002.zip', '000004.zip']


def test_an_expert_that_always_fails_is_not_waited_for(tmp_path, monkeypatch):
    failure = demos.Recording(0, None, 1, 'nothing done')
    monkeypatch.setattr(demos, '_record_seed', lambda *_: failure)
    with pytest.raises(demos.ExpertFailsError, match=r'failed at 51 of 51 seeds.*nothing done'):
        collect(TASK, 2, tmp_path, WORKSPACE, quiet=True)


def test_the_command_takes_published_arguments(tmp_path):
    done = command(
        'task=packing-shapes', 'n=1', 'mode=val', '--workers', '1', f'out={tmp_path}', '--json'
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary['written'], summary['kept']) == (1, 0)
    assert [path.name for path in (tmp_path / 'packing-shapes-val').iterdir()] == ['000001.zip']
    assert '1/1' in done.stderr


def test_a_table_that_cannot_be_laid_is_a_failure_like_another(monkeypatch, tmp_path):
    def build(rng, variant):
        raise NoRoomError('full')

    full = replace(TASK, build=build)
    monkeypatch.setattr(demos, '_MOST_FAILURES', 0)
    with pytest.raises(demos.ExpertFailsError, match='no table of it has room'):
        collect(full, 1, tmp_path, WORKSPACE, quiet=True)


@pytest.mark.parametrize(
    ('arguments', 'reason'),
    [
        (('task=put-block',), "no task 'put-block'; the tasks are: put-block-in-bowl"),
        ((), 'which task?'),
        (('taks=packing-shapes',), "'taks=packing-shapes': the keys are task, n"),
        (('task=packing-shapes', 'n=0'), 'n must be at least 1'),
        (('task=packing-shapes', 'mode=dev'), "mode 'dev' is not known"),
    ],
)
def test_bad_arguments_are_named(tmp_path, arguments, reason, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['cliport_demos', *arguments, '--out', str(tmp_path)])
    with pytest.raises(SystemExit, match='2'):
        demos.main()
    assert reason in capsys.readouterr().err.splitlines()[-1]


def test_tasks_and_sets_are_listed(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['cliport_demos', '--list'])
    with pytest.raises(SystemExit, match='0'):
        demos.main()
    names = capsys.readouterr().out.split()
    assert {'put-block-in-bowl-unseen-colors', 'align-rope', 'multi-language-conditioned'} <= set(
        names
    )
