from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from episode_writing import NAMES, episode_arrays, write_episode

from bag_tools.episode import Episode, EpisodeError, find_episodes


@pytest.mark.parametrize('rows', [None, 1, 2, 5, 7])
@pytest.mark.parametrize('compressed', [False, True])
def test_blocks_are_the_array_whole(tmp_path: Path, rows: int | None, compressed: bool) -> None:
    arrays = episode_arrays(5, 3)
    save = np.savez_compressed if compressed else np.savez
    save(tmp_path / 'a.npz', **arrays)
    episode = Episode(tmp_path / 'a.npz')
    assert episode.steps == 5
    assert episode.joint_names == NAMES
    for key in episode.keys:
        np.testing.assert_array_equal(np.concatenate(list(episode.blocks(key, rows))), arrays[key])


def test_a_folder_of_arrays_is_an_episode_too(tmp_path: Path) -> None:
    folder = tmp_path / 'a'
    folder.mkdir()
    for key, value in episode_arrays(4).items():
        np.save(folder / f'{key}.npy', value)
    write_episode(tmp_path / 'b.npz')
    found = find_episodes([tmp_path, tmp_path / 'b.npz'])
    assert [path.name for path in found] == ['a', 'b.npz']
    assert [Episode(path).steps for path in found] == [4, 5]


def test_arrays_stored_by_column_are_read(tmp_path: Path) -> None:
    joints = np.asfortranarray(np.arange(15, dtype=np.float32).reshape(5, 3))
    episode = Episode(write_episode(tmp_path / 'a.npz', joints_state=joints))
    np.testing.assert_array_equal(np.concatenate(list(episode.blocks('joints_state', 2))), joints)


def test_what_is_no_episode_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / 'text.npz').write_text('no zip')
    with pytest.raises(EpisodeError, match=r'text\.npz is not a readable episode'):
        Episode(tmp_path / 'text.npz')
    write_episode(tmp_path / 'short.npz', color=np.zeros((4, 6, 8, 3), np.uint8))
    with pytest.raises(EpisodeError, match=r'short\.npz: the arrays differ in ticks: .*color 4'):
        Episode(tmp_path / 'short.npz')
    write_episode(tmp_path / 'none.npz', steps=0)
    with pytest.raises(EpisodeError, match=r'none\.npz holds no tick'):
        Episode(tmp_path / 'none.npz')
    with pytest.raises(EpisodeError, match='there is no episode at'):
        find_episodes([tmp_path / 'absent'])


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    write_episode(tmp_path / 'a.npz', gelsight1=np.array([{}] * 5))
    with pytest.raises(EpisodeError, match='gelsight1 holds pickled objects'):
        Episode(tmp_path / 'a.npz')


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    folder = tmp_path / 'a'
    folder.mkdir()
    for key, value in episode_arrays(4).items():
        np.save(folder / f'{key}.npy', value)
    file = folder / 'color.npy'
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(EpisodeError, match=r'a: color cannot be read: .* ends 10 bytes early'):
        list(Episode(folder).blocks('color'))


@pytest.mark.parametrize('compressed', [False, True])
@pytest.mark.parametrize('key', ['color', 'joints_state', 'joint_names'])
def test_a_flipped_byte_is_named(tmp_path: Path, key: str, compressed: bool) -> None:
    path = tmp_path / 'a.npz'
    rng = np.random.default_rng(0)
    color = rng.integers(0, 255, (5, 6, 8, 3), dtype=np.uint8)
    (np.savez_compressed if compressed else np.savez)(path, **episode_arrays(5, color=color))
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f'{key}.npy')
    data = bytearray(path.read_bytes())
    # Stored, the last byte, beyond the header; the last bits of a deflated stream may say nothing.
    at = member.compress_size * 2 // 3 if compressed else member.compress_size - 1
    start = member.header_offset + data[member.header_offset :].index(f'{key}.npy'.encode())
    extra = int.from_bytes(data[member.header_offset + 28 :][:2], 'little')
    data[start + len(f'{key}.npy') + extra + at] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(EpisodeError, match=r'a\.npz'):
        Episode(path).array(key)
    with pytest.raises(EpisodeError, match=r'a\.npz'):
        list(Episode(path).blocks(key))


def test_actions_have_the_columns_of_what_they_are_made_of(tmp_path: Path) -> None:
    streams = {'command': {'columns': ['x', 'y', 'z'], 'topic': '/command'}}
    metadata = {'streams': streams, 'actions': {'source': 'joints_state', 'command': 'command'}}
    episode = Episode(write_episode(tmp_path / 'a.npz', metadata=metadata))
    assert episode.columns('actions') == ('x', 'y', 'z')
    assert Episode(write_episode(tmp_path / 'b.npz')).columns('actions') == NAMES
    assert episode.columns('color') == ()


def test_what_a_killed_conversion_left_is_no_episode(tmp_path: Path) -> None:
    for name in ('whole', '.half.partial-1-x'):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / 'stamps.npy', np.zeros(2, dtype=np.int64))
    assert find_episodes([tmp_path]) == [tmp_path / 'whole']
