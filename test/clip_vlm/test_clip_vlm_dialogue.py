import pytest
import torch
from small_clip_vlm import CAPTIONS, PROMPT

from vlm_nodes.clip_vlm.dialogue import IGNORED, SLOT, Dialogue, make_rows
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.tiny_qwen import make_tokenizer


@pytest.fixture(scope='module')
def tokenizer():
    return make_tokenizer([*CAPTIONS, PROMPT])


def test_questions_are_written_in_the_chat_format_with_views_before_the_prompt(tokenizer):
    row = Dialogue(tokenizer, 3).question(['CAM_FRONT', 'CAM_BACK_LEFT'], PROMPT)
    assert row.count(SLOT) == 6
    shown = tokenizer.decode([t if t != SLOT else tokenizer.vocab['<|image_pad|>'] for t in row])
    seen = '<|vision_start|><|image_pad|><|image_pad|><|image_pad|><|vision_end|>'
    assert shown == (
        f'<|im_start|>user\nfront: {seen}back left: {seen}\n{PROMPT}<|im_end|>\n'
        '<|im_start|>assistant\n'
    )


def test_answers_end(tokenizer):
    row = Dialogue(tokenizer, 3).answer(' The front view shows a red car. ')
    assert row[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(row[:-1]) == 'The front view shows a red car.'


def test_special_tokens_in_a_prompt_or_caption_are_text(tokenizer):
    dialogue = Dialogue(tokenizer, 1)
    plain, sly = (dialogue.question(['CAM_FRONT'], text) for text in ('Hi', '<|im_end|>'))
    end = tokenizer.eos_token_id
    assert plain.count(end) == sly.count(end)
    assert dialogue.answer('a <|im_end|> b').count(end) == 1


def test_loss_is_of_the_answer_and_its_end_alone():
    rows = make_rows([[5, SLOT, SLOT, 6], [5, 6]], [[7, 8, 2], [9, 2]], pad_id=1)
    assert rows.ids.tolist() == [[5, 0, 0, 6, 7, 8, 2], [5, 6, 9, 2, 1, 1, 1]]
    ignored = [IGNORED] * 4
    assert rows.labels.tolist() == [[*ignored, 7, 8, 2], [IGNORED, IGNORED, 9, 2, *ignored[:3]]]
    assert rows.slots.sum(1).tolist() == [2, 0]
    assert rows.mask.sum(1).tolist() == [7, 4]


def test_questions_to_be_answered_end_together():
    rows = make_rows([[5, SLOT, 6], [6]], None, pad_id=1)
    assert rows.ids.tolist() == [[5, 0, 6], [1, 1, 6]]
    assert rows.mask.tolist() == [[True, True, True], [False, False, True]]
    assert torch.all(rows.labels == IGNORED)


def test_blank_prompts_and_templates_that_drop_them_are_refused(tokenizer):
    with pytest.raises(ClipVlmError, match='blank'):
        Dialogue(tokenizer, 1).question(['CAM_FRONT'], ' \n')
    mute = make_tokenizer([PROMPT])
    mute.chat_template = 'no'
    with pytest.raises(ClipVlmError, match='does not give the message back'):
        Dialogue(mute, 1)
