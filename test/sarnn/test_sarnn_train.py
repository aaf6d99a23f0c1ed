from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from blob_recordings import NAMES, write_recordings

from vlm_nodes.sarnn import evaluate, train
from vlm_nodes.sarnn.batch import Batch
from vlm_nodes.sarnn.callbacks import History
from vlm_nodes.sarnn.checkpoint import load_policy, save_policy
from vlm_nodes.sarnn.config import SarnnConfig
from vlm_nodes.sarnn.model import Sarnn
from vlm_nodes.sarnn.training import SarnnTraining

SMALL = ('--no_clip', '--no_language', '--k_dim', '3', '--rec_dim', '16', '--device', 'cpu')


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp('blobs'), count=12, steps=8)


def run(data: Path, log: Path, *more: object, tag: str = 'run') -> int:
    arguments = ('--data', data, '--log', log, '--tag', tag, *SMALL, '--val_every', 1, *more)
    return train.main([str(argument) for argument in arguments])


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a tool which could not do its work says."""
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith('train_clip_sarnn:')]
    assert len(lines) == 1, captured.err
    return lines[0]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_policy(path).state_dict()


def test_a_training_leaves_a_policy_curves_and_pictures(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, tmp_path, '--epoch', 6, '--lr', 5e-3, '--json') == 0
    figures = json.loads(capsys.readouterr().out)
    folder = tmp_path / 'run'
    assert figures['policy'] == str(folder / 'policy.safetensors')
    assert figures['epochs'] == 6
    assert figures['steps'] == 6 * 2  # nine episodes, five a step
    names = {path.name.split('.tfevents')[0] for path in folder.iterdir()}
    wanted = {'policy.safetensors', 'last.ckpt', 'loss.png', 'loss.csv', 'options.json'}
    options = json.loads((folder / 'options.json').read_text())['options']
    assert options['precision'] == train.auto_precision('cpu')  # what auto became
    assert wanted | {'keypoints.gif', 'keypoints.mp4', 'joints_0.png', 'events.out'} <= names
    policy = load_policy(folder / 'policy.safetensors')
    assert policy.config.joint_names == NAMES
    assert policy.config.tactile == ('gelsight1',)
    assert policy.config.depth is not None
    assert policy.config.image_size == (16, 24)
    assert policy.config.rate_hz == pytest.approx(10.0)
    rows = list(csv.DictReader((folder / 'loss.csv').open()))
    assert [row['epoch'] for row in rows] == [f'{n}.0' for n in range(1, 7)]
    assert float(rows[-1]['train/joints']) < float(rows[0]['train/joints'])
    best = min(float(row['val/loss']) for row in rows)
    assert float(rows[figures['best_epoch'] - 1]['val/loss']) == best
    assert cv2.imread(str(folder / 'loss.png')).std() > 5


def test_an_interrupted_training_ends_as_one_that_ran_through(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ('--epoch', 4, '--tbptt', 3)
    assert run(data, tmp_path, *more, tag='through') == 0

    class InterruptedTrainingError(Exception):
        pass

    def interrupt(self: History, trainer: object, pl_module: object) -> None:
        if trainer.current_epoch == 2:  # type: ignore[attr-defined]
            raise InterruptedTrainingError

    with monkeypatch.context() as patch:
        patch.setattr(History, 'on_train_epoch_start', interrupt, raising=False)
        with pytest.raises(InterruptedTrainingError):
            run(data, tmp_path, *more, tag='cut')
    assert run(data, tmp_path, *more, '--resume', tag='cut') == 0
    through = weights(tmp_path / 'through' / 'policy.safetensors')
    cut = weights(tmp_path / 'cut' / 'policy.safetensors')
    for name, value in through.items():
        torch.testing.assert_close(cut[name], value, msg=name)
    one, two = ((tmp_path / tag / 'loss.csv').read_text() for tag in ('through', 'cut'))
    assert one.splitlines()[0] == two.splitlines()[0]
    assert len(one.splitlines()) == len(two.splitlines()) == 5


def test_a_training_that_learns_nothing_stops(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ('--lr', 1e-30, '--weight_decay', 0, '--ema', 0, '--epoch', 40, '--patience', 2)
    assert run(data, tmp_path, *more, '--json') == 0
    assert json.loads(capsys.readouterr().out)['epochs'] == 3


def test_an_interrupted_training_says_where_its_policy_is(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = SarnnTraining.training_step

    def interrupted(module: SarnnTraining, batch: Batch, index: int) -> None:
        if module.current_epoch == 2:
            raise KeyboardInterrupt  # what Ctrl-C raises there
        step(module, batch, index)

    monkeypatch.setattr(SarnnTraining, 'training_step', interrupted)
    assert run(data, tmp_path, '--epoch', 5) == 130
    assert told(capsys) == (
        'train_clip_sarnn: interrupted; the best policy so far is '
        f'{tmp_path / "run" / "policy.safetensors"}; --resume goes on'
    )
    assert load_policy(tmp_path / 'run' / 'policy.safetensors').config.joint_names == NAMES


def test_the_last_epoch_is_tested(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, tmp_path, '--epoch', 4, '--val_every', 3, '--json') == 0
    assert json.loads(capsys.readouterr().out)['epochs'] == 6
    rows = list(csv.DictReader((tmp_path / 'run' / 'loss.csv').open()))
    assert [row['epoch'] for row in rows] == ['3.0', '6.0']


@pytest.mark.parametrize(
    ('able', 'accelerator', 'precision'),
    [
        ({'avx512_bf16': True}, 'cpu', 'bf16'),
        ({'avx512_bf16': False, 'amx_bf16': True}, 'cpu', 'bf16'),
        ({'avx2': True, 'avx512_bf16': False, 'amx_bf16': False}, 'cpu', 'fp32'),
        ({}, 'cpu', 'fp32'),
        ({'avx512_bf16': True}, 'gpu', 'fp32'),
    ],
)
def test_bits_are_chosen_by_what_the_processor_computes_in(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], accelerator: str, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, 'get_capabilities', lambda: able)
    assert train.auto_precision(accelerator) == precision


def test_what_was_not_recorded_or_is_left_out_the_policy_lacks(data: Path, tmp_path: Path) -> None:
    bare = write_recordings(tmp_path, count=4, steps=4, streams=('color', 'joints_state'))
    assert run(bare, tmp_path, '--epoch', 1, tag='bare') == 0
    assert run(data, tmp_path, '--epoch', 1, '--no_touch', '--no_depth', tag='left_out') == 0
    for tag in ('bare', 'left_out'):
        config = load_policy(tmp_path / tag / 'policy.safetensors').config
        assert (config.cameras, config.tactile, config.depth) == (('color',), (), None)


def test_bfloat16(data: Path, tmp_path: Path) -> None:
    assert run(data, tmp_path, '--epoch', 2, '--precision', 'bf16', '--ema', 0) == 0
    for name, value in weights(tmp_path / 'run' / 'policy.safetensors').items():
        assert value.dtype == torch.float32, name
        assert value.isfinite().all(), name


def test_clip_and_language(data: Path, tmp_path: Path) -> None:
    arguments = ('--data', data, '--log', tmp_path, '--tag', 'clip', '--epoch', 1, '--no_touch')
    more = ('--no_depth', '--image_size', 16, 24, '--clip_grid', 4, '--clip_image_size', 32)
    cache = ('--cache', tmp_path / 'cache', '--target', 'actions', '--device', 'cpu')
    assert train.main([str(a) for a in (*arguments, *more, *cache)]) == 0
    policy = load_policy(tmp_path / 'clip' / 'policy.safetensors')
    assert policy.config.clip is not None
    assert policy.config.clip.grid == (4, 6)
    assert policy.config.clip.source_size == (16, 24)
    assert policy.config.text_dim == policy.config.clip.dim == 128
    assert policy.config.tactile == ()
    assert policy.config.depth is None
    assert policy.text_scale is not None
    # Two tasks differ from their mean by as much as each other, in opposite directions.
    assert policy.text_scale.mean.abs().max() > 0
    assert len(list((tmp_path / 'cache').iterdir())) == 2


def test_language_without_clip_remembers_its_encoder(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = ('--no_clip', '--no_touch', '--no_depth', '--clip_method', 'maskclip')
    arguments = ('--data', data, '--log', tmp_path, '--tag', 'told', '--epoch', 1, *cut)
    assert train.main([str(a) for a in (*arguments, '--device', 'cpu')]) == 0
    path = tmp_path / 'told' / 'policy.safetensors'
    text = load_policy(path).config.text
    assert text is not None
    assert text.model == 'tiny'
    assert text.identity.startswith('tiny/')
    assert 'maskclip' not in text.identity
    capsys.readouterr()
    assert evaluate.main([str(path), '--data', str(data)]) == 0
    other = SarnnConfig.from_json(load_policy(path).config.to_json().replace(text.identity, 'a/b'))
    save_policy(tmp_path / 'other.safetensors', Sarnn(other))
    assert evaluate.main([str(tmp_path / 'other.safetensors'), '--data', str(data)]) == 2
    assert 'embedded by the encoder a/b' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('more', 'wanted'),
    [
        (('--cameras', 'wrist'), 'no camera wrist; it has .*color'),
        (('--touch', 'gelsight9'), 'has no gelsight9; it has .*gelsight1'),
        (('--depth', 'lidar'), 'has no lidar'),
        (('--lr', '-1'), r'learning_rate = -1\.0'),
        (('--stdev', '-1'), r'joint_stdev = -1\.0'),
        (('--epoch', '0'), '--epoch must be at least 1'),
        (('--ema', '1'), '--ema must be'),
        (('--image_size', '15'), r'image_size = \(15, 15\)'),
        (('--device', 'tpu'), "--device must be .* 'tpu'"),
        (('--resume',), 'nothing to resume: no file .*last.ckpt'),
    ],
)
def test_bad_options_are_told_in_a_line(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    wanted: str,
) -> None:
    assert run(data, tmp_path, *more) == 2
    line = told(capsys)
    assert re.search(wanted, line), line
    assert not (tmp_path / 'run').exists()


def test_a_training_is_not_replaced_unasked(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, tmp_path, '--epoch', 1) == 0
    before = weights(tmp_path / 'run' / 'policy.safetensors')
    assert run(data, tmp_path, '--epoch', 1) == 2
    assert '--resume' in told(capsys)
    assert run(data, tmp_path, '--epoch', 2, '--resume', '--rec_dim', 12) == 2
    assert 'rec_dim' in told(capsys)
    assert run(data, tmp_path, '--epoch', 1, '--seed', 1, '--overwrite') == 0
    after = weights(tmp_path / 'run' / 'policy.safetensors')
    assert not torch.equal(after['to_outputs.weight'], before['to_outputs.weight'])


def test_a_folder_of_other_things_is_never_replaced(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'thesis.tex').write_text('all of it')
    assert run(data, tmp_path, '--overwrite') == 2
    assert 'is no training' in told(capsys)
    assert (tmp_path / 'run' / 'thesis.tex').is_file()


def test_recordings_that_cannot_be_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / 'nothing', tmp_path) == 2
    assert 'no data set' in told(capsys)
    broken = write_recordings(tmp_path / 'nan')
    joints = np.load(broken / 'train' / 'joints.npy')
    joints[0, 2, 1] = np.nan
    np.save(broken / 'train' / 'joints.npy', joints)
    assert run(broken, tmp_path) == 2
    assert 'episode 0 has nan at tick 2' in told(capsys)
    empty = write_recordings(tmp_path / 'empty', test_share=0.0)
    assert run(empty, tmp_path) == 2
    assert '--test-share' in told(capsys)
