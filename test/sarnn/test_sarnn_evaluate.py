from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from blob_recordings import TASKS, write_recordings

from vlm_nodes.sarnn import evaluate
from vlm_nodes.sarnn.checkpoint import save_policy
from vlm_nodes.sarnn.config import SarnnConfig
from vlm_nodes.sarnn.data import Sequences
from vlm_nodes.sarnn.model import Sarnn
from vlm_nodes.sarnn.recordings import Recordings
from vlm_nodes.sarnn.rollouts import episode_frames, error_table, roll_out_all


@pytest.fixture(scope='module')
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Recordings:
    return Recordings(write_recordings(tmp_path_factory.mktemp('blobs')))


def make_policy(recordings: Recordings) -> Sarnn:
    low, high = recordings.joint_bounds.tolist()
    torch.manual_seed(0)
    config = SarnnConfig(
        recordings.joint_names, (tuple(low), tuple(high)), image_size=(16, 24), k_dim=2, rec_dim=8
    )
    return Sarnn(config).eval()


@pytest.fixture
def policy(recordings: Recordings, tmp_path: Path) -> Path:
    path = tmp_path / 'policy.safetensors'
    save_policy(path, make_policy(recordings))
    return path


def run(*arguments: object) -> int:
    return evaluate.main([str(argument) for argument in arguments])


def test_errors_are_those_of_the_next_joints(recordings: Recordings) -> None:
    model = make_policy(recordings)
    sequences = Sequences(recordings, recordings.test, model.config)
    rollouts = roll_out_all(model, sequences, range(len(sequences)))
    bounds = recordings.joint_bounds.astype(np.float64)
    table = error_table(rollouts, model.config.joint_names, bounds)
    missed = {task: [] for task in (*TASKS, 'all')}
    for row, task in enumerate(sequences.tasks):
        observations, state = sequences[row].observations, model.initial_state(1)
        recorded = recordings.test.episode('joints_state', row)
        for tick in range(len(recorded) - 1):
            with torch.no_grad():
                made, state = model.step(observations.tick(tick), None, state)
            next_joints = made.joints[0].numpy() * (bounds[1] - bounds[0]) + bounds[0]
            missed[task].append(next_joints - recorded[tick + 1])
            missed['all'].append(next_joints - recorded[tick + 1])
    for task, misses in missed.items():
        squared = np.square(misses)
        said = table[task]['one_step']
        assert said['units'] == pytest.approx(np.sqrt(squared.mean()), rel=1e-4)
        wanted = np.sqrt((squared / (bounds[1] - bounds[0]) ** 2).mean())
        assert said['normalised'] == pytest.approx(wanted, rel=1e-4)
        by_joint = np.sqrt(squared.mean(0))
        assert list(said['joints'].values()) == pytest.approx(by_joint.tolist(), rel=1e-4)
    assert table['all']['episodes'] == len(sequences)


def test_images_are_kept_of_the_first_episode_of_each_task(recordings: Recordings) -> None:
    model = make_policy(recordings)
    sequences = Sequences(recordings, recordings.train, model.config)
    rollouts = roll_out_all(model, sequences, range(len(sequences)))
    kept = [rollout.task for rollout in rollouts if rollout.episode is not None]
    assert sorted(kept) == sorted(TASKS)
    assert len(rollouts) > len(kept)
    for rollout in rollouts:
        if rollout.task in kept:
            kept.remove(rollout.task)
            assert len(episode_frames(rollout, 'color')) == len(rollout.one_step)
        else:
            with pytest.raises(ValueError, match='not kept'):
                episode_frames(rollout, 'color')


def test_joints_that_were_not_measured_do_not_count(recordings: Recordings) -> None:
    model = make_policy(recordings)
    sequences = Sequences(recordings, recordings.test, model.config)
    rollouts = roll_out_all(model, sequences, [0])
    rollouts[0].target[3] += 100.0
    rollouts[0].counts[2] = False
    bounds = recordings.joint_bounds.astype(np.float64)
    assert error_table(rollouts, model.config.joint_names, bounds)['all']['one_step']['units'] < 10


def test_the_command_tells_a_table_and_draws(
    recordings: Recordings, policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(policy, '--data', recordings.folder) == 0
    table = capsys.readouterr().out
    assert all(task in table for task in TASKS)
    out = tmp_path / 'pictures'
    assert run(policy, '--data', recordings.folder, '--out', out, '--json') == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures['tasks']) == {*TASKS, 'all'}
    assert sorted(Path(path).name for path in figures['pictures']) == [
        'joints_0.png',
        'joints_1.png',
        'keypoints.gif',
        'keypoints.mp4',
    ]
    assert all(Path(path).stat().st_size > 1000 for path in figures['pictures'])
    film = cv2.VideoCapture(str(out / 'keypoints.mp4'))
    tests = recordings.test
    first = [tests.tasks.index(task) for task in sorted(TASKS)]
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == sum(tests.lengths[row] - 1 for row in first)
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(10.0)


def test_what_was_trained_is_what_is_evaluated(
    recordings: Recordings, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*more: str) -> float:
        assert run(policy, '--data', recordings.folder, '--json', *more) == 0
        figures = json.loads(capsys.readouterr().out)
        return float(figures['tasks']['all']['one_step']['units'])

    for split in ('train', 'test'):
        path = recordings.folder / split / 'actions.npy'
        np.save(path, np.load(path) + 0.5)
    commands = error('--target', 'actions')
    assert commands != pytest.approx(error('--target', 'joints'))
    policy.with_name('options.json').write_text(json.dumps({'options': {'target': 'actions'}}))
    assert error() == pytest.approx(commands)


@pytest.mark.parametrize('kind', ['missing', 'damaged'])
def test_a_checkpoint_that_is_none_is_told_in_a_line(
    recordings: Recordings, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path = tmp_path / 'other.safetensors'
    if kind == 'damaged':
        path.write_bytes(b'nothing of the kind')
    assert run(path, '--data', recordings.folder) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'evaluate_sarnn: {path}: ')
    assert error.count('\n') == 1


def test_a_checkpoint_of_another_robot_is_told_in_a_line(
    recordings: Recordings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = SarnnConfig(('lift', 'turn'), ((0.0, 0.0), (1.0, 1.0)), image_size=(16, 24))
    save_policy(tmp_path / 'p.safetensors', Sarnn(config))
    assert run(tmp_path / 'p.safetensors', '--data', recordings.folder) == 2
    error = capsys.readouterr().err
    assert 'joints across, down, still, the policy lift, turn' in error
    assert error.count('\n') == 1
