import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from bag_writing import FORMATS, START_NS, Recorder

from bag_tools.reader import BagError, BagReader, DamagedBagError, is_bag

MS = 1_000_000
DURATION = '{sec: 1, nsec: 0}'
OTHER_QOS = f"""- history: 3
  depth: 7
  reliability: 1
  durability: 2
  deadline: {DURATION}
  lifespan: {DURATION}
  liveliness: 1
  liveliness_lease_duration: {DURATION}
  avoid_ros_namespace_conventions: false
"""


def write_bag(path: Path, kind: str, count: int = 40) -> Path:
    with Recorder(path, kind) as recorder:
        for i in range(count):
            stamp = START_NS + i * 10 * MS
            item = (stamp, 'map', 'base', (i, 0, 0), (0, 0, 0, 1))
            recorder.write('/tf', recorder.tf([item]), stamp + 2 * MS)
            if i % 4 == 0:
                array = np.full((32, 40), i, np.uint16)
                image = recorder.image(stamp, 'cam', array, '16UC1')
                recorder.write('/depth', image, stamp + 3 * MS)
        return recorder.path


@pytest.mark.parametrize('kind', FORMATS)
def test_every_format_gives_the_same(tmp_path: Path, kind: str) -> None:
    path = write_bag(tmp_path / 'bag', kind)
    assert is_bag(path)
    with BagReader(path) as bag:
        assert {t.name: t.claimed for t in bag.topics.values()} == {'/tf': 40, '/depth': 10}
        assert [t.name for t in bag.of_type('sensor_msgs/msg/Image')] == ['/depth']
        assert bag.duration_s == pytest.approx(0.39, abs=1e-3)
        messages = list(bag.messages())
        assert bag.problems == ()
        depth = list(bag.messages(['/depth']))
    assert [m.receive_ns for m in messages] == sorted(m.receive_ns for m in messages)
    assert len(messages) == 50
    assert [m.stamp_ns for m in depth] == [START_NS + i * 40 * MS for i in range(10)]
    assert [int(m.data.data[0]) for m in depth] == [4 * i for i in range(10)]
    # A message without a header has no stamp but the time it was received.
    assert messages[0].topic == '/tf'
    assert messages[0].stamp_ns == messages[0].receive_ns


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3'])
def test_a_storage_file_alone_is_a_bag(tmp_path: Path, kind: str) -> None:
    folder = write_bag(tmp_path / 'bag', kind)
    (file,) = [p for p in folder.iterdir() if p.suffix in ('.mcap', '.db3')]
    with BagReader(file) as bag:
        assert len(list(bag.messages())) == 50


def test_unknown_topic_is_named_with_those_there(tmp_path: Path) -> None:
    with (
        BagReader(write_bag(tmp_path / 'bag', 'mcap')) as bag,
        pytest.raises(BagError, match='no topic /rgb; it has /depth, /tf'),
    ):
        list(bag.messages(['/rgb']))


def test_fewer_messages_than_claimed_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_bag(tmp_path / 'bag', 'mcap')
    metadata = folder / 'metadata.yaml'
    text = metadata.read_text()
    metadata.write_text(text.replace('message_count: 40', 'message_count: 45'))
    with BagReader(folder) as bag:
        assert len(list(bag.messages())) == 50
        assert len(list(bag.messages())) == 50
        assert len(bag.problems) == 1  # said once, however often it is read
        assert '/tf claims 45 messages, 40 could be read' in bag.problems[0]
    assert '/tf claims 45' in caplog.text


def test_metadata_that_differs_from_storage_is_said(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / 'bag', 'sqlite3')
    (file,) = folder.glob('*.db3')
    with sqlite3.connect(file) as connection:
        connection.execute('UPDATE topics SET offered_qos_profiles = ?', [OTHER_QOS])
    with BagReader(folder) as bag:
        assert list(bag.messages()) == []  # rosbags matches the two by their QoS
        assert len(bag.problems) == 2
        for text in bag.problems:
            assert 'messages, 0 could be read' in text
            assert str(file) in text
    with BagReader(file) as bag:
        assert len(list(bag.messages())) == 50


@pytest.mark.parametrize('kind', ['ros1', 'mcap', 'sqlite3'])
@pytest.mark.parametrize('share', [0.05, 0.5, 0.95])
def test_truncated_bags_are_named(tmp_path: Path, kind: str, share: float) -> None:
    path = write_bag(tmp_path / 'bag', kind)
    file = path if kind == 'ros1' else next(p for p in path.iterdir() if p.suffix != '.yaml')
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BagError, match=file.name if kind == 'ros1' else 'bag'):  # noqa: SIM117
        with BagReader(path) as bag:
            assert len(list(bag.messages())) < 50


def test_damage_in_the_middle_says_how_far_reading_came(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / 'bag', 'sqlite3_zstd')
    (file,) = folder.glob('*.db3')
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE messages SET data = x'00112233' WHERE id = 21")
    with BagReader(folder) as bag:
        messages = bag.messages()
        with pytest.raises(DamagedBagError, match=r'is damaged: .* of 50 messages') as caught:
            list(messages)
    assert caught.value.messages_read > 0


def test_what_is_no_bag_is_named(tmp_path: Path) -> None:
    with pytest.raises(BagError, match=r'there is no bag at .*nowhere'):
        BagReader(tmp_path / 'nowhere')
    with pytest.raises(BagError, match=r'holds no metadata.yaml, .mcap or .db3'):
        BagReader(tmp_path)
    (tmp_path / 'empty.bag').touch()
    with pytest.raises(BagError, match='0 bytes'):
        BagReader(tmp_path / 'empty.bag')
    (tmp_path / 'notes.txt').write_text('x')
    with pytest.raises(BagError, match='not a bag'):
        BagReader(tmp_path / 'notes.txt')
    assert not is_bag(tmp_path / 'notes.txt')
    with pytest.raises(BagError, match="unknown ROS 2 release 'jade'"):
        BagReader(tmp_path, distro='jade')


def test_missing_metadata_names_the_storage_file(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / 'bag', 'mcap')
    (folder / 'metadata.yaml').unlink()
    assert is_bag(folder)
    with pytest.raises(BagError, match=r'no metadata.yaml.*try its storage file .*\.mcap'):
        BagReader(folder)


def test_missing_split_is_named(tmp_path: Path) -> None:
    folder = write_bag(tmp_path / 'bag', 'mcap')
    next(folder.glob('*.mcap')).unlink()
    with pytest.raises(BagError, match='files are missing'):
        BagReader(folder)


@pytest.mark.parametrize('name', ['kitchen_mcap_zstd', 'kitchen_sqlite3'])
def test_recorded_bags_read_whole(vlm_data: Path, name: str) -> None:
    with BagReader(vlm_data / 'bags' / name) as bag:
        count = sum(1 for _ in bag.messages())
        assert count == sum(t.claimed for t in bag.topics.values())
        assert bag.problems == ()


def test_every_recorded_bag_reads_whole_or_says_why(vlm_data: Path) -> None:
    root = vlm_data / 'bags'
    paths = [*root.rglob('*.bag'), *(p.parent for p in root.rglob('metadata.yaml'))]
    assert len(paths) > 20
    for path in paths:
        assert reads_whole_or_says_why(path), path


def reads_whole_or_says_why(path: Path) -> bool:
    try:
        with BagReader(path) as bag:
            counts = dict.fromkeys(bag.topics, 0)
            for message in bag.messages():
                counts[message.topic] += 1
            claimed = {t.name: t.claimed for t in bag.topics.values()}
            return counts == claimed or bool(bag.problems)
    except BagError as error:
        return path.name in str(error)


def test_copy_of_a_killed_recording_names_its_cure(vlm_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / 'killed'
    shutil.copytree(vlm_data / 'bags' / 'killed_mcap', folder)
    with pytest.raises(BagError, match='recorder is killed'):
        BagReader(folder)
    with pytest.raises(BagError, match='recorder is killed'):
        BagReader(next(folder.glob('*.mcap')))
