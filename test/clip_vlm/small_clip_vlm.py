"""Tiny Qwens and connectors for tests."""

import torch

from vlm_nodes.clip_vlm.batches import Batch, Views
from vlm_nodes.clip_vlm.connector import ConnectorConfig
from vlm_nodes.clip_vlm.dialogue import make_rows
from vlm_nodes.clip_vlm.model import ClipVlm, make_connector
from vlm_nodes.clip_vlm.qwen import Qwen

CAMERAS = ('CAM_FRONT', 'CAM_LEFT', 'CAM_BACK')
KINDS = ('qwen2_5_vl', 'qwen3_vl', 'qwen3')
CAPTIONS = (
    'The front view shows a red car.',
    'The front view shows a blue truck. The back view shows an empty street.',
    'The left view shows a person in green.',
    'The back view shows a red truck. The left view shows a blue car.',
)
PROMPT = 'What is there?'


def small_config(**changes):
    sizes = {'token_grid': (1, 2), 'width': 16, 'heads': 2, 'layers': 1}
    return ConnectorConfig(12, (2, 4), 32, CAMERAS, **{**sizes, **changes})


def small_model(folder, *, dtype=None, seed=0, **changes):
    """A tiny model in evaluation mode; `folder` is of `write_tiny_qwen`."""
    connector = make_connector(small_config(**changes), seed)
    return ClipVlm(connector, Qwen.load(folder, dtype=dtype)).eval()


def examples(count=4, seed=1):
    """Cameras and random features of samples with one to three views."""
    generator = torch.Generator().manual_seed(seed)
    chosen = [(0,), (0, 2), (1,), (0, 1, 2)]
    return [
        (chosen[i % 4], torch.randn(len(chosen[i % 4]), 8, 12, generator=generator))
        for i in range(count)
    ]


def question_of(model, places):
    return model.dialogue.question([CAMERAS[place] for place in places], PROMPT)


def batch_of(model, samples, captions=CAPTIONS):
    questions = [question_of(model, places) for places, _ in samples]
    answers = [model.dialogue.answer(text) for text in captions]
    rows = make_rows(questions, answers, model.qwen.pad_id)
    tokens = tuple(str(number) for number in range(len(samples)))
    return Batch(tokens, Views.of(samples), None, rows)


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
