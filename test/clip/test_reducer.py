import json

import numpy as np
import pytest
import torch

from vlm_nodes.clip.encoder import Encoder
from vlm_nodes.clip.reducer import (
    Reducer,
    ReducerError,
    balanced,
    fit_autoencoder,
    fit_svd,
    load_reducer,
    lost_degrees,
    save_reducer,
)
from vlm_nodes.langocc import train_reducer


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def skewed(count=200, dim=24, seed=0):
    """Unit vectors, most of which differ in a few directions, some in others."""
    rng = np.random.default_rng(seed)
    scales = 1 / np.arange(1, dim + 1)
    return unit(rng.normal(size=(count, dim)) * scales + 0.3 * rng.normal(size=dim) * scales)


@pytest.mark.parametrize('fit', [fit_svd, fit_autoencoder])
def test_vectors_of_few_directions_lose_nothing(fit):
    """Met exactly, where the slope of arccos is infinite: descent on it must not end in NaN."""
    rng = np.random.default_rng(0)
    rows = unit(rng.normal(size=(40, 5)) @ rng.normal(size=(5, 30)))
    projection = fit(rows, 5)
    assert np.isfinite(projection.basis).all()
    assert lost_degrees(rows, projection) < 0.2
    reduced = projection.project(rows)
    np.testing.assert_allclose(reduced @ reduced.T, rows @ rows.T, atol=1e-4)


def test_descent_on_angles_loses_less_angle_than_singular_vectors():
    rows = skewed()
    svd, descended = fit_svd(rows, 6), fit_autoencoder(rows, 6)
    assert 1 < lost_degrees(rows, descended) < lost_degrees(rows, svd)
    assert (descended.mean == 0).all()


def test_no_other_directions_lose_less_than_singular_vectors():
    rows = skewed()
    kept = np.square(fit_svd(rows, 4).project(rows)).sum()
    rng = np.random.default_rng(1)
    for _ in range(20):
        other = np.linalg.qr(rng.normal(size=(24, 4)))[0]
        assert np.square(rows @ other).sum() < kept


def test_texts_and_pictures_count_whatever_their_number():
    texts, pictures = skewed(10, seed=1), skewed(500, seed=2)
    rows = balanced(texts, pictures, ratio=1.0)
    weights = np.square(rows).sum(axis=1)
    assert weights[:10].sum() == pytest.approx(weights[10:].sum(), rel=1e-4)
    assert balanced(texts, np.zeros((0, 24), np.float32)) is texts


def test_a_reducer_survives_its_file_and_knows_its_clip(tmp_path):
    reducer = Reducer(fit_svd(skewed(), 6), 'ViT-B-16/0123/naclip')
    save_reducer(tmp_path / 'deep' / 'r.npz', reducer, {'by': 'svd'})
    loaded = load_reducer(tmp_path / 'deep' / 'r.npz')
    assert loaded.identity == reducer.identity
    np.testing.assert_array_equal(loaded.projection.basis, reducer.projection.basis)
    loaded.check('ViT-B-16/0123/maskclip', 'r.npz')
    with pytest.raises(ReducerError, match=r'r\.npz reduces features of ViT-B-16/0123'):
        loaded.check('ViT-L-14/0456/naclip', 'r.npz')


@pytest.mark.parametrize('content', [None, b'junk', b'PK\x03\x04 junk'])
def test_files_that_are_no_reducer_are_named(tmp_path, content):
    path = tmp_path / 'r.npz'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ReducerError, match=r'r\.npz holds no reducer'):
        load_reducer(path)


# The command -------------------------------------------------------------------------------------


def trained(tmp_path, capsys, *words):
    out = tmp_path / 'reducer.npz'
    code = train_reducer.main(['--out', str(out), '--threads', '1', *words])
    captured = capsys.readouterr()
    return code, out, captured.out, captured.err


@pytest.mark.parametrize('method', ['svd', 'autoencoder'])
def test_the_command_fits_to_the_vocabulary_of_the_classes(tmp_path, capsys, method):
    code, out, said, _ = trained(tmp_path, capsys, '--dim', '24', '--by', method, '--json')
    assert code == 0
    figures = json.loads(said)
    reducer = load_reducer(out)
    encoder = Encoder.load('tiny', num_threads=1)
    reducer.check(encoder.identity, 'x')
    assert reducer.projection.reduced_dim == 24
    texts = encoder.encode_text(['car', 'lorry', 'road', 'tree'])
    assert lost_degrees(texts, reducer.projection) < 15
    assert figures['text_degrees'] < 10
    assert figures['by'] == method


def test_the_command_takes_words_and_pictures_of_ones_own(tmp_path, capsys):
    import cv2

    (tmp_path / 'words.txt').write_text('red mug\n\ntable\nred mug\n')
    (tmp_path / 'words.json').write_text('{"cup": ["red mug"], "desk": ["table"]}')
    for i in range(2):
        picture = np.random.default_rng(i).integers(0, 255, (64, 64, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f'{i}.png'), picture)
    words = ('--dim', '8', '--pictures', str(tmp_path), '--json')
    for name in ('words.txt', 'words.json'):
        code, _, said, _ = trained(tmp_path, capsys, *words, '--vocabulary', str(tmp_path / name))
        assert code == 0
        assert json.loads(said)['texts'] == 2
        assert json.loads(said)['picture_patches'] > 2


@pytest.mark.parametrize(
    ('words', 'reason'),
    [
        (('--dim', '5000'), '--dim 5000 must be 1 to 128'),
        (('--vocabulary', '/nowhere.txt'), '/nowhere.txt holds no vocabulary'),
        (('--pictures', '/nowhere'), '/nowhere has no pictures'),
        (('--model', 'nothing'), 'nothing'),
    ],
)
def test_what_it_cannot_do_is_one_line(tmp_path, capsys, words, reason):
    code, out, _, said = trained(tmp_path, capsys, *words)
    assert code == 2
    assert reason in said
    assert said.count('\n') == 1
    assert not out.exists()
