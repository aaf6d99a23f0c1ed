import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import small_config, write_model

from vlm_nodes.clip import fetch
from vlm_nodes.clip.backend import MODELS_DIR, open_clip
from vlm_nodes.clip.weights import (
    CONFIG_NAME,
    WEIGHTS_NAME,
    ModelSource,
    WeightsError,
    build_model,
    find_config,
    find_model,
    load_model,
    make_tokenizer,
    sha256,
)

NORMALISATION = {'mean': (0.5, 0.5, 0.5), 'std': (0.5, 0.5, 0.5)}


def source(weights: Path, **vision: object) -> ModelSource:
    return ModelSource('small', small_config(**vision), weights, dict(NORMALISATION))


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    other = b.state_dict()
    return all(torch.equal(value, other[key]) for key, value in a.state_dict().items())


def test_a_folder_of_open_clips_format_loads(tmp_path: Path) -> None:
    model = write_model(tmp_path / 'small', small_config())
    found = find_model(str(tmp_path / 'small'))
    assert found.name == 'small'
    assert same_weights(load_model(found), model)
    assert same_weights(open_clip.create_model(f'local-dir:{tmp_path / "small"}'), model)


def test_a_configuration_with_weights_beside_it_loads(tmp_path: Path) -> None:
    model = write_model(tmp_path, small_config())
    (tmp_path / WEIGHTS_NAME).rename(tmp_path / 'mine.safetensors')
    (tmp_path / 'mine.json').write_text(json.dumps(small_config()))
    found = find_model(str(tmp_path / 'mine.json'))
    assert found.name == 'mine'
    assert same_weights(load_model(found), model)


@pytest.mark.parametrize('wrapped', [False, True])
def test_pickled_tensors_load_with_weights_only(tmp_path: Path, wrapped: bool) -> None:
    model = write_model(tmp_path, small_config())
    state = {f'module.{key}' if wrapped else key: v for key, v in model.state_dict().items()}
    torch.save({'state_dict': state, 'epoch': 3} if wrapped else state, tmp_path / 'w.pt')
    assert same_weights(load_model(source(tmp_path / 'w.pt')), model)


def test_openai_archives_load_and_bring_their_activation(tmp_path: Path) -> None:
    """OpenAI ships TorchScript archives in half precision, which say nothing of QuickGELU."""
    model = write_model(tmp_path, small_config())
    archive = torch.jit.script(_holder(model.half().state_dict()))
    torch.jit.save(archive, tmp_path / 'ViT.pt')
    loaded = load_model(source(tmp_path / 'ViT.pt'))
    assert same_weights(loaded, model.float())
    kinds = {type(module).__name__ for module in loaded.visual.modules()}
    assert 'QuickGELU' in kinds
    assert 'GELU' not in kinds


def _holder(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    root = torch.nn.Module()
    for key, value in {**state, **_archive_numbers()}.items():
        *path, name = key.split('.')
        place = root
        for part in path:
            if part not in dict(place.named_children()):
                place.add_module(part, torch.nn.Module())
            place = getattr(place, part)
        place.register_buffer(name, value)
    return root


def _archive_numbers() -> dict[str, torch.Tensor]:
    names = ('input_resolution', 'context_length', 'vocab_size')
    return {name: torch.tensor(1) for name in names}


def test_tags_are_looked_up_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / 'ViT-B-16-openai.safetensors').write_bytes(b'')
    found = find_model('ViT-B-16', 'openai', tmp_path)
    assert found.weights == tmp_path / 'ViT-B-16-openai.safetensors'
    assert found.config['quick_gelu'] is True
    (tmp_path / 'ViT-B-32-laion2b_s34b_b79k.pt').write_bytes(b'')
    found = find_model('ViT-B-32', 'laion2b_s34b_b79k', tmp_path)
    assert found.weights.suffix == '.pt'
    assert not found.config.get('quick_gelu')


def test_the_folder_of_weights_is_set_by_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('VLM_WEIGHTS', str(tmp_path))
    (tmp_path / 'RN50-openai.safetensors').write_bytes(b'')
    assert find_model('RN50', 'openai').weights.parent == tmp_path


@pytest.mark.parametrize(
    ('model', 'pretrained', 'message'),
    [
        ('ViT-B-16', None, 'needs `pretrained`: a path .* or one of .*openai'),
        ('ViT-B-16', 'nonsense', "'nonsense' is neither a weights file nor a tag of ViT-B-16"),
        ('ViT-B-16', 'missing/file.pt', 'no file file.pt in .*missing'),
        ('ViT-Q-99', None, "unknown model 'ViT-Q-99'.*tiny"),
        ('nowhere.json', None, 'cannot read the model configuration nowhere.json'),
    ],
)
def test_what_cannot_be_found_is_named_in_one_line(
    tmp_path: Path, model: str, pretrained: str | None, message: str
) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        find_model(model, pretrained, tmp_path)
    assert '\n' not in str(caught.value)


def test_a_foreign_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / CONFIG_NAME).write_text('{"hidden_size": 7}')
    with pytest.raises(WeightsError, match=r'no open_clip model configuration: .*embed_dim'):
        find_model(str(tmp_path))


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_weights_that_hold_code_are_not_run(tmp_path: Path) -> None:
    torch.save({'state_dict': _Payload(tmp_path / 'ran')}, tmp_path / 'evil.pt')
    with pytest.raises(WeightsError, match=r'cannot load .*evil.pt'):
        load_model(source(tmp_path / 'evil.pt'))
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('suffix', ['.safetensors', '.pt'])
@pytest.mark.parametrize('kept', [0, 100, 5000])
def test_truncated_weights_are_refused(tmp_path: Path, suffix: str, kept: int) -> None:
    model = write_model(tmp_path, small_config())
    whole = tmp_path / f'w{suffix}'
    if suffix == '.pt':
        torch.save(model.state_dict(), whole)
    else:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, whole)
    whole.write_bytes(whole.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=f'cannot load .*w{suffix} as weights of small') as error:
        load_model(source(whole))
    assert '\n' not in str(error.value)


def test_loading_is_strict(tmp_path: Path) -> None:
    write_model(tmp_path, small_config())
    with pytest.raises(WeightsError, match=r'small: \d+ tensors missing \(visual'):
        load_model(source(tmp_path / WEIGHTS_NAME, layers=4))
    with pytest.raises(WeightsError, match=r'small: \d+ tensors unexpected \(visual'):
        load_model(source(tmp_path / WEIGHTS_NAME, layers=2))
    shape = r'small: 1 tensors of another shape \(visual.positional_embedding\)$'
    with pytest.raises(WeightsError, match=shape):
        load_model(source(tmp_path / WEIGHTS_NAME, image_size=64))


def test_tensors_that_do_not_fit_are_counted_and_two_of_a_kind_named(tmp_path: Path) -> None:
    write_model(tmp_path, small_config())
    with pytest.raises(WeightsError) as caught:
        load_model(source(tmp_path / WEIGHTS_NAME, layers=50))
    reason = str(caught.value).partition(' as weights of ')[2]
    told = re.fullmatch(r'small: (\d+) tensors missing \((.*), \.\.\.\)', reason)
    assert told is not None
    assert int(told[1]) > 500
    assert len(told[2].split(', ')) == 2


def test_tokenizers_that_need_a_network_are_refused() -> None:
    config = small_config()
    assert make_tokenizer(config)(['a mug']).shape == (1, 12)
    config['text_cfg']['hf_tokenizer_name'] = 'some/tokenizer'
    with pytest.raises(WeightsError, match='fetched at run time'):
        make_tokenizer(config)


def test_fetched_weights_are_kept_once_they_fit(tmp_path: Path) -> None:
    model = write_model(tmp_path / 'downloaded', small_config())
    target = tmp_path / 'new' / 'small-tag.safetensors'
    fetch.keep(source(tmp_path / 'downloaded' / WEIGHTS_NAME), target)
    assert load_file(target).keys() == model.state_dict().keys()
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    with pytest.raises(WeightsError):
        fetch.keep(source(target, layers=5), tmp_path / 'other.safetensors')
    assert not (tmp_path / 'other.safetensors').exists()


def test_fetching_leaves_what_is_there(tmp_path: Path) -> None:
    there = tmp_path / 'ViT-B-16-openai.safetensors'
    there.write_bytes(b'mine')
    assert fetch.fetch('ViT-B-16', 'openai', tmp_path) == there
    assert there.read_bytes() == b'mine'


def test_fetching_an_unknown_tag_says_which_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        fetch.main(['--model', 'RN50', '--pretrained', 'nope', '--to', str(tmp_path)])
    assert caught.value.code == 2
    assert "no weights tagged 'nope'; its tags are ['openai'" in capsys.readouterr().err


def test_fetching_for_an_unknown_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"^'ViT-Q-99' is no open_clip model with weights"):
        fetch.fetch('ViT-Q-99', 'openai', tmp_path)


def test_tiny_loads_through_open_clip_as_it_ships() -> None:
    model = open_clip.create_model('tiny', pretrained=str(MODELS_DIR / 'tiny.safetensors'))
    assert same_weights(model, load_model(find_model('tiny')))
    assert find_config('tiny').config == open_clip.get_model_config('tiny')


def test_untrained_architectures_are_never_found_as_models(tmp_path: Path) -> None:
    (tmp_path / 'bare.json').write_text(json.dumps(small_config()))
    assert build_model(find_config(str(tmp_path / 'bare.json')).config) is not None
    with pytest.raises(WeightsError, match=r'no file bare.safetensors'):
        find_model(str(tmp_path / 'bare.json'))


def test_digest_is_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / 'f').write_bytes(b'abc')
    assert sha256(tmp_path / 'f').startswith('ba7816bf8f01cfea')
