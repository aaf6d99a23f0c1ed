"""Closed-form pictures: which words a place looks like, as CLIP sees it."""

import math

import numpy as np
import pytest
import torch

from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.language import Reading, embed_language, split_words
from vlm_nodes.cliport.matching import match_words

COLORS = {'red': (200, 30, 30), 'blue': (30, 60, 200), 'green': (30, 160, 50)}
AT = {'red': (32, 32), 'blue': (96, 32), 'green': (64, 96)}


@pytest.fixture(scope='module')
def clip():
    return FrozenClip.load('tiny')


@pytest.fixture(scope='module')
def joint(clip):
    """Three squares on a dark table."""
    picture = np.full((128, 128, 3), 60, np.uint8)
    for name, (row, col) in AT.items():
        picture[row - 9 : row + 9, col - 9 : col + 9] = COLORS[name]
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    return clip.features(tensor).joint[0]


def match(clip, joint, sentence, pixel, *looked_for):
    words = split_words(sentence)
    language = embed_language(clip, [sentence], ())
    attention = torch.zeros(1, len(looked_for) + 1, len(words))
    attention[0, -1] = 1 / len(words)  # a phrase of all words alike looks for none of them
    for phrase, word in enumerate(looked_for):
        attention[0, phrase, words.index(word)] = 1.0
    reading = Reading(attention, torch.zeros(1), torch.zeros(1))
    return match_words(joint, torch.ones(128, 128).bool(), language, reading, words, pixel)


@pytest.mark.parametrize('color', COLORS)
def test_a_square_looks_like_its_own_colour_and_like_no_other(clip, joint, color):
    sentence = f'take the {color} block'
    assert match(clip, joint, sentence, AT[color], color).share > 0.8
    assert match(clip, joint, sentence, AT[color], color).words == (color,)
    for other in set(COLORS) - {color}:
        assert match(clip, joint, sentence, AT[other], color).share < 0.5


def test_the_word_that_fits_best_counts(clip, joint):
    sentence = 'take the red blocks to a green bowl'
    assert match(clip, joint, sentence, AT['red'], 'red', 'green').share > 0.8
    assert match(clip, joint, sentence, AT['blue'], 'red', 'green').share < 0.4


def test_nobody_judges_by_words_that_clip_does_not_know(clip, joint):
    both = match(
        clip, joint, 'take the frobnicator and the red block', (5, 5), 'frobnicator', 'red'
    )
    assert math.isnan(both.share)
    assert both.words == ()
    none = match(clip, joint, 'take the red block', (5, 5))
    assert math.isnan(none.share)


def test_a_picture_of_holes_is_not_judged(clip, joint):
    language = embed_language(clip, ['red'], ())
    reading = Reading(torch.ones(1, 1, 1), torch.zeros(1), torch.zeros(1))
    holes = torch.zeros(128, 128).bool()
    assert math.isnan(match_words(joint, holes, language, reading, ['red'], (3, 3)).share)
