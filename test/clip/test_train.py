import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_models import small_config, write_model

from vlm_nodes.clip import train
from vlm_nodes.clip.adaptation import AdaptationConfig, most_frequent
from vlm_nodes.clip.backend import open_clip
from vlm_nodes.clip.confusion import count_pairs, intersection_over_union, mean_iou
from vlm_nodes.clip.encoder import Encoder
from vlm_nodes.clip.label_images import LabelImages
from vlm_nodes.clip.weights import find_model, load_model

RGB = {'floor': (120, 120, 120), 'red box': (200, 20, 20), 'blue box': (20, 20, 200)}


def write_pictures(folder: Path, count: int, seed: int) -> Path:
    """Squares of plain colour on grey: learnable in a minute's fraction."""
    rng = np.random.default_rng(seed)
    for part in ('images', 'labels'):
        (folder / part).mkdir(parents=True)
    names = {str(i): name for i, name in enumerate(RGB, start=1)}
    (folder / 'labels.json').write_text(json.dumps(names))
    for n in range(count):
        ids = np.ones((64, 64), np.uint16)
        row, column = rng.integers(0, 32, 2)
        ids[row : row + 32, column : column + 32] = rng.integers(2, 4)
        rgb = np.array([(0, 0, 0), *RGB.values()], np.uint8)[ids]
        cv2.imwrite(str(folder / 'images' / f'{n}.png'), rgb[..., ::-1])
        cv2.imwrite(str(folder / 'labels' / f'{n}.png'), ids)
    return folder


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp('pictures')
    pictures = write_pictures(folder / 'train', 32, 0)
    return str(pictures), str(write_pictures(folder / 'val', 8, 1))


def options(data: tuple[str, str], out: Path, *more: str) -> list[str]:
    machine = ['--threads', '1', '--workers', '0', '--accelerator', 'cpu', '--devices', '1']
    quick = ['--size', '64', '--batch', '8', *machine]
    return [data[0], '--val', data[1], '--out', str(out), *quick, *more]


def logged(out: Path, name: str) -> list[float]:
    values = []
    for path in sorted((out / 'training' / 'csv').rglob('metrics.csv')):
        with path.open() as stream:
            values += [float(row[name]) for row in csv.DictReader(stream) if row.get(name)]
    return values


def small_trunk(folder: Path) -> str:
    """The trunk of `tiny` with a smaller text tower."""
    config = open_clip.get_model_config('tiny')
    config['text_cfg'] |= {'width': 16}
    (folder / 'small.json').write_text(json.dumps(config))
    return str(folder / 'small.json')


def test_training_from_scratch_learns_and_writes_open_clips_format(
    data: tuple[str, str], tmp_path: Path
) -> None:
    out = tmp_path / 'out'
    model = small_trunk(tmp_path)
    start = ['--scratch', '--model', model, '--epochs', '4', '--ema', '0.8', '--labels-only']
    train.main(options(data, tmp_path / 'first', *start))
    more = ['--model', str(tmp_path / 'first'), '--epochs', '4', '--ema', '0.8', '--train-text']
    train.main(options(data, out, *more))
    figures = logged(out, 'val_miou')
    assert len(figures) == 4
    assert figures[-1] > 0.75
    encoder = Encoder.load(str(out), image_size=64)
    picture = np.full((64, 64, 3), RGB['floor'], np.uint8)
    picture[16:48, 16:48] = RGB['blue box']
    scores = encoder.encode_dense(picture) @ encoder.encode_text(list(RGB)).T
    labels = scores.argmax(-1)
    assert labels[8, 8] == 2
    assert labels[1, 1] == 0
    same = open_clip.create_model(f'local-dir:{out}').state_dict()
    for key, value in load_model(find_model(str(out))).state_dict().items():
        assert torch.equal(value, same[key])


def test_a_transformer_is_adapted_in_its_own_text_space(
    data: tuple[str, str], tmp_path: Path
) -> None:
    before = write_model(tmp_path / 'start', small_config(image_size=64))
    out = tmp_path / 'out'
    more = ['--model', str(tmp_path / 'start'), '--epochs', '3', '--ema', '0', '--half']
    train.main(options(data, out, *more))
    after = load_model(find_model(str(out))).state_dict()
    state = before.state_dict()
    changed = {key for key in state if not torch.equal(state[key].half().float(), after[key])}
    assert 'visual.conv1.weight' in changed
    assert all(key.startswith('visual.') for key in changed - {'logit_scale'})
    losses = logged(out, 'loss')
    assert not losses or np.isfinite(losses).all()
    assert logged(out, 'val_miou')[-1] > logged(out, 'val_miou')[0] - 0.05


def test_an_interrupted_training_goes_on(
    data: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, model = tmp_path / 'out', small_trunk(tmp_path)
    start = options(data, out, '--scratch', '--model', model, '--ema', '0.9', '--epochs', '2')
    read = LabelImages.read
    left = iter(range(2 * 32 + 8 + 20))  # counting reads no pictures; the second epoch fails

    def fail_later(images: LabelImages, index: int) -> object:
        if next(left, None) is None:
            raise OSError('the disk is gone')
        return read(images, index)

    with monkeypatch.context() as patch:
        patch.setattr(LabelImages, 'read', fail_later)
        with pytest.raises(OSError, match='the disk is gone'):
            train.main(start)
    assert logged(out, 'val_miou') != []
    state = torch.load(out / 'training' / 'last.ckpt', weights_only=False)
    assert (state['epoch'], state['global_step']) == (0, 4)
    train.main([*start, '--resume'])
    state = torch.load(out / 'training' / 'last.ckpt', weights_only=False)
    assert (state['epoch'], state['global_step']) == (1, 8)


def test_the_same_seed_gives_the_same_weights(data: tuple[str, str], tmp_path: Path) -> None:
    model = small_trunk(tmp_path)
    found = []
    for name, seed in (('a', '3'), ('b', '3'), ('c', '4')):
        more = ['--scratch', '--model', model, '--epochs', '1', '--seed', seed]
        train.main(options(data, tmp_path / name, *more))
        found.append(load_model(find_model(str(tmp_path / name))).state_dict())
    key = 'visual.trunk.stem.0.weight'
    assert torch.equal(found[0][key], found[1][key])
    assert not torch.equal(found[0][key], found[2][key])


def test_what_stops_a_training_is_said(
    data: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def error(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            train.main(list(arguments))
        assert caught.value.code == 2
        return capsys.readouterr().err

    out = tmp_path / 'out'
    assert 'cannot read label texts' in error(
        *options((str(tmp_path / 'none'), data[1]), out, '--scratch')
    )
    assert 'needs `pretrained`' in error(*options(data, out, '--model', 'ViT-B-16'))
    assert 'must be a multiple of 32 pixels, got 100' in error(
        *options(data, out, '--scratch', '--size', '100')
    )
    assert 'nothing to resume' in error(*options(data, out, '--scratch', '--resume'))
    assert not out.exists()
    (out / 'training').mkdir(parents=True)
    assert 'exists already' in error(*options(data, out, '--scratch'))


def test_confusion_and_its_figures_by_hand() -> None:
    truth, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 1])
    counts = count_pairs(truth, predicted, 4)
    assert counts.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    iou = intersection_over_union(counts)
    np.testing.assert_allclose(iou[:3], [2 / 3, 1 / 4, 0])
    assert np.isnan(iou[3])
    assert mean_iou(iou, [0, 1, 3]) == pytest.approx((2 / 3 + 1 / 4) / 2)
    assert np.isnan(mean_iou(iou, [3]))


def test_a_cell_has_the_label_of_most_of_its_pixels() -> None:
    cells = np.array([[2, 2, 0, 1], [-1, -1, 0, -1], [1, 0, 1, 0]])
    assert most_frequent(cells, 3).tolist() == [2, -1, 0]


def test_bad_settings_are_named() -> None:
    for name, value in (('learning_rate', 2.0), ('weight_decay', -1.0), ('warm_up', 1.0)):
        with pytest.raises(ValueError, match=f'{name} must .* got {value}'):
            AdaptationConfig(**{name: value})
