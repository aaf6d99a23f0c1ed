import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_nodes.clip.projection import FeatureProjection


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def low_rank(rng: np.random.Generator, count: int, dim: int, rank: int) -> np.ndarray:
    """Samples that lie in a plane of `rank` dimensions, away from the origin."""
    return rng.normal(size=(count, rank)) @ rng.normal(size=(rank, dim)) + rng.normal(size=dim)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), dim=st.integers(2, 24), k=st.integers(1, 24))
def test_projection_is_exact_where_samples_span_no_more(seed: int, dim: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    k = min(k, dim)
    samples = low_rank(rng, 60, dim, k)
    projection = FeatureProjection.fit(samples, k)
    assert (projection.dim, projection.reduced_dim) == (dim, k)
    z = projection.project(samples)
    assert z.shape == (60, k)
    np.testing.assert_allclose(projection.unproject(z), samples, atol=2e-3)
    text = unit(rng.normal(size=(5, dim)))
    weights, bias = projection.project_text(text)
    np.testing.assert_allclose(weights @ z.T + bias[:, None], text @ samples.T, atol=3e-3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 12))
def test_scores_of_reduced_features_are_those_of_their_reconstruction(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    features = unit(rng.normal(size=(80, 12)))
    projection = FeatureProjection.fit(features[:40], k)
    text = unit(rng.normal(size=(3, 12)))
    weights, bias = projection.project_text(text)
    z = projection.project(features)
    np.testing.assert_allclose(
        weights @ z.T + bias[:, None], text @ projection.unproject(z).T, atol=1e-5
    )


def test_principal_directions_are_the_ones_kept() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(2000, 4)) * (0.1, 3.0, 0.2, 1.0) + (5, 5, 5, 5)
    projection = FeatureProjection.fit(samples, 2)
    np.testing.assert_allclose(projection.mean, 5, atol=0.3)
    assert abs(projection.basis[1, 0]) > 0.99
    assert abs(projection.basis[3, 1]) > 0.99


def test_fewer_samples_than_directions_are_enough_to_fit() -> None:
    samples = np.random.default_rng(1).normal(size=(3, 10))
    projection = FeatureProjection.fit(samples, 8)
    np.testing.assert_allclose(
        projection.unproject(projection.project(samples)), samples, atol=1e-5
    )


def test_arrays_bring_a_projection_back() -> None:
    projection = FeatureProjection.fit(np.random.default_rng(2).normal(size=(50, 6)), 3)
    again = FeatureProjection.from_arrays(projection.to_arrays())
    assert np.array_equal(again.mean, projection.mean)
    assert np.array_equal(again.basis, projection.basis)
    with pytest.raises(ValueError, match=r"missing: \['basis'\]"):
        FeatureProjection.from_arrays({'mean': projection.mean})


def test_real_text_vectors_keep_their_order_of_scores(vlm_data) -> None:
    """CLIP's 1203 LVIS names: 128 directions of 512 keep most nearest names, 64 fewer."""
    names = np.load(vlm_data / 'clip_vectors' / 'lvis_text.npz', allow_pickle=False)
    vectors = next(names[key] for key in names.files if names[key].ndim == 2)
    vectors = unit(vectors.astype(np.float64))
    full = vectors @ vectors.T
    np.fill_diagonal(full, -1)
    kept = {}
    for k in (64, 128):
        projection = FeatureProjection.fit(vectors, k)
        weights, bias = projection.project_text(vectors)
        scores = weights @ projection.project(vectors).T + bias[:, None]
        np.fill_diagonal(scores, -1)
        kept[k] = float((scores.argmax(1) == full.argmax(1)).mean())
    assert kept[128] > kept[64]
    assert kept[128] > 0.7


def test_bad_input_is_named() -> None:
    samples = np.random.default_rng(3).normal(size=(20, 6))
    with pytest.raises(ValueError, match='between 1 and D = 6, got 7'):
        FeatureProjection.fit(samples, 7)
    with pytest.raises(ValueError, match='got 0'):
        FeatureProjection.fit(samples, 0)
    with pytest.raises(ValueError, match=r'got \(6,\)'):
        FeatureProjection.fit(samples[0], 2)
    with pytest.raises(ValueError, match='NaN'):
        FeatureProjection.fit(np.full((4, 4), np.nan), 2)
    projection = FeatureProjection.fit(samples, 2)
    with pytest.raises(ValueError, match=r'features must be \(..., 6\), got \(3, 5\)'):
        projection.project(np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r'reduced must be \(..., 2\)'):
        projection.unproject(np.zeros((3, 6)))
    with pytest.raises(ValueError, match='orthonormal'):
        FeatureProjection(projection.mean, 2 * projection.basis)
    with pytest.raises(ValueError, match='basis must be finite'):
        FeatureProjection(np.full(6, np.inf, np.float32), projection.basis)


def test_projections_about_the_origin_keep_cosines_of_what_they_span() -> None:
    """Unit vectors of three directions in eight: without a mean, three numbers say all of them."""
    rng = np.random.default_rng(5)
    vectors = unit(rng.normal(size=(40, 3)) @ rng.normal(size=(3, 8)))
    projection = FeatureProjection.fit(vectors, 3, centred=False)
    assert not projection.mean.any()
    reduced = projection.project(vectors)
    np.testing.assert_allclose(reduced @ reduced.T, vectors @ vectors.T, atol=1e-5)
    np.testing.assert_allclose(projection.unproject(reduced), vectors, atol=1e-5)
