"""Clocks that jump, streams that end early, missing ticks, command topics, foreign definitions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from bag_writing import START_NS, Recorder
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from bag_tools.rosbag2npz import CONVERTED, FAILED, main

S = 1_000_000_000
JOINTS = {'topics': ['/joint_states'], 'kind': 'joints'}
COMMAND = {'topics': ['/command'], 'kind': 'joints', 'policy': 'latest'}


def joints(bag: Recorder, topic: str, stamp: int, receive: int, values: dict[str, float]) -> None:
    message = bag.make(
        'sensor_msgs/msg/JointState',
        header=bag.header(stamp, ''),
        name=list(values),
        position=np.array(list(values.values())),
        velocity=np.zeros(0),
        effort=np.zeros(0),
    )
    bag.write(topic, message, receive)


def write(path: Path, fill: Callable[[Recorder], None]) -> Path:
    with Recorder(path, 'mcap') as bag:
        fill(bag)
        return bag.path


def run(bag: Path, tmp_path: Path, content: dict[str, Any]) -> tuple[int, dict, dict]:
    config = tmp_path / 'config.yaml'
    config.write_text(yaml.safe_dump(content))
    options = ['--out', str(tmp_path / 'out'), '--config', str(config), '--quiet', '--overwrite']
    code = main([str(bag), *options])
    result = json.loads((tmp_path / 'out' / 'report.json').read_text())['bags'][0]
    if code != CONVERTED:
        return code, result, {}
    with np.load(tmp_path / 'out' / f'{bag.stem}.npz', allow_pickle=False) as data:
        return code, result, dict(data)


def test_a_restarted_simulation_is_reported(tmp_path: Path) -> None:
    def fill(bag: Recorder) -> None:
        for i in range(300):
            simulated = 10 * S + i * S // 100 if i < 200 else 5 * S + i * S // 100
            joints(bag, '/joint_states', simulated, START_NS + i * S // 100, {'a': i / 100})

    bag = write(tmp_path / 'bag', fill)
    content = {'streams': {'joints_state': JOINTS}, 'clock': {'rate_hz': 50}}
    code, result, data = run(bag, tmp_path, content)
    assert code == CONVERTED
    assert any('jumps 1 times, 100 messages beyond' in text for text in result['problems'])
    np.testing.assert_allclose(data['joints_state'][:, 0], np.arange(100) / 50, atol=1e-6)
    content['clock']['jumps'] = 'refuse'
    code, result, _ = run(bag, tmp_path, content)
    assert code == FAILED
    assert 'jumps 1 times' in result['error']
    receive = {'streams': {'joints_state': JOINTS}, 'clock': {'rate_hz': 50, 'stamp': 'receive'}}
    assert len(run(bag, tmp_path, receive)[2]['stamps']) == 150


def test_unset_stamps_ask_for_receive_times(tmp_path: Path) -> None:
    def fill(bag: Recorder) -> None:
        for i in range(50):
            joints(bag, '/joint_states', 0, START_NS + i * S // 100, {'a': i})

    bag = write(tmp_path / 'bag', fill)
    content = {'streams': {'joints_state': JOINTS}, 'clock': {'rate_hz': 50}}
    code, result, _ = run(bag, tmp_path, content)
    assert code == FAILED
    assert 'stamp: receive' in result['error']
    content = {
        'streams': {'joints_state': {**JOINTS, 'stamp': 'receive'}},
        'clock': {'rate_hz': 50},
    }
    assert run(bag, tmp_path, content)[0] == CONVERTED


def test_clocks_that_differ_are_told_until_they_are_set_right(tmp_path: Path) -> None:
    """Two machines, one of them 0.8 s behind: everything pairs, wrongly."""

    def fill(bag: Recorder) -> None:
        for i in range(200):
            received = START_NS + i * S // 100
            joints(bag, '/joint_states', received - S // 100, received, {'a': i / 100})
            joints(bag, '/command', received - 4 * S // 5, received, {'b': i / 100})

    bag = write(tmp_path / 'bag', fill)
    cures: list[dict[str, Any]] = [{}, {'offset_s': -0.8}, {'stamp': 'receive'}]
    for cure in cures:
        streams = {'joints_state': JOINTS, 'command': {**COMMAND, **cure}}
        _, result, data = run(bag, tmp_path, {'streams': streams, 'clock': {'rate_hz': 20}})
        told = [text for text in result['problems'] if 'if their clocks differ' in text]
        apart = np.abs(data['command'] - data['joints_state']).max()
        assert (apart > 0.7) == bool(told) == (not cure)
        assert all(text.startswith('command: its header stamps lie -0.800 s') for text in told)


def two_streams(seconds: float) -> Callable[[Recorder], None]:
    def fill(bag: Recorder) -> None:
        for i in range(400):
            stamp = START_NS + i * S // 100
            joints(bag, '/joint_states', stamp, stamp, {'a': i / 100})
            if i % 10 == 0 and i < 100 * seconds:
                joints(bag, '/command', stamp, stamp, {'b': -i / 100})

    return fill


def test_a_stream_that_ends_early_is_never_short_in_silence(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', two_streams(1.0))
    streams = {'joints_state': JOINTS, 'command': {**COMMAND, 'tolerance_s': 0.2}}
    code, result, data = run(bag, tmp_path, {'streams': streams, 'clock': {'rate_hz': 20}})
    assert code == CONVERTED
    assert any('command ends 3.1 s early' in text for text in result['problems'])
    assert len(data['stamps']) == 19
    everything = {'streams': streams, 'clock': {'rate_hz': 20, 'span': 'all'}}
    _, result, data = run(bag, tmp_path, everything)
    assert len(data['stamps']) == 80
    assert data['valid_command'].sum() == 23
    assert any('57 of 80 ticks have no good sample' in text for text in result['problems'])
    for choice, length in (('drop', 23), ('refuse', 0)):
        streams['command']['missing'] = choice
        code, result, data = run(bag, tmp_path, everything)
        assert code == (CONVERTED if length else FAILED)
        assert not length or len(data['stamps']) == length


def test_actions_can_be_commands(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', two_streams(9.0))
    content = {
        'streams': {'joints_state': JOINTS, 'command': {**COMMAND, 'tolerance_s': 0.2}},
        'clock': {'rate_hz': 20},
        'actions': {'command': 'command'},
    }
    data = run(bag, tmp_path, content)[2]
    seconds = (data['stamps'] - START_NS) / S
    np.testing.assert_allclose(data['joints_state'][:, 0], seconds, atol=1e-6)
    held = np.floor(seconds * 10 + 1e-6) / 10
    np.testing.assert_allclose(data['actions'][:, 0], -held, atol=1e-6)
    assert data['valid_actions'].all()


def test_joints_that_are_not_there_are_named(tmp_path: Path) -> None:
    bag = write(tmp_path / 'bag', two_streams(9.0))
    content = {'streams': {'joints_state': {**JOINTS, 'joints': ['a', 'wrist']}},
               'clock': {'rate_hz': 20}}  # fmt: skip
    code, result, _ = run(bag, tmp_path, content)
    assert code == FAILED
    assert 'never names wrist; it names a' in result['error']


@pytest.mark.parametrize('embedded', [True, False])
def test_definitions_of_ones_own(tmp_path: Path, embedded: bool) -> None:
    """A type from a .msg folder, in an sqlite bag that holds no definitions."""
    definition = 'std_msgs/Header header\nfloat64 pressure\nfloat64[2] at\n'
    folder = tmp_path / 'my_msgs' / 'msg'
    folder.mkdir(parents=True)
    (folder / 'Touch.msg').write_text(definition)
    store = get_typestore(Stores.ROS2_HUMBLE)
    store.register(get_types_from_msg(definition, 'my_msgs/msg/Touch'))
    path = tmp_path / 'bag'
    with Writer(path, version=8, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection('/touch', 'my_msgs/msg/Touch', typestore=store)
        for i in range(30):
            stamp = START_NS + i * S // 30
            time = store.types['builtin_interfaces/msg/Time'](stamp // S, stamp % S)
            message = store.types['my_msgs/msg/Touch'](
                header=store.types['std_msgs/msg/Header'](stamp=time, frame_id=''),
                pressure=i / 10,
                at=np.array([i, -i], float),
            )
            data = store.serialize_cdr(message, 'my_msgs/msg/Touch')
            writer.write(connection, stamp, data)
    if not embedded:
        import sqlite3

        (file,) = path.glob('*.db3')
        with sqlite3.connect(file) as database:
            database.execute('DELETE FROM message_definitions')
    content = {
        'streams': {
            'touch': {'topics': ['/touch'], 'kind': 'fields', 'fields': ['pressure', 'at']}
        },
        'clock': {'reference': 'touch'},
        'message_folders': [str(folder.parents[1])],
        'distro': 'humble',
    }
    code, result, data = run(path, tmp_path, content)
    assert code == CONVERTED, result
    np.testing.assert_allclose(data['touch'][:, 1], np.arange(30))
    np.testing.assert_allclose(data['touch'][:, 0], np.arange(30) / 10, atol=1e-6)
