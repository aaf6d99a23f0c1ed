"""evaluate_clip_vlm CHECKPOINT --dataset ...: BLEU, ROUGE-L, exact matches and loss."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from bag_tools.whole_file import write_whole
from vlm_nodes.clip_vlm.batches import Batch, Collate, Example, places_of
from vlm_nodes.clip_vlm.data import add_data_arguments, open_samples
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.generation import generate
from vlm_nodes.clip_vlm.losses import DistillWeights, distill_loss
from vlm_nodes.clip_vlm.options import add_run_arguments, load_trained
from vlm_nodes.clip_vlm.samples import CaptionedViews, SampleSet, read_views
from vlm_nodes.clip_vlm.scores import score_texts
from vlm_nodes.clip_vlm.teacher import DEFAULT_PIXELS, VisionTeacher
from vlm_nodes.clip_vlm.trained import Trained
from vlm_nodes.command_line import run, say


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: evaluated; 2: it could not be."""
    options = make_parser().parse_args(arguments)
    return run('evaluate_clip_vlm', lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if options.batch < 1:
        raise ClipVlmError(f'--batch must be at least 1, is {options.batch}')
    trained = load_trained(options)
    is_text = trained.checkpoint.page.mode == 'lm'
    samples = open_samples(options, captions_needed=is_text)
    reader = _Reader(trained, options)
    figures: dict[str, Any] = dict(samples.counts)
    figures |= reader.score(samples) if is_text else reader.distance(samples)
    say(json.dumps(figures, indent=2) if options.json else _words(figures))
    return 0


class _Reader:
    """Looks at samples with a trained model."""

    def __init__(self, trained: Trained, options: argparse.Namespace) -> None:
        self._trained, self._options = trained, options
        self._device = trained.model.qwen.device

    def score(self, samples: SampleSet) -> dict[str, float]:
        """How close what is said comes to the captions, and the loss of the captions."""
        model, pad_id = self._trained.model, self._trained.model.qwen.pad_id
        said: list[str] = []
        losses = []
        for examples in self._batches(samples, 'captions'):
            asked: Batch = Collate(pad_id, answered=False)(examples).to(self._device)
            assert asked.rows is not None
            answers = generate(
                model, asked.views, asked.rows, max_new_tokens=self._options.max_new_tokens
            )
            said += [answer.text for answer in answers]
            with torch.inference_mode():
                batch = Collate(pad_id)(examples).to(self._device)
                losses += [float(model.caption_loss(batch))] * len(batch)
        wanted = [str(sample.caption) for sample in samples]
        if self._options.save is not None:
            _write(self._options.save, samples, said)
        return {'loss': float(np.mean(losses)), **score_texts(said, wanted)}

    def distance(self, samples: SampleSet) -> dict[str, float]:
        """How far from the vision tower's tokens the connector's are."""
        model = self._trained.model
        grid = model.connector.config.token_grid
        teacher = VisionTeacher(model.qwen, grid, self._options.teacher_pixels)
        losses = []
        for examples in self._batches(samples, 'distillation', teacher):
            batch = Collate(model.qwen.pad_id)(examples).to(self._device)
            assert batch.taught is not None
            with torch.inference_mode():
                seen = model.see(batch.views)
                loss = distill_loss(seen, batch.taught, batch.views.present, DistillWeights())
            losses += [float(loss)] * len(batch)
        return {'loss': float(np.mean(losses))}

    def _batches(
        self, samples: SampleSet, what: str, teacher: VisionTeacher | None = None
    ) -> Iterator[list[Example]]:
        step = self._options.batch
        for start in tqdm(range(0, len(samples), step), unit='batch', desc=what, disable=None):
            yield [self._read(s, teacher) for s in samples[start : start + step]]

    def _read(self, sample: CaptionedViews, teacher: VisionTeacher | None) -> Example:
        """Read now: what is evaluated once is not worth keeping."""
        page, dialogue = self._trained.checkpoint.page, self._trained.model.dialogue
        cameras = page.connector.cameras
        places = places_of(sample.images, cameras)
        names = [cameras[place] for place in places]
        pictures = read_views(sample)
        seen = [self._trained.clip.tokens(pictures[name]) for name in names]
        taught = [teacher.tokens(pictures[name]) for name in names] if teacher else None
        return Example(
            sample.token,
            tuple(places),
            torch.from_numpy(np.stack(seen)),
            None if taught is None else torch.from_numpy(np.stack(taught)),
            dialogue.question(names, self._options.prompt or page.prompt),
            dialogue.answer(sample.caption) if sample.caption else None,
        )


def _write(path: Path, samples: SampleSet, said: Sequence[str]) -> None:
    texts = {
        sample.token: {'said': text, 'wanted': sample.caption}
        for sample, text in zip(samples, said, strict=True)
    }
    write_whole(path, (json.dumps(texts, indent=1, ensure_ascii=False) + '\n').encode())


def _words(figures: dict[str, Any]) -> str:
    return '\n'.join(
        f'{name:24} {value:.4f}' if isinstance(value, float) else f'{name:24} {value}'
        for name, value in figures.items()
    )


def make_parser() -> argparse.ArgumentParser:
    """The command line of `evaluate_clip_vlm`."""
    parser = argparse.ArgumentParser(
        prog='evaluate_clip_vlm',
        description='Score a trained CLIP-VLM against captions, or against the vision tower.',
    )
    add = parser.add_argument
    add('checkpoint', type=Path, help='folder of train_clip_vlm')
    add('--prompt', help='what is asked (default: the prompt of training)')
    add('--max-new-tokens', type=int, default=256, help='(default: 256)')
    add('--batch', type=int, default=8, help='samples at a time (default: 8)')
    add('--save', type=Path, metavar='JSON', help='write what was said and what was wanted')
    add('--teacher-pixels', type=int, default=DEFAULT_PIXELS, help='as in training')
    add('--json', action='store_true', help='print the figures as JSON')
    add_data_arguments(parser)
    add_run_arguments(parser)
    return parser


if __name__ == '__main__':
    sys.exit(main())
