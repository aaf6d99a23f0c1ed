import pytest

from vlm_nodes.simulation import vocabulary
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
