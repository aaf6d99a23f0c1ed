import pytest

from vlm_nodes.simulation import vocabulary
from vlm_nodes.simulation.shapes import SIZE_RANGE_M, bounds, lathe, parts
from vlm_nodes.simulation.vocabulary import COLOURS, KINDS, LABEL_IDS, LABELS, held_out


def test_vocabulary_is_as_large_as_promised():
    assert len(set(KINDS)) >= 12
    assert len(set(COLOURS)) == 8
    assert len(set(LABELS)) == len(KINDS) * len(COLOURS) + len(vocabulary.ROOM_LABELS)


def test_a_fifth_of_the_pairs_is_held_out_evenly():
    unseen = vocabulary.pairs(unseen=True)
    assert len(unseen) == pytest.approx(len(KINDS) * len(COLOURS) / 5, abs=1)
    assert set(unseen).isdisjoint(vocabulary.pairs(unseen=False))
    for colour in COLOURS:
        assert 2 <= sum(held_out(colour, kind) for kind in KINDS) <= 3
    for kind in KINDS:
        assert 1 <= sum(held_out(colour, kind) for colour in COLOURS) <= 2


def test_label_ids_start_after_unlabelled_and_are_consecutive():
    assert sorted(LABEL_IDS.values()) == list(range(1, len(LABELS) + 1))
    assert all(LABELS[number - 1] == label for label, number in LABEL_IDS.items())


def test_captions_are_english():
    assert vocabulary.caption(vocabulary.label_of('red', 'mug')) == 'a red mug'
    assert vocabulary.caption('orange ball') == 'an orange ball'
    assert vocabulary.caption('floor') == 'the floor'


def test_unknown_words_are_named():
    with pytest.raises(ValueError, match="unknown colour 'pink'"):
        held_out('pink', 'mug')
    with pytest.raises(ValueError, match="unknown kind 'teapot'"):
        vocabulary.label_of('red', 'teapot')


def test_seed_ranges_do_not_meet():
    train, test = vocabulary.TRAIN_SEEDS, vocabulary.TEST_SEEDS
    assert train.stop <= test.start
    assert len(train) > 0
    assert len(test) > 0


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_has_a_chunky_shape_of_unit_size_on_the_floor(kind):
    low, high = bounds(kind)
    size = high - low
    assert low[2] == pytest.approx(0.0, abs=0.01)
    assert 0.9 <= size.max() <= 1.25
    assert size.min() >= 0.25
    assert 0.2 <= SIZE_RANGE_M[kind][0] < SIZE_RANGE_M[kind][1] <= 0.7
    assert any(part.tint == 'main' for part in parts(kind))


def test_meshes_are_closed():
    meshes = [part.mesh for kind in KINDS for part in parts(kind) if part.mesh is not None]
    assert meshes
    for mesh in meshes:
        edges = {(face[i], face[(i + 1) % 3]) for face in mesh.faces for i in range(3)}
        assert len(edges) == 3 * len(mesh.faces), f'{mesh.name}: a face is there twice'
        assert {(b, a) for a, b in edges} == edges, f'{mesh.name} has a hole'


def test_lathe_refuses_an_open_profile():
    with pytest.raises(ValueError, match='radius 0'):
        lathe('tube', ((0.1, 0.0), (0.1, 1.0)))
