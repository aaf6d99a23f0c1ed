from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from blob_recordings import NAMES, TASKS, TOUCH_LEVEL, write_recordings

from vlm_nodes.sarnn.recordings import Recordings, RecordingsError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_recordings(tmp_path)


def change(path: Path, *at: object, to: object) -> None:
    values = np.load(path)
    values[at] = to
    np.save(path, values)


def test_what_a_data_set_says(folder: Path) -> None:
    recordings = Recordings(folder)
    assert recordings.joint_names == NAMES
    assert recordings.task_texts == tuple(sorted(TASKS))
    assert recordings.main_camera == 'color'
    assert set(recordings.streams) == {'color', 'depth', 'gelsight1', 'joints_state', 'actions'}
    assert recordings.rate_hz == pytest.approx(10.0)
    assert (len(recordings.train), len(recordings.test)) == (6, 2)
    np.testing.assert_allclose(recordings.joint_bounds[:, 2], [-0.2, 0.8], atol=1e-6)


def test_episodes_come_without_padding_and_mapped(folder: Path) -> None:
    train = Recordings(folder).train
    for row, length in enumerate(train.lengths):
        assert train.episode('color', row).shape == (length, 16, 24, 3)
        assert train.valid('color', row).tolist() == [True] * length
    array = train.array('color')
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable


def test_an_unmeasured_tick_is_not_valid(folder: Path) -> None:
    change(folder / 'train' / 'valid_color.npy', 1, 3, to=False)
    train = Recordings(folder).train
    assert np.flatnonzero(~train.valid('color', 1)).tolist() == [3]
    assert train.valid('depth', 1).all()


def test_references_are_those_of_touch_alone(folder: Path) -> None:
    train = Recordings(folder).train
    reference = train.reference('gelsight1', 0)
    assert reference is not None
    assert reference.shape == (8, 12, 3)
    assert (reference == TOUCH_LEVEL).all()
    assert train.reference('color', 0) is None


def test_a_missing_folder_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(RecordingsError, match=r'no data set .*nothing: make one with make_dataset'):
        Recordings(tmp_path / 'nothing')


@pytest.mark.parametrize(
    'name', ['episodes.json', 'task_dict.json', 'joint_bounds.npy', 'train/lengths.npy']
)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(RecordingsError, match=f'no file .*{name}'):
        Recordings(folder)


def test_a_missing_stream_file_is_named(folder: Path) -> None:
    (folder / 'train' / 'images.npy').unlink()
    with pytest.raises(RecordingsError, match=r'train/images\.npy'):
        Recordings(folder).train.array('color')


def test_a_stream_that_is_not_there_is_told_with_those_that_are(folder: Path) -> None:
    with pytest.raises(RecordingsError, match=r'no stream wrist; it has .*color.*gelsight1'):
        Recordings(folder).train.array('wrist')


def test_joints_that_are_no_numbers_are_placed(folder: Path) -> None:
    change(folder / 'test' / 'joints.npy', 1, 4, 2, to=np.nan)
    with pytest.raises(RecordingsError, match=r'test/joints\.npy: episode 1 has nan at tick 4'):
        Recordings(folder)


def test_padding_may_hold_anything(folder: Path) -> None:
    lengths = np.load(folder / 'train' / 'lengths.npy')
    row = int(lengths.argmin())
    change(folder / 'train' / 'joints.npy', row, lengths[row], to=np.nan)
    assert len(Recordings(folder).train) == 6


def test_an_empty_split_says_how_to_fill_it(tmp_path: Path) -> None:
    folder = write_recordings(tmp_path, test_share=0.0)
    with pytest.raises(RecordingsError, match=r'test holds no episode.*--test-share'):
        Recordings(folder)


def test_arrays_of_other_episodes_are_refused(folder: Path) -> None:
    np.save(folder / 'train' / 'images.npy', np.load(folder / 'train' / 'images.npy')[:3])
    with pytest.raises(RecordingsError, match='6 episodes'):
        Recordings(folder).train.array('color')


def test_a_record_of_something_else_is_refused(folder: Path) -> None:
    (folder / 'episodes.json').write_text(json.dumps({'joint_names': ['a']}))
    with pytest.raises(RecordingsError, match=r'episodes\.json does not describe'):
        Recordings(folder)
