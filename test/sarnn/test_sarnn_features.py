from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from blob_recordings import write_recordings

from vlm_nodes.sarnn.config import ClipBranchConfig
from vlm_nodes.sarnn.features import cached_features, data_set_features, default_cache
from vlm_nodes.sarnn.recordings import Recordings

BRANCH = ClipBranchConfig('tiny', None, 'naclip', 'tiny/1/value', 3, (2, 3), None, (16, 24))


def silently(rows: range, _text: str) -> Iterable[int]:
    return rows


class Means:
    """Colours' means of images' patches, and of how many images they were asked for."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images: np.ndarray) -> np.ndarray:
        self.calls += len(images)
        patches = images.reshape(-1, 2, 8, 3, 8, 3).mean(axis=(2, 4)) / 255
        return np.moveaxis(patches, 3, 1).astype(np.float32)


@pytest.fixture
def recordings(tmp_path: Path) -> Recordings:
    return Recordings(write_recordings(tmp_path))


def test_features_are_those_of_each_tick(recordings: Recordings, tmp_path: Path) -> None:
    train, means = recordings.train, Means()
    made = cached_features(train, 'color', BRANCH, lambda: means, tmp_path / 'cache', silently)
    assert isinstance(made, np.memmap)
    assert made.dtype == np.float16
    assert means.calls == train.lengths.sum()
    for row, length in enumerate(train.lengths):
        wanted = np.concatenate([means(image[None]) for image in train.episode('color', row)])
        np.testing.assert_allclose(made[row, :length], wanted, atol=1e-3)
        assert not made[row, length:].any()


def test_a_second_run_computes_nothing(recordings: Recordings, tmp_path: Path) -> None:
    means = Means()
    for _ in range(2):
        cached_features(recordings.train, 'color', BRANCH, lambda: means, tmp_path / 'c', silently)
    assert means.calls == recordings.train.lengths.sum()


def refuse() -> Means:
    raise AssertionError('the features are there: no encoder is needed')


def test_other_images_another_encoder_or_size_are_computed_anew(tmp_path: Path) -> None:
    recordings = Recordings(write_recordings(tmp_path))
    cache = tmp_path / 'cache'
    cached_features(recordings.train, 'color', BRANCH, Means, cache, silently)
    cached_features(recordings.train, 'color', BRANCH, refuse, cache, silently)
    other = ClipBranchConfig('tiny', None, 'naclip', 'tiny/2/value', 3, (2, 3), None, (16, 24))
    with pytest.raises(AssertionError):
        cached_features(recordings.train, 'color', other, refuse, cache, silently)
    images = np.load(recordings.folder / 'train' / 'images.npy')
    images[0, 0, 0, 0, 0] ^= 1
    np.save(recordings.folder / 'train' / 'images.npy', images)
    with pytest.raises(AssertionError):
        cached_features(recordings.train, 'color', BRANCH, refuse, cache, silently)


def test_an_interrupted_run_leaves_nothing_behind(recordings: Recordings, tmp_path: Path) -> None:
    class Fails(Means):
        def __call__(self, images: np.ndarray) -> np.ndarray:
            if self.calls:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        cached_features(recordings.train, 'color', BRANCH, Fails, tmp_path / 'cache', silently)
    assert list((tmp_path / 'cache').iterdir()) == []


def test_they_lie_beside_the_data_set(recordings: Recordings) -> None:
    made = data_set_features(recordings, ('color',), BRANCH, Means, None, silently)
    assert {name: set(cameras) for name, cameras in made.items()} == {
        'train': {'color'},
        'test': {'color'},
    }
    names = sorted(path.name[:10] for path in default_cache(recordings.folder).iterdir())
    assert names == ['test_color', 'train_colo']
