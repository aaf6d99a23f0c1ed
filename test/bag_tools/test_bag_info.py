from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_writing import FORMATS, START_NS, Recorder

from bag_tools import bag_info
from bag_tools.bag_health import examine
from bag_tools.reader import BagReader

MS = 1_000_000
COUNT = 40


def record(path: Path, kind: str = 'mcap', *, jump_ns: int = 0, skip: range = range(0)) -> Path:
    """Images at 20 Hz, received 7 ms late; tf at the same times from two publishers."""
    with Recorder(path, kind) as bag:
        for i in range(COUNT):
            stamp = START_NS + i * 50 * MS
            pose = ((0, 0, 0), (0, 0, 0, 1))
            for child in ('a', 'b'):
                bag.write('/tf', bag.tf([(stamp, 'map', child, *pose)]), stamp + (child == 'b'))
            if i not in skip:
                image = np.full((64, 64), i, np.uint16)
                late = stamp + jump_ns if i >= 30 else stamp
                message = bag.image(late, 'camera', image, '16UC1')
                bag.write('/depth', message, stamp + 7 * MS)
        return bag.path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code = bag_info.main([*(str(argument) for argument in arguments), '--json'])
    out = capsys.readouterr().out
    return code, json.loads(out) if out else None


@pytest.mark.parametrize('kind', FORMATS)
def test_a_whole_bag_of_every_format(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, (bag,) = run(capsys, record(tmp_path / 'bag', kind))
    depth, tf = bag['topics']
    assert code == 0
    assert bag['damage'] == []
    assert (depth['name'], depth['msgtype']) == ('/depth', 'sensor_msgs/msg/Image')
    assert (depth['claimed'], depth['read']) == (COUNT, COUNT)
    assert depth['rate_hz'] == pytest.approx(20)
    assert (depth['gaps'], depth['longest_gap_s']) == (0, 0.05)
    assert (depth['out_of_order'], depth['jumps']) == (0, 0)
    assert depth['skew_median_s'] == pytest.approx(-0.007)
    assert depth['skew_spread_s'] == 0
    # Two publishers at once make tiny intervals, which are no measure of gaps.
    assert (tf['read'], tf['gaps'], tf['skew_median_s']) == (2 * COUNT, 0, None)


def test_gaps_and_clock_jumps_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = record(tmp_path / 'bag', skip=range(10, 14), jump_ns=-2_000_000_000)
    code, (bag,) = run(capsys, path)
    depth = bag['topics'][0]
    assert code == 0
    assert depth['read'] == COUNT - 4
    assert (depth['out_of_order'], depth['jumps']) == (10, 1)
    assert depth['skew_spread_s'] == pytest.approx(2)
    _, (bag,) = run(capsys, record(tmp_path / 'gap', skip=range(10, 14)))
    depth = bag['topics'][0]
    assert (depth['gaps'], depth['longest_gap_s'], depth['jumps']) == (1, 0.25, 0)


def test_the_table_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bag_info.main([str(record(tmp_path / 'bag'))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f'{3 * COUNT} of {3 * COUNT} messages read' in lines[0]
    depth = next(line for line in lines if line.startswith('/depth')).split()
    assert depth[2:] == ['40', '40', '20.00', '0', '0.050', '0', '0', '-7.0', '0.0']
    assert lines[-1] == 'no damage'


def test_damage_in_the_middle_is_told_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = record(tmp_path / 'bag', 'mcap_zstd')
    whole = bytearray((path / 'bag.mcap').read_bytes())
    at = len(whole) // 3
    whole[at : at + 64] = bytes(64)
    (path / 'bag.mcap').write_bytes(whole)
    code, (bag,) = run(capsys, path)
    assert code == 1
    assert bag['damage']
    assert 'is damaged' in bag['damage'][0] or 'cannot be opened' in bag['damage'][0]


def test_a_short_topic_is_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = record(tmp_path / 'bag', 'sqlite3')
    metadata = path / 'metadata.yaml'
    metadata.write_text(
        metadata.read_text().replace(f'message_count: {COUNT}\n', 'message_count: 99\n')
    )
    code, (bag,) = run(capsys, path)
    assert code == 1
    assert '/depth claims 99 messages, 40 could be read' in bag['damage'][0]


def test_many_bags_and_one_cut_short(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path / 'bags' / 'good')
    bad = record(tmp_path / 'bags' / 'cut')
    file = bad / 'cut.mcap'
    file.write_bytes(file.read_bytes()[:-100])
    code, bags = run(capsys, tmp_path / 'bags')
    assert code == 1
    assert [Path(bag['path']).name for bag in bags] == ['cut', 'good']
    assert 'it was not closed, as when a recorder is killed' in bags[0]['damage'][0]
    assert bags[1]['damage'] == []
    code, bags = run(capsys, bad, '--recover')
    assert code == 1
    assert bags[0]['topics'][0]['read'] > 0


def test_no_bag_at_all_is_a_wrong_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bag_info.main([str(tmp_path / 'absent')]) == 2
    assert 'there is no bag at' in capsys.readouterr().err


def test_a_topic_without_messages(tmp_path: Path) -> None:
    path = record(tmp_path / 'bag', skip=range(COUNT))
    with BagReader(path) as bag:
        health = examine(bag)
    assert [topic.name for topic in health.topics] == ['/tf']


def test_recorded_bags(vlm_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, (bag,) = run(capsys, vlm_data / 'bags' / 'kitchen_sqlite3')
    topics = {topic['name']: topic for topic in bag['topics']}
    assert code == 0
    assert topics['/camera/depth/camera_info']['read'] == 7
    assert topics['/camera/depth/camera_info']['gaps'] == 1
    assert topics['/camera/color/camera_info']['gaps'] == 0
    assert topics['/joint_states']['rate_hz'] == pytest.approx(100, abs=1)
    assert -0.05 < topics['/camera/depth/image_rect_raw']['skew_median_s'] < 0
    assert topics['/tf']['skew_median_s'] is None
    mismatched = 'bags/rosbag2_tests/rosbag2_transport/test/resources/sqlite3/rewriter_b'
    code, (bag,) = run(capsys, vlm_data / mismatched)
    assert code == 1
    assert 'claims 25 messages, 0 could be read' in bag['damage'][0]
    killed = tmp_path / 'killed_mcap'
    shutil.copytree(vlm_data / 'bags' / 'killed_mcap', killed)
    code, (bag,) = run(capsys, killed)
    assert code == 1
    assert 'no metadata.yaml' in bag['damage'][0]
    code, (bag,) = run(capsys, killed, '--recover')
    assert code == 1
    assert sum(topic['read'] for topic in bag['topics']) == 127
