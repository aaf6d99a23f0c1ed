import numpy as np
import pytest
import torch
from small_cliport import SENTENCE, scene, small_config

from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.language import (
    Language,
    SentenceReader,
    embed_language,
    phrase_maps,
    split_words,
    vocabulary,
)

SWAPPED = 'put the green block in a red bowl'
WORDS = ('block', 'red')


@pytest.fixture(scope='module')
def clip() -> FrozenClip:
    return FrozenClip.load('tiny')


@pytest.fixture
def reader(clip: FrozenClip) -> SentenceReader:
    torch.manual_seed(0)
    return SentenceReader(small_config(words=WORDS), clip.joint_dim).eval()


def test_words_are_split_without_punctuation() -> None:
    assert split_words("Put the RED block, in a T-shaped 'bowl'!") == [
        'put', 'the', 'red', 'block', 'in', 'a', 't-shaped', 'bowl',
    ]  # fmt: skip
    assert vocabulary(['red block', 'a red bowl']) == ('a', 'block', 'bowl', 'red')


@pytest.mark.parametrize('text', ['', '  ', '?!', '\n'])
def test_a_sentence_without_words_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='empty'):
        split_words(text)


def test_a_sentence_of_too_many_words_is_refused() -> None:
    with pytest.raises(ValueError, match='65'):
        split_words('red ' * 65)


def test_words_lie_in_clips_space(clip: FrozenClip) -> None:
    language = embed_language(clip, [SENTENCE, 'red'], WORDS)
    assert language.words.shape == (2, 8, clip.joint_dim)
    torch.testing.assert_close(language.words[0, 2], language.words[1, 0])
    assert language.numbers[0].tolist() == [0, 0, 2, 1, 0, 0, 0, 0]
    assert language.present.sum(dim=1).tolist() == [8, 1]
    assert language.words[1, 1:].abs().max() == 0


def test_a_word_clip_does_not_know_says_nothing(clip: FrozenClip) -> None:
    words = embed_language(clip, ['red green blurb zyxt'], ()).words[0].norm(dim=1)
    assert words[:2].min() > 1
    assert words[2:].max() < 0.3


def test_swapped_roles_are_told_apart(clip: FrozenClip) -> None:
    """Not by the sentences' embeddings: that is why words are read one by one."""
    both = embed_language(clip, [SENTENCE, SWAPPED], WORDS)
    assert both.sentences[0] @ both.sentences[1] > 0.99
    torch.manual_seed(0)
    reader = SentenceReader(small_config(words=WORDS), clip.joint_dim).eval()
    phrases = reader(both).attention @ both.words
    assert (phrases[0] - phrases[1]).norm(dim=1).min() > 0.01


def test_sentences_of_other_lengths_change_nothing(clip: FrozenClip, reader) -> None:
    alone = reader(embed_language(clip, ['red block'], WORDS))
    beside = reader(embed_language(clip, ['red block', SENTENCE], WORDS))
    torch.testing.assert_close(beside.attention[:1, :, :2], alone.attention)
    assert beside.attention[0, :, 2:].abs().max() == 0
    torch.testing.assert_close(beside.summary[:1], alone.summary)
    torch.testing.assert_close(beside.attention.sum(dim=2), torch.ones(2, 2))


def test_other_words_have_no_lexicon(clip: FrozenClip, reader) -> None:
    reading = reader(embed_language(clip, ['purple duck'], WORDS))
    assert reading.lexical.abs().max() == 0


def test_reading_is_the_same_twice_but_not_in_training(clip: FrozenClip, reader) -> None:
    language = embed_language(clip, [SENTENCE], WORDS)
    assert torch.equal(reader(language).summary, reader(language).summary)
    reader.train()
    readings = [reader(language).summary for _ in range(8)]
    assert any(not torch.equal(readings[0], other) for other in readings[1:])


def test_phrases_are_found_where_clip_sees_them(clip: FrozenClip) -> None:
    """Colours it was told by name, each a patch: the word's map is highest on its own."""
    colours = {'red': (204, 13, 15), 'green': (20, 133, 31), 'purple': (117, 31, 158)}
    color = np.full((64, 192, 3), 110, np.uint8)
    for number, rgb in enumerate(colours.values()):
        color[20:44, 64 * number + 20 : 64 * number + 44] = rgb
    tensor = torch.from_numpy(color).permute(2, 0, 1)[None].float() / 255
    features = clip.features(tensor)
    language = embed_language(clip, [' '.join(colours)], ())
    one_each = type('Reading', (), {'attention': torch.eye(3)[None]})()
    maps = phrase_maps(features, language, one_each, torch.ones(1, 1, 64, 192))
    assert maps.shape == (1, 3, 16, 48)
    for number in range(3):
        assert int(maps[0, number].argmax()) % 48 // 16 == number


def test_holes_do_not_count(clip: FrozenClip) -> None:
    language = embed_language(clip, ['red'], ())
    one = type('Reading', (), {'attention': torch.ones(1, 1, 1)})()
    seen = torch.ones(1, 1, 64, 96)
    seen[..., 32:] = 0
    maps = phrase_maps(clip.features(scene().color), language, one, seen)
    assert maps[..., 8:].abs().max() == 0
    assert abs(float(maps[..., :8].mean())) < 1e-5
    nothing = phrase_maps(clip.features(scene().color), language, one, seen * 0)
    assert nothing.abs().max() == 0


def test_language_repeats_in_rows(clip: FrozenClip) -> None:
    language = embed_language(clip, ['red', 'green'], WORDS).repeat(3)
    assert isinstance(language, Language)
    assert language.numbers[:, 0].tolist() == [2, 2, 2, 0, 0, 0]


def test_embeddings_do_not_depend_on_the_precision_around_them(clip: FrozenClip) -> None:
    with torch.autocast('cpu', torch.bfloat16):
        rough = clip.embed_texts(['yellow lamp'])
    clip._texts.clear()
    assert torch.equal(clip.embed_texts(['yellow lamp']), rough)


def test_texts_are_embedded_once(clip: FrozenClip) -> None:
    first = clip.embed_texts(['orange star'])
    tower, clip._model.encode_text = clip._model.encode_text, None
    try:
        assert torch.equal(clip.embed_texts(['orange star']), first)
    finally:
        clip._model.encode_text = tower
