from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from voxel_scenes import MUG, ROOM, TABLE, OracleEncoder, make_frame, names

from vlm_nodes.clip.projection import FeatureProjection
from vlm_nodes.mapping import DEFAULT_NEGATIVES, VoxelMap, VoxelMapConfig
from vlm_nodes.mapping.instances import MatchedVoxels, components, find_instances
from vlm_nodes.mapping.voxel_index import pack_key

SCENE = [ROOM, TABLE, MUG]
EYES = [(-1.5, 0.1, 1.3), (-1.2, 0.6, 1.2), (0.2, 1.3, 1.4), (0.9, -1.5, 1.3)]
WHOLE = VoxelMapConfig(feature_dim=0)


def mapped(config=WHOLE, *, encoder=None, boxes=SCENE, noise=0.05, projection=None, rounds=1):
    encoder = encoder or OracleEncoder()
    voxel_map = VoxelMap(config, encoder=encoder, projection=projection)
    for stamp, eye in enumerate(EYES * rounds):
        frame, labels = make_frame(boxes, eye, (0.9, 0.0, 0.6), stamp_ns=stamp)
        voxel_map.integrate(frame, encoder.patches(labels, names(boxes), 4, noise, stamp))
    return voxel_map


@pytest.fixture(scope='module')
def room():
    return mapped()


def expected_scores(features, texts, scale):
    """The definition: unit means, cosines, softmax; features are (N, D) unprojected."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    logits = scale * (unit @ texts.T).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return np.exp(logits[:, 0]) / np.exp(logits).sum(axis=1)


# Scores ------------------------------------------------------------------------------------------


def test_scores_are_the_softmax_of_cosines(room):
    texts = room.encoder.encode_text(['table', *DEFAULT_NEGATIVES])
    expected = expected_scores(room.features, texts, 100.0)
    np.testing.assert_allclose(room.scores('table'), expected, atol=2e-4)


@pytest.mark.parametrize('prompts', [1, 2, 3, 4, 6, 9])
def test_any_number_of_negatives(room, prompts):
    negatives = [f'negative {i}' for i in range(prompts)]
    texts = room.encoder.encode_text(['table', *negatives])
    expected = expected_scores(room.features, texts, 100.0)
    np.testing.assert_allclose(room.scores('table', negatives), expected, atol=2e-4)


def test_reduced_scores_are_those_of_the_unprojected_mean():
    encoder = OracleEncoder()
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(300, encoder.dim)) + rng.normal(size=encoder.dim)
    projection = FeatureProjection.fit(samples / 10, 24)
    reduced = mapped(replace(WHOLE, feature_dim=24), encoder=encoder, projection=projection)
    assert reduced.features.shape[1] == 24
    whole = projection.unproject(reduced.features)
    texts = encoder.encode_text(['table', *DEFAULT_NEGATIVES])
    expected = expected_scores(whole, texts, 100.0)
    np.testing.assert_allclose(reduced.scores('table'), expected, atol=2e-3)


def test_a_voxel_without_features_scores_zero_and_is_other(room):
    voxel_map = mapped()
    frame, _ = make_frame(SCENE, (-1.0, 0.0, 1.3), (-2.4, 1.0, 1.0))
    voxel_map.integrate(frame)
    bare = voxel_map.weights == 0
    assert bare.any()
    assert (voxel_map.scores('wall')[bare] == 0).all()
    assert (voxel_map.label(['wall', 'table'])[bare] == 2).all()


# Projection fitted on the way --------------------------------------------------------------------


def test_the_map_reduces_itself_and_keeps_its_answers():
    whole = mapped(replace(WHOLE, clear_after=0), rounds=2)
    config = VoxelMapConfig(feature_dim=16, projection_frames=5, clear_after=0)
    reduced = mapped(config, rounds=2)
    assert whole.projection is None
    assert reduced.projection is not None
    assert reduced.features.shape == (len(whole), 16)
    for text in ('red mug', 'table', 'wall'):
        a, b = whole.query(text)[0], reduced.query(text)[0]
        assert np.linalg.norm(a.centroid - b.centroid) < 0.05
        assert np.corrcoef(whole.scores(text), reduced.scores(text))[0, 1] > 0.98


def test_a_fit_on_given_samples():
    encoder = OracleEncoder()
    voxel_map = mapped(VoxelMapConfig(feature_dim=8, projection_frames=99), encoder=encoder)
    assert voxel_map.features.shape[1] == encoder.dim
    voxel_map.fit_projection(encoder.encode_text(['red mug', 'table', 'wall', 'floor', 'lamp']))
    assert voxel_map.features.shape[1] == 8
    assert voxel_map.query('red mug')
    with pytest.raises(ValueError, match='already'):
        voxel_map.fit_projection()


def test_a_vocabulary_joins_the_fit():
    encoder = OracleEncoder()
    config = VoxelMapConfig(feature_dim=6, projection_frames=4)
    plain = mapped(config, encoder=encoder)
    words = ['lamp', 'chair', 'plant', 'door', 'clock']
    known = VoxelMap(config, encoder=encoder, vocabulary=words)
    for stamp, eye in enumerate(EYES):
        frame, labels = make_frame(SCENE, eye, (0.9, 0.0, 0.6), stamp_ns=stamp)
        known.integrate(frame, encoder.patches(labels, names(SCENE), 4, 0.05, stamp))

    def kept(voxel_map):
        vectors = encoder.encode_text(words)
        return np.linalg.norm((vectors - vectors.mean(0)) @ voxel_map.projection.basis)

    assert kept(known) > 1.5 * kept(plain)
    assert known.query('red mug')


def test_a_fit_without_anything_to_fit_on():
    with pytest.raises(ValueError, match='no features'):
        VoxelMap().fit_projection()


def test_encoders_that_give_no_more_than_stored_need_no_projection():
    voxel_map = mapped(VoxelMapConfig(feature_dim=64, projection_frames=1))
    assert voxel_map.projection is None


# Matches -----------------------------------------------------------------------------------------


def test_a_thing_is_found_where_it_is(room):
    match = room.query('red mug')[0]
    centre = (np.array(MUG.low) + MUG.high) / 2
    assert np.linalg.norm(match.centroid - centre) < 0.1
    assert (np.abs(match.size - (np.array(MUG.high) - MUG.low)) < 0.12).all()
    assert 0.5 < match.score <= 1.0
    assert match.label == 'red mug'
    assert match.voxels >= 30
    assert (match.first_seen_ns, match.last_seen_ns) == (0, len(EYES) - 1)


def test_what_is_not_there_is_not_found(room):
    assert room.query('aeroplane') == []


def test_two_of_a_kind_are_two_matches_best_first():
    twin = replace(MUG, low=(-0.3, -1.3, -0.02), high=(-0.1, -1.1, 0.3))
    matches = mapped(boxes=[ROOM, TABLE, MUG, twin]).query('red mug')
    scores = [match.score for match in matches]
    assert scores == sorted(scores, reverse=True)
    # Patches that straddle a mug's edge may leave specks on what is behind; they rank below.
    found = sorted(match.centroid[1] for match in matches[:2])
    assert found == pytest.approx([-1.2, -0.02], abs=0.08)


def test_max_matches_and_min_voxels():
    keys = np.array([pack_key(10 * i, 0, 0) for i in range(5)] + [pack_key(0, 1, 1)])
    matched = MatchedVoxels(
        keys, np.zeros((6, 3)), np.ones(6, np.float32), np.arange(6), np.arange(6)
    )

    def found(**limits):
        return find_instances(matched, 'x', voxel_size_m=0.05, **limits)

    assert len(found(min_voxels=1, max_matches=10)) == 5
    assert len(found(min_voxels=1, max_matches=2)) == 2
    assert [match.voxels for match in found(min_voxels=2, max_matches=10)] == [2]
    assert found(min_voxels=1, max_matches=1)[0].voxels == 2  # specks do not outrank things
    assert found(min_voxels=1, max_matches=1)[0].last_seen_ns == 5


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.4))
def test_components_are_those_of_scipy(seed, density):
    volume = np.random.default_rng(seed).random((9, 8, 7)) < density
    cells = np.argwhere(volume)
    keys = np.array([pack_key(*(int(c) - 4 for c in cell)) for cell in cells], dtype=np.int64)
    numbers = components(keys)
    expected, count = ndimage.label(volume, np.ones((3, 3, 3)))
    pairs = set(zip(numbers.tolist(), expected[volume].tolist(), strict=True))
    assert len(pairs) == count == len(set(numbers.tolist()))


def test_rows_used_again_do_not_remember():
    """After the mug has left and new voxels took its rows, nothing of it may be found."""
    encoder = OracleEncoder()
    voxel_map = mapped(replace(WHOLE, clear_after=2), encoder=encoder)
    for stamp in range(4):
        for eye in EYES:
            frame, labels = make_frame([ROOM, TABLE], eye, (0.9, 0.0, 0.6), stamp_ns=50 + stamp)
            voxel_map.integrate(frame, encoder.patches(labels, ['wall', 'table'], 4))
    frame, labels = make_frame([ROOM, TABLE], (0.0, 0.0, 1.3), (-2.4, 1.0, 1.0), stamp_ns=99)
    voxel_map.integrate(frame, encoder.patches(labels, ['wall', 'table'], 4))
    assert all(match.centroid[2] < 0.7 for match in voxel_map.query('red mug'))
    new = voxel_map.first_seen_ns == 99
    assert new.any()
    assert (voxel_map.scores('wall')[new] > 0.9).all()
    assert (voxel_map.counts > 0).all()


# Labels ------------------------------------------------------------------------------------------


def test_labels_are_the_boxes(room):
    labels = room.label(['wall', 'table', 'red mug'])
    points = room.points
    for number, box in ((1, TABLE), (2, MUG)):
        low, high = np.array(box.low), np.array(box.high)
        deep = (points > low - 0.01).all(1) & (points < high + 0.01).all(1)
        deep &= points[:, 2] > low[2] + 0.1
        assert (labels[deep] == number).mean() > 0.85
    assert (labels[points[:, 2] > 1.2] == 0).mean() > 0.98


def test_nothing_fits_is_other(room):
    labels = room.label(['aeroplane'], percentile=100.0)
    assert (labels == 0).sum() <= 1
    assert set(labels.tolist()) <= {0, 1}


def test_percentile_leaves_at_most_its_share(room):
    labels = room.label(['wall'], percentile=95.0)
    assert 0 < (labels == 0).mean() <= 0.051


# What may be asked -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('text', 'options', 'message'),
    [
        ('', {}, "text '' is empty"),
        ('  \n', {}, 'is empty'),
        ('x' * 10_000, {}, '10000 characters'),
        ('\ud800', {}, 'not valid Unicode'),
        ('mug', {'min_score': float('nan')}, 'min_score = nan'),
        ('mug', {'min_score': 1.5}, 'min_score = 1.5'),
        ('mug', {'max_matches': 0}, 'max_matches = 0'),
        ('mug', {'min_voxels': 0}, 'min_voxels = 0'),
        ('mug', {'negatives': ['']}, "text '' is empty"),
        ('mug', {'negatives': []}, 'nothing to hold'),
        ('mug', {'negatives': ['Mug']}, 'nothing to hold'),
    ],
)
def test_bad_questions_name_what_is_wrong(room, text, options, message):
    with pytest.raises(ValueError, match=message):
        room.query(text, **options)


def test_emoji_are_a_text(room):
    assert room.query('🍵' * 100) == []


def test_a_default_negative_may_be_asked_for(room):
    assert np.isfinite(room.scores('object')).all()


@pytest.mark.parametrize(
    ('labels', 'percentile', 'message'),
    [
        ([], None, 'empty'),
        (['a', 'a'], None, 'repeat'),
        (['a', ' '], None, 'empty'),
        (['a'], float('nan'), 'percentile = nan'),
        (['a'], 101.0, 'percentile = 101.0'),
    ],
)
def test_bad_labels_name_what_is_wrong(room, labels, percentile, message):
    with pytest.raises(ValueError, match=message):
        room.label(labels, percentile=percentile)


def test_a_map_without_an_encoder_says_so():
    with pytest.raises(ValueError, match='no encoder'):
        VoxelMap().query('mug')


def test_an_encoder_of_another_size_says_so():
    voxel_map = mapped()
    voxel_map._encoder = OracleEncoder(dim=32)
    with pytest.raises(ValueError, match='32 numbers, this map holds 64'):
        voxel_map.query('mug')


def test_an_empty_map_answers():
    voxel_map = VoxelMap(encoder=OracleEncoder())
    assert voxel_map.query('mug') == []
    assert voxel_map.label(['mug']).shape == (0,)
    assert voxel_map.scores('mug').shape == (0,)
