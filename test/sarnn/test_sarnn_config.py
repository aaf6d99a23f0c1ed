"""Configurations: what they refuse, and that they come back from JSON as they went."""

import json

import pytest

from vlm_nodes.sarnn import ClipBranchConfig, DepthConfig, SarnnConfig, TextConfig

CLIP = {
    'model': 'tiny',
    'pretrained': None,
    'method': 'naclip',
    'identity': 'tiny/0123/naclip',
    'dim': 16,
    'grid': (6, 8),
    'image_size': None,
    'source_size': (48, 64),
}


TEXT = TextConfig('tiny', None, 'tiny/0123')


def policy(**changes):
    given = {'joint_names': ('base', 'elbow'), 'joint_bounds': ((-1.0, 0.0), (1.0, 4.0))}
    return SarnnConfig(**given | changes)


def test_json_gives_back_what_it_was_made_of():
    config = policy(
        cameras=('color', 'wrist'),
        depth=DepthConfig(range_m=(0.2, 1.5)),
        tactile=('gelsight1', 'gelsight2'),
        clip=ClipBranchConfig(**CLIP),
        tasks=('reach the red ball', 'nach links schieben, bitte schön'),
        text_dim=16,
        image_size=(48, 64),
    )
    assert SarnnConfig.from_json(config.to_json()) == config


def test_json_gives_back_the_encoder_of_tasks():
    config = policy(text_dim=16, text=TEXT)
    assert SarnnConfig.from_json(config.to_json()) == config


def test_what_json_leaves_out_has_its_default():
    text = json.dumps({'joint_names': ['base'], 'joint_bounds': [[0], [1]]})
    assert SarnnConfig.from_json(text) == SarnnConfig(('base',), ((0,), (1,)))


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('[]', 'no JSON object'),
        ('{', 'Expecting'),
        ('{"joint_names": ["a"]}', 'SarnnConfig lacks joint_bounds'),
        (
            '{"joint_names": ["a"], "joint_bounds": [[0], [1]], "gears": 5}',
            'SarnnConfig has no gears',
        ),
        (
            '{"joint_names": ["a"], "joint_bounds": [[0], [1]], "depth": {"sice": 3}}',
            'DepthConfig has no sice',
        ),
        ('{"joint_names": ["a"], "joint_bounds": [[0], [1]], "clip": 3}', 'written as int'),
    ],
)
def test_broken_json_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        SarnnConfig.from_json(text)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'joint_names': (), 'joint_bounds': ((), ())}, 'joint_names is empty'),
        ({'joint_names': ('base', 'base')}, 'base more than once'),
        ({'joint_bounds': ((0.0,), (1.0,))}, 'of 1 and 1 joints, joint_names has 2'),
        ({'joint_bounds': ((0.0, 2.0), (1.0, 2.0))}, 'joint_bounds of elbow are 2.0 and 2.0'),
        ({'joint_bounds': ((0.0, 0.0), (float('nan'), 2.0))}, 'joint_bounds of base'),
        ({'image_size': (63, 64)}, r'image_size = \(63, 64\) .* multiples of 2'),
        ({'image_size': (8, 64)}, r'image_size = \(8, 64\) .* >= 16'),
        ({'tactile_size': (30, 32)}, r'tactile_size = \(30, 32\)'),
        ({'k_dim': 0}, 'k_dim = 0'),
        ({'rec_dim': 2.5}, 'rec_dim = 2.5'),
        ({'text_dim': -1}, 'text_dim = -1'),
        ({'text_dim': 16}, 'neither clip nor text says which encoder'),
        ({'text': TEXT}, 'text is for policies that have a text_dim'),
        ({'text_dim': 16, 'text': TEXT, 'clip': ClipBranchConfig(**CLIP)}, 'and no clip'),
        ({'heatmap_size': 0.0}, 'heatmap_size = 0.0'),
        ({'rate_hz': float('inf')}, 'rate_hz = inf'),
        ({'cameras': ('color', 'color')}, 'color more than once'),
        ({'cameras': ('a.b',)}, "'a.b' is no name"),
        ({'tactile': ('color',)}, 'color more than once'),
        ({'cameras': (), 'clip': ClipBranchConfig(**CLIP)}, 'cameras is empty'),
    ],
)
def test_a_bad_value_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        policy(**changes)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'dim': 0}, 'clip.dim = 0'),
        ({'grid': (1, 8)}, 'clip.grid'),
        ({'grid': (6.0, 8.0)}, 'clip.grid'),
        ({'source_size': (0, 8)}, 'clip.source_size'),
        ({'k_dim': 0}, 'clip.k_dim'),
    ],
)
def test_a_bad_value_of_the_clip_branch_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        ClipBranchConfig(**CLIP | changes)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'size': (30, 32)}, 'depth.size'),
        ({'range_m': (2.0, 1.0)}, 'depth.range_m'),
        ({'range_m': (0.0, float('inf'))}, 'depth.range_m'),
        ({'stream': ''}, 'depth.stream'),
    ],
)
def test_a_bad_value_of_depth_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        DepthConfig(**changes)


def test_another_encoder_is_refused_with_both_names():
    branch = ClipBranchConfig(**CLIP)
    branch.check_encoder('tiny/0123/naclip', 16)
    with pytest.raises(ValueError, match=r'tiny/0123/naclip .* ViT-B-32/4567/naclip'):
        branch.check_encoder('ViT-B-32/4567/naclip', 512)


def test_another_encoder_of_tasks_is_refused_with_both_names():
    TEXT.check_encoder('tiny/0123/value')  # the dense method changes no text
    with pytest.raises(ValueError, match=r"tiny/0123, but .* tiny/4567: load model 'tiny'"):
        TEXT.check_encoder('tiny/4567/naclip')


@pytest.mark.parametrize('name', ['model', 'identity'])
def test_an_encoder_of_tasks_has_a_name(name):
    with pytest.raises(ValueError, match=f'text.{name} is empty'):
        TextConfig(**{'model': 'tiny', 'pretrained': None, 'identity': 'tiny/0123', name: ''})


def test_branches_and_codes_have_names():
    config = policy(
        cameras=('color', 'wrist'),
        clip=ClipBranchConfig(**CLIP, k_dim=3),
        k_dim=5,
        tactile=('gelsight1',),
        depth=DepthConfig(),
    )
    assert config.keypoint_dims == {'color': 5, 'wrist': 5, 'color/clip': 3, 'wrist/clip': 3}
    assert config.code_names == ('gelsight1', 'depth')
