"""Policies on disk: back to identical outputs, small, and clear about every file that is none."""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_policies import config, everything, observation, policy, task

from vlm_nodes.sarnn import (
    CheckpointError,
    ClipBranchConfig,
    DepthConfig,
    SarnnConfig,
    load_policy,
    save_policy,
)


@pytest.fixture
def saved(tmp_path):
    model = policy(everything())
    model.text_scale.fit(task(model.config, 2, seed=5))
    path = tmp_path / 'policy.safetensors'
    save_policy(path, model)
    return path, model


def test_a_policy_comes_back_with_identical_outputs(saved):
    path, model = saved
    loaded = load_policy(path)
    assert loaded.config == model.config
    assert not loaded.training
    seen, text = observation(model.config, 2, 4), task(model.config, 2)
    with torch.inference_mode():
        expected, found = model.eval()(seen, text)[0], loaded(seen, text)[0]
    assert torch.equal(found.joints, expected.joints)
    assert all(torch.equal(found.images[n], image) for n, image in expected.images.items())


def test_a_large_policy_is_small_and_holds_no_clip(tmp_path):
    clip = ClipBranchConfig(
        'ViT-B-16', 'openai', 'naclip', 'ViT-B-16/0/naclip', 512, (21, 28), 336, (480, 640), 8
    )
    made = SarnnConfig(
        joint_names=tuple(f'joint_{i}' for i in range(14)),
        joint_bounds=((0.0,) * 14, (1.0,) * 14),
        cameras=('color', 'wrist', 'side'),
        image_size=(128, 128),
        depth=DepthConfig(size=(64, 64)),
        tactile=('gelsight1', 'gelsight2'),
        tactile_size=(48, 64),
        clip=clip,
        text_dim=512,
        rec_dim=256,
    )
    path = tmp_path / 'large.safetensors'
    save_policy(path, policy(made))
    assert path.stat().st_size < 20e6
    names = load_file(path).keys()
    assert {name.split('.')[0] for name in names} == {
        'cameras',
        'clips',
        'decoders',
        'depth',
        'recurrent',
        'text_scale',
        'to_outputs',
        'to_task',
        'touch',
    }
    clips = {name.split('.', 2)[2] for name in names if name.startswith('clips.')}
    assert clips == {
        'adapter.bias',
        'adapter.weight',
        'film.to_scale_shift.bias',
        'film.to_scale_shift.weight',
        'softmax.log_temperature',
    }


def test_saving_replaces_a_file_whole(saved):
    path, _ = saved
    other = policy(everything(), seed=1)
    save_policy(path, other)
    assert torch.equal(load_policy(path).to_outputs.weight, other.to_outputs.weight)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r'away/p\.safetensors: cannot save the policy'):
        save_policy(tmp_path / 'away' / 'p.safetensors', policy(config()))


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model = policy(config())
    with torch.no_grad():
        model.to_outputs.bias[1] = float('nan')
    with pytest.raises(CheckpointError, match=r'to_outputs\.bias is not finite'):
        save_policy(tmp_path / 'p.safetensors', model)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r'p\.safetensors: there is no such file'):
        load_policy(tmp_path / 'p.safetensors')


@pytest.mark.parametrize('keep', [0, 7, 200, -1])
def test_a_cut_file_is_refused(saved, keep):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r'policy\.safetensors: no policy, or damaged'):
        load_policy(path)


def test_a_file_of_something_else_is_refused(saved):
    path, _ = saved
    path.write_bytes(b'PK\x03\x04 not a policy at all' * 20)
    with pytest.raises(CheckpointError, match='no policy, or damaged'):
        load_policy(path)


def test_a_lightning_checkpoint_is_refused(tmp_path):
    path = tmp_path / 'last.ckpt'
    torch.save({'state_dict': {'a': torch.zeros(3)}}, path)
    with pytest.raises(CheckpointError, match=r'last\.ckpt: no policy, or damaged'):
        load_policy(path)


def test_weights_of_another_model_are_refused(tmp_path):
    path = tmp_path / 'clip.safetensors'
    save_file({'visual.proj': torch.zeros(2, 2)}, path, {'format': 'pt'})
    with pytest.raises(CheckpointError, match='not those of a CLIP-SARNN policy'):
        load_policy(path)


def rewritten(path, change_weights=None, **metadata):
    """The file at a path with other metadata or weights; None takes a key out."""
    raw = path.read_bytes()
    (length,) = struct.unpack('<Q', raw[:8])
    kept = json.loads(raw[8 : 8 + length])['__metadata__'] | metadata
    weights = load_file(path)
    if change_weights:
        change_weights(weights)
    save_file(weights, path, {key: value for key, value in kept.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ('metadata', 'message'),
    [
        ({'version': '99'}, 'version 99 of the format; this is 1'),
        ({'config': None}, 'its configuration is broken'),
        ({'config': '{"joint_names": 3}'}, 'its configuration is broken: SarnnConfig lacks'),
        ({'config': 'no JSON'}, 'its configuration is broken: Expecting'),
    ],
)
def test_a_broken_header_is_named(saved, metadata, message):
    with pytest.raises(CheckpointError, match=message):
        load_policy(rewritten(saved[0], **metadata))


def test_weights_that_lack_one_are_refused(saved):
    path = rewritten(saved[0], lambda weights: weights.pop('to_outputs.bias'))
    with pytest.raises(CheckpointError, match=r'to_outputs\.bias is in one of them only'):
        load_policy(path)


def test_weights_of_another_size_are_refused(saved):
    other = everything(rec_dim=20).to_json()
    with pytest.raises(CheckpointError, match=r'is .*, its configuration makes it'):
        load_policy(rewritten(saved[0], config=other))
