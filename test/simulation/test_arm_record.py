import json
from pathlib import Path

import numpy as np
import pytest
from rosbags.highlevel import AnyReader

from bag_tools.bag_files import custom_data
from bag_tools.make_dataset import main as make_dataset
from bag_tools.rosbag2npz import main as rosbag2npz
from vlm_nodes.simulation.arm.kinematics import JOINTS
from vlm_nodes.simulation.arm.placement import make_scene
from vlm_nodes.simulation.arm.record_arm import main, takes
from vlm_nodes.simulation.arm.recorder.episode_bag import EpisodeMessages
from vlm_nodes.simulation.arm.recorder.node import LEAST_TICKS, MOST_TICKS
from vlm_nodes.simulation.arm.tactile import tactile_image
from vlm_nodes.simulation.arm.tasks import PUSH, REACH_RED, TASKS

CONFIG = Path(__file__).resolve().parents[2] / 'config' / 'rosbag2npz_arm.yaml'
SEEDS = (20, 22)


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    """Two scenes, each with two tasks."""
    folder = tmp_path_factory.mktemp('recorded') / 'bags'
    words = ['--episodes', '2', '--seed', '20', '--task', PUSH, '--task', REACH_RED]
    assert main(['--out', str(folder), *words]) == 0
    return folder


@pytest.fixture(scope='module')
def data(bags):
    """What the converter and `make_dataset` make of them."""
    npz, folder = bags.parent / 'npz', bags.parent / 'data'
    assert rosbag2npz([str(bags), '--out', str(npz), '--config', str(CONFIG)]) == 0
    assert make_dataset([str(npz), '--out', str(folder), '--test-share', '0.5']) == 0
    return folder


def test_each_episode_is_a_bag_that_says_what_is_done(bags):
    names = sorted(path.name for path in bags.iterdir())
    assert names == [
        'push_the_green_box_to_the_left_0000020',
        'push_the_green_box_to_the_left_0000022',
        'reach_the_red_ball_0000020',
        'reach_the_red_ball_0000022',
    ]
    noted = custom_data(bags / names[0])
    assert (noted['task'], noted['seed'], noted['success']) == (PUSH, '20', 'True')
    assert 1.0 < float(noted['peak_force_n']) < 7.0


def test_bags_become_a_training_set_with_all_streams(data):
    tasks = json.loads((data / 'task_dict.json').read_text())
    assert set(tasks.values()) == {PUSH, REACH_RED}
    for split in ('train', 'test'):
        array = {path.stem: np.load(path) for path in (data / split).glob('*.npy')}
        episodes, ticks = array['images'].shape[:2]
        assert episodes == 2
        assert array['images'].shape[2:] == (64, 64, 3)
        assert array['depth'].shape[2:] == (64, 64)
        assert array['gelsight1'].shape == (2, ticks, 48, 64, 3)
        assert array['joints'].shape == array['actions'].shape == (2, ticks, len(JOINTS))
        for reference in array['gelsight1_reference']:
            np.testing.assert_array_equal(reference, tactile_image([]))
        for length, stamps, valid in zip(
            array['lengths'], array['stamps'], array['valid_color'], strict=True
        ):
            assert LEAST_TICKS < length <= MOST_TICKS + 1
            assert valid[:length].all()
            np.testing.assert_allclose(np.diff(stamps[:length]), 1e8, atol=1)


def test_actions_are_what_the_expert_meant_and_lead_the_joints(data):
    for split in ('train', 'test'):
        joints, actions, lengths = (
            np.load(data / split / f'{name}.npy') for name in ('joints', 'actions', 'lengths')
        )
        for joint, action, length in zip(joints, actions, lengths, strict=True):
            moved = np.diff(joint[:length], axis=0)
            ahead = action[: length - 1] - joint[: length - 1]
            # The arm lags behind its targets, and is disturbed besides.
            slope = (ahead * moved).sum() / (moved**2).sum()
            assert 1.05 < slope < 2.5


def test_the_box_is_felt_and_the_ball_is_not_pressed(data):
    tasks = json.loads((data / 'task_dict.json').read_text())
    for row, number in enumerate(np.load(data / 'train' / 'tasks.npy')):
        touch = np.load(data / 'train' / 'gelsight1.npy')[row].astype(int)
        felt = np.abs(touch - touch[0]).max(axis=(1, 2, 3)) > 10
        assert bool(felt.sum() > 5) is (tasks[str(number)] == PUSH)


def test_what_is_there_is_not_recorded_again(bags, capsys):
    assert main(['--out', str(bags), '--episodes', '1', '--seed', '20', '--task', PUSH]) == 2
    assert 'exists already' in capsys.readouterr().err


def test_takes_are_every_second_seed_with_each_task(tmp_path):
    wanted = takes(tmp_path, 3, 1_000_001, TASKS)
    assert [take.seed for take in wanted[:: len(TASKS)]] == [1_000_001, 1_000_003, 1_000_005]
    assert len({take.path for take in wanted}) == 9
    assert make_scene(wanted[0].seed) == make_scene(wanted[1].seed)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--task', 'dance'], "task is 'dance', not one of"),
        (['--episodes', '0'], '--episodes must be at least 1, is 0'),
        (['--seed', '1999999', '--episodes', '2'], 'seeds 1999999 to 2000001 must be'),
        (['--workers', '0'], '--workers must be at least 1, is 0'),
        (['--realtime-factor', '0'], '--realtime-factor must be 0.01 to 100'),
    ],
)
def test_a_bad_word_is_named(tmp_path, capsys, words, message):
    assert main(['--out', str(tmp_path / 'bags'), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'bags').exists()


def test_missing_messages_are_counted_by_topic():
    messages = EpisodeMessages({'/a': 'sensor_msgs/msg/Image', '/b': 'sensor_msgs/msg/Image'})
    for stamp in (50, 100, 200, 300, 400):
        messages.add('/a', stamp, b'')
    for stamp in (100, 300):
        messages.add('/b', stamp, b'')
    assert messages.missing(100, 300, 3) == '/b has 2 of 3 messages'
    messages.add('/b', 200, b'')
    assert messages.missing(100, 300, 3) == ''


def test_messages_may_come_in_while_an_episode_is_written(tmp_path):
    bag = EpisodeMessages({'/a': 'std_msgs/msg/String'})

    class Interrupted(int):
        """A stamp that another message comes in at, whenever it is looked at."""

        def __le__(self, other):
            bag.add('/a', 1000 + len(bag._messages['/a']), b'later')
            return int(self) <= other

    for stamp in (100, 200):
        bag.add('/a', stamp, b'\0\1\0\0\1\0\0\0\0')
    bag.write(tmp_path / 'bag', Interrupted(100), 200, {})
    with AnyReader([tmp_path / 'bag']) as reader:
        assert [stamp for _, stamp, _ in reader.messages()] == [100, 200]
