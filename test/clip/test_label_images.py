import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from vlm_nodes.clip.augment import Augmentation, fit, move, recolour, relight, tile
from vlm_nodes.clip.label_images import LabelImageError, LabelImages


def write(folder: Path, labels: dict[str, str], pictures: dict[str, np.ndarray]) -> None:
    for part in ('images', 'labels'):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / 'labels.json').write_text(json.dumps(labels))
    for name, ids in pictures.items():
        rgb = np.stack([ids * 10, ids * 0, ids * 0 + 255], axis=-1).astype(np.uint8)
        cv2.imwrite(str(folder / 'images' / f'{name}.png'), rgb[..., ::-1])
        cv2.imwrite(str(folder / 'labels' / f'{name}.png'), ids.astype(np.uint16))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ids = np.array([[0, 1, 1], [300, 300, 1]])
    write(tmp_path, {'1': 'floor', '300': 'red mug', '7': 'wall'}, {'b': ids, 'a': ids[::-1]})
    return tmp_path


def test_pictures_come_with_their_labels(folder: Path) -> None:
    images = LabelImages.open(folder)
    assert images.names == ('a', 'b')
    assert images.labels == {1: 'floor', 300: 'red mug', 7: 'wall'}
    rgb, ids = images.read(1)
    assert rgb.shape == (2, 3, 3)
    assert rgb[0, 1].tolist() == [10, 0, 255]
    assert ids.tolist() == [[0, 1, 1], [300, 300, 1]]
    assert images.pixel_counts() == {1: 6, 300: 4}


def test_what_is_missing_or_wrong_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelImageError, match=r'cannot read label texts from .*nowhere'):
        LabelImages.open(tmp_path / 'nowhere')
    images = LabelImages.open(folder)
    (folder / 'labels' / 'a.png').unlink()
    with pytest.raises(LabelImageError, match=r'a.png has no label image'):
        LabelImages.open(folder)
    cv2.imwrite(str(folder / 'labels' / 'a.png'), np.full((2, 3), 9, np.uint8))
    with pytest.raises(LabelImageError, match=r'a.png holds label ids \[9\] without a text'):
        images.read(0)
    cv2.imwrite(str(folder / 'labels' / 'a.png'), np.full((2, 2), 1, np.uint8))
    with pytest.raises(LabelImageError, match=r'\(2, 3\) but its label image is \(2, 2\)'):
        images.read(0)
    (folder / 'images' / 'b.png').write_bytes(b'no picture')
    with pytest.raises(LabelImageError, match=r'cannot read .*b.png'):
        images.read(1)


@pytest.mark.parametrize('content', ['[]', '{}', '{"0": "floor"}', '{"x": "floor"}', '{"1": " "}'])
def test_label_texts_are_checked(folder: Path, content: str) -> None:
    (folder / 'labels.json').write_text(content)
    with pytest.raises(LabelImageError, match=r'labels\.json'):
        LabelImages.open(folder)


def striped(size: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture whose colour says its label: both must stay together."""
    ids = np.zeros((size, size), np.uint16)
    ids[: size // 3], ids[size // 3 : size // 2], ids[size // 2 :] = 1, 2, 3
    ids[:, size // 2 :] += 3
    return np.repeat(ids[..., None] * 40, 3, axis=2).astype(np.uint8), ids


@pytest.mark.parametrize('seed', range(8))
def test_labels_move_with_their_picture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rgb, ids = move(striped(96), (64, 64), Augmentation(), rng)
    assert rgb.shape == (64, 64, 3)
    assert ids.shape == (64, 64)
    agree = np.abs(rgb[..., 0].astype(int) - 40 * ids.astype(int)) < 20
    assert agree.mean() > 0.9


def test_moves_differ_and_mirror() -> None:
    still = Augmentation(scale=(1, 1), rotation_deg=0)
    seen = {
        move(striped(32), (32, 32), still, np.random.default_rng(s))[1].tobytes() for s in range(20)
    }
    ids = striped(32)[1]
    assert seen == {ids.tobytes(), np.ascontiguousarray(ids[:, ::-1]).tobytes()}


def test_light_changes_but_hue_order_stays() -> None:
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[:] = (200, 90, 30)
    for seed in range(20):
        lit = relight(rgb, Augmentation(), np.random.default_rng(seed)).reshape(-1, 3).mean(0)
        assert lit[0] > lit[1] > lit[2]
        assert not np.allclose(lit, (200, 90, 30), atol=0.01)


def test_recolouring_turns_hues_and_keeps_shapes_and_greys() -> None:
    rgb = np.zeros((8, 8, 3), np.uint8)
    rgb[2:6, 2:6] = (200, 20, 20)
    rgb[0, 0] = 128
    hues = set()
    for seed in range(30):
        turned = recolour(rgb, np.random.default_rng(seed))
        assert turned[7, 7].tolist() == [0, 0, 0]
        assert turned[0, 0].tolist() == [128] * 3
        assert np.all(turned[2:6, 2:6] == turned[3, 3])
        assert int(turned[3, 3].max()) == 200
        hues.add(int(turned[3, 3].argmax()))
    assert hues == {0, 1, 2}


def test_four_pictures_tile() -> None:
    pictures = [(np.full((2, 3, 3), i, np.uint8), np.full((2, 3), i, np.uint16)) for i in range(4)]
    rgb, ids = tile(pictures)
    assert ids.tolist() == [[0, 0, 0, 1, 1, 1]] * 2 + [[2, 2, 2, 3, 3, 3]] * 2
    assert np.array_equal(rgb[..., 0], ids)


def test_pictures_are_fitted_without_new_labels() -> None:
    rgb, ids = fit(striped(90), (32, 48))
    assert rgb.shape == (32, 48, 3)
    assert set(np.unique(ids)) == {1, 2, 3, 4, 5, 6}


def test_bad_ranges_are_named() -> None:
    with pytest.raises(ValueError, match=r'scale must be .* got \(2, 1\)'):
        Augmentation(scale=(2, 1))
    with pytest.raises(ValueError, match=r'mosaic must be between 0 and 1, got 1.5'):
        Augmentation(mosaic=1.5)
    with pytest.raises(ValueError, match='must not be negative'):
        Augmentation(noise=-1)
