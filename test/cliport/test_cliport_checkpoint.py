import json

import pytest
import torch
from safetensors.torch import load_file
from small_cliport import SENTENCE, scene, small_model

from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.checkpoint import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from vlm_nodes.cliport.config import ModelConfig
from vlm_nodes.cliport.model import CliportModel

CELLS = torch.tensor([[10, 15]])


@pytest.fixture(scope='module')
def clip() -> FrozenClip:
    return FrozenClip.load('tiny')


@pytest.fixture
def model(clip: FrozenClip) -> CliportModel:
    return small_model(clip)


def answers(model: CliportModel) -> tuple[torch.Tensor, ...]:
    with torch.no_grad():
        return model(scene(), model.embed([SENTENCE]), CELLS)


def test_a_model_comes_back_with_its_clip(model: CliportModel, tmp_path) -> None:
    save_checkpoint(model, tmp_path / 'c', training={'steps': 5})
    loaded = load_checkpoint(tmp_path / 'c')
    assert loaded.config == model.config
    assert not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(answers(loaded), answers(model), strict=True))
    assert json.loads((tmp_path / 'c' / CONFIG_NAME).read_text())['training'] == {'steps': 5}


def test_it_holds_trained_weights_only(model: CliportModel, tmp_path) -> None:
    save_checkpoint(model, tmp_path)
    stored = load_file(tmp_path / WEIGHTS_NAME)
    assert set(stored) == {name for name, _ in model.named_parameters()}
    assert not any('clip' in name or 'visual' in name for name in stored)
    size = (tmp_path / WEIGHTS_NAME).stat().st_size
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert 4 * weights < size < 4 * weights + 50_000


def test_half_precision_halves_it_and_answers_nearly_the_same(
    model: CliportModel, clip: FrozenClip, tmp_path
) -> None:
    save_checkpoint(model, tmp_path / 'h', half=True)
    save_checkpoint(model, tmp_path / 'f')
    half, full = ((tmp_path / d / WEIGHTS_NAME).stat().st_size for d in 'hf')
    assert half < 0.75 * full
    loaded = load_checkpoint(tmp_path / 'h', clip)
    assert all(value.dtype == torch.float32 for value in loaded.state_dict().values())
    for one, other in zip(answers(loaded), answers(model), strict=True):
        torch.testing.assert_close(one, other, atol=0.05, rtol=0.05)


def test_another_clip_is_refused(model: CliportModel, clip: FrozenClip, tmp_path) -> None:
    save_checkpoint(model, tmp_path)
    page = json.loads((tmp_path / CONFIG_NAME).read_text())
    page['clip']['identity'] = 'RN50/0123'
    (tmp_path / CONFIG_NAME).write_text(json.dumps(page))
    with pytest.raises(CheckpointError, match=r'RN50/0123, not tiny/'):
        load_checkpoint(tmp_path, clip)


def test_weights_of_another_training_are_refused(model, clip, tmp_path) -> None:
    save_checkpoint(model, tmp_path)
    save_checkpoint(small_model(clip, seed=1), tmp_path / 'other')
    (tmp_path / 'other' / WEIGHTS_NAME).replace(tmp_path / WEIGHTS_NAME)
    with pytest.raises(CheckpointError, match='another training'):
        load_checkpoint(tmp_path, clip)


def test_a_configuration_of_another_model_is_refused(model, clip, tmp_path) -> None:
    save_checkpoint(model, tmp_path)
    page = json.loads((tmp_path / CONFIG_NAME).read_text())
    page['model']['place_channels'] = 5
    (tmp_path / CONFIG_NAME).write_text(json.dumps(page))
    with pytest.raises(CheckpointError, match='another model'):
        load_checkpoint(tmp_path, clip)


@pytest.mark.parametrize('name', [CONFIG_NAME, WEIGHTS_NAME])
@pytest.mark.parametrize('damage', ['gone', 'cut'])
def test_a_damaged_folder_is_refused(model, clip, tmp_path, name, damage) -> None:
    save_checkpoint(model, tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if damage == 'cut':
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r'(?i)cliport'):
        load_checkpoint(tmp_path, clip)


def test_a_page_that_is_none_is_refused(tmp_path) -> None:
    for content in (
        '[]',
        '{"model": {}}',
        '{"model": 1, "clip": {}, "weights": "", "training": 1}',
    ):
        (tmp_path / CONFIG_NAME).write_text(content)
        with pytest.raises(CheckpointError, match='no page'):
            load_checkpoint(tmp_path)


def test_a_bad_setting_is_named(model, clip, tmp_path) -> None:
    save_checkpoint(model, tmp_path)
    page = json.loads((tmp_path / CONFIG_NAME).read_text())
    page['model']['rotations'] = 0
    (tmp_path / CONFIG_NAME).write_text(json.dumps(page))
    with pytest.raises(CheckpointError, match='rotations'):
        load_checkpoint(tmp_path, clip)
    assert ModelConfig().rotations == 36
