from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from blob_recordings import NAMES, write_recordings

from vlm_nodes.sarnn.batch import JOINTS
from vlm_nodes.sarnn.config import ClipBranchConfig, DepthConfig, SarnnConfig
from vlm_nodes.sarnn.data import Sequences, Shuffled, collate
from vlm_nodes.sarnn.preprocess import Preprocessor
from vlm_nodes.sarnn.recordings import Recordings, RecordingsError


@pytest.fixture
def recordings(tmp_path: Path) -> Recordings:
    return Recordings(write_recordings(tmp_path))


def config_of(recordings: Recordings, **more: object) -> SarnnConfig:
    low, high = recordings.joint_bounds.tolist()
    values: dict[str, object] = {
        'joint_names': recordings.joint_names,
        'joint_bounds': (tuple(low), tuple(high)),
        'image_size': (16, 24),
        'tactile': ('gelsight1',),
        'tactile_size': (8, 12),
        'depth': DepthConfig('depth', (8, 12)),
    }
    return SarnnConfig(**(values | more))  # type: ignore[arg-type]


def test_an_episode_is_what_a_live_robot_would_see(recordings: Recordings) -> None:
    config = config_of(recordings)
    episode = Sequences(recordings, recordings.train, config)[2]
    live = Preprocessor(config)
    train = recordings.train
    for tick in range(int(train.lengths[2])):
        images = {n: np.array(train.episode(n, 2)[tick]) for n in ('color', 'depth', 'gelsight1')}
        positions = dict(zip(NAMES, train.episode('joints_state', 2)[tick].tolist(), strict=True))
        reference = train.reference('gelsight1', 2)
        assert reference is not None
        wanted = live.observe(positions, images, {'gelsight1': reference})
        made = episode.observations.tick(tick)
        torch.testing.assert_close(made.joints, wanted.joints)
        torch.testing.assert_close(made.images['color'], wanted.images['color'])
        torch.testing.assert_close(made.depth, wanted.depth)
        torch.testing.assert_close(made.tactile['gelsight1'], wanted.tactile['gelsight1'])


def test_images_of_another_size_are_brought_to_the_policys(recordings: Recordings) -> None:
    sequences = Sequences(recordings, recordings.train, config_of(recordings, image_size=(32, 48)))
    episode = sequences[0]
    assert episode.observations.images['color'].shape[-2:] == (32, 48)
    again = sequences[0].observations.images['color']
    torch.testing.assert_close(again, episode.observations.images['color'])


def test_joints_are_put_into_the_policys_order(recordings: Recordings) -> None:
    low, high = recordings.joint_bounds.tolist()
    config = config_of(
        recordings,
        joint_names=NAMES[::-1],
        joint_bounds=(tuple(low[::-1]), tuple(high[::-1])),
    )
    straight = Sequences(recordings, recordings.train, config_of(recordings))[0]
    turned = Sequences(recordings, recordings.train, config)[0]
    torch.testing.assert_close(turned.observations.joints, straight.observations.joints.flip(-1))
    torch.testing.assert_close(turned.targets, straight.targets.flip(-1))


def test_targets_are_the_next_joints_or_the_commands(recordings: Recordings) -> None:
    path = recordings.folder / 'train' / 'actions.npy'
    actions = np.load(path)
    np.save(path, actions + 0.25)
    config = config_of(recordings)
    joints = Sequences(recordings, recordings.train, config)[1]
    commands = Sequences(recordings, recordings.train, config, target='actions')[1]
    torch.testing.assert_close(joints.targets, joints.observations.joints)
    # These recordings' commands were the next joints; now they are 0.25 above them.
    spans = torch.tensor(np.diff(recordings.joint_bounds, axis=0), dtype=torch.float32)
    wanted = joints.targets[:, 1:] + 0.25 / spans
    torch.testing.assert_close(commands.targets[:, 1:], wanted, rtol=1e-4, atol=1e-5)


def test_episodes_of_different_lengths_are_padded(recordings: Recordings) -> None:
    sequences = Sequences(recordings, recordings.train, config_of(recordings))
    batch = collate([sequences[row] for row in range(len(sequences))])
    lengths = recordings.train.lengths
    assert len(set(lengths.tolist())) > 1
    assert batch.observations.images['color'].shape == (6, lengths.max(), 3, 16, 24)
    assert batch.steps == lengths.max() - 1
    for name in ('color', 'gelsight1', 'depth', JOINTS):
        assert batch.counts[name].sum(1).tolist() == lengths.tolist(), name
    row = int(lengths.argmin())
    assert not batch.observations.joints[row, lengths[row] :].any()
    one = sequences[row].observations.joints[0]
    torch.testing.assert_close(batch.observations.joints[row, : lengths[row]], one)


def test_ticks_that_were_not_measured_do_not_count(recordings: Recordings) -> None:
    path = recordings.folder / 'train' / 'valid_joints_state.npy'
    valid = np.load(path)
    valid[0, 3] = False
    np.save(path, valid)
    episode = Sequences(recordings, recordings.train, config_of(recordings))[0]
    assert torch.nonzero(~episode.counts[JOINTS][0]).flatten().tolist() == [3]
    assert episode.counts['color'].all()


def test_features_and_embeddings_are_those_of_the_episode(recordings: Recordings) -> None:
    branch = ClipBranchConfig('tiny', None, 'naclip', 'tiny/0', 2, (2, 2), None, (16, 24))
    config = config_of(recordings, clip=branch, text_dim=3)
    shape = (*recordings.train.array('color').shape[:2], 2, 2, 2)
    features = np.arange(np.prod(shape), dtype=np.float32).reshape(shape).astype(np.float16)
    texts = {text: np.full(3, n, np.float32) for n, text in enumerate(recordings.task_texts)}
    sequences = Sequences(
        recordings, recordings.train, config, features={'color': features}, embeddings=texts
    )
    episode = sequences[4]
    length = recordings.train.lengths[4]
    np.testing.assert_array_equal(episode.observations.clip['color'][0], features[4, :length])
    assert episode.task is not None
    np.testing.assert_array_equal(episode.task[0], texts[sequences.tasks[4]])


def test_without_a_reference_the_first_image_is_one(recordings: Recordings) -> None:
    (recordings.folder / 'train' / 'gelsight1_reference.npy').unlink()
    touch = Sequences(recordings, recordings.train, config_of(recordings))[0].observations.tactile
    assert not touch['gelsight1'][0, 0].any()
    assert touch['gelsight1'][0, -1].max() > 0.1


def test_an_order_is_drawn_for_each_epoch_and_can_be_drawn_again() -> None:
    lengths = [10 + n % 7 for n in range(20)]
    sampler, again = Shuffled(lengths, 3, seed=3), Shuffled(lengths, 3, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(20))
    sampler.set_epoch(1)
    assert list(sampler) != first
    again.set_epoch(1)
    assert list(again) == list(sampler)
    assert list(Shuffled(lengths, 3, seed=4)) != first


def test_batches_hold_episodes_of_similar_lengths_and_come_in_no_order_of_them() -> None:
    lengths = np.random.default_rng(0).integers(20, 120, 403)
    order = np.array(list(Shuffled(lengths, 8, seed=0)))
    assert sorted(order.tolist()) == list(range(403))
    batches = lengths[order[:400]].reshape(-1, 8)
    padded = batches.max(axis=1, keepdims=True) - batches
    unsorted = lengths[:400].reshape(-1, 8)
    drawn = unsorted.max(axis=1, keepdims=True) - unsorted
    assert padded.mean() < drawn.mean() / 2
    longest = batches.max(axis=1)
    assert abs(np.corrcoef(longest, np.arange(50))[0, 1]) < 0.5


def test_a_policy_of_other_joints_is_refused(recordings: Recordings) -> None:
    config = replace(config_of(recordings), joint_names=('across', 'down', 'grip'))
    with pytest.raises(RecordingsError, match=r'joints across, down, still, the policy .*grip'):
        Sequences(recordings, recordings.train, config)


def test_a_stream_that_was_not_recorded_is_named(recordings: Recordings) -> None:
    with pytest.raises(RecordingsError, match=r'has no wrist; it has .*color'):
        Sequences(recordings, recordings.train, config_of(recordings, cameras=('wrist',)))
