import numpy as np
import pytest
import torch
from small_cliport import (
    SENTENCE,
    direct_correlation,
    scene,
    small_config,
    small_model,
    turned_windows,
)

from vlm_nodes.clip.backend import open_clip
from vlm_nodes.clip.weights import build_model, find_config, make_tokenizer
from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.blocks import resize
from vlm_nodes.cliport.config import ModelConfig
from vlm_nodes.cliport.model import CliportModel, pad
from vlm_nodes.cliport.rotation import window_mask
from vlm_nodes.cliport.samples import Scene

CELLS = torch.tensor([[10, 15]])
FORMS = [
    {},
    {'query_form': 'crop', 'sharing': 'none'},
    {'language_fusion': 'film', 'sharing': 'place', 'pick_angles': 3, 'place_map': True},
    {'norm_groups': 0, 'query_form': 'crop'},
    {'output_stride': 1, 'spatial_widths': (8,) * 5, 'semantic_widths': (8,) * 6},
    {'output_stride': 4, 'spatial_widths': (8,) * 3, 'semantic_widths': (8,) * 4},
]


@pytest.fixture(scope='module')
def clip() -> FrozenClip:
    return FrozenClip.load('tiny')


@pytest.mark.parametrize('form', FORMS, ids=[','.join(map(str, f)) or 'plain' for f in FORMS])
def test_answers_have_a_number_for_every_cell_and_angle(clip: FrozenClip, form) -> None:
    model = small_model(clip, **form)
    stride = model.config.output_stride
    with torch.no_grad():
        pick, place = model(scene(), model.embed([SENTENCE]), CELLS)
    assert pick.shape == (1, model.config.pick_angles, 64 // stride, 96 // stride)
    assert place.shape == (1, 4, 64 // stride, 96 // stride)
    assert pick.isfinite().all()
    assert place.std() > 0


@pytest.mark.parametrize('form', FORMS[:3], ids=['rotate', 'crop', 'film'])
def test_a_batch_is_answered_as_each_alone(clip: FrozenClip, form) -> None:
    model = small_model(clip, **form)
    sentences = [SENTENCE, 'green bowl', 'pack the red ring']
    cells = torch.tensor([[10, 15], [3, 40], [31, 0]])
    with torch.no_grad():
        together = model(scene(seeds=(0, 1, 2)), model.embed(sentences), cells)
        for row in range(3):
            alone = model(scene(seeds=(row,)), model.embed([sentences[row]]), cells[row : row + 1])
            for one, other in zip(together, alone, strict=True):
                torch.testing.assert_close(one[row : row + 1], other, atol=2e-4, rtol=1e-4)


def test_two_calls_give_the_same_and_change_nothing(clip: FrozenClip) -> None:
    model = small_model(clip)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    running = clip._model.visual.trunk.stem[1].running_mean.clone()
    with torch.no_grad():
        first = model(scene(), model.embed([SENTENCE]), CELLS)
        second = model(scene(), model.embed([SENTENCE]), CELLS)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(clip._model.visual.trunk.stem[1].running_mean, running)


def test_the_clip_is_frozen_also_in_training(clip: FrozenClip) -> None:
    model = small_model(clip).train()
    before = {key: value.clone() for key, value in clip._model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for logits in model(scene(), model.embed([SENTENCE]), CELLS):
        logits.logsumexp((1, 2, 3)).sum().backward(retain_graph=True)
    optimizer.step()
    assert not clip._model.training
    assert all(torch.equal(before[key], value) for key, value in clip._model.state_dict().items())
    assert all(parameter.grad is None for parameter in clip._model.parameters())


@pytest.mark.parametrize('form', FORMS[:2], ids=['rotate', 'crop'])
def test_every_trained_weight_gets_a_gradient(clip: FrozenClip, form) -> None:
    model = small_model(clip, **form)
    pick, place = model(scene(), model.embed([SENTENCE]), CELLS)
    (pick[0, 0, 3, 4] - pick.logsumexp((1, 2, 3)) + place[0, 1, 5, 6]).sum().backward()
    missing = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or parameter.grad.abs().sum() == 0
    ]
    assert missing == []


def test_the_sentence_changes_the_answer(clip: FrozenClip) -> None:
    model = small_model(clip)
    with torch.no_grad():
        one = model(scene(), model.embed([SENTENCE]), CELLS)
        other = model(scene(), model.embed(['put the green block in a red bowl']), CELLS)
    assert all((a - b).abs().max() > 1e-3 for a, b in zip(one, other, strict=True))


def test_the_picks_place_changes_where_to_place(clip: FrozenClip) -> None:
    model = small_model(clip)
    with torch.no_grad():
        seen = model.look(scene(), model.embed([SENTENCE]))
        assert not torch.equal(model.place(seen, CELLS), model.place(seen, CELLS + 5))


@pytest.mark.parametrize('shape', [(60, 90), (32, 33), (320, 160)])
def test_pictures_of_any_size_are_answered(clip: FrozenClip, shape) -> None:
    model = small_model(clip)
    with torch.no_grad():
        pick, place = model(scene(shape), model.embed([SENTENCE]), torch.tensor([[2, 2]]))
    assert pick.shape[-2:] == place.shape[-2:] == (-(-shape[0] // 2), -(-shape[1] // 2))


def test_the_border_is_of_holes_and_alike() -> None:
    padded = pad(scene((40, 96)), 2)
    assert padded.shape == (64, 96)
    assert not padded.seen[:, :12].any()
    assert not padded.seen[:, 52:].any()
    assert torch.equal(padded.color[:, :, 12:52], scene((40, 96)).color)


def test_both_forms_of_the_query_agree_where_there_is_nothing_to_turn(clip: FrozenClip) -> None:
    """Correlated with the key, both forms give maps over all angles with one right order."""
    model = small_model(clip, rotations=1)
    with torch.no_grad():
        maps = model.look(scene(), model.embed([SENTENCE])).query
        queries = model.place_head.rotated_queries(maps, CELLS)
        whole = model.place_head.query(maps.spatial, maps.semantic)
    torch.testing.assert_close(
        queries[0, 0, :, :, :], whole[0, :, 10 - 8 : 10 + 8, 15 - 8 : 15 + 8], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize('form', ['rotate', 'crop'])
def test_the_place_is_a_direct_correlation_of_turned_windows(clip: FrozenClip, form) -> None:
    """Both forms of the query against slow ones: loops, and another library's interpolation."""
    model = small_model(clip, query_form=form, rotations=8 if form == 'rotate' else 4)
    language = model.embed([SENTENCE])
    with torch.no_grad():
        seen = model.look(scene(), language)
        given = model.place(seen, CELLS).numpy()
        head, size = model.place_head, model.config.crop_cells
        key = head.key(seen.key.spatial, seen.key.semantic).numpy()
        if form == 'rotate':
            whole = head.query(seen.query.spatial, seen.query.semantic)[0].numpy()
            queries = turned_windows(whole, (10, 15), 8, np.arange(size) - size // 2)
        else:
            # Cell (10, 15) is pixels 20 and 21, 30 and 31; the window's centre is between them.
            crops = turned_windows(seen.picture[0].numpy(), (20.5, 30.5), 4, np.arange(32) - 16.5)
            crops = torch.from_numpy(crops).float()
            turned = Scene(crops[:, :3].contiguous(), crops[:, 3], crops[:, 4] > 0.5)
            reading = model.reader(language.repeat(4))
            features = model.clip.features(turned.color)
            maps = model.streams[0](turned, features, language.repeat(4), reading)
            queries = head.query(maps.spatial, maps.semantic).numpy()
    disc = window_mask(size).numpy()
    sharp = size * float(head.sharpness.detach().exp()) / disc.sum()
    padded = np.pad(key, ((0, 0), (0, 0), *[(size // 2, size // 2)] * 2))
    expected = direct_correlation(padded, queries[None] * disc) * sharp
    np.testing.assert_allclose(given, expected, atol=1e-3 * np.abs(expected).max())
    assert given.argmax() == expected.argmax()


def test_resizing_keeps_the_middle_of_a_map() -> None:
    ramp = torch.linspace(-1, 1, 8).reshape(1, 1, 1, 8).expand(1, 1, 8, 8)
    for size in ((32, 32), (4, 4)):
        resized = resize(ramp, size)
        torch.testing.assert_close(resized, -resized.flip(-1), atol=1e-6, rtol=0)
    assert resize(ramp, (8, 8)) is ramp


@pytest.mark.parametrize('turns', [1, 2])
def test_a_turned_table_turns_the_answer_nearly(clip: FrozenClip, turns: int) -> None:
    """The correlation turns exactly; convolutions only as far as their weights are symmetric."""
    model = small_model(clip, rotations=4)
    _make_symmetric(model)
    straight = scene((64, 64))
    turned = type(straight)(
        torch.rot90(straight.color, -turns, (2, 3)),
        torch.rot90(straight.height_m, -turns, (1, 2)),
        torch.rot90(straight.seen, -turns, (1, 2)),
    )
    cell = torch.tensor([[9, 20]])
    moved = {1: torch.tensor([[20, 31 - 9]]), 2: torch.tensor([[31 - 9, 31 - 20]])}[turns]
    language = model.embed([SENTENCE])
    model.clip = _Blind(clip)
    with torch.no_grad():
        before, after = model(straight, language, cell), model(turned, language, moved)
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(torch.rot90(one, -turns, (2, 3)), other, atol=1e-3, rtol=1e-3)


class _Blind:
    """A CLIP that sees grey: its own convolutions do not turn with the picture."""

    def __init__(self, clip: FrozenClip) -> None:
        self._clip = clip

    def features(self, color):
        features = self._clip.features(torch.zeros_like(color))
        levels = tuple(x.mean((2, 3), keepdim=True).expand_as(x) for x in features.levels)
        joint = features.joint.mean((2, 3), keepdim=True).expand_as(features.joint)
        return type(features)(levels, joint)


def _make_symmetric(model: CliportModel) -> None:
    """Average every 3 x 3 kernel over the quarter turns."""
    with torch.no_grad():
        for module in model.streams.modules():
            if isinstance(module, torch.nn.Conv2d) and module.kernel_size == (3, 3):
                if module.in_channels == 20:  # the stem's channels are pixels of a cell
                    weight = module.weight.reshape(-1, 5, 4, 3, 3).mean(2, keepdim=True)
                    module.weight.copy_(weight.expand(-1, 5, 4, 3, 3).reshape(-1, 20, 3, 3))
                turned = [torch.rot90(module.weight, k, (2, 3)) for k in range(4)]
                module.weight.copy_(torch.stack(turned).mean(0))


def test_the_published_backbone_fits() -> None:
    source = find_config('RN50')
    config = {**source.config, 'text_cfg': {**source.config['text_cfg'], 'layers': 1}}
    torch.manual_seed(0)
    clip = FrozenClip(
        build_model(config), make_tokenizer(config), source.preprocess, 'RN50/untrained, seed 0'
    )
    assert clip.level_widths == (256, 512, 1024, 2048)
    assert clip.joint_dim == 1024
    model = small_model(clip)
    with torch.no_grad():
        pick, place = model(scene(), model.embed([SENTENCE]), CELLS)
    assert pick.isfinite().all()
    assert place.isfinite().all()


def test_a_transformer_is_refused() -> None:
    config = open_clip.get_model_config('ViT-B-32')
    config['vision_cfg'] |= {'layers': 1, 'width': 64}
    config['text_cfg'] |= {'layers': 1, 'width': 64}
    model = build_model(config)
    with pytest.raises(ValueError, match='VisionTransformer'):
        FrozenClip(model, make_tokenizer(config), find_config('ViT-B-32').preprocess, 'x')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'rotations': 0}, 'rotations'),
        ({'language_fusion': 'add'}, 'language_fusion'),
        ({'crop_px': 40}, 'crop_px'),
        ({'spatial_widths': (8, 8)}, 'spatial_widths'),
        ({'semantic_widths': (8, 8)}, 'semantic_widths'),
        ({'norm_groups': 3}, 'norm_groups'),
        ({'output_stride': 3}, 'output_stride'),
        ({'sharing': 'some'}, 'sharing'),
        ({'query_form': 'x'}, 'query_form'),
        ({'colour_std': 0.0}, 'colour_std'),
        ({'height_scale_m': float('nan')}, 'height_scale_m'),
        ({'words': ('red', 'red')}, 'words'),
    ],
)
def test_a_bad_setting_is_named(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        small_config(**changes)


def test_settings_go_through_json() -> None:
    config = ModelConfig.small(words=('red',))
    values = {name: getattr(config, name) for name in config.__dataclass_fields__}
    assert ModelConfig.from_dict({**values, 'words': ['red']}) == config
    with pytest.raises(ValueError, match='colour'):
        ModelConfig.from_dict({**values, 'colour': 1})
    assert np.isfinite(config.colour_mean)
