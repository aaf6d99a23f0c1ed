"""The command lines, from a folder of pictures to text."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from caption_trees import BACK, FRONT, write_json, write_picture

from vlm_nodes.clip_vlm import evaluate, generate, tiny_qwen, train
from vlm_nodes.clip_vlm.captioner import Captioner
from vlm_nodes.clip_vlm.checkpoint import load_checkpoint
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.feature_store import FeatureStore
from vlm_nodes.clip_vlm.overlap import open_overlap
from vlm_nodes.clip_vlm.samples import CaptionedViews
from vlm_nodes.clip_vlm.scores import score_texts
from vlm_nodes.clip_vlm.training import ClipVlmTraining, TrainingConfig

COLOURS = {'red': (200, 30, 30), 'blue': (30, 30, 200), 'green': (30, 160, 30)}
SMALL = [
    *('--clip-size', '32', '--clip-grid', '2', '4', '--batch', '4', '--threads', '1'),
    *('--accelerator', 'cpu', '--dataset', 'overlap_export'),
]
SIZES = ['--width', '16', '--heads', '2', '--layers', '1', '--token-grid', '1', '2']


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """A folder of captioned pictures; in two of ten the back camera has none."""
    folder, rows = tmp_path_factory.mktemp('pictures'), []
    names = list(COLOURS)
    for number in range(10):
        seen = {FRONT: names[number % 3], BACK: names[number // 3 % 3]}
        if number % 5 == 4:
            del seen[BACK]
        images = {}
        for camera, name in seen.items():
            images[camera] = f'images/s{number}/{camera}.png'
            write_picture(folder / images[camera], COLOURS[name], (48, 32))
        said = ' '.join(f'The {c[4:].lower()} view shows {name}.' for c, name in seen.items())
        rows.append({'token': f's{number}', 'images': images, 'caption': said})
    write_json(folder / 'manifest.json', {'cameras': [FRONT, BACK], 'samples': rows})
    write_json(folder / 'captions.json', {row['token']: row['caption'] for row in rows})
    return folder


@pytest.fixture(scope='module')
def base(pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp('base') / 'qwen'
    arguments = ['--texts', str(pictures / 'captions.json'), '--out', str(out)]
    assert tiny_qwen.main([*arguments, '--hidden-size', '32', '--kind', 'qwen3_vl']) == 0
    return out


def run_training(mode, base, pictures, out, *more):
    common = ['--mode', mode, '--qwen', str(base), '--data-root', str(pictures)]
    return train.main([*common, '--save', str(out), *SMALL, *map(str, more)])


@pytest.fixture(scope='module')
def distilled(base, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp('distilled') / 'run'
    assert run_training('distill', base, pictures, out, *SIZES, '--epochs', 6) == 0
    return out


@pytest.fixture(scope='module')
def taught(base, pictures, distilled, tmp_path_factory):
    out = tmp_path_factory.mktemp('taught') / 'run'
    more = ('--init', distilled, '--use-lora', '--train-embeddings', '--epochs', 4)
    rates = ('--lr', 3e-3, '--adapter-lr', 3e-3, '--cache', distilled / 'features')
    assert run_training('lm', base, pictures, out, *more, *rates, '--accumulate', 2) == 0
    return out


def losses_of(out):
    lines = (out / 'csv' / 'metrics.csv').read_text().splitlines()
    column = lines[0].split(',').index('val_loss')
    return [float(line.split(',')[column]) for line in lines[1:] if line.split(',')[column]]


def test_distillation_leaves_a_connector_logs_and_features(distilled):
    checkpoint = load_checkpoint(distilled)
    assert checkpoint.page.mode == 'distill'
    assert checkpoint.adapter is None
    assert checkpoint.connector.config.cameras == (FRONT, BACK)
    losses = losses_of(distilled)
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert len(list((distilled / 'features').glob('*/*.npy'))) == 2 * 18  # CLIP and teacher
    assert list((distilled / 'tensorboard').iterdir())
    assert json.loads((distilled / 'options.json').read_text())['epochs'] == 6


def test_teaching_starts_from_the_connector_and_keeps_adapters(distilled, taught):
    page = load_checkpoint(taught).page
    assert page.mode == 'lm'
    assert page.lora['modules_to_save'] == ['embed_tokens', 'lm_head']
    assert page.training['figures']['val_token_accuracy'] > 0
    assert losses_of(taught)[-1] < losses_of(taught)[0]
    # Only what is trained is in Lightning's own file.
    state = torch.load(taught / 'last.ckpt', weights_only=True)['state_dict']
    assert all('connector' in n or 'lora_' in n or 'modules_to_save' in n for n in state)
    assert not list(taught.glob('features'))  # those of the distillation were found again


def test_training_is_not_overwritten_and_resumes_only_as_it_was(base, pictures, distilled, capsys):
    assert run_training('distill', base, pictures, distilled, *SIZES, '--epochs', 6) == 2
    assert 'is not empty' in capsys.readouterr().err
    more = (*SIZES, '--epochs', 9, '--resume')
    assert run_training('distill', base, pictures, distilled, *more) == 2
    assert 'epochs differ' in capsys.readouterr().err
    none = distilled.parent / 'none'
    assert run_training('distill', base, pictures, none, *SIZES, '--resume') == 2
    assert 'nothing to resume' in capsys.readouterr().err


def test_training_goes_on_where_it_was_killed(base, pictures, distilled, tmp_path, monkeypatch):
    """Killed in its third epoch: the rest is done, and the result is that of one whole training."""

    def killed(self, batch, index):
        if self.trainer.current_epoch == 2:
            raise KeyboardInterrupt
        return plain(self, batch, index)

    plain = ClipVlmTraining.training_step
    more = (*SIZES, '--epochs', 6, '--cache', distilled / 'features')
    with monkeypatch.context() as patch:
        patch.setattr(ClipVlmTraining, 'training_step', killed)
        with pytest.raises(SystemExit):
            run_training('distill', base, pictures, tmp_path / 'run', *more)
    assert load_checkpoint(tmp_path / 'run').page.training['figures']['epoch'] == 2
    assert run_training('distill', base, pictures, tmp_path / 'run', *more, '--resume') == 0
    again, whole = load_checkpoint(tmp_path / 'run'), load_checkpoint(distilled)
    assert again.page.training['figures']['epoch'] == whole.page.training['figures']['epoch']


def test_bad_options_are_one_line(base, pictures, distilled, tmp_path, capsys):
    cases = (
        (('--epochs', 0), '--epochs must be at least 1'),
        (('--val-share', 1.5), '--val-share'),
        (('--prompt', ' '), '--prompt is blank'),
        (('--lr', 2), 'learning_rate'),
        (('--use-lora',), '--use-lora: distillation'),
        (('--train-embeddings',), '--train-embeddings goes with'),
        (('--init', distilled, '--width', 8), '--width: the connector of --init'),
        (('--qwen-quant', 'bnb-4bit'), 'bnb-4bit needs'),
        (('--max-samples', 1), 'too few'),
        (('--qwen', tmp_path), 'no Qwen in'),
    )
    for number, (more, message) in enumerate(cases):
        assert run_training('distill', base, pictures, tmp_path / str(number), *more) == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert message in error
        assert error.startswith('train_clip_vlm: ')


def test_held_out_samples_have_a_folder_of_their_own_or_are_the_last(base, pictures, tmp_path):
    arguments = ['--mode', 'lm', '--qwen', str(base), '--save', str(tmp_path), *SMALL]
    arguments += ['--data-root', str(pictures)]
    last = train.open_split(train.make_parser().parse_args([*arguments, '--val-share', '0.2']))
    assert [sample.token for sample in last.val] == ['s8', 's9']
    assert len(last.train) == 8
    own = train.open_split(
        train.make_parser().parse_args([*arguments, '--val-root', str(pictures)])
    )
    assert len(own.train) == len(own.val) == 10


def test_features_can_be_computed_ahead(base, pictures, distilled, tmp_path, capsys):
    more = (*SIZES, '--features-only', '--cache', tmp_path / 'cache')
    assert run_training('distill', base, pictures, tmp_path / 'run', *more) == 0
    assert 'features of 10 samples' in capsys.readouterr().out
    assert len(list((tmp_path / 'cache').glob('*/*.npy'))) == 2 * 18
    assert not (tmp_path / 'run').exists()


def test_pictures_are_described(base, pictures, taught, capsys):
    one = [f'{FRONT}={pictures}/images/s0/{FRONT}.png']
    command = [str(taught), '--max-new-tokens', '5', '--json', '--threads', '1']
    assert generate.main([*command, *one]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row['cameras'] == [FRONT]
    assert row['tokens'] <= 5
    data = ['--dataset', 'overlap_export', '--data-root', str(pictures), '--max-samples', '2']
    assert generate.main([*command, *data]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row['token'] for row in rows] == ['s0', 's1']
    assert generate.main([*command, *data, *one]) == 2
    assert 'either pictures' in capsys.readouterr().err
    assert generate.main([*command, 'CAM_FRONT']) == 2
    assert 'is not CAMERA=FILE' in capsys.readouterr().err
    assert generate.main([*command, *one, *one]) == 2
    assert 'two pictures' in capsys.readouterr().err


def test_evaluation_scores_text_and_loss(base, pictures, distilled, taught, tmp_path, capsys):
    data = ['--dataset', 'overlap_export', '--data-root', str(pictures), '--threads', '1']
    texts = tmp_path / 'texts.json'
    more = ['--json', '--max-samples', '5', '--max-new-tokens', '8', '--save', str(texts)]
    assert evaluate.main([str(taught), *data, *more]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures['kept'] == 5
    assert figures['loss'] > 0
    assert all(0 <= figures[name] <= 1 for name in ('bleu', 'rouge_l', 'exact'))
    assert set(json.loads(texts.read_text())) == {f's{number}' for number in range(5)}
    assert evaluate.main([str(distilled), *data]) == 0
    assert 'loss' in capsys.readouterr().out
    assert evaluate.main([str(taught), *data, '--batch', '0']) == 2
    assert '--batch' in capsys.readouterr().err


def test_a_captioner_describes_and_can_be_told_to_stop(taught):
    captioner = Captioner.load(taught)
    assert captioner.cameras == (FRONT, BACK)
    red = np.full((32, 48, 3), COLOURS['red'], np.uint8)
    pieces = []
    whole = captioner.describe({BACK: red, FRONT: red}, max_new_tokens=6, on_text=pieces.append)
    assert whole.cameras == (FRONT, BACK)
    assert whole.tokens <= 6
    assert ''.join(pieces).strip() == whole.text
    assert 0 < whole.time_to_first_token_s <= whole.latency_s
    assert not whole.cancelled
    at_once = captioner.describe({FRONT: red}, cancelled=lambda: True)
    assert at_once.cancelled
    assert at_once.text == ''
    asked = iter([False, False, True])
    cut = captioner.describe({FRONT: red}, max_new_tokens=9, cancelled=lambda: next(asked))
    assert cut.cancelled
    assert cut.tokens == 2


def test_a_captioner_names_what_it_cannot_describe(taught, distilled):
    captioner = Captioner.load(taught)
    red = np.full((32, 48, 3), COLOURS['red'], np.uint8)
    for images, prompt, message in (
        ({}, None, 'no picture'),
        ({'CAM_TOP': red}, None, 'no camera CAM_TOP was trained'),
        ({FRONT: red.astype(np.float32)}, None, 'picture of CAM_FRONT must be'),
        ({FRONT: red[..., 0]}, None, 'picture of CAM_FRONT must be'),
        ({FRONT: red}, ' ', 'prompt is blank'),
    ):
        with pytest.raises(ClipVlmError, match=message):
            captioner.describe(images, prompt)
    with pytest.raises(ClipVlmError, match='never taught to speak'):
        Captioner.load(distilled)


def test_features_of_changed_or_missing_pictures(tmp_path):
    picture = write_picture(tmp_path / 'a.png', (10, 20, 30))
    sample = CaptionedViews('a', {FRONT: picture}, None, 'test')
    store = FeatureStore(tmp_path / 'store', 'model')
    with pytest.raises(ClipVlmError, match='cannot be read'):
        store.read(picture)

    def mean(rgb):
        return rgb.reshape(-1, 3).mean(0, keepdims=True).astype(np.float32)

    assert store.fill([sample], mean, 'mean') == 1
    assert store.fill([sample], mean, 'mean') == 0
    assert store.read(picture).tolist() == [[10, 20, 30]]
    write_picture(picture, (40, 50, 60), (40, 20))
    assert store.fill([sample], mean, 'mean') == 1
    assert store.read(picture).tolist() == [[40, 50, 60]]
    picture.unlink()
    with pytest.raises(ClipVlmError, match='is missing'):
        store.fill([sample], mean, 'mean')


def test_features_that_two_processes_write_at_once(tmp_path):
    program = (
        'import sys, pathlib\n'
        'from bag_tools.whole_file import write_whole\n'
        'for _ in range(200): write_whole(pathlib.Path(sys.argv[1]), sys.argv[2].encode())\n'
    )
    words = ('one' * 1000, 'two' * 1000)
    command = [sys.executable, '-c', program, str(tmp_path / 'features.npy')]
    running = [subprocess.Popen([*command, word]) for word in words]
    assert [process.wait() for process in running] == [0, 0]
    assert (tmp_path / 'features.npy').read_text() in words
    assert [path.name for path in tmp_path.iterdir()] == ['features.npy']


def test_texts_are_scored():
    wanted = ['The front view shows a red car.', 'The back view shows a blue truck.']
    same = score_texts(wanted, wanted)
    assert same == pytest.approx({'bleu': 1, 'rouge_l': 1, 'exact': 1})
    near = score_texts([wanted[0], 'The back view shows a green truck.'], wanted)
    assert near['exact'] == 0.5
    assert 0.5 < near['bleu'] < 1
    # Six of seven words are in order.
    assert near['rouge_l'] == pytest.approx((1 + 6 / 7) / 2)
    with pytest.raises(ClipVlmError, match='cannot be scored'):
        score_texts([], [])


def test_rates_rise_and_fall_and_are_checked():
    config = TrainingConfig('lm', warm_up=0.1)
    rates = [config.rate(step, 100) for step in range(101)]
    assert rates[0] < 0.2
    assert max(rates) > 0.95
    assert rates[100] == pytest.approx(0, abs=1e-9)
    for changes in ({'mode': 'sing'}, {'learning_rate': 0.0}, {'weight_decay': 1.0}):
        with pytest.raises(ClipVlmError, match=next(iter(changes))):
            TrainingConfig(**{'mode': 'lm', **changes})


def test_the_folder_that_is_read_is_that_of_the_exporter(pictures):
    assert len(open_overlap(pictures)) == 10
