from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from episode_writing import NAMES, PERIOD_NS, START_NS, episode_arrays, write_episode
from hypothesis import given
from hypothesis import strategies as st

from bag_tools import make_dataset
from bag_tools.episode import Episode
from bag_tools.episode_split import split_by_task
from bag_tools.task_texts import TaskRule, read_rules, rules_from_texts, tasks_of
from bag_tools.thumbnails import png_text
from bag_tools.training_set import SetConfig, TrainingSet

TASKS = ('--tasks', 'red_*=reach the red cup', 'blue_*=reach the blue cup')


@pytest.fixture
def episodes(tmp_path: Path) -> Path:
    """Six of red with 3 to 8 ticks, four of blue with 9 to 12."""
    folder = tmp_path / 'npz'
    folder.mkdir()
    for i in range(10):
        name = f'{"red" if i < 6 else "blue"}_{i}.npz'
        write_episode(folder / name, steps=3 + i, number=i)
    return folder


def run(*arguments: object) -> int:
    return make_dataset.main([str(argument) for argument in arguments])


def load(folder: Path, split: str) -> dict[str, np.ndarray]:
    return {p.stem: np.load(p, allow_pickle=False) for p in (folder / split).glob('*.npy')}


def test_every_row_is_its_episode_and_padding_repeats_the_last_tick(
    episodes: Path, tmp_path: Path
) -> None:
    out = tmp_path / 'data'
    assert run(episodes, '--out', out, *TASKS) == 0
    record = json.loads((out / 'episodes.json').read_text())
    assert sorted(Path(e['file']).name for e in record['episodes']) == sorted(
        path.name for path in episodes.iterdir()
    )
    splits = {split: load(out, split) for split in ('train', 'test')}
    texts = {int(k): v for k, v in json.loads((out / 'task_dict.json').read_text()).items()}
    for entry in record['episodes']:
        arrays, row = splits[entry['split']], entry['row']
        number = int(Path(entry['file']).stem.split('_')[1])
        steps = 3 + number
        truth = episode_arrays(steps, number)
        assert arrays['lengths'][row] == entry['steps'] == steps
        assert texts[arrays['tasks'][row]] == entry['task'] == f'reach the {_color(number)} cup'
        for file, key in (('images', 'color'), ('joints', 'joints_state')):
            np.testing.assert_array_equal(arrays[file][row, :steps], truth[key])
            assert (arrays[file][row, steps:] == truth[key][-1]).all()
        for key in ('depth', 'gelsight1', 'actions', 'stamps'):
            np.testing.assert_array_equal(arrays[key][row, :steps], truth[key])
            assert (arrays[key][row, steps:] == truth[key][-1]).all()
        assert arrays['valid_color'][row, :steps].all()
        assert not arrays['valid_color'][row, steps:].any()
    assert splits['train']['images'].shape[1] == splits['train']['lengths'].max()
    assert {a.dtype.name for a in (splits['test'][k] for k in ('images', 'depth', 'joints'))} == {
        'uint8',
        'uint16',
        'float32',
    }


def _color(number: int) -> str:
    return 'red' if number < 6 else 'blue'


def test_split_keeps_a_share_of_each_task_and_is_drawn_by_seed(
    episodes: Path, tmp_path: Path
) -> None:
    def files(out: Path, split: str) -> list[str]:
        record = json.loads((out / 'episodes.json').read_text())
        return [Path(e['file']).name for e in record['episodes'] if e['split'] == split]

    shuffled = sorted(episodes.iterdir(), reverse=True)
    assert run(*shuffled, '--out', tmp_path / 'a', *TASKS, '--test-share', 0.34) == 0
    assert run(episodes, '--out', tmp_path / 'b', *TASKS, '--test-share', 0.34) == 0
    assert files(tmp_path / 'a', 'test') == files(tmp_path / 'b', 'test')
    kept = [name.split('_')[0] for name in files(tmp_path / 'a', 'test')]
    assert (kept.count('red'), kept.count('blue')) == (2, 1)
    tasks = [name.name.split('_')[0] for name in sorted(episodes.iterdir())]
    assert len({split_by_task(tasks, 0.34, seed) for seed in range(5)}) > 1


@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    share=st.floats(0, 0.95),
    seed=st.integers(0, 2**32),
)
def test_split_trains_on_every_task_and_tests_what_it_can(
    counts: list[int], share: float, seed: int
) -> None:
    tasks = [f'task {i}' for i, count in enumerate(counts) for _ in range(count)]
    is_test = split_by_task(tasks, share, seed)
    for i, count in enumerate(counts):
        tested = sum(test for test, task in zip(is_test, tasks, strict=True) if task == f'task {i}')
        assert tested < count
        assert (tested >= 1) == (share > 0 and count > 1)
        assert abs(tested - share * count) <= 1


def test_bounds_are_of_training_alone_and_of_what_was_measured(tmp_path: Path) -> None:
    valid = np.ones(5, np.bool_)
    valid[2] = False
    joints = episode_arrays(5)['joints_state']
    joints[2] = 99  # held from elsewhere, and marked so
    write_episode(tmp_path / 'a.npz', joints_state=joints, valid_joints_state=valid)
    write_episode(tmp_path / 'b.npz', number=1)
    write_episode(tmp_path / 'c.npz', number=1)
    episodes = [Episode(tmp_path / f'{name}.npz') for name in 'abc']
    made = TrainingSet(episodes, ['x', 'y', 'y'], SetConfig(test_share=0.5))
    bounds = made.bounds['joints_state']
    np.testing.assert_allclose(bounds.low_high[:, 0], (0, 1.4))
    # All three are one episode in training, so that its joints bound nothing else.
    alone = TrainingSet(episodes[:1], ['x'], SetConfig())
    np.testing.assert_allclose(alone.bounds['joints_state'].low_high[:, :2], [[0, -0.2], [0.4, 0]])


def test_a_joint_that_never_moves_is_told_and_cannot_divide_by_zero(
    episodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'data'
    assert run(episodes, '--out', out, *TASKS) == 0
    assert 'never move in training, their bounds are set one apart: grip' in capsys.readouterr().out
    low, high = np.load(out / 'joint_bounds.npy')
    assert (high > low).all()
    joints = np.load(out / 'train/joints.npy')
    scaled = (joints - low) / (high - low)
    assert np.isfinite(scaled).all()
    np.testing.assert_allclose(scaled[..., 2], 0.5)
    assert json.loads((out / 'episodes.json').read_text())['still_joints'] == ['grip']


def test_joints_in_another_order_are_put_in_the_first_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turned = [2, 0, 1]
    arrays = episode_arrays(5, 1)
    write_episode(tmp_path / 'a.npz')
    write_episode(
        tmp_path / 'b.npz',
        number=1,
        joint_names=np.array(NAMES)[turned],
        joints_state=arrays['joints_state'][:, turned],
        actions=arrays['actions'][:, turned],
    )
    out = tmp_path / 'data'
    assert run(tmp_path, '--out', out, '--tasks', 'go', '--test-share', 0) == 0
    np.testing.assert_array_equal(np.load(out / 'train/joints.npy')[1], arrays['joints_state'])
    np.testing.assert_array_equal(np.load(out / 'train/actions.npy')[1], arrays['actions'])
    assert 'b.npz' in capsys.readouterr().out.split('by name, in:')[1]
    assert np.load(out / 'test/images.npy').shape == (0, 0, 6, 8, 3)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'joint_names': np.array(['lift', 'turn', 'roll'])}, r'b\.npz: joints_state has the col'),
        ({'color': np.zeros((5, 6, 9, 3), np.uint8)}, r'b\.npz: color is 6x9x3 uint8, but 6x8x3'),
        ({'depth': np.zeros((5, 6, 8), np.float32)}, r'b\.npz: depth is 6x8 float32, but 6x8 uint'),
        ({'joints_state': np.full((5, 3), np.nan, np.float32)}, r'b\.npz: joints_state is nan'),
        ({'without': ('gelsight1', 'valid_gelsight1')}, r'b\.npz has no gelsight1'),
        ({'gelsight2': np.zeros((5, 4, 4, 3), np.uint8)}, r'b\.npz has gelsight2, which .*a\.npz'),
        ({'without': ('joint_names',)}, r'b\.npz has no joint_names'),
    ],
)
def test_an_episode_that_differs_is_named_and_nothing_is_written(
    tmp_path: Path, change: dict[str, np.ndarray], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / 'npz', tmp_path / 'out'
    source.mkdir()
    write_episode(source / 'a.npz')
    write_episode(source / 'b.npz', **change)
    assert run(source, '--out', out / 'data', '--tasks', 'go') == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count('\n') == 1
    assert not out.exists() or not list(out.iterdir())


def test_streams_can_be_chosen(tmp_path: Path) -> None:
    write_episode(tmp_path / 'a.npz')
    write_episode(tmp_path / 'b.npz', without=('gelsight1', 'valid_gelsight1', 'depth'))
    out = tmp_path / 'data'
    assert run(tmp_path, '--out', out, '--tasks', 'go', '--streams', 'color', 'joints_state') == 0
    assert sorted(load(out, 'train')) == [
        'images',
        'joints',
        'lengths',
        'stamps',
        'tasks',
        'valid_color',
        'valid_joints_state',
    ]


def test_a_missing_task_names_the_files(
    episodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(episodes, '--out', tmp_path / 'data', '--tasks', 'red_*=reach') == 2
    error = capsys.readouterr().err
    assert 'no task is known for 4 of 10 episodes' in error
    assert all(f'blue_{i}.npz' in error for i in range(6, 10))
    assert 'red_' not in error
    assert not (tmp_path / 'data').exists()


@pytest.mark.parametrize(
    ('name', 'text'),
    [
        ('tasks.csv', 'pattern,task\nred_*,"to the red, slowly"\nblue_*,blue\n'),
        ('tasks.csv', 'red_*,"to the red, slowly"\nblue_*,blue\n'),
        ('tasks.yaml', 'red_*: to the red, slowly\nblue_*: blue\n'),
        ('tasks.json', '{"red_*": "to the red, slowly", "blue_*": "blue"}'),
    ],
)
def test_tasks_from_a_table(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_rules(tmp_path / name) == [
        TaskRule('red_*', 'to the red, slowly'),
        TaskRule('blue_*', 'blue'),
    ]


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('tasks.txt', 'a: b', 'is no table of tasks'),
        ('tasks.csv', 'red_*,to the red, slowly\n', 'entry 1 has 3 cells'),
        ('tasks.yaml', '- a\n- b\n', 'holds no mapping'),
        ('tasks.json', '{"a": 3}', "the task of 'a' is no text"),
        ('tasks.json', '{', 'cannot be read'),
        ('tasks.csv', '', 'holds no task'),
        ('tasks.csv', 'red_*,\n', 'one is empty'),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_rules(tmp_path / name)
    assert name in str(caught.value)


def test_the_first_rule_that_fits_counts_then_the_metadata(tmp_path: Path) -> None:
    (tmp_path / 'mon').mkdir()
    paths = [
        write_episode(tmp_path / 'mon' / 'a.npz', metadata={'task': 'its own'}),
        write_episode(tmp_path / 'b.npz', metadata={'task': 'its own'}),
        write_episode(tmp_path / 'c.npz'),
    ]
    episodes = [Episode(path) for path in paths]
    rules = rules_from_texts(['mon/*=monday', 'c=see = say', 'c.npz=never'])
    assert tasks_of(episodes, rules) == ['monday', 'its own', 'see = say']


def test_a_rule_for_no_file_is_told(
    episodes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(episodes, '--out', tmp_path / 'data', *TASKS, 'rad_*=reach') == 0
    assert "'reach' for 'rad_*' is that of no episode" in caplog.text


def test_nothing_is_overwritten_unless_asked_and_never_what_is_not_ours(
    episodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'data'
    assert run(episodes, '--out', out, *TASKS) == 0
    before = (out / 'episodes.json').stat().st_mtime_ns
    assert run(episodes, '--out', out, *TASKS) == 2
    assert 'exists already' in capsys.readouterr().err
    assert (out / 'episodes.json').stat().st_mtime_ns == before
    assert run(episodes, '--out', out, *TASKS, '--overwrite') == 0
    assert (out / 'episodes.json').stat().st_mtime_ns != before
    assert run(episodes, '--out', episodes, *TASKS, '--overwrite') == 2
    assert 'which this tool does not write' in capsys.readouterr().err
    assert len(list(episodes.iterdir())) == 10
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith('.')] == []


def test_a_broken_episode_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / 'npz'
    source.mkdir()
    write_episode(source / 'a.npz')
    folder = source / 'b'
    folder.mkdir()
    for key, value in episode_arrays(5).items():
        np.save(folder / f'{key}.npy', value)
    file = folder / 'color.npy'
    file.write_bytes(file.read_bytes()[:-1])
    out = tmp_path / 'out'
    assert run(source, '--out', out / 'data', '--tasks', 'go') == 2
    assert 'color cannot be read' in capsys.readouterr().err
    assert list(out.iterdir()) == []


def test_dry_run_writes_nothing(
    episodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(episodes, '--out', tmp_path / 'data', *TASKS, '--dry-run', '--json') == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures['episodes'] == {'train': 8, 'test': 2}
    assert figures['tasks']['reach the red cup'] == {'train': 5, 'test': 1}
    assert figures['out'] is None
    assert not (tmp_path / 'data').exists()


def test_images_without_contact_come_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / 'npz'
    source.mkdir()
    images = [np.full((4, 4, 3), (i, 100, 200), np.uint8) for i in range(3)]
    for i, image in enumerate(images):
        streams = {'gelsight1': {'reference_png': png_text(image), 'subtracted': True}}
        write_episode(source / f'{i}.npz', number=i, metadata={'streams': streams})
    out = tmp_path / 'data'
    assert run(source, '--out', out, '--tasks', 'go') == 0
    record = json.loads((out / 'episodes.json').read_text())
    for entry in record['episodes']:
        stored = np.load(out / entry['split'] / 'gelsight1_reference.npy')[entry['row']]
        np.testing.assert_array_equal(stored, images[int(Path(entry['file']).stem)])
    assert record['streams']['gelsight1']['subtracted']
    assert not record['streams']['color']['subtracted']
    write_episode(source / '3.npz')
    assert run(source, '--out', tmp_path / 'mixed', '--tasks', 'go') == 2
    assert '3.npz: gelsight1 was converted without a reference image' in capsys.readouterr().err


def test_stamps_are_kept(tmp_path: Path) -> None:
    write_episode(tmp_path / 'a.npz')
    assert run(tmp_path / 'a.npz', '--out', tmp_path / 'data', '--tasks', 'go') == 0
    stamps = np.load(tmp_path / 'data/train/stamps.npy')
    np.testing.assert_array_equal(stamps, START_NS + PERIOD_NS * np.arange(5)[None])


_MEASURE = """
import resource, sys
from bag_tools import make_dataset
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
assert make_dataset.main(sys.argv[1:]) == 0
print('grew', peak() - before)
"""


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    source = tmp_path / 'npz'
    source.mkdir()
    steps, megabytes = 130, 0.0
    for i in range(4):
        color = np.zeros((steps, 200, 320, 3), np.uint8)
        color[:, 0, 0, 0] = np.arange(steps) % 256
        write_episode(source / f'{i}.npz', steps=steps, color=color)
        megabytes += color.nbytes / 2**20
    command = [sys.executable, '-c', _MEASURE, str(source), '--out', str(tmp_path / 'data')]
    done = subprocess.run(
        [*command, '--tasks', 'go'],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    grew = float(done.stdout.split('grew')[1])
    # One episode mapped for writing and a block of another's in memory; never all of them.
    assert grew < 0.5 * megabytes
