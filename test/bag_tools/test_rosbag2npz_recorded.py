"""Recorded bags: what each yields, and what is said of those that yield nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from bag_tools.rosbag2npz import CONVERTED, FAILED, SALVAGED, main

NAMES = ['shoulder_pan', 'shoulder_lift', 'elbow', 'wrist_1', 'wrist_2', 'wrist_3', 'gripper']


def run(bag: Path, out: Path, *options: str) -> tuple[int, dict]:
    code = main([str(bag), '--out', str(out), '--quiet', *options])
    return code, json.loads((out / 'report.json').read_text())['bags'][0]


def start_of_joints(bag: Path) -> int:
    """The stamp of the static transform, from which the joints' sines count."""
    with AnyReader([bag]) as reader:
        wanted = [c for c in reader.connections if c.topic == '/tf_static']
        connection, _, raw = next(reader.messages(connections=wanted))
        stamp = reader.deserialize(raw, connection.msgtype).transforms[0].header.stamp
    return stamp.sec * 10**9 + stamp.nanosec


def check_kitchen(npz: Path, start_ns: int, frames: int) -> None:
    with np.load(npz, allow_pickle=False) as data:
        assert data['color'].shape == (frames, 480, 640, 3)
        assert data['depth'].dtype == np.uint16
        assert data['joint_names'].tolist() == NAMES
        assert data['valid_joints_state'].all()
        seconds = (data['stamps'] - start_ns) / 1e9
        wanted = np.sin(0.5 * seconds[:, None] + 0.3 * np.arange(6))
        np.testing.assert_allclose(data['joints_state'][:, :6], wanted, atol=1e-3)
        metres = data['depth'][data['depth'] > 0] / 1000
        assert 0.3 < np.median(metres) < 5


@pytest.mark.parametrize(('name', 'frames'), [('kitchen_mcap_zstd', 25), ('kitchen_sqlite3', 8)])
def test_kitchen_joints_at_every_image(
    vlm_data: Path, tmp_path: Path, name: str, frames: int
) -> None:
    bag = vlm_data / 'bags' / name
    assert run(bag, tmp_path)[0] == CONVERTED
    check_kitchen(tmp_path / f'{name}.npz', start_of_joints(bag), frames)


@pytest.mark.parametrize(('name', 'joints'), [('killed_mcap', 100), ('killed_sqlite3', 150)])
def test_killed_recorders_are_salvaged_when_asked(
    vlm_data: Path, tmp_path: Path, name: str, joints: int
) -> None:
    bag = vlm_data / 'bags' / name
    code, result = run(bag, tmp_path)
    assert code == FAILED
    assert '--recover salvages' in result['error']
    code, result = run(bag, tmp_path, '--recover')
    assert code == SALVAGED
    assert 'metadata.yaml' in ' '.join(result['recovery'])
    assert result['streams']['joints_state']['read'] == joints
    with np.load(tmp_path / f'{name}.npz', allow_pickle=False) as data:
        assert len(data['stamps']) == 5
        assert json.loads(str(data['metadata']))['recovery'] == result['recovery']
        assert data['valid_color'].all()
        turns = np.diff(data['joints_state'][:, 0])
        assert (np.abs(turns) < 0.11).all()
        assert (turns != 0).all()


CONFIG = """
clock: {rate_hz: 10}
streams:
  pose:
    topics: [/turtle1/pose]
    kind: fields
    fields: [x, y, theta]
"""


@pytest.mark.parametrize('name', ['example.bag', 'example-bz2.bag', 'example-lz4.bag'])
def test_ros1_bags_of_every_compression(vlm_data: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / 'config.yaml').write_text(CONFIG)
    bag = vlm_data / 'bags' / 'rosbag_js_ros1' / name
    code, result = run(bag, tmp_path, '--config', str(tmp_path / 'config.yaml'))
    assert code == CONVERTED
    assert result['streams']['pose']['read'] == 1344
    with np.load(tmp_path / f'{bag.stem}.npz', allow_pickle=False) as data:
        assert data['pose'].shape == (result['ticks'], 3)
        # A turtle moves at 2 m/s at most.
        assert np.abs(np.diff(data['pose'][:, :2], axis=0)).max() < 0.25


def test_every_bag_that_holds_nothing_to_train_on_is_named(vlm_data: Path, tmp_path: Path) -> None:
    """Empty, 0 bytes, without metadata, of another format, of other topics: none in silence."""
    folders = [vlm_data / 'bags' / name for name in ('rosbag2_tests', 'rosbag_js_ros1')]
    code = main([*map(str, folders), '--out', str(tmp_path), '--quiet'])
    assert code == FAILED
    bags = json.loads((tmp_path / 'report.json').read_text())['bags']
    assert all(bag['status'] == 'failed' for bag in bags)
    assert not list(tmp_path.glob('*.npz'))
    errors = {bag['bag']: bag['error'] for bag in bags}
    said = {
        'empty-file.bag': 'is empty (0 bytes)',
        'no-messages.bag': 'it has no topics',
        'empty_bag': 'color: no topic /camera/color/image_raw',
        'mcap/reindex_test_bags/multiple_files': 'has no metadata.yaml',
        'sqlite3/wrong_rmw_test': 'wrong_format',
        'mcap/talker': '/topic (10 std_msgs/msg/String)',
        'sqlite3/wbag': '--scaffold writes a configuration',
        'bags/topics_and_services.mcap': '/parameter_events (7 ',
    }
    for name, words in said.items():
        (text,) = [text for bag, text in errors.items() if bag.endswith(name)]
        assert words in text, name
    for text in errors.values():
        assert '\n' not in text


def test_a_split_bag_is_read_over_all_its_files(vlm_data: Path) -> None:
    from bag_tools.reader import BagReader

    base = vlm_data / 'bags' / 'rosbag2_tests' / 'rosbag2_py' / 'test' / 'resources'
    counts = []
    for kind in ('mcap', 'sqlite3'):
        with BagReader(base / kind / 'wbag') as bag:
            claimed = {topic.name: topic.claimed for topic in bag.topics.values()}
            read = dict.fromkeys(claimed, 0)
            for message in bag.raw_messages():
                read[message.topic] += 1
            assert read == claimed
            assert not bag.problems
            counts.append(claimed)
    assert counts[0] == counts[1]
