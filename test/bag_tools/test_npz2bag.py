from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from episode_writing import NAMES, PERIOD_NS, START_NS, episode_arrays, write_episode
from mcap.reader import make_reader

from bag_tools import npz2bag, rosbag2npz
from bag_tools.decode import color_image, depth_image
from bag_tools.episode import Episode, EpisodeError
from bag_tools.episode_bag import BagConfig, EpisodeBag
from bag_tools.reader import BagReader
from bag_tools.task_texts import tasks_of

STEPS = 21  # not a multiple of the ticks read at once
STAMPS = START_NS + PERIOD_NS * np.arange(STEPS)


def run(*arguments: object) -> int:
    return npz2bag.main([str(argument) for argument in arguments])


@pytest.fixture
def episode(tmp_path: Path) -> Path:
    return write_episode(tmp_path / 'a.npz', STEPS, 2)


@pytest.mark.parametrize('compress', [(), ('--compress',)])
def test_the_bag_reader_reads_back_every_sample_at_its_stamp(
    episode: Path, tmp_path: Path, compress: tuple[str, ...]
) -> None:
    assert run(episode, tmp_path / 'bag', '--actions', '/joint_command', *compress) == 0
    truth = episode_arrays(STEPS, 2)
    seen: dict[str, list[int]] = {}
    with BagReader(tmp_path / 'bag') as bag:
        for message in bag.messages():
            at = len(seen.setdefault(message.topic, []))
            seen[message.topic].append(message.stamp_ns)
            assert message.receive_ns == message.stamp_ns
            data = message.data
            if message.topic == '/camera/color/image_raw':
                np.testing.assert_array_equal(color_image(data), truth['color'][at])
                assert data.encoding == 'rgb8'
            elif message.topic == '/camera/depth/image_rect_raw':
                depth_m = truth['depth'][at].astype(np.float32) / 1000
                np.testing.assert_array_equal(depth_image(data), depth_m)
                assert data.encoding == '16UC1'
            elif message.topic == '/joint_states':
                assert tuple(data.name) == NAMES
                np.testing.assert_array_equal(data.position, truth['joints_state'][at])
                assert not len(data.velocity)
            elif message.topic == '/joint_command':
                np.testing.assert_array_equal(data.position, truth['actions'][at])
    assert sorted(seen) == [
        '/camera/color/image_raw',
        '/camera/depth/image_rect_raw',
        '/gelsight1/image_raw',
        '/joint_command',
        '/joint_states',
    ]
    assert all(stamps == STAMPS.tolist() for stamps in seen.values())


def test_the_mcap_package_reads_it_too(episode: Path, tmp_path: Path) -> None:
    assert run(episode, tmp_path / 'bag') == 0
    joints = episode_arrays(STEPS, 2)['joints_state']
    depth = episode_arrays(STEPS, 2)['depth']
    seen: dict[str, int] = {}
    with (tmp_path / 'bag' / 'bag.mcap').open('rb') as file:
        for schema, channel, message in make_reader(file, validate_crcs=True).iter_messages():
            at = seen.get(channel.topic, 0)
            seen[channel.topic] = at + 1
            assert channel.message_encoding == 'cdr'
            assert message.log_time == STAMPS[at]
            # CDR little endian: 4 bytes of encapsulation, then the header's stamp.
            seconds, nanoseconds = struct.unpack_from('<iI', message.data, 4)
            assert seconds * 10**9 + nanoseconds == STAMPS[at]
            if channel.topic == '/joint_states':
                assert schema.name == 'sensor_msgs/msg/JointState'
                # It ends in three doubles, and the empty velocities and efforts.
                ends = struct.unpack_from('<3dII', message.data, len(message.data) - 32)
                np.testing.assert_array_equal(ends, [*joints[at].astype(float), 0, 0])
            if channel.topic == '/camera/depth/image_rect_raw':
                assert bytes(message.data[-6 * 8 * 2 :]) == depth[at].astype('<u2').tobytes()
    assert set(seen.values()) == {STEPS}
    assert len(seen) == 4


def test_what_was_not_measured_is_left_out(tmp_path: Path) -> None:
    valid = np.ones(STEPS, np.bool_)
    valid[[0, 7, 8, 20]] = False
    path = write_episode(tmp_path / 'a.npz', STEPS, valid_color=valid)
    assert run(path, tmp_path / 'bag') == 0
    with BagReader(tmp_path / 'bag') as bag:
        stamps = [message.stamp_ns for message in bag.messages(['/camera/color/image_raw'])]
        assert bag.topics['/joint_states'].claimed == STEPS
    assert stamps == STAMPS[valid].tolist()
    assert run(path, tmp_path / 'held', '--held') == 0
    with BagReader(tmp_path / 'held') as bag:
        assert bag.topics['/camera/color/image_raw'].claimed == STEPS


def test_the_converter_makes_the_same_episode_of_it(tmp_path: Path) -> None:
    valid = np.ones(STEPS, np.bool_)
    valid[[3, 4]] = False
    noted = {'custom_data': {'task': 'lift the lid: slowly'}}
    path = write_episode(tmp_path / 'a.npz', STEPS, 2, valid_depth=valid, metadata=noted)
    assert run(path, tmp_path / 'bag') == 0
    assert rosbag2npz.main([str(tmp_path / 'bag'), '--out', str(tmp_path / 'npz'), '--quiet']) == 0
    truth = episode_arrays(STEPS, 2)
    with np.load(tmp_path / 'npz' / 'bag.npz', allow_pickle=False) as made:
        for key in ('color', 'gelsight1', 'stamps', 'joint_names', 'joints_state', 'actions'):
            np.testing.assert_array_equal(made[key], truth[key], err_msg=key)
        np.testing.assert_array_equal(made['valid_depth'], valid)
        np.testing.assert_array_equal(made['depth'][valid], truth['depth'][valid])
    # What was noted with `ros2 bag record --custom-data` tells make_dataset the task.
    assert tasks_of([Episode(tmp_path / 'npz' / 'bag.npz')], []) == ['lift the lid: slowly']


def test_jpeg_is_colour_as_image_transport_sends_it(tmp_path: Path) -> None:
    color = np.zeros((STEPS, 32, 48, 3), np.uint8)
    color[:, :, :24], color[:, :, 24:] = (200, 30, 40), (20, 60, 220)
    path = write_episode(tmp_path / 'a.npz', STEPS, color=color)
    assert run(path, tmp_path / 'bag', '--images', 'jpeg') == 0
    with BagReader(tmp_path / 'bag') as bag:
        messages = list(bag.messages(['/camera/color/image_raw/compressed']))
        assert '/gelsight1/image_raw/compressed' in bag.topics
        assert '/camera/depth/image_rect_raw' in bag.topics
    assert len(messages) == STEPS
    for message in messages:
        assert message.data.format == 'rgb8; jpeg compressed bgr8'
        error = np.abs(color_image(message.data).astype(int) - color[0])
        assert np.median(error) <= 2


def test_topics_are_those_of_the_recording_unless_given(tmp_path: Path) -> None:
    streams = {
        'color': {'topic': '/cam/rgb/compressed', 'kind': 'color'},
        'joints_state': {'topic': '/arm/joint_states', 'kind': 'joints'},
    }
    path = write_episode(tmp_path / 'a.npz', metadata={'streams': streams})
    given = ('--topic', 'depth=/z', 'gelsight1=')
    assert run(path, tmp_path / 'bag', *given) == 0
    with BagReader(tmp_path / 'bag') as bag:
        assert sorted(bag.topics) == ['/arm/joint_states', '/cam/rgb', '/z']
    assert run(path, tmp_path / 'jpeg', *given, '--images', 'jpeg') == 0
    with BagReader(tmp_path / 'jpeg') as bag:
        assert sorted(bag.topics) == ['/arm/joint_states', '/cam/rgb/compressed', '/z']


def test_velocities_and_efforts_find_their_fields(tmp_path: Path) -> None:
    names = np.array(['a', 'b', 'a/velocity', 'b/velocity'])
    values = np.arange(20, dtype=np.float32).reshape(5, 4)
    path = write_episode(
        tmp_path / 'a.npz', joint_names=names, joints_state=values, without=('actions',)
    )
    assert run(path, tmp_path / 'bag') == 0
    with BagReader(tmp_path / 'bag') as bag:
        states = [message.data for message in bag.messages(['/joint_states'])]
    assert list(states[0].name) == ['a', 'b']
    np.testing.assert_array_equal(states[2].position, [8, 9])
    np.testing.assert_array_equal(states[2].velocity, [10, 11])
    assert not len(states[2].effort)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'stamps': np.array([0, 1, 1, 2, 3])}, 'the stamps do not rise at tick 2'),
        ({'without': ('stamps',)}, 'has no stamps'),
        ({'wrist': np.zeros((5, 2, 2, 3), np.uint8)}, 'no topic is known for wrist'),
        ({'depth': np.zeros((5, 6, 8), np.float64)}, 'depth of shape .* is neither'),
        (
            {'joint_names': np.array(['a', 'b', 'a/effort'])},
            'effort is known of a, not of a, b',
        ),
    ],
)
def test_what_makes_no_bag_is_refused_by_name(
    tmp_path: Path, change: dict[str, np.ndarray], message: str
) -> None:
    path = write_episode(tmp_path / 'a.npz', **change)
    with pytest.raises(EpisodeError, match=message):
        EpisodeBag(Episode(path))
    assert run(path, tmp_path / 'bag') == 2
    assert not (tmp_path / 'bag').exists()


def test_bad_configurations_name_the_value() -> None:
    with pytest.raises(ValueError, match='jpeg_quality = 0'):
        BagConfig(jpeg_quality=0)
    with pytest.raises(ValueError, match="'rgb' of color must begin with /"):
        BagConfig(topics={'color': 'rgb'})


def test_nothing_is_overwritten_unless_asked(
    episode: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(episode, tmp_path / 'bag', '--json') == 0
    assert json.loads(capsys.readouterr().out)['ticks'] == STEPS
    assert run(episode, tmp_path / 'bag') == 2
    assert 'exists already' in capsys.readouterr().err
    assert run(episode, tmp_path / 'bag', '--overwrite') == 0
    (tmp_path / 'bag' / 'notes.txt').write_text('mine')
    assert run(episode, tmp_path / 'bag', '--overwrite') == 2
    assert 'holds notes.txt' in capsys.readouterr().err
    assert (tmp_path / 'bag' / 'notes.txt').read_text() == 'mine'
