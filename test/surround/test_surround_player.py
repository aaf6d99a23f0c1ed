"""surround_player_node as a process, and an onlooker that listens."""

from types import SimpleNamespace

import numpy as np
import pytest
from playing import PATIENCE_S, Listener, played, stamps
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from table_writing import drive_tables, write_tables

from vlm_nodes import messages
from vlm_nodes import node as ros_node
from vlm_nodes.graph.node import LiveGraph
from vlm_nodes.graph.processes import NodeFailedError
from vlm_nodes.surround import CAMERAS, NuScenes, read_image
from vlm_nodes.surround.player.player import PLAYER_PARAMETERS, Player
from vlm_nodes.surround.player.shots import read_moments

MODULE = 'vlm_nodes.surround.player.node'
TWO = ('CAM_FRONT', 'CAM_BACK')


@pytest.fixture
def root(tmp_path):
    tables = drive_tables((5,))
    for row in (*tables['sample'], *tables['sample_data']):
        row['timestamp'] += 5_000_000  # a stamp of 0 says nothing to tf
    return write_tables(tmp_path / 'drives', tables)


def test_pictures_cameras_and_poses_are_those_of_the_tables(root):
    drives = NuScenes(root, cameras=TWO)
    options = {'data': str(root), 'clock': True, 'rate_hz': 10.0}
    with played(MODULE, TWO, **options) as (graph, listener, process):
        assert process.returncode == 0
        assert 'the end, after 5 moments' in process.output()
        graph.wait(lambda: listener.counts() == [5] * 4, PATIENCE_S, 'all pictures')
        for name in TWO:
            for keyframe, image, info in zip(
                drives, listener.images[name], listener.infos[name], strict=True
            ):
                wanted = keyframe.cameras[name]
                assert stamps([image, info]) == [wanted.stamp_ns] * 2
                np.testing.assert_array_equal(messages.rgb_from_image(image), read_image(wanted))
                camera = messages.camera_from_info(info)
                np.testing.assert_allclose(camera.matrix(), wanted.camera.matrix())
                np.testing.assert_allclose(listener.pose(image), wanted.map_from_camera, atol=1e-6)
                mounting = listener.pose(image, 'base_link')
                np.testing.assert_allclose(mounting, wanted.ego_from_camera, atol=1e-6)


def test_stamps_of_now_keep_their_offsets_and_time_goes_on_in_a_loop(root):
    # Publishers keep ten messages for a listener that is held up: two seconds.
    options = {'data': str(root), 'loop': True, 'rate_hz': 5.0, 'max_samples': 2}
    with LiveGraph() as graph:
        listener = Listener(graph.node, TWO)
        clocks = []
        graph.node.create_subscription(Clock, '/clock', clocks.append, 10)
        start_ns = graph.node.get_clock().now().nanoseconds
        graph.start('player', MODULE, {'cameras': list(TWO), **options})
        graph.wait(lambda: min(listener.counts()) >= 5, PATIENCE_S, 'two rounds')
        front, back = (stamps(listener.images[name][:5]) for name in TWO)
    assert front[0] > start_ns
    assert (np.diff(front) > 0).all()
    assert set(np.subtract(back, front)) == {20_000_000}
    assert not clocks


@pytest.fixture
def clock(monkeypatch):
    """What the player takes for the time, in seconds: `s`, changed by the test."""
    clock = SimpleNamespace(s=0.0)
    monkeypatch.setattr(ros_node, 'time', SimpleNamespace(monotonic=lambda: clock.s))
    return clock


def player_of(node, root, **changes):
    """A player whose moments come when a test says so."""
    values = {parameter.name: parameter.default for parameter in PLAYER_PARAMETERS}
    moments = read_moments(iter(NuScenes(root, cameras=TWO)), pytest.fail)
    return Player(node, TWO, moments, values | {'rate_hz': 1e-6} | changes)


def test_it_begins_when_for_some_time_no_more_topics_were_found(root, clock):
    with LiveGraph() as graph:
        player = player_of(graph.node, root)

        def listen(kind, topic):
            graph.node.create_subscription(kind, topic, lambda message: None, 10)
            publisher = next(p for p in graph.node.publishers if p.topic_name == f'/{topic}')
            graph.wait(publisher.get_subscription_count, PATIENCE_S, f'who listens to {topic}')

        def played_at(clock_s):
            clock.s = clock_s
            player._play()
            return player.played

        listen(CameraInfo, 'CAM_FRONT/camera_info')
        assert [played_at(s) for s in (0.0, 10.0)] == [0, 0]
        listen(Image, 'CAM_FRONT/image_raw')
        assert [played_at(s) for s in (20.0, 20.6)] == [0, 0]
        listen(Image, 'CAM_BACK/image_raw')
        assert [played_at(s) for s in (20.8, 21.4)] == [0, 0]
        listen(CameraInfo, 'CAM_BACK/camera_info')
        assert [played_at(s) for s in (21.6, 22.2)] == [0, 0]
        assert played_at(22.4) == 1
        listen(Image, 'CAM_BACK/image_raw')  # who comes later holds nothing up
        assert played_at(22.5) == 2


def test_another_drive_may_have_other_mountings(tmp_path):
    tables = drive_tables((1, 1))
    for row in (*tables['sample'], *tables['sample_data']):
        row['timestamp'] += 5_000_000
    lower = dict(tables['calibrated_sensor'][0], token='c-lower', translation=[0.5, 0.0, 1.0])
    tables['calibrated_sensor'].append(lower)
    for row in tables['sample_data']:
        if row['sample_token'].startswith('sample1') and 'CAM_FRONT' in row['filename']:
            row['calibrated_sensor_token'] = 'c-lower'
    root = write_tables(tmp_path / 'drives', tables)
    with played(MODULE, TWO, data=str(root), clock=True) as (graph, listener, _):
        graph.wait(lambda: listener.counts() == [2] * 4, PATIENCE_S, 'all pictures')
        last = listener.images['CAM_FRONT'][1]
        graph.wait(
            lambda: listener.pose(last, 'base_link')[2, 3] == 1.0, PATIENCE_S, 'a lower camera'
        )
        assert listener.pose(listener.images['CAM_BACK'][1], 'base_link')[2, 3] == 1.5


def test_a_missing_picture_is_said_and_the_others_come(root):
    NuScenes(root, cameras=TWO)[1].cameras['CAM_BACK'].path.unlink()
    options = {'data': str(root), 'rate_hz': 10.0, 'transport': 'compressed'}
    with played(MODULE, TWO, compressed=True, **options) as (graph, listener, process):
        assert 'sample0-1.png is missing' in process.output()
        graph.wait(lambda: listener.counts() == [5, 4, 5, 4], PATIENCE_S, 'nine pictures')
        rgb = messages.rgb_from_image(listener.images['CAM_FRONT'][0])
    assert rgb.shape == (18, 32, 3)
    # Red, as it was written, but for what JPEG does to it.
    assert np.abs(rgb.astype(int) - (200, 0, 0)).max() < 8


def test_keyframes_that_lack_files_are_left_out_where_files_are_required(root):
    NuScenes(root, cameras=TWO)[1].cameras['CAM_BACK'].path.unlink()
    options = {'data': str(root), 'rate_hz': 10.0, 'require_files': True}
    with played(MODULE, TWO, **options) as (graph, listener, process):
        assert 'the end, after 4 moments' in process.output()
        graph.wait(lambda: listener.counts() == [4] * 4, PATIENCE_S, 'whole moments')


def test_the_real_keyframe_is_played(vlm_data):
    path = vlm_data / 'nuscenes_keyframe' / 'keyframe.json'
    if not path.is_file():
        pytest.skip(f'no {path}')
    with played(MODULE, CAMERAS, data=str(path)) as (graph, listener, _):
        graph.wait(lambda: listener.counts() == [1] * 12, PATIENCE_S, 'six pictures')
        image = listener.images['CAM_BACK'][0]
        assert (image.height, image.width) == (900, 1600)


@pytest.mark.parametrize(
    ('options', 'reason'),
    [
        ({}, 'parameter data is empty'),
        ({'data': '/nowhere'}, '/nowhere is not a folder'),
        ({'data': '/nowhere/keyframe.json'}, 'keyframe.json holds no keyframe'),
        ({'cameras': ['CAM_TOP']}, 'has no CAM_TOP'),
    ],
)
def test_what_cannot_be_played_is_said_in_one_line(root, options, reason):
    if 'cameras' in options:
        options = {**options, 'data': str(root)}
    with LiveGraph() as graph:
        process = graph.start('player', MODULE, options)
        with pytest.raises(NodeFailedError, match='status 1'):
            graph.wait(lambda: False, PATIENCE_S, 'nothing')
        assert reason in process.output()
        assert process.output().count('\n') == 1
