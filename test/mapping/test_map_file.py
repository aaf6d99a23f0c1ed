import io
import json
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from voxel_scenes import MUG, ROOM, TABLE, OracleEncoder, make_frame, names

from vlm_nodes.mapping import MapFileError, VoxelMap, VoxelMapConfig

SCENE = [ROOM, TABLE, MUG]
ENCODER = OracleEncoder()
HERE = Path(__file__).parent


def build(frames=3, **changes):
    options = {'feature_dim': 16, 'projection_frames': 2, **changes}
    config = VoxelMapConfig(**options)
    voxel_map = VoxelMap(config, frame_id='odom', encoder=ENCODER)
    for number in range(frames):
        add(voxel_map, number)
    return voxel_map


def add(voxel_map, number):
    eye = (-1.5 + 0.3 * number, 0.1 * number, 1.3)
    frame, labels = make_frame(SCENE, eye, stamp_ns=100 + number)
    voxel_map.integrate(frame, ENCODER.patches(labels, names(SCENE), 8, 0.1, number))


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp('maps') / 'room.npz'
    voxel_map = build()
    voxel_map.save(path)
    return voxel_map, path


def names_in(folder):
    return [path.name for path in folder.iterdir()]


def assert_equal(left, right):
    for name in (
        'points',
        'colors',
        'counts',
        'features',
        'weights',
        'first_seen_ns',
        'last_seen_ns',
    ):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


def rewritten(path, target, change):
    """A copy of a map file with members changed; `change(name, bytes)` gives bytes or None."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, 'w') as copy:
        for name in source.namelist():
            content = change(name, source.read(name))
            if content is not None:
                copy.writestr(name, content)
    return target


def header_change(**values):
    def change(name, content):
        if name != 'header.json':
            return content
        return json.dumps({**json.loads(content), **values}).encode()

    return change


# Round trip --------------------------------------------------------------------------------------


@pytest.mark.parametrize('changes', [{}, {'feature_dim': 0}, {'clear_after': 0, 'max_weight': 9.0}])
def test_a_loaded_map_answers_as_the_saved_one(tmp_path, changes):
    voxel_map = build(**changes)
    voxel_map.save(tmp_path / 'a.npz')
    loaded = VoxelMap.load(tmp_path / 'a.npz', ENCODER)
    assert_equal(loaded, voxel_map)
    assert loaded.frame_id == 'odom'
    assert loaded.config == voxel_map.config
    np.testing.assert_array_equal(loaded.scores('table'), voxel_map.scores('table'))
    for a, b in zip(loaded.query('red mug'), voxel_map.query('red mug'), strict=True):
        assert str(a) == str(b)


def test_mapping_goes_on_after_loading(tmp_path):
    voxel_map = build(frames=1)  # before the projection is fitted
    voxel_map.save(tmp_path / 'a.npz')
    loaded = VoxelMap.load(tmp_path / 'a.npz', ENCODER)
    for number in (1, 2, 3):
        add(voxel_map, number)
        add(loaded, number)
    assert_equal(loaded, voxel_map)
    assert loaded.projection is not None


def test_empty_and_featureless_maps(tmp_path):
    voxel_map = VoxelMap()
    voxel_map.save(tmp_path / 'empty.npz')
    assert len(VoxelMap.load(tmp_path / 'empty.npz', ENCODER)) == 0
    voxel_map.integrate(make_frame(SCENE)[0])
    voxel_map.save(tmp_path / 'bare.npz')
    loaded = VoxelMap.load(tmp_path / 'bare.npz', ENCODER)
    assert_equal(loaded, voxel_map)
    assert loaded.query('mug') == []


def test_a_featureless_map_takes_the_encoder_it_is_loaded_with(tmp_path):
    VoxelMap(encoder=ENCODER).save(tmp_path / 'a.npz')
    other = OracleEncoder(identity='oracle/2')
    VoxelMap.load(tmp_path / 'a.npz', other).save(tmp_path / 'b.npz')
    header = json.loads(zipfile.ZipFile(tmp_path / 'b.npz').read('header.json'))
    assert header['encoder'] == 'oracle/2'


def test_more_than_one_chunk(tmp_path):
    voxel_map = build(voxel_size_m=0.008)
    assert len(voxel_map) > 2 * 16384
    voxel_map.save(tmp_path / 'a.npz')
    assert_equal(VoxelMap.load(tmp_path / 'a.npz', ENCODER), voxel_map)


def test_numpy_reads_the_file(saved):
    voxel_map, path = saved
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays['features'].shape == (len(voxel_map), 16)
        header = json.loads(arrays['header.json'])
    assert header['encoder'] == ENCODER.identity
    assert header['frame_id'] == 'odom'
    assert header['voxel_size_m'] == 0.05


def test_a_save_beside_fusion_is_of_one_moment(tmp_path):
    """Copies are made only of what fusion touches; the file must not mix two frames."""
    voxel_map = build(frames=1, feature_dim=0)
    frame, labels = make_frame(SCENE, stamp_ns=0)
    features = ENCODER.patches(labels, names(SCENE), 8)
    single = VoxelMap(replace(voxel_map.config, clear_after=0), encoder=ENCODER)
    single.integrate(frame, features)
    base, done = single.counts.copy(), threading.Event()
    fused = [1]

    def fuse():
        while not done.is_set():
            single.integrate(replace(frame, stamp_ns=fused[0]), features)
            fused[0] += 1

    writer = threading.Thread(target=fuse)
    writer.start()
    seen = []
    while len(set(seen)) < 3:
        single.save(tmp_path / 'live.npz')
        loaded = VoxelMap.load(tmp_path / 'live.npz', ENCODER)
        frames = int(loaded.last_seen_ns[0]) + 1
        np.testing.assert_array_equal(loaded.counts, base * frames)
        assert set(loaded.last_seen_ns) == {frames - 1}
        seen.append(frames)
    done.set()
    writer.join()
    assert (single.counts == base * fused[0]).all()


# Refusals ----------------------------------------------------------------------------------------


def refused(path, message, encoder=ENCODER):
    with pytest.raises(MapFileError, match=message) as error:
        VoxelMap.load(path, encoder)
    assert str(path) in str(error.value)


def test_missing_file_and_folder(tmp_path):
    refused(tmp_path / 'none.npz', 'no such map file')
    with pytest.raises(MapFileError, match=r'folder .* does not exist'):
        build(frames=1).save(tmp_path / 'no' / 'map.npz')
    refused(tmp_path, 'cannot read')  # a folder


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.floats(0, 1, exclude_max=True))
def test_truncated_at_any_byte(saved, tmp_path, share):
    content = saved[1].read_bytes()
    cut = tmp_path / 'cut.npz'
    cut.write_bytes(content[: int(share * len(content))])
    refused(cut, 'truncated|damaged|not a map')


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_flipped_byte_is_noticed_or_harmless(saved, tmp_path, share, flip):
    voxel_map, path = saved
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= flip
    bad = tmp_path / 'bad.npz'
    bad.write_bytes(bytes(content))
    try:
        loaded = VoxelMap.load(bad, ENCODER)
    except MapFileError:
        return
    assert_equal(loaded, voxel_map)  # a date or a flag of the archive


METHOD, FLAGS, NEEDED = 10, 8, 6


@pytest.mark.parametrize(
    ('offset', 'value'),
    [(METHOD, 99), (FLAGS, 1), (NEEDED, 200)],
    ids=['of an unknown compression', 'encrypted', 'of a later version of zip'],
)
def test_an_archive_that_is_said_to_be_of_another_kind(saved, tmp_path, offset, value):
    content = bytearray(saved[1].read_bytes())
    content[content.index(b'PK\x01\x02') + offset] = value
    bad = tmp_path / 'bad.npz'
    bad.write_bytes(content)
    refused(bad, 'damaged')


def test_an_array_whose_head_is_cut_off(saved, tmp_path):
    def change(name, content):
        return content.replace(b'}', b' ', 1) if name == 'keys.npy' else content

    refused(rewritten(saved[1], tmp_path / 'bad.npz', change), 'damaged')


def test_foreign_files(tmp_path, saved):
    foreign = tmp_path / 'foreign.npz'
    np.savez(foreign, a=np.arange(3))
    refused(foreign, 'no header.json')
    text = tmp_path / 'notes.txt'
    text.write_text('nothing')
    refused(text, 'not a map file')
    refused(rewritten(saved[1], tmp_path / 'x.npz', header_change(format='other')), 'not a map')
    refused(rewritten(saved[1], tmp_path / 'y.npz', header_change(version=99)), 'version 99')


class Bomb:
    def __reduce__(self):
        return (os.system, ('touch exploded',))


def test_pickles_are_never_opened(tmp_path, saved, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = tmp_path / 'plain.pkl'
    plain.write_bytes(pickle.dumps(Bomb()))
    refused(plain, 'not a map file')
    stream = io.BytesIO()
    np.save(stream, np.array([Bomb()] * 3, dtype=object), allow_pickle=True)

    def change(name, content):
        return stream.getvalue() if name == 'weight.npy' else content

    refused(rewritten(saved[1], tmp_path / 'bomb.npz', change), 'array weight')
    assert not (tmp_path / 'exploded').exists()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (header_change(voxels=5), 'array keys'),
        (header_change(voxels=-5), 'damaged'),
        (header_change(voxels='many'), 'damaged'),
        (header_change(feature_dim=3), 'array features'),
        (header_change(config={'voxel_size_m': -1.0}), 'voxel_size_m = -1.0'),
        (header_change(config={'colour': 1}), 'colour'),
        (header_change(projection={}, encoder_dim=99), 'encoder_dim'),
        (lambda name, content: None if name == 'count.npy' else content, 'count.npy'),
        (lambda name, content: b'[]' if name == 'header.json' else content, 'not a map file'),
        (lambda name, content: b'{' if name == 'header.json' else content, 'damaged'),
    ],
)
def test_contents_that_do_not_fit(tmp_path, saved, change, message):
    refused(rewritten(saved[1], tmp_path / 'odd.npz', change), message)


def replaced_array(wanted, edit):
    def change(name, content):
        if name != f'{wanted}.npy':
            return content
        array = np.load(io.BytesIO(content)).copy()
        edit(array)
        stream = io.BytesIO()
        np.save(stream, array)
        return stream.getvalue()

    return change


def test_contents_that_make_no_sense(tmp_path, saved):
    def twice(keys):
        keys[1] = keys[0]

    def nan(features):
        features[3, 2] = np.nan

    refused(rewritten(saved[1], tmp_path / 'a.npz', replaced_array('keys', twice)), 'twice')
    refused(rewritten(saved[1], tmp_path / 'b.npz', replaced_array('features', nan)), 'finite')


def test_another_encoder_is_refused_by_name(saved):
    refused(saved[1], 'oracle/1.*oracle/2', OracleEncoder(identity='oracle/2'))


# Failing saves -----------------------------------------------------------------------------------

FULL_DISK = """
import resource, signal, sys
sys.path.insert(0, {here!r})
from test_map_file import build
from vlm_nodes.mapping import MapFileError
voxel_map = build(frames=3)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
try:
    voxel_map.save({path!r})
except MapFileError as error:
    sys.exit(str(error))
"""


def run_python(code):
    return subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=100, check=False
    )


def test_a_disk_that_fills_up_keeps_the_old_map(tmp_path):
    path = tmp_path / 'map.npz'
    old = build(frames=1)
    old.save(path)
    result = run_python(FULL_DISK.format(here=str(HERE), path=str(path)))
    assert 'cannot save the map: File too large' in result.stderr
    assert str(path) in result.stderr
    assert names_in(tmp_path) == ['map.npz']
    assert_equal(VoxelMap.load(path, ENCODER), old)


def test_the_device_full_of_linux(tmp_path, monkeypatch):
    """Opening the temporary file is led to /dev/full, which answers ENOSPC as a full disk does."""
    voxel_map = build(frames=1)
    original = Path.open

    def led_astray(self, mode='r', *args, **options):
        if '.partial-' in self.name:
            return Path('/dev/full').open('wb', *args, **options)
        return original(self, mode, *args, **options)

    monkeypatch.setattr(Path, 'open', led_astray)
    with pytest.raises(MapFileError, match='No space left on device'):
        voxel_map.save(tmp_path / 'map.npz')
    assert names_in(tmp_path) == []


KILLED = """
import os, random, signal, sys, time
sys.path.insert(0, {here!r})
from test_map_file import ENCODER, build
from vlm_nodes.mapping import VoxelMap
small, large = build(frames=1, feature_dim=0), build(frames=3, feature_dim=0)
path = {path!r}
small.save(path)
begin = time.perf_counter()
large.save(path)
cost = time.perf_counter() - begin
random.seed(1)
sizes, kills, left = set(), 0, 0
while kills < 20 or len(sizes) < 2 or not left:
    child = os.fork()
    if child == 0:
        while True:
            small.save(path)
            large.save(path)
    time.sleep(random.uniform(0.2, 3) * cost)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    loaded = VoxelMap.load(path, ENCODER)
    expected = small if len(loaded) == len(small) else large
    assert (loaded.features == expected.features).all()
    assert (loaded.points == expected.points).all()
    sizes.add(len(loaded))
    kills += 1
    left = len(os.listdir(os.path.dirname(path))) - 1  # of this kill: saves clear what they find
small.save(path)
print(len(sizes), left, os.listdir(os.path.dirname(path)))
"""


def test_killed_while_saving_time_and_again(tmp_path):
    path = tmp_path / 'map.npz'
    result = run_python(KILLED.format(here=str(HERE), path=str(path)))
    assert result.returncode == 0, result.stderr
    kinds, left, files = result.stdout.split(maxsplit=2)
    assert int(kinds) == 2  # both maps were met
    assert int(left) >= 1  # some saves were cut in the middle
    assert files.strip() == "['map.npz']"  # and the next save cleans up after them
