import numpy as np
import pytest
import torch
from small_models import small_config

from vlm_nodes.clip.adaptation import NEGATIVES, forget_unused_words
from vlm_nodes.clip.caption_levels import CaptionLevels
from vlm_nodes.clip.prompts import TEMPLATES, captions
from vlm_nodes.clip.text import embed_captions, embed_one_each, tokenize_captions
from vlm_nodes.clip.text_warm_up import spread_captions, word_sums
from vlm_nodes.clip.weights import build_model, make_tokenizer

LABELS = ['floor', 'red mug', 'red box', 'blue mug']


def test_a_name_stands_in_every_template() -> None:
    sentences = captions('  red   mug\n')
    assert len(sentences) == len(TEMPLATES)
    assert sentences[0] == 'red mug'
    assert all('red mug' in sentence for sentence in sentences)


@pytest.mark.parametrize('name', ['a red mug', 'The red mug', 'AN red mug'])
def test_articles_are_not_doubled(name: str) -> None:
    assert captions(name, ('a {}',)) == ['a red mug']


def test_names_that_look_like_articles_or_formats_stay() -> None:
    assert captions('a', ('the {}',)) == ['the a']
    assert captions('antenna {0}', ('the {}',)) == ['the antenna {0}']
    assert len(captions('x' * 99_999, ('{}',))[0]) == 1000


def test_empty_names_and_no_templates_are_refused() -> None:
    with pytest.raises(ValueError, match='empty'):
        captions(' \n')
    with pytest.raises(ValueError, match='at least one prompt template'):
        captions('mug', ())


def test_levels_split_labels_at_their_last_word() -> None:
    levels = CaptionLevels.of(LABELS, NEGATIVES)
    assert levels.texts == (*LABELS, 'mug', 'box', 'red', 'blue', *NEGATIVES)
    assert levels.negatives == 4

    def text_of(level: int, label: str) -> str | None:
        chosen = levels.levels[level]
        index = chosen.of_label[LABELS.index(label)]
        return levels.texts[chosen.columns[index]] if index >= 0 else None

    assert [text_of(0, label) for label in LABELS] == LABELS
    assert [text_of(1, label) for label in LABELS] == ['floor', 'mug', 'box', 'mug']
    assert [text_of(2, label) for label in LABELS] == [None, 'red', 'red', 'blue']


def test_single_words_have_one_level() -> None:
    levels = CaptionLevels.of(['floor', 'wall'], ['thing'])
    assert levels.texts == ('floor', 'wall', 'thing')
    assert len(levels.levels) == 1


def test_longer_labels_keep_what_stands_before_the_last_word() -> None:
    levels = CaptionLevels.of(['dark red office chair'], ['thing'])
    assert levels.texts == ('dark red office chair', 'chair', 'dark red office', 'thing')


def test_labels_that_repeat_or_are_negatives_are_refused() -> None:
    with pytest.raises(ValueError, match='different texts'):
        CaptionLevels.of(['mug', 'mug'], NEGATIVES)
    with pytest.raises(ValueError, match='different texts'):
        CaptionLevels.of([], NEGATIVES)
    with pytest.raises(ValueError, match='negatives'):
        CaptionLevels.of(['object'], NEGATIVES)


def test_prompts_are_averaged_as_unit_vectors() -> None:
    torch.manual_seed(0)
    config = small_config()
    model = build_model(config).eval()
    tokens = tokenize_captions(make_tokenizer(config), ['red mug', 'floor'])
    assert tokens.shape == (2, len(TEMPLATES), 12)
    with torch.no_grad():
        got = embed_captions(model, tokens)
        for vector, prompts in zip(got, tokens, strict=True):
            each = [model.encode_text(prompt[None])[0] for prompt in prompts]
            mean = sum(v / v.norm() for v in each) / len(each)
            torch.testing.assert_close(vector, mean / mean.norm(), rtol=1e-4, atol=1e-5)
        drawn = {tuple(embed_one_each(model, tokens)[0].tolist()) for _ in range(40)}
    assert 1 < len(drawn) <= len(TEMPLATES)


def test_words_that_training_never_uses_stay_neutral() -> None:
    torch.manual_seed(0)
    config = small_config()
    model, tokenize = build_model(config).eval(), make_tokenizer(config)
    forget_unused_words(model, tokenize, [*LABELS, *NEGATIVES])
    with torch.no_grad():
        vectors = embed_captions(
            model, tokenize_captions(tokenize, ['red mug', 'red zebra', 'red tractor'])
        )
    torch.testing.assert_close(vectors[1], vectors[2])
    assert not torch.allclose(vectors[0], vectors[1])


def test_word_sums_add_up_orthogonal_words() -> None:
    texts = ['red', 'mug', 'red mug', 'floor']
    places = word_sums(texts, 8, torch.Generator().manual_seed(0)).numpy()
    gram = places @ places.T
    half = np.sqrt(0.5)
    expected = [[1, 0, half, 0], [0, 1, half, 0], [half, half, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(gram, expected, atol=1e-6)


def test_more_words_than_dimensions_are_possible() -> None:
    places = word_sums([str(i) for i in range(9)], 4, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(places.norm(dim=-1), 1, rtol=1e-5)
    assert torch.unique(places, dim=0).shape == (9, 4)


def test_the_text_tower_learns_words_before_pictures() -> None:
    torch.manual_seed(0)
    config = small_config()
    config['text_cfg']['width'] = 32
    model = build_model(config)
    texts = [*LABELS, 'red', 'blue', 'mug', 'box']
    tokens = tokenize_captions(make_tokenizer(config), texts)
    assert spread_captions(model, tokens, texts, steps=60) > 0.9
    vectors = embed_captions(model, tokens).detach()
    assert float(vectors[4] @ vectors[1]) > 0.5 > abs(float(vectors[4] @ vectors[5]))
