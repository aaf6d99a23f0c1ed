import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
from small_clip_vlm import (
    CAMERAS,
    CAPTIONS,
    PROMPT,
    batch_of,
    examples,
    gradients,
    question_of,
    small_config,
    small_model,
)

from vlm_nodes.clip_vlm.batches import Views
from vlm_nodes.clip_vlm.checkpoint import (
    ADAPTER,
    ADAPTER_FILES,
    CONNECTOR_NAME,
    PAGE_NAME,
    Page,
    check_belongs,
    load_checkpoint,
    save_checkpoint,
)
from vlm_nodes.clip_vlm.clip_views import ClipConfig
from vlm_nodes.clip_vlm.dialogue import make_rows
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.generation import generate
from vlm_nodes.clip_vlm.model import ClipVlm, LoraOptions, parts_of, report
from vlm_nodes.clip_vlm.quantization import (
    QUANTIZATIONS,
    check_can_quantize,
    quantization_config,
)
from vlm_nodes.clip_vlm.qwen import Qwen, own_weights
from vlm_nodes.clip_vlm.teacher import VisionTeacher
from vlm_nodes.clip_vlm.tiny_qwen import write_tiny_qwen

LORA = LoraOptions(rank=2, alpha=4, dropout=0.0)
EVERYTHING = LoraOptions(rank=2, alpha=4, dropout=0.0, train_embeddings=True)


def trained_a_little(folder, lora=EVERYTHING):
    """A model after steps that moved all that is trained."""
    model = small_model(folder)
    model.add_adapter(lora)
    optimizer = torch.optim.Adam(model.trainable().values(), 1e-2)
    batch = batch_of(model, examples())
    losses = []
    for _ in range(4):
        loss = model.caption_loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    return model.eval()


def page_of(model, mode='lm'):
    return Page(
        mode, PROMPT, ClipConfig(), 'tiny/0/value', model.qwen.identity, model.connector.config
    )


def logits_of(model):
    batch = batch_of(model, examples())
    with torch.no_grad():
        return model.caption_logits(batch.views, batch.rows)


def test_a_batch_of_four_equals_four_batches_of_one(qwen_folder):
    model = small_model(qwen_folder)
    model.add_adapter(LORA)
    samples = examples()
    together = model.caption_loss(batch_of(model, samples))
    together.backward()
    whole = gradients(model)
    model.zero_grad()
    losses = []
    for sample, caption in zip(samples, CAPTIONS, strict=True):
        loss = model.caption_loss(batch_of(model, [sample], [caption])) / 4
        loss.backward()
        losses.append(loss.item())
    assert sum(losses) == pytest.approx(together.item(), rel=1e-5)
    summed = gradients(model)
    assert whole.keys() == summed.keys() == model.trainable().keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(gradient, summed[name], atol=1e-6, rtol=1e-3, msg=name)


def test_bf16_comes_close_to_fp32(qwen_folder):
    whole, half = small_model(qwen_folder), small_model(qwen_folder, dtype='bf16')
    assert half.qwen.dtype == torch.bfloat16
    losses = [m.caption_loss(batch_of(m, examples())).item() for m in (whole, half)]
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    with torch.autocast('cpu', torch.bfloat16):
        mixed = whole.caption_loss(batch_of(whole, examples())).item()
    assert mixed == pytest.approx(losses[0], rel=0.01)


def test_training_changes_nothing_of_the_base_nor_of_the_teacher(qwen_folder):
    picture = np.random.default_rng(0).integers(0, 255, (60, 90, 3)).astype(np.uint8)
    fresh = Qwen.load(qwen_folder)
    before = fresh.weights_hash()
    model = trained_a_little(qwen_folder)
    assert model.qwen.weights_hash() == before
    assert own_weights(model.qwen.model).keys() == own_weights(fresh.model).keys()
    if model.qwen.has_eyes:
        seen = [VisionTeacher(q, (1, 2)).tokens(picture) for q in (fresh, model.qwen)]
        np.testing.assert_array_equal(*seen)


def test_the_hash_sees_a_weight_that_changes(qwens):
    qwen = Qwen.load(qwens['qwen3'])
    before = qwen.weights_hash()
    with torch.no_grad():
        qwen.model.model.layers[0].mlp.up_proj.weight[0, 0] += 1e-3
    assert qwen.weights_hash() != before


def test_adapters_are_on_language_layers_only(qwen_folder):
    model = small_model(qwen_folder)
    model.add_adapter(LORA)
    adapted = {name.split('.lora_')[0] for name in model.trainable() if 'lora_' in name}
    assert len(adapted) == 2 * 7  # layers, matrices
    assert not [name for name in adapted if 'visual' in name]
    parts = {part.name: part for part in parts_of(model, 1000)}
    assert parts['CLIP'].frozen == 1000
    assert parts['connector'].frozen == parts['vision tower'].trained == 0
    assert parts['language model'].trained == 0
    assert parts['adapters'].trained == sum(
        p.numel() for n, p in model.trainable().items() if n.startswith('qwen.')
    )
    assert 'connector' in report(list(parts.values()))


def test_what_is_saved_gives_identical_logits(qwen_folder, tmp_path):
    model = trained_a_little(qwen_folder)
    save_checkpoint(tmp_path, page_of(model), model.connector, model.qwen.model)
    checkpoint = load_checkpoint(tmp_path)
    check_belongs(checkpoint, 'tiny/0/value', Qwen.load(qwen_folder).identity)
    again = ClipVlm(checkpoint.connector, Qwen.load(qwen_folder))
    without = logits_of(again.eval())
    again.load_adapter(checkpoint.adapter)
    assert torch.equal(logits_of(again.eval()), logits_of(model))
    assert not torch.allclose(without, logits_of(model), atol=1e-3)
    assert checkpoint.page.lora['r'] == 2
    written = json.loads((tmp_path / PAGE_NAME).read_text())
    for key in ('format', 'cameras', 'tokens_per_view', 'clip', 'qwen', 'versions', 'hashes'):
        assert key in written
    assert (tmp_path / ADAPTER / ADAPTER_FILES[0]).is_file()


def test_a_connector_alone_is_saved_without_adapters(qwens, tmp_path):
    model = small_model(qwens['qwen3_vl'])
    save_checkpoint(tmp_path, page_of(model, 'distill'), model.connector)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.adapter is None
    for name, value in model.connector.state_dict().items():
        assert torch.equal(checkpoint.connector.state_dict()[name], value)


def test_checkpoints_that_are_damaged_or_of_another_training_are_refused(qwens, tmp_path):
    model = trained_a_little(qwens['qwen2_5_vl'], LORA)
    save_checkpoint(tmp_path, page_of(model), model.connector, model.qwen.model)
    checkpoint = load_checkpoint(tmp_path)
    with pytest.raises(ClipVlmError, match=r'tiny/0/value, this is tiny/1'):
        check_belongs(checkpoint, 'tiny/1', model.qwen.identity)
    with pytest.raises(ClipVlmError, match='is a qwen3 of width 32'):
        check_belongs(checkpoint, 'tiny/0/value', Qwen.load(qwens['qwen3']).identity)
    page = json.loads((tmp_path / PAGE_NAME).read_text())

    def rewrite(**changes):
        (tmp_path / PAGE_NAME).write_text(json.dumps({**page, **changes}))

    rewrite(connector={**page['connector'], 'width': 32})
    with pytest.raises(ClipVlmError, match='does not fit'):
        load_checkpoint(tmp_path)
    rewrite(format=99)
    with pytest.raises(ClipVlmError, match='format 99'):
        load_checkpoint(tmp_path)
    rewrite(mode='sing')
    with pytest.raises(ClipVlmError, match="unknown mode 'sing'"):
        load_checkpoint(tmp_path)
    rewrite()
    weights = tmp_path / ADAPTER / ADAPTER_FILES[0]
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ClipVlmError, match='damaged'):
        load_checkpoint(tmp_path)
    (tmp_path / CONNECTOR_NAME).unlink()
    with pytest.raises(ClipVlmError, match=f'no file {CONNECTOR_NAME}'):
        load_checkpoint(tmp_path)
    (tmp_path / PAGE_NAME).write_text('[]')
    with pytest.raises(ClipVlmError, match='no page'):
        load_checkpoint(tmp_path)


def test_generating_is_taking_the_likeliest_token_each_time(qwen_folder):
    model = trained_a_little(qwen_folder)
    places, features = examples()[3]
    views, question = Views.of([(places, features)]), question_of(model, places)
    said = []
    with torch.no_grad():
        while len(said) < 7 and model.qwen.end_id not in said:
            rows = make_rows([question], [[*said, 0]], model.qwen.pad_id)
            said.append(int(model.caption_logits(views, rows)[-1].argmax()))
    rows = make_rows([question], None, model.qwen.pad_id)
    (answer,) = generate(model, views, rows, max_new_tokens=7)
    assert answer.text == model.qwen.tokenizer.decode(said, skip_special_tokens=True).strip()
    assert answer.tokens == len(said)


def test_answers_are_the_same_in_a_batch(qwen_folder):
    model = trained_a_little(qwen_folder)
    samples = examples()
    questions = [question_of(model, places) for places, _ in samples]
    rows = make_rows(questions, None, model.qwen.pad_id)
    together = generate(model, Views.of(samples), rows, max_new_tokens=6)
    for sample, question, answer in zip(samples, questions, together, strict=True):
        one = make_rows([question], None, model.qwen.pad_id)
        (alone,) = generate(model, Views.of([sample]), one, max_new_tokens=6)
        assert alone.text == answer.text
    with pytest.raises(ClipVlmError, match='one answer at a time'):
        generate(model, Views.of(samples), rows, max_new_tokens=6, on_text=print)
    with pytest.raises(ClipVlmError, match='max_new_tokens must be at least 1'):
        generate(model, Views.of(samples), rows, max_new_tokens=0)


def test_pieces_come_as_they_are_said_and_a_cancelled_answer_stops(qwens):
    model = trained_a_little(qwens['qwen2_5_vl'])
    places, features = examples()[0]
    views = Views.of([(places, features)])
    rows = make_rows([question_of(model, places)], None, model.qwen.pad_id)
    pieces = []
    (whole,) = generate(model, views, rows, max_new_tokens=40, on_text=pieces.append)
    assert ''.join(pieces).strip() == whole.text
    assert not whole.cancelled
    assert whole.first_token_s > 0
    asked = iter([False, False, True])
    (cut,) = generate(model, views, rows, max_new_tokens=40, cancelled=lambda: next(asked))
    assert cut.cancelled
    assert cut.tokens == 3 < whole.tokens
    assert whole.text.startswith(cut.text)


def test_the_teacher_gives_its_tower_in_the_order_of_the_picture(qwens):
    """A picture whose left half changes: tokens of the left half change most."""
    for kind in ('qwen2_5_vl', 'qwen3_vl'):
        teacher = VisionTeacher(Qwen.load(qwens[kind]), (2, 4))
        picture = np.full((128, 256, 3), 120, np.uint8)
        other = picture.copy()
        other[:64, :128] = np.random.default_rng(0).integers(0, 255, (64, 128, 3))
        change = np.abs(teacher.tokens(picture) - teacher.tokens(other)).mean(1).reshape(2, 4)
        assert change[0, :2].min() > 2 * change[:, 2:].max()
        assert change[0, :2].min() > 2 * change[1].max()


def test_a_qwen_without_eyes_teaches_nobody(qwens):
    with pytest.raises(ClipVlmError, match='without a vision tower'):
        VisionTeacher(Qwen.load(qwens['qwen3']), (1, 2))


def test_widths_that_do_not_fit_are_refused(qwens):
    from vlm_nodes.clip_vlm.model import make_connector

    connector = make_connector(small_config().__class__(12, (2, 4), 48, CAMERAS, (1, 2), 16, 2), 0)
    with pytest.raises(ClipVlmError, match='width 48'):
        ClipVlm(connector, Qwen.load(qwens['qwen3']))


def test_quantizations_become_what_bitsandbytes_is_told():
    assert quantization_config('none') is None
    eight = quantization_config('bnb-8bit')
    assert eight.load_in_8bit
    assert not eight.load_in_4bit
    four = quantization_config('bnb-4bit')
    assert four.load_in_4bit
    assert four.bnb_4bit_quant_type == 'nf4'
    assert four.bnb_4bit_use_double_quant
    assert four.bnb_4bit_compute_dtype == torch.bfloat16
    for config in (eight, four):
        assert {'visual', 'lm_head'} <= set(config.llm_int8_skip_modules)
    with pytest.raises(ClipVlmError, match='bnb-2bit'):
        quantization_config('bnb-2bit')


def test_quantization_says_what_it_lacks(qwens, monkeypatch):
    check_can_quantize('none')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    for name in QUANTIZATIONS[1:]:
        with pytest.raises(ClipVlmError, match=f'{name} needs the package bitsandbytes'):
            Qwen.load(qwens['qwen2_5_vl'], quant=name)
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: object())
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ClipVlmError, match='needs an NVIDIA GPU'):
        Qwen.load(qwens['qwen2_5_vl'], quant='bnb-4bit')


@pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec('bitsandbytes') is None,
    reason='a quantised model is loaded where there are an NVIDIA GPU and bitsandbytes',
)
@pytest.mark.parametrize('name', QUANTIZATIONS[1:])
def test_a_quantised_model_says_nearly_the_same(qwens, name):
    whole = small_model(qwens['qwen2_5_vl'])
    quantised = ClipVlm(
        small_model(qwens['qwen2_5_vl']).connector.cuda(),
        Qwen.load(qwens['qwen2_5_vl'], quant=name, device='cuda'),
    )
    wanted = whole.caption_loss(batch_of(whole, examples())).item()
    got = quantised.caption_loss(batch_of(quantised, examples()).to('cuda')).item()
    assert got == pytest.approx(wanted, rel=0.05)


def test_folders_that_hold_no_usable_qwen_are_refused(qwens, tmp_path):
    with pytest.raises(ClipVlmError, match='no Qwen in'):
        Qwen.load(tmp_path)
    other = tmp_path / 'other'
    shutil.copytree(qwens['qwen3'], other)
    config = json.loads((other / 'config.json').read_text())
    (other / 'config.json').write_text(json.dumps({**config, 'model_type': 'gpt2'}))
    with pytest.raises(ClipVlmError, match="holds a 'gpt2'"):
        Qwen.load(other)
    (other / 'config.json').write_text(json.dumps({**config, 'head_dim': 4}))
    with pytest.raises(ClipVlmError, match=r'not whole: .* of another shape'):
        Qwen.load(other)
    (other / 'config.json').write_text(json.dumps(config))
    (other / 'chat_template.jinja').unlink()
    with pytest.raises(ClipVlmError, match='chat template'):
        Qwen.load(other)


def test_tied_embeddings_cannot_be_trained_apart(qwens, tmp_path):
    tied = tmp_path / 'tied'
    shutil.copytree(qwens['qwen3'], tied)
    config = json.loads((tied / 'config.json').read_text())
    (tied / 'config.json').write_text(json.dumps({**config, 'tie_word_embeddings': True}))
    model = small_model(tied)
    with pytest.raises(ClipVlmError, match='share their embeddings'):
        model.add_adapter(EVERYTHING)


def test_options_of_adapters_are_checked():
    for changes in ({'rank': 0}, {'alpha': 0}, {'dropout': 1.0}):
        with pytest.raises(ClipVlmError, match=next(iter(changes))):
            LoraOptions(**changes)


def test_tiny_qwens_follow_from_their_seed_and_name_bad_sizes(tmp_path):
    for name in ('a', 'b'):
        write_tiny_qwen(tmp_path / name, CAPTIONS, 'qwen3', hidden_size=32, layers=1, seed=5)
    one, two = (Qwen.load(tmp_path / name) for name in ('a', 'b'))
    assert one.weights_hash() == two.weights_hash()
    assert one.identity.fingerprint == two.identity.fingerprint
    with pytest.raises(ClipVlmError, match='multiple of 8'):
        write_tiny_qwen(tmp_path / 'c', CAPTIONS, hidden_size=12)
    with pytest.raises(ClipVlmError, match='unknown kind'):
        write_tiny_qwen(tmp_path / 'c', CAPTIONS, 'gpt2')
    with pytest.raises(FileExistsError):
        write_tiny_qwen(tmp_path / 'a', CAPTIONS)
