"""Damaged bags: named with what they cost, never short in silence, salvaged when asked."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import yaml
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from truth_bags import COLOR, DEPTH, JOINTS, Truth, read_pattern, write_truth

from bag_tools.rosbag2npz import CONVERTED, FAILED, SALVAGED, main

SECONDS = 0.7


def run(bag: Path, out: Path, *options: str) -> tuple[int, dict]:
    """Exit code and the bag's entry of the report."""
    code = main([str(bag), '--out', str(out), '--quiet', *options])
    return code, json.loads((out / 'report.json').read_text())['bags'][0]


def outputs(out: Path) -> list[str]:
    return sorted(p.name for p in out.iterdir() if not p.name.startswith('report.'))


def check_kept(npz: Path, truth: Truth) -> int:
    """Every salvaged image is one that was written, each at its own stamp; how many there are."""
    times = {stamp: time for stamp, _, time in truth.samples[COLOR]}
    with np.load(npz, allow_pickle=False) as data:
        for stamp, image in zip(data['stamps'], data['color'], strict=True):
            assert read_pattern(image, 100) == times[int(stamp)]
        return len(data['stamps'])


def storage(truth: Truth) -> Path:
    if truth.path.is_file():
        return truth.path
    return next(p for p in truth.path.iterdir() if p.suffix in ('.mcap', '.db3'))


@pytest.mark.parametrize('kind', ['mcap', 'mcap_zstd', 'sqlite3', 'ros1_bz2'])
def test_truncation_at_every_twentieth(kind: str, tmp_path: Path) -> None:
    truth = write_truth(tmp_path / 'whole', kind, seconds=SECONDS)
    file = storage(truth)
    content = file.read_bytes()
    cut = tmp_path / f'cut{file.suffix}'
    salvaged = []
    for part in range(1, 20):
        cut.write_bytes(content[: len(content) * part // 20])
        out = tmp_path / f'out{part}'
        code, bag = run(cut, out)
        assert code == FAILED
        assert str(cut) in bag['error']
        assert '--recover salvages' in bag['error']
        assert outputs(out) == []
        code, bag = run(cut, out, '--recover')
        if code == SALVAGED:
            assert outputs(out) == ['cut.npz']
            assert bag['recovery']
            kept = check_kept(out / 'cut.npz', truth)
            assert kept == bag['streams']['color']['read'] - bag['streams']['color']['left_out']
            salvaged.append(kept)
        else:
            assert code == FAILED
            assert outputs(out) == []
        shutil.rmtree(out)
    # What is salvaged grows with what is left. A sqlite file's first page may name pages at its
    # end, without which nothing can be had.
    assert salvaged
    assert salvaged == sorted(salvaged)
    if not kind.startswith('sqlite3'):
        assert salvaged[-1] >= 0.7 * len(truth.samples[COLOR])


def with_checksums(source: Path, target: Path, crc: bool) -> None:
    """The same messages in small chunks, with or without checksums."""
    with source.open('rb') as file, target.open('wb') as out:
        writer = McapWriter(
            out, compression=CompressionType.NONE, chunk_size=20_000, enable_crcs=crc
        )
        writer.start(profile='ros2', library='test')
        schemas, channels = {}, {}
        for record in StreamReader(file).records:
            name = type(record).__name__
            if name == 'Schema' and record.id not in schemas:
                schemas[record.id] = writer.register_schema(
                    record.name, record.encoding, record.data
                )
            elif name == 'Channel' and record.id not in channels:
                channels[record.id] = writer.register_channel(
                    record.topic, 'cdr', schemas[record.schema_id], dict(record.metadata)
                )
            elif name == 'Message':
                writer.add_message(
                    channels[record.channel_id], record.log_time, record.data, record.publish_time
                )
        writer.finish()


@pytest.fixture
def chunked(tmp_path: Path) -> Truth:
    return write_truth(tmp_path / 'whole', 'mcap', seconds=SECONDS)


def flip_in_image(file: Path, which: int) -> None:
    """Turn over 64 bytes inside the pixels of the nth colour image."""
    content = bytearray(file.read_bytes())
    at = -1
    for _ in range(which + 1):
        at = content.index(b'bgr8', at + 1)
    for i in range(at + 200, at + 264):
        content[i] ^= 0xFF
    file.write_bytes(content)


def test_flipped_bytes_with_checksums_are_refused_then_salvaged(
    chunked: Truth, tmp_path: Path
) -> None:
    bag, out = tmp_path / 'flipped.mcap', tmp_path / 'out'
    with_checksums(storage(chunked), bag, crc=True)
    assert run(bag, tmp_path / 'before')[0] == CONVERTED
    flip_in_image(bag, 10)
    code, result = run(bag, out)
    assert code == FAILED
    assert 'checksum' in result['error']
    assert 'messages' in result['error']
    assert outputs(out) == []
    code, result = run(bag, out, '--recover')
    assert code == SALVAGED
    assert '1 damaged chunks were left out' in ' '.join(result['recovery'])
    kept = check_kept(out / 'flipped.npz', chunked)
    assert len(chunked.samples[COLOR]) - 5 <= kept < len(chunked.samples[COLOR])
    with np.load(out / 'flipped.npz') as data:
        assert json.loads(str(data['metadata']))['recovery']


def test_flipped_pixels_without_checksums_shift_nothing(chunked: Truth, tmp_path: Path) -> None:
    bag, out = tmp_path / 'flipped.mcap', tmp_path / 'out'
    with_checksums(storage(chunked), bag, crc=False)
    flip_in_image(bag, 10)
    assert run(bag, out)[0] == CONVERTED
    stamps = sorted(chunked.samples[COLOR])
    with np.load(out / 'flipped.npz') as data:
        assert data['stamps'].tolist() == [stamp for stamp, _, _ in stamps]
        shown = [read_pattern(image, 100) for image in data['color']]
    assert sum(a != b for a, (_, _, b) in zip(shown, stamps, strict=True)) <= 1


def test_random_flips_never_pass_for_whole(chunked: Truth, tmp_path: Path) -> None:
    """Whatever byte is hit: an error, a mark, or the right images at the right stamps."""
    bag = tmp_path / 'flipped.mcap'
    with_checksums(storage(chunked), bag, crc=True)
    content = bag.read_bytes()
    rng = np.random.default_rng(0)
    codes = []
    for trial in range(12):
        broken = bytearray(content)
        broken[int(rng.integers(8, len(content) - 8))] ^= 0x55
        bag.write_bytes(broken)
        out = tmp_path / f'out{trial}'
        codes.append(run(bag, out)[0])
        if codes[-1] == CONVERTED:
            assert check_kept(out / 'flipped.npz', chunked) == len(chunked.samples[COLOR])
        else:
            assert outputs(out) == []
    assert FAILED in codes


def test_a_missing_split_file_is_named(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / 'bag', 'mcap_split', seconds=2 * SECONDS)
    missing = truth.path / 'bag_1.mcap'
    missing.unlink()
    code, bag = run(truth.path, tmp_path / 'out')
    assert code == FAILED
    assert 'bag_1.mcap' in bag['error']
    code, bag = run(truth.path, tmp_path / 'out', '--recover')
    assert code == SALVAGED
    notes = ' '.join(bag['recovery'])
    assert 'files are missing: bag_1.mcap' in notes
    claimed = len(truth.samples[COLOR])
    assert f'{COLOR}: metadata.yaml claims {claimed} messages' in notes
    assert 0 < check_kept(tmp_path / 'out' / 'bag.npz', truth) < claimed


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3', 'sqlite3_zstd', 'sqlite3_filezstd'])
def test_a_bag_without_metadata_is_salvaged_whole(kind: str, tmp_path: Path) -> None:
    truth = write_truth(tmp_path / 'bag', kind, seconds=SECONDS)
    (truth.path / 'metadata.yaml').unlink()
    code, bag = run(truth.path, tmp_path / 'out')
    assert code == FAILED
    assert 'metadata.yaml' in bag['error']
    code, bag = run(truth.path, tmp_path / 'out', '--recover')
    assert code == SALVAGED
    assert check_kept(tmp_path / 'out' / 'bag.npz', truth) == len(truth.samples[COLOR])


def test_an_unmerged_log_is_refused_then_merged_on_a_copy(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / 'bag', 'sqlite3', seconds=SECONDS)
    file = storage(truth)
    kept = tmp_path / 'crashed'
    kept.mkdir()
    database = sqlite3.connect(file)
    database.execute('PRAGMA journal_mode=WAL')
    database.execute('PRAGMA wal_autocheckpoint=0')
    rows = database.execute('SELECT * FROM messages ORDER BY id').fetchall()
    half = rows[len(rows) // 2][0]
    database.execute('DELETE FROM messages WHERE id >= ?', (half,))
    database.commit()
    database.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    database.executemany(
        f'INSERT INTO messages VALUES ({",".join("?" * len(rows[0]))})',
        [row for row in rows if row[0] >= half],
    )
    database.commit()
    for name in (file.name, f'{file.name}-wal'):
        shutil.copyfile(file.with_name(name), kept / name)
    database.close()
    before = {p.name: p.read_bytes() for p in kept.iterdir()}
    bag = kept / file.name
    code, result = run(bag, tmp_path / 'out')
    assert code == FAILED
    assert 'write-ahead log that was never merged' in result['error']
    code, result = run(bag, tmp_path / 'out', '--recover')
    assert code == SALVAGED
    assert 'merged on a copy' in ' '.join(result['recovery'])
    assert check_kept(tmp_path / 'out' / f'{bag.stem}.npz', truth) == len(truth.samples[COLOR])
    assert {p.name: p.read_bytes() for p in kept.iterdir()} == before


def test_false_claims_are_refused(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / 'bag', 'sqlite3', seconds=SECONDS)
    metadata = truth.path / 'metadata.yaml'
    count = len(truth.samples[DEPTH])
    text = metadata.read_text()
    metadata.write_text(text.replace(f'message_count: {count}\n', f'message_count: {count + 3}\n'))
    assert metadata.read_text() != text
    code, bag = run(truth.path, tmp_path / 'out')
    assert code == FAILED
    assert f'claims {count + 3} messages, {count} could be read' in bag['error']


def with_other_qos(path: Path, kind: str) -> Truth:
    """A bag whose metadata.yaml gives one topic another quality of service than its file does."""
    truth = write_truth(path, kind, seconds=SECONDS)
    metadata = truth.path / 'metadata.yaml'
    content = yaml.safe_load(metadata.read_text())
    second = {'sec': 1, 'nsec': 0}
    profile = dict.fromkeys(('history', 'reliability', 'durability', 'liveliness'), 1)
    profile |= dict.fromkeys(('deadline', 'lifespan', 'liveliness_lease_duration'), second)
    profile |= {'depth': 7, 'avoid_ros_namespace_conventions': False}
    for topic in content['rosbag2_bagfile_information']['topics_with_message_count']:
        if topic['topic_metadata']['name'] == COLOR:
            topic['topic_metadata']['offered_qos_profiles'] = [profile]
    metadata.write_text(yaml.safe_dump(content))
    return truth


@pytest.mark.parametrize('kind', ['mcap', 'mcap_zstd', 'mcap_split'])
def test_another_qos_in_the_metadata_costs_an_mcap_nothing(kind: str, tmp_path: Path) -> None:
    truth = with_other_qos(tmp_path / 'bag', kind)
    code, bag = run(truth.path, tmp_path / 'out')
    assert code == CONVERTED
    color, count = bag['streams']['color'], len(truth.samples[COLOR])
    assert (color['claimed'], color['read']) == (count, count)
    assert check_kept(tmp_path / 'out' / 'bag.npz', truth) == count


def test_another_qos_in_the_metadata_of_a_sqlite_bag_is_refused(tmp_path: Path) -> None:
    """The storage library finds none of such a topic's messages, and does not say so."""
    truth = with_other_qos(tmp_path / 'bag', 'sqlite3')
    count = len(truth.samples[COLOR])
    code, bag = run(truth.path, tmp_path / 'out')
    assert code == FAILED
    assert f'{COLOR} claims {count} messages, 0 could be read' in bag['error']
    assert f'try {storage(truth)} itself' in bag['error']
    assert outputs(tmp_path / 'out') == []
    for path, options in ((storage(truth), ()), (truth.path, ('--recover',))):
        out = tmp_path / path.name
        assert run(path, out, *options)[0] == CONVERTED
        assert check_kept(out / f'{path.stem}.npz', truth) == count


def test_recover_changes_nothing_for_a_whole_bag(tmp_path: Path) -> None:
    for kind in ('mcap_zstd', 'sqlite3', 'ros1'):
        truth = write_truth(tmp_path / kind, kind, seconds=SECONDS)
        loaded = []
        for options in ((), ('--recover',)):
            out = tmp_path / f'{kind}_out{len(options)}'
            code, bag = run(truth.path, out, *options)
            assert (code, bag['status'], bag['recovery']) == (CONVERTED, 'converted', [])
            with np.load(out / f'{kind}.npz') as data:
                loaded.append({key: data[key] for key in data if key != 'metadata'})
        for key, values in loaded[0].items():
            np.testing.assert_array_equal(values, loaded[1][key])


def test_one_bad_bag_does_not_stop_the_others(tmp_path: Path) -> None:
    good = write_truth(tmp_path / 'bags' / 'good', 'mcap', seconds=SECONDS)
    bad = tmp_path / 'bags' / 'bad.mcap'
    bad.write_bytes(storage(good).read_bytes()[:5000])
    code = main([str(tmp_path / 'bags'), '--out', str(tmp_path / 'out'), '--quiet'])
    assert code == FAILED
    assert outputs(tmp_path / 'out') == ['good.npz']
    assert JOINTS in good.samples
