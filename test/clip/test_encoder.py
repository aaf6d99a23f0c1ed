import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import small_config, write_model

from vlm_nodes.clip.dense import METHODS, dense_features
from vlm_nodes.clip.encoder import Encoder, EncoderConfig
from vlm_nodes.clip.prompts import TEMPLATES
from vlm_nodes.clip.weights import WeightsError, sha256


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('models') / 'small'
    write_model(path, small_config())
    return path


@pytest.fixture(scope='module')
def encoder(folder: Path) -> Encoder:
    return Encoder.load(str(folder))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def lengths(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=-1)


def test_texts_are_unit_vectors_of_the_models_dimension(encoder: Encoder) -> None:
    vectors = encoder.encode_text(['red mug', 'floor', 'red mug'])
    assert vectors.shape == (3, encoder.dim) == (3, 12)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(lengths(vectors), 1, rtol=1e-5)
    assert np.array_equal(vectors[0], vectors[2])
    assert not np.allclose(vectors[0], vectors[1])


def test_a_text_is_the_mean_of_its_templates(encoder: Encoder, folder: Path) -> None:
    model = encoder._model
    sentences = [template.format('red mug') for template in TEMPLATES]
    with torch.no_grad():
        tokens = encoder._tokenize(sentences)
        each = model.encode_text(tokens)
    mean = (each / each.norm(dim=-1, keepdim=True)).mean(0)
    expected = (mean / mean.norm()).numpy()
    np.testing.assert_allclose(encoder.encode_text(['a red mug'])[0], expected, atol=1e-6)


def test_known_texts_do_not_wait_for_the_tower(encoder: Encoder) -> None:
    first = encoder.encode_text(['green duck'])
    tower, encoder._model.encode_text = encoder._model.encode_text, None
    try:
        assert np.array_equal(encoder.encode_text(['green duck']), first)
        with pytest.raises(TypeError):
            encoder.encode_text(['never asked before'])
    finally:
        encoder._model.encode_text = tower


def test_no_texts_and_no_images_are_no_vectors(encoder: Encoder) -> None:
    assert encoder.encode_text([]).shape == (0, 12)
    assert encoder.encode_image(np.zeros((0, 8, 8, 3), np.uint8)).shape == (0, 12)


@pytest.mark.parametrize('text', ['🦆' * 20, 'x' * 10_000, 'mug ' * 3000, 'ﬁ\x00\ud7ff'])
def test_odd_texts_are_embedded(encoder: Encoder, text: str) -> None:
    np.testing.assert_allclose(lengths(encoder.encode_text([text])), 1, rtol=1e-5)


@pytest.mark.parametrize('text', ['', '   ', '\n\t'])
def test_empty_texts_are_refused(encoder: Encoder, text: str) -> None:
    with pytest.raises(ValueError, match='empty'):
        encoder.encode_text(['mug', text])
    with pytest.raises(TypeError, match='sequence of strings'):
        encoder.encode_text('mug')


@pytest.mark.parametrize(
    ('size', 'grid'),
    [((32, 32), (6, 6)), ((480, 640), (6, 8)), ((64, 32), (12, 6)), ((7, 33), (6, 28))],
)
def test_dense_features_cover_images_of_any_size(
    encoder: Encoder, size: tuple[int, int], grid: tuple[int, int]
) -> None:
    features = encoder.encode_dense(picture(*size))
    assert features.shape == (*grid, 12)
    assert features.dtype == np.float32
    np.testing.assert_allclose(lengths(features), 1, rtol=1e-5)


def test_dense_features_are_those_of_the_preprocessed_image(folder: Path) -> None:
    encoder = Encoder.load(str(folder), image_size=32, method='maskclip')
    image = picture(32, 40)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    planes = ((torch.from_numpy(image) / 255 - mean) / std).permute(2, 0, 1)[None]
    features = dense_features(encoder._visual, planes, 'maskclip')[0]
    expected = features / features.norm(dim=-1, keepdim=True)
    np.testing.assert_allclose(encoder.encode_dense(image), expected.numpy(), atol=1e-5)


@pytest.mark.parametrize('method', METHODS)
def test_a_batch_of_images_is_each_of_them(tmp_path: Path, method: str) -> None:
    write_model(tmp_path / 'deep', small_config(layers=10))  # sc_clip needs that many
    encoder = Encoder.load(str(tmp_path / 'deep'), image_size=32, method=method)
    images = np.stack([picture(32, 40), 255 - picture(32, 40), picture(32, 40) // 2])
    together = encoder.encode_dense_batch(images)
    for image, features in zip(images, together, strict=True):
        np.testing.assert_allclose(features, encoder.encode_dense(image), atol=1e-5)


def test_patches_lie_where_the_contract_says() -> None:
    """What changes most when a small thing is put into the picture is the patch that it is in."""
    encoder = Encoder.load('tiny', image_size=96)
    plain = np.full((480, 640, 3), 110, np.uint8)
    before = encoder.encode_dense(plain)
    rows, columns = before.shape[:2]
    for row, column in [(100, 500), (400, 60), (240, 320)]:
        changed = plain.copy()
        changed[row - 20 : row + 20, column - 20 : column + 20] = (220, 20, 20)
        change = lengths(encoder.encode_dense(changed) - before)
        i, j = np.unravel_index(change.argmax(), change.shape)
        assert abs((i + 0.5) * 480 / rows - row) < 40
        assert abs((j + 0.5) * 640 / columns - column) < 40


def test_whole_images_are_resized_and_cut_to_a_square(encoder: Encoder) -> None:
    image = picture(32, 32)
    wide = np.concatenate([picture(32, 10, 1), image, picture(32, 10, 2)], axis=1)
    np.testing.assert_allclose(
        encoder.encode_image(wide[None]), encoder.encode_image(image[None]), atol=1e-6
    )
    pair = encoder.encode_image(np.stack([image, image[::-1]]))
    assert pair.shape == (2, 12)
    np.testing.assert_allclose(lengths(pair), 1, rtol=1e-5)
    assert not np.allclose(pair[0], pair[1])


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_other_shapes_and_types_are_refused(encoder: Encoder, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r'must be \(H, W, 3\) uint8 RGB'):
        encoder.encode_dense(image)
    with pytest.raises(ValueError, match=r'must be \(B, H, W, 3\) uint8 RGB'):
        encoder.encode_image(image[None])


def test_identity_names_model_weights_and_method(folder: Path, tmp_path: Path) -> None:
    digest = sha256(folder / 'open_clip_model.safetensors')[:16]
    assert Encoder.load(str(folder)).identity == f'small/{digest}/naclip'
    assert Encoder.load(str(folder), method='maskclip').identity == f'small/{digest}/maskclip'
    write_model(tmp_path / 'small', small_config(), seed=1)
    assert Encoder.load(str(tmp_path / 'small')).identity != f'small/{digest}/naclip'


def test_bfloat16_is_close_to_float32(encoder: Encoder, folder: Path) -> None:
    half = Encoder.load(str(folder), precision='bf16')
    image = picture(60, 80)
    cosines = (half.encode_dense(image) * encoder.encode_dense(image)).sum(-1)
    assert cosines.min() > 0.99
    assert half.encode_dense(image).dtype == np.float32


def test_threads_may_share_an_encoder(folder: Path) -> None:
    encoder = Encoder.load(str(folder))
    image = picture(40, 50)
    expected = encoder.encode_dense(image)
    texts = [f'thing {i}' for i in range(12)]
    wanted = Encoder.load(str(folder)).encode_text(texts)
    found: list[bool] = []

    def work() -> None:
        for i, text in enumerate(texts):
            same = np.allclose(encoder.encode_text([text])[0], wanted[i], atol=1e-5)
            found.append(same and np.array_equal(encoder.encode_dense(image), expected))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 48
    assert all(found)


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="got 'clearclip'"):
        EncoderConfig(method='clearclip')
    with pytest.raises(ValueError, match="got 'int4'"):
        EncoderConfig(precision='int4')
    with pytest.raises(ValueError, match='got 8'):
        EncoderConfig(image_size=8)
    with pytest.raises(ValueError, match='got 0'):
        EncoderConfig(num_threads=0)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match='no CUDA device'):
            EncoderConfig(device='cuda')
    with pytest.raises(ValueError, match="device must be cpu, cuda or cuda:N, got 'gpu'"):
        EncoderConfig(device='gpu')


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('precision', ['fp32', 'fp16', 'bf16'])
def test_cuda_agrees_with_the_cpu(encoder: Encoder, folder: Path, precision: str) -> None:
    fast = Encoder.load(str(folder), device='cuda', precision=precision)
    image = picture(60, 80)
    assert (fast.encode_dense(image) * encoder.encode_dense(image)).sum(-1).min() > 0.98


def test_missing_weights_stop_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        Encoder.load('ViT-B-16', 'openai', weights_dir=tmp_path)
    message = str(caught.value)
    assert '\n' not in message
    assert 'ViT-B-16-openai.safetensors' in message
    assert f'in {tmp_path}' in message
    command = 'ros2 run vlm_nodes fetch_weights --model ViT-B-16 --pretrained openai --to'
    assert f'{command} {tmp_path}' in message
