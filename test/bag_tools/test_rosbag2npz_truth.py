"""Whether each tick gets the sample that it should, from bags whose samples say when they were."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bag_writing import START_NS
from mcap.reader import make_reader
from truth_bags import (
    ARM,
    COLOR,
    DEPTH,
    FORMATS,
    GELSIGHTS,
    GRIPPER,
    JOINTS,
    OFFSETS_MS,
    Truth,
    joint_at,
    read_pattern,
    write_truth,
)

from bag_tools.convert import Job, convert
from bag_tools.settings import ClockSettings, Settings, default_settings

TOPICS = {
    'color': COLOR,
    'depth': DEPTH,
    'gelsight1': GELSIGHTS[0],
    'gelsight2': GELSIGHTS[1],
    'joints_state': JOINTS,
}
THRESHOLDS = {'color': 100, 'depth': 2000, 'gelsight1': 100, 'gelsight2': 100}


@pytest.fixture(scope='module')
def bags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Truth]:
    folder = tmp_path_factory.mktemp('truth')
    return {kind: write_truth(folder / kind, kind) for kind in FORMATS}


def settings(clock: ClockSettings, policy: str, **changes: Any) -> Settings:
    """The package's streams, each with its latency taken off."""
    base = default_settings()
    streams = {
        name: replace(
            stream,
            policy=policy if stream.is_image else 'linear',
            offset_s=0.0 if clock.stamp == 'receive' else OFFSETS_MS[TOPICS[name]] / 1e3,
            **changes,
        )
        for name, stream in base.streams.items()
    }
    return replace(base, streams=streams, clock=clock)


def run(truth: Truth, out: Path, wanted: Settings) -> dict[str, np.ndarray]:
    result = convert(Job(truth.path, 'episode', out, wanted))
    with np.load(result['outputs'][0], allow_pickle=False) as arrays:
        return dict(arrays)


def sample_times(truth: Truth, topic: str, stamp: str) -> tuple[np.ndarray, np.ndarray]:
    """Sorted stamps less latency (or receive times), and the true times in us, of a topic."""
    samples = sorted(
        ((s - OFFSETS_MS[topic] * 1_000_000 if stamp == 'header' else r), t)
        for s, r, t in truth.samples[topic]
    )
    return np.array([s for s, _ in samples]), np.array([t for _, t in samples])


def expected(stamps: np.ndarray, tick: int, policy: str, tolerance_ns: int) -> int | None:
    """Index of the sample that a policy wants, found by looking at every one."""
    if policy == 'latest':
        fitting = [i for i in range(len(stamps)) if 0 <= tick - stamps[i] <= tolerance_ns]
        return fitting[-1] if fitting else None
    near = min(range(len(stamps)), key=lambda i: abs(int(stamps[i]) - tick))
    return near if abs(int(stamps[near]) - tick) <= tolerance_ns else None


def check_images(truth: Truth, data: dict[str, np.ndarray], policy: str, stamp: str) -> None:
    for name, threshold in THRESHOLDS.items():
        stamps, times = sample_times(truth, TOPICS[name], stamp)
        shown = [read_pattern(image, threshold) for image in data[name]]
        for row, tick in enumerate(data['stamps']):
            want = expected(stamps, int(tick), policy, 50_000_000)
            assert data[f'valid_{name}'][row] == (want is not None)
            if want is not None:
                assert shown[row] == times[want], (name, row)
                inside = stamps[0] <= tick <= stamps[-1]
                if inside and policy == 'nearest' and stamp == 'header':
                    half = np.diff(stamps[max(0, want - 1) : want + 2]).max() / 2
                    error = abs(START_NS + shown[row] * 1000 - int(tick))
                    assert error <= half + 1000


def check_joints(data: dict[str, np.ndarray]) -> None:
    names = list(data['joint_names'])
    assert names == [*ARM, *GRIPPER]
    true_us = (data['stamps'] - START_NS) / 1e3
    valid = data['valid_joints_state']
    assert valid.sum() > 0.9 * len(valid)
    for column, name in enumerate(names):
        error = np.abs(data['joints_state'][valid, column] - joint_at(name, true_us[valid]))
        # A line over 20 ms of a sine of 0.5 rad/s: 0.25 * 0.02^2 / 8.
        assert error.max() < 2e-5
    np.testing.assert_array_equal(data['actions'][:-1], data['joints_state'][1:])
    np.testing.assert_array_equal(data['actions'][-1], data['joints_state'][-1])


@pytest.mark.parametrize('kind', FORMATS)
def test_every_format_gives_every_tick_its_nearest_samples(
    bags: dict[str, Truth], kind: str, tmp_path: Path
) -> None:
    data = run(bags[kind], tmp_path, settings(ClockSettings(reference='color'), 'nearest'))
    stamps, times = sample_times(bags[kind], COLOR, 'header')
    np.testing.assert_array_equal(data['stamps'], stamps)
    assert [read_pattern(image, 100) for image in data['color']] == times.tolist()
    check_images(bags[kind], data, 'nearest', 'header')
    check_joints(data)


@pytest.mark.parametrize('policy', ['nearest', 'latest'])
@pytest.mark.parametrize('stamp', ['header', 'receive'])
@pytest.mark.parametrize('rate', [None, 10.0, 45.0])
def test_every_policy_and_clock(
    bags: dict[str, Truth], policy: str, stamp: str, rate: float | None, tmp_path: Path
) -> None:
    clock = (
        ClockSettings(reference='depth', stamp=stamp)
        if rate is None
        else ClockSettings(rate_hz=rate, stamp=stamp)
    )
    data = run(bags['mcap_zstd'], tmp_path, settings(clock, policy))
    if rate is not None:
        assert np.abs(np.diff(data['stamps']) - 1e9 / rate).max() <= 1
    check_images(bags['mcap_zstd'], data, policy, stamp)
    if stamp == 'header':
        check_joints(data)


@pytest.mark.parametrize('kind', ['mcap', 'mcap_zstd', 'mcap_split'])
def test_the_mcap_package_reads_the_same_messages(bags: dict[str, Truth], kind: str) -> None:
    """The reader is not its own witness: stamps and times by another reader and by hand."""
    seen: dict[str, list[tuple[int, int]]] = {}
    for file in sorted(bags[kind].path.glob('*.mcap')):
        with file.open('rb') as stream:
            for _, channel, message in make_reader(stream).iter_messages():
                seconds, nanoseconds = struct.unpack_from('<iI', message.data, 4)
                stamp = seconds * 1_000_000_000 + nanoseconds
                seen.setdefault(channel.topic, []).append((stamp, message.log_time))
    written = {t: [(s, r) for s, r, _ in rows] for t, rows in bags[kind].samples.items()}
    assert seen == written


def test_the_bags_hold_what_makes_them_hard(bags: dict[str, Truth]) -> None:
    for topic in (COLOR, JOINTS):
        stamps = [stamp for stamp, _, _ in bags['mcap'].samples[topic]]
        assert stamps != sorted(stamps)
    assert len(bags['mcap'].samples[COLOR]) < 88


def spoil_some(topic: str, index: int, data: bytes) -> bytes:
    if topic != GELSIGHTS[0]:
        return data
    return {0: b'', 7: data[: len(data) // 2], 8: b'no jpeg', 30: data[:-40]}.get(index, data)


@pytest.mark.parametrize('kind', ['mcap', 'sqlite3_zstd', 'ros1_lz4'])
def test_a_bad_jpeg_shifts_nothing(kind: str, tmp_path: Path) -> None:
    truth = write_truth(tmp_path / 'bag', kind, seconds=2, spoil=spoil_some)
    clock = ClockSettings(reference='gelsight1')
    data = run(truth, tmp_path, settings(clock, 'nearest'))
    received = [t for _, _, t in truth.samples[GELSIGHTS[0]]]
    bad = {received[i] for i in (0, 7, 8, 30)}
    _, times = sample_times(truth, GELSIGHTS[0], 'header')
    shown = [read_pattern(image, 100) for image in data['gelsight1']]
    for row, time in enumerate(times):
        assert data['valid_gelsight1'][row] == (time not in bad)
        if time not in bad:
            assert shown[row] == time
    metadata = json.loads(str(data['metadata']))
    assert metadata['streams']['gelsight1']['bad_messages'] == 4


def test_dropped_ticks_pass_over_bad_images(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / 'bag', 'mcap', seconds=2, spoil=spoil_some)
    wanted = settings(ClockSettings(reference='color'), 'nearest', tolerance_s=0.02, missing='drop')
    data = run(truth, tmp_path, wanted)
    bad = [truth.samples[GELSIGHTS[0]][i] for i in (0, 7, 8, 30)]
    for name in THRESHOLDS:
        assert data[f'valid_{name}'].all()
        shown = np.array([read_pattern(image, THRESHOLDS[name]) for image in data[name]])
        assert np.abs(START_NS + shown * 1000 - data['stamps']).max() <= 20_000_000 + 1000
        assert not set(shown) & {t for _, _, t in bad} or name != 'gelsight1'
    assert len(data['stamps']) < len(truth.samples[COLOR])
