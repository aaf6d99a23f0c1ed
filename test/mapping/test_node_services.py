"""What mapping_node answers, to sense and to nonsense, on a real ROS graph."""

import contextlib
import math
import pickle
import resource
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from color_oracle import ColorOracle
from mapping_rig import SECOND_NS, VIEWS, mapping_rig
from ray_cast_rooms import BOXES
from sensor_msgs.msg import PointCloud2
from sensor_msgs_py import point_cloud2
from visualization_msgs.msg import Marker, MarkerArray

from vlm_nodes import clip, messages
from vlm_nodes.mapping.voxel_map import VoxelMap
from vlm_nodes.node import LATCHED_QUEUE

NOW = 3600 * SECOND_NS
TINY = Path(clip.__file__).with_name('models') / 'tiny.safetensors'


class OtherOracle(ColorOracle):
    identity = 'another-oracle/1'


@pytest.fixture(scope='module')
def room():
    """A node that has mapped the room."""
    with mapping_rig(encoder=ColorOracle(), frames_waiting=20) as rig:
        rig.ready()
        for view in range(len(VIEWS)):
            rig.fuse(NOW + view * SECOND_NS, view)
        yield rig


@pytest.fixture
def rig(room):
    """The same, and its map is the same afterwards."""
    before = len(room.node._mapper.map)
    yield room
    assert len(room.node._mapper.map) == before


# Queries


def test_a_query_is_answered_in_metres_in_the_map_frame(rig):
    clouds = rig.listen(PointCloud2, 'mapping_node/query_cloud', qos=LATCHED_QUEUE)
    markers = rig.listen(MarkerArray, 'mapping_node/matches', qos=LATCHED_QUEUE)
    rig.until(lambda: rig.node._query_cloud.get_subscription_count(), 'a listener')
    answer = rig.call('query_map', text='red box')
    assert answer.success, answer.message
    assert answer.header.frame_id == 'map'
    assert messages.stamp_ns(answer.header.stamp) == NOW + (len(VIEWS) - 1) * SECOND_NS
    best = answer.matches[0]
    low, high = BOXES[0]
    assert best.label == 'red box'
    assert (low - 0.1 < [best.centroid.x, best.centroid.y, best.centroid.z]).all()
    assert ([best.centroid.x, best.centroid.y, best.centroid.z] < high + 0.1).all()
    assert 0.5 < best.score <= 1
    assert best.voxels > 20
    assert messages.stamp_ns(best.first_seen) >= NOW
    scores = [match.score for match in answer.matches]
    assert scores == sorted(scores, reverse=True)
    rig.until(lambda: clouds and markers, 'cloud and markers')
    intensity = point_cloud2.read_points(clouds[-1], ['intensity'])['intensity']
    assert len(intensity) == len(rig.node._mapper.map)
    assert 0 <= intensity.min() < 0.5 < intensity.max() <= 1
    shown = markers[-1].markers
    assert shown[0].action == Marker.DELETEALL
    assert len(shown) == 1 + 2 * len(answer.matches)
    assert 'red box' in shown[2].text


@pytest.mark.parametrize(
    ('request_', 'words'),
    [
        ({'text': ''}, 'is empty'),
        ({'text': '   \n'}, 'is empty'),
        ({'text': 'x' * 10_000}, 'text has 10000 characters'),
        ({'text': 'box', 'min_score': math.nan}, 'min_score = nan'),
        ({'text': 'box', 'min_score': math.inf}, 'min_score = inf'),
        ({'text': 'box', 'min_score': -0.5}, 'min_score = -0.5'),
        ({'text': 'box', 'negatives': ['']}, 'is empty'),
        ({'text': 'box', 'negatives': ['Box ']}, 'leave nothing to hold'),
    ],
)
def test_a_query_that_makes_no_sense_is_refused_with_the_reason(rig, request_, words):
    answer = rig.call('query_map', **request_)
    assert not answer.success
    assert words in answer.message
    assert len(answer.message) < 200
    assert list(answer.matches) == []


@pytest.mark.parametrize(
    'text', ['🪑', '赤いマグカップ', "mug'; DROP TABLE", 'a\tb', '%s {0} \\x00']
)
def test_any_other_text_is_a_query(rig, text):
    answer = rig.call('query_map', text=text)
    assert answer.success, answer.message
    assert repr(text) in answer.message


def test_the_number_of_matches_and_the_least_score_are_obeyed(rig):
    many = rig.call('query_map', text='wall', min_score=0.01)
    one = rig.call('query_map', text='wall', min_score=0.01, max_matches=1)
    assert len(one.matches) == 1
    assert one.matches[0] == many.matches[0]
    strict = rig.call('query_map', text='wall', min_score=0.999)
    assert 0 < sum(m.voxels for m in strict.matches) < sum(m.voxels for m in many.matches)


def test_labels_are_counted_and_go_out_as_a_cloud(rig):
    clouds = rig.listen(PointCloud2, 'mapping_node/label_cloud', qos=LATCHED_QUEUE)
    names = ['red box', 'green box', 'wall']
    answer = rig.call('label_map', labels=names)
    assert answer.success, answer.message
    voxels = len(rig.node._mapper.map)
    assert len(answer.counts) == len(names) + 1
    assert sum(answer.counts) == voxels
    assert min(answer.counts[:3]) > 20
    rig.until(lambda: clouds, 'the labels')
    labels = point_cloud2.read_points(clouds[-1], ['label'])['label']
    assert np.bincount(labels, minlength=4).tolist() == list(answer.counts)


@pytest.mark.parametrize(
    ('request_', 'words'),
    [
        ({'labels': []}, 'labels are empty'),
        ({'labels': ['cup', 'cup']}, 'repeat'),
        ({'labels': ['cup', '']}, 'is empty'),
        ({'labels': ['cup'], 'percentile': math.nan}, 'percentile = nan'),
        ({'labels': ['cup'], 'percentile': 101.0}, 'percentile = 101.0'),
    ],
)
def test_labels_that_make_no_sense_are_refused_with_the_reason(rig, request_, words):
    answer = rig.call('label_map', **request_)
    assert not answer.success
    assert words in answer.message


# Files


def test_a_map_is_saved_and_loaded_and_answers_alike(rig, tmp_path):
    path = str(tmp_path / 'room.npz')
    before = rig.call('query_map', text='green box')
    saved = rig.call('mapping_node/save_map', path=path)
    assert saved.success, saved.message
    assert saved.voxels == len(rig.node._mapper.map)
    assert rig.call('mapping_node/reset').success
    assert rig.call('query_map', text='green box').matches == []
    loaded = rig.call('mapping_node/load_map', path=path)
    assert loaded.success, loaded.message
    assert loaded.voxels == saved.voxels
    after = rig.call('query_map', text='green box')
    assert after.matches == before.matches
    assert after.header == before.header


@contextlib.contextmanager
def files_of_at_most(size):
    """As on a full disk: what is written beyond the size is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_map_that_cannot_be_written_leaves_the_older_file(rig, tmp_path):
    path = tmp_path / 'room.npz'
    assert rig.call('mapping_node/save_map', path=str(path)).success
    older = path.read_bytes()
    with files_of_at_most(10_000):
        answer = rig.call('mapping_node/save_map', path=str(path))
    assert not answer.success
    assert f'{path}: cannot save the map: File too large' in answer.message
    assert path.read_bytes() == older
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ('path', 'words'),
    [
        ('missing/room.npz', 'missing does not exist'),
        ('', 'no path was given, and the parameter map_file is empty'),
        ('folder', 'cannot save the map'),
    ],
)
def test_a_map_saved_nowhere_says_so(rig, tmp_path, path, words):
    (tmp_path / 'folder').mkdir()
    answer = rig.call('mapping_node/save_map', path=str(tmp_path / path) if path else '')
    assert not answer.success
    assert words in answer.message
    assert [item.name for item in tmp_path.iterdir()] == ['folder']


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ('a pickle was opened',))


def truncated(rig, path):
    rig.call('mapping_node/save_map', path=str(path))
    path.write_bytes(path.read_bytes()[:-2000])


def foreign(rig, path):
    np.savez(path, points=np.zeros((3, 3)))


def no_archive(rig, path):
    path.write_text('Dear diary')


def pickle_bearing(rig, path):
    """A whole map, in which one array is a pickle."""
    rig.call('mapping_node/save_map', path=str(path))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in members.items():
            if name != 'keys.npy':
                archive.writestr(name, content)
        with archive.open('keys.npy', 'w') as stream:
            np.lib.format.write_array(stream, np.array([Bomb()], dtype=object))


def a_pickle(rig, path):
    path.write_bytes(pickle.dumps(Bomb()))


def of_another_encoder(rig, path):
    grid = rig.node._mapper.map
    grid.save(path)
    rename(path, b'color-oracle/1', b'colour-blind/1')


def of_another_frame(rig, path):
    rig.node._mapper.map.save(path)
    rename(path, b'"frame_id": "map"', b'"frame_id": "odom"')


def rename(path, old, new):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert old in members['header.json']
    members['header.json'] = members['header.json'].replace(old, new)
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (lambda rig, path: None, 'there is no such map file'),
        (lambda rig, path: path.mkdir(), 'cannot read the map'),
        (truncated, 'truncated or damaged'),
        (foreign, 'not a map file'),
        (no_archive, 'not a map file'),
        (a_pickle, 'not a map file'),
        (pickle_bearing, 'the map file is damaged'),
        (of_another_encoder, "was made with encoder 'colour-blind/1', not with 'color-oracle/1'"),
        (of_another_frame, "the map is in frame 'odom', this node maps in 'map'"),
    ],
)
def test_a_file_that_is_no_map_of_this_node_leaves_the_map_in_memory(rig, tmp_path, make, words):
    path = tmp_path / 'room.npz'
    make(rig, path)
    before = rig.call('query_map', text='red box')
    answer = rig.call('mapping_node/load_map', path=str(path))
    assert not answer.success
    assert words in answer.message
    assert str(path) in answer.message
    assert rig.call('query_map', text='red box').matches == before.matches


# While it maps


def test_queries_saves_and_labels_go_on_while_it_maps(room, tmp_path):
    rig = room
    ended = threading.Event()
    failures = []

    def ask(name, **request):
        try:
            while not ended.is_set():
                answer = rig.call(name, **request)
                if not answer.success:
                    failures.append(answer.message)
        except AssertionError as error:
            failures.append(str(error))

    jobs = [
        ('query_map', {'text': 'red box'}),
        ('label_map', {'labels': ['wall', 'red box']}),
        ('mapping_node/save_map', {'path': str(tmp_path / 'room.npz')}),
    ]
    threads = [threading.Thread(target=ask, args=(name,), kwargs=job) for name, job in jobs]
    for thread in threads:
        thread.start()
    try:
        for view in range(2 * len(VIEWS)):
            rig.fuse(NOW + (100 + view) * SECOND_NS, view % len(VIEWS))
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(VoxelMap.load(tmp_path / 'room.npz', ColorOracle())) > 1000


# Other nodes


def test_a_node_without_an_encoder_maps_and_says_that_it_cannot_read(tmp_path):
    path = str(tmp_path / 'plain.npz')
    with mapping_rig(map_file=path) as rig:
        rig.ready().fuse(NOW)
        answer = rig.call('query_map', text='red box')
        assert not answer.success
        assert 'no encoder' in answer.message
        assert 'parameter model' in answer.message
        assert rig.call('mapping_node/save_map').message.endswith(path)


def test_a_map_is_loaded_at_start_and_saved_by_period(tmp_path):
    path = tmp_path / 'room.npz'
    options = {'encoder': ColorOracle(), 'map_file': str(path)}
    with mapping_rig(autosave_period_s=0.05, **options) as rig:
        rig.ready().fuse(NOW)
        rig.until(path.exists, 'the file')
        voxels = len(rig.node._mapper.map)
    with mapping_rig(load_at_start=True, **options) as rig:
        assert int(rig.fresh()['voxels']) == voxels
        assert rig.call('query_map', text='wall').matches


@pytest.mark.skipif(not TINY.is_file(), reason='the weights of tiny are not there')
def test_the_default_model_maps_and_answers():
    with mapping_rig(model='tiny') as rig:
        for view in range(2):
            rig.ready().fuse(NOW + view * SECOND_NS, view)
        assert rig.fresh()['encoder'].startswith('tiny')
        answer = rig.call('query_map', text='red box', min_score=0.01)
        assert answer.success, answer.message
        assert '🪑' in rig.call('query_map', text='🪑').message
        assert sum(rig.call('label_map', labels=['floor', 'wall']).counts) > 1000
