"""CLIP-VLM taught to say what six simulated cameras see, offline, with Qwens that knew no language.

1. Squares of training and held-out seeds are recorded: six pictures each, before each camera one
   car, truck or person of one of eight colours, or nothing. Captions are read off the rendered
   pictures, thing by thing. Pictures of training squares are also mixed into further samples.
   Further squares of training's range are not trained on: by their loss the best epoch is kept.
2. Tiny Qwen2.5-VL and Qwen3-VL of random weights are made from transformers' classes, with a
   tokenizer trained on the captions of the training squares.
3. For each: a connector learns to imitate the vision tower (`distill`); another one learns to say
   the captions (`lm`), with adapters and, since the base never learned a language, its embeddings.
   CLIP is the package's own `tiny`, which was trained on rooms and never saw a street; what it
   says of the pictures is computed once for both.
4. Held-out squares are described. A view counts where its sentence is there and names the right
   colour and the right thing, or that there is nothing. Then one camera's picture is taken from
   another square: its sentence must become the other square's, and the others must stay.

`distill_ratio`: last loss of distillation, on squares not trained on, over the first that was
logged, of training's tenth step; the greater of both models. `distill_over_mean`: the last over
what one answer for all pictures gives, the mean of training's tokens. `view_accuracy` is the lesser
of both models; `swap_follows` and `swap_others_kept` are shares of swapped cameras, and of those
beside. `minutes` is all of it; `cpu_minutes` what all processes computed, about twice as much
on two idle cores; `cpu_minutes_...` that of one model.

    python benchmarks/clip_vlm_tiny.py [--seeds 1000000 ...] [--squares 520] [--keep DIR] [--quick]

Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import torch

from bag_tools.overlap_writer import OverlapWriter, jpeg_of_pixels
from vlm_nodes.clip_vlm.captioner import Captioner
from vlm_nodes.clip_vlm.clip_views import ClipConfig, ClipViews
from vlm_nodes.clip_vlm.feature_store import clip_store
from vlm_nodes.clip_vlm.overlap import MANIFEST, open_overlap
from vlm_nodes.clip_vlm.samples import Tally, read_views
from vlm_nodes.simulation.street.captions import describe_scene, view_name
from vlm_nodes.simulation.street.recorder import Recorder, Settings
from vlm_nodes.simulation.street.sparse import record_sparse
from vlm_nodes.simulation.street.vocabulary import VAL_SEEDS

KINDS = ('qwen2_5_vl', 'qwen3_vl')
CLIP_SIZE = 96
CLIP_GRID = (6, 10)
SIZE = (160, 96)
TOKEN_GRID = (1, 2)
HIDDEN = 96
TRAIN, WATCHED, HELD_OUT = PARTS = ('train', 'watched', 'held_out')
WATCHED_SQUARES = 20
DISTILLED = 320
"""Squares at most whose pictures the vision tower is asked about."""
AT_ONCE = 10
"""Squares that a process records without being asked again."""
CORES = 2


def render(seeds: list[int], size: tuple[int, int]) -> list[tuple[str, dict[str, bytes], str]]:
    """Squares: the name, JPEG files by camera and the caption of each."""
    settings = Settings(width=size[0], height=size[1], samples=0)
    with Recorder(settings) as recorder:
        return [
            (
                f'square-{square.seed}',
                {name: jpeg_of_pixels(view.rgb) for name, view in square.views.items()},
                describe_scene(square.seen),
            )
            for square in record_sparse(recorder, seeds)
        ]


def record(pool: Pool, folder: Path, seeds: list[int], size: tuple[int, int]) -> None:
    """Squares as a folder that `train_clip_vlm` reads."""
    writer = OverlapWriter(folder, Settings().cameras)
    parts = [seeds[first : first + AT_ONCE] for first in range(0, len(seeds), AT_ONCE)]
    for squares in pool.imap(partial(render, size=size), parts):
        for square in squares:
            writer.add(*square)
    writer.finish({'pictures': 'simulated squares'}, Tally())


def look(folder: Path, number: int, count: int) -> None:
    """Keep what CLIP says of one in `count` of the squares of all folders."""
    torch.set_num_threads(1)
    clip = ClipViews(ClipConfig(grid=CLIP_GRID, image_size=CLIP_SIZE))
    samples = [sample for part in PARTS for sample in open_overlap(folder / part)]
    clip_store(folder / 'features', clip).fill(samples[number::count], clip.tokens, 'CLIP')


def sentences(text: str) -> dict[str, str]:
    """What is said of each view, by the view's name."""
    return dict(re.findall(r'The ([a-z ]+) view shows ([^.]*)\.', text))


def mix(folder: Path, count: int, seed: int) -> None:
    """Add samples whose pictures are each of any square, lest squares be learned by heart."""
    path = folder / MANIFEST
    manifest, rng = json.loads(path.read_text()), np.random.default_rng(seed)
    rows, cameras = list(manifest['samples']), manifest['cameras']
    said = [sentences(row['caption']) for row in rows]
    for number in range(count):
        chosen = dict(zip(cameras, rng.integers(len(rows), size=len(cameras)), strict=True))
        views = {name: said[place][view_name(name)] for name, place in chosen.items()}
        manifest['samples'].append(
            {
                'token': f'mixed-{number}',
                'images': {name: rows[place]['images'][name] for name, place in chosen.items()},
                'caption': ' '.join(
                    f'The {view_name(name)} view shows {text}.' for name, text in views.items()
                ),
            }
        )
    path.write_text(json.dumps(manifest))


class Student:
    """One tiny Qwen, taught by the product's own tools in this process."""

    def __init__(self, kind: str, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.data, self.folder = options, folder, folder / kind
        self.kind = kind

    def learn(self) -> dict[str, float]:
        """Base, distillation, captions, and what came of it."""
        from vlm_nodes.clip_vlm import tiny_qwen

        torch.set_num_threads(1)
        start = time.process_time()
        self.folder.mkdir()
        texts = tiny_qwen.texts_in(self.data / TRAIN / 'captions.json')
        tiny_qwen.write_tiny_qwen(
            self.folder / 'base', texts, self.kind, hidden_size=HIDDEN, seed=self.options.seed
        )
        ahead = time.process_time()
        sizes = (
            '--token-grid', *TOKEN_GRID, '--width', 96, '--heads', 4, '--layers', 1,
            '--clip-grid', *CLIP_GRID,
        )  # fmt: skip
        self._train(
            'distill', *sizes, '--epochs', self.options.distill_epochs, '--lr', 2e-3,
            '--max-samples', min(DISTILLED, self.options.squares),
            '--teacher-pixels', SIZE[0] * SIZE[1],
        )  # fmt: skip
        distilled = time.process_time()
        # From a fresh connector: the tokens of a tower of random weights are no start for speech.
        self._train(
            'lm', *sizes, '--epochs', self.options.epochs, '--use-lora', '--train-embeddings',
            '--lora-dropout', 0, '--lora-rank', 32, '--lora-alpha', 64,
            '--lr', 1e-3, '--adapter-lr', 1e-3,
        )  # fmt: skip
        taught = time.process_time()
        figures = self._distilled() | self._described()
        return figures | {
            'distill_cpu_minutes': (distilled - ahead) / 60,
            'lm_cpu_minutes': (taught - distilled) / 60,
            'cpu_minutes': (time.process_time() - start) / 60,
        }

    def _train(self, mode: str, *more: object) -> None:
        from vlm_nodes.clip_vlm import train

        arguments = [
            '--mode', mode, '--qwen', self.folder / 'base', '--dataset', 'overlap_export',
            '--data-root', self.data / TRAIN, '--val-root', self.data / WATCHED,
            '--save', self.folder / mode, '--cache', self.data / 'features',
            '--clip-size', CLIP_SIZE, '--batch', 8, '--threads', 1, '--accelerator', 'cpu',
            '--seed', self.options.seed, *more,
        ]  # fmt: skip
        with (self.folder / f'{mode}.log').open('w') as log:
            sys.stdout = sys.stderr = log
            try:
                status = train.main([str(word) for word in arguments])
            finally:
                sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        if status:
            raise SystemExit((self.folder / f'{mode}.log').read_text()[-2000:])

    def _distilled(self) -> dict[str, float]:
        """First and last loss, and that of one answer for all pictures: the mean of training's."""
        from vlm_nodes.clip_vlm.losses import DistillWeights, distill_loss
        from vlm_nodes.clip_vlm.qwen import Qwen
        from vlm_nodes.clip_vlm.teacher import VisionTeacher

        rows = (self.folder / 'distill' / 'csv' / 'metrics.csv').read_text().splitlines()
        names = rows[0].split(',')
        losses = {
            name: [float(row.split(',')[names.index(name)] or 'nan') for row in rows[1:]]
            for name in ('loss', 'val_loss')
        }
        first = next(value for value in losses['loss'] if not np.isnan(value))
        last = [value for value in losses['val_loss'] if not np.isnan(value)][-1]
        teacher = VisionTeacher(Qwen.load(self.folder / 'base'), TOKEN_GRID, SIZE[0] * SIZE[1])
        tokens = {
            part: np.stack(
                [
                    teacher.tokens(rgb)
                    for sample in open_overlap(self.data / part)[:20]
                    for rgb in read_views(sample).values()
                ]
            )
            for part in (TRAIN, WATCHED)
        }
        taught = torch.from_numpy(tokens[WATCHED])[None]
        mean = torch.from_numpy(tokens[TRAIN].mean(0)).expand(taught.shape)
        present = torch.ones(taught.shape[:2], dtype=torch.bool)
        constant = float(distill_loss(mean, taught, present, DistillWeights()))
        return {
            'distill_first': first,
            'distill_last': last,
            'distill_ratio': last / first,
            'distill_over_mean': last / constant,
        }

    def _described(self) -> dict[str, float]:
        """How many held-out views are described right, and what happens to them in a swap."""
        captioner = Captioner.load(self.folder / 'lm')
        samples = open_overlap(self.data / HELD_OUT)
        wanted = [sentences(str(sample.caption)) for sample in samples]
        pictures = [read_views(sample) for sample in samples]
        said = [describe(captioner, views) for views in pictures]
        right = [
            text.get(view) == thing
            for text, truth in zip(said, wanted, strict=True)
            for view, thing in truth.items()
        ]
        follows, kept = [], []
        for number in range(self.options.swaps):
            here, camera = number % len(samples), captioner.cameras[number % len(captioner.cameras)]
            there, view = (here + 1) % len(samples), view_name(camera)
            if wanted[here][view] == wanted[there][view]:
                continue
            mixed = {**pictures[here], camera: pictures[there][camera]}
            text = describe(captioner, mixed)
            follows.append(text.get(view) == wanted[there][view])
            kept += [text.get(v) == t for v, t in said[here].items() if v != view]
        return {
            'view_accuracy': float(np.mean(right)),
            'swap_follows': float(np.mean(follows)) if follows else 0.0,
            'swap_others_kept': float(np.mean(kept)) if kept else 0.0,
            'swaps': len(follows),
            'views': len(right),
        }


def describe(captioner: Captioner, views: Mapping[str, np.ndarray]) -> dict[str, str]:
    return sentences(captioner.describe(views, max_new_tokens=120).text)


def teach(kind: str, options: argparse.Namespace, folder: Path) -> dict[str, float]:
    return Student(kind, options, folder).learn()


def run(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    start = time.monotonic()
    recordings = {
        TRAIN: list(range(options.squares)),
        WATCHED: list(range(options.squares, options.squares + WATCHED_SQUARES)),
        HELD_OUT: options.seeds,
    }
    spawn = multiprocessing.get_context('spawn')
    # A process for each core of a small machine.
    with spawn.Pool(CORES) as pool:
        for name, seeds in recordings.items():
            record(pool, folder / name, seeds, (64, 40) if options.quick else SIZE)
        recorded = time.monotonic()
        pool.starmap(look, [(folder, number, CORES) for number in range(CORES)])
        looked = time.monotonic()
        mix(folder / TRAIN, options.mixed, options.seed)
        answers = pool.starmap(teach, [(kind, options, folder) for kind in KINDS])
        pool.close()
        pool.join()
    used = os.times()
    found = dict(zip(KINDS, answers, strict=True))
    worst = {
        'distill_ratio': max, 'distill_over_mean': max,
        'view_accuracy': min, 'swap_follows': min, 'swap_others_kept': min,
    }  # fmt: skip
    figures = {name: pick(one[name] for one in answers) for name, pick in worst.items()}
    figures |= {f'{name}_{kind}': one[name] for kind, one in found.items() for name in one}
    return {
        **figures,
        'record_minutes': (recorded - start) / 60,
        'clip_minutes': (looked - recorded) / 60,
        'minutes': (time.monotonic() - start) / 60,
        'cpu_minutes': sum(used[:4]) / 60,
        'squares': options.squares,
        'mixed': options.mixed,
        'held_out_squares': len(options.seeds),
        'epochs': options.epochs,
        'threads': 1,
        'seed': options.seed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, first = parser.add_argument, VAL_SEEDS.start
    add('--seeds', type=int, nargs='+', default=list(range(first, first + 40)), help='held out')
    add('--squares', type=int, default=520, help='to train on (default: 520)')
    add('--mixed', type=int, default=2520, help='more samples, of their pictures (default: 2520)')
    add('--distill-epochs', type=int, default=5)
    add('--epochs', type=int, default=4, help='of learning captions (default: 4)')
    add('--swaps', type=int, default=48, help='cameras to swap (default: 48)')
    add('--seed', type=int, default=0, help='of weights and training')
    add('--keep', type=Path, help='folder to make and keep')
    add('--quick', action='store_true', help='a smoke run: figures mean nothing')
    options = parser.parse_args()
    if any(seed not in VAL_SEEDS for seed in options.seeds):
        parser.error(f'seeds must be held out, in {VAL_SEEDS}: {options.seeds}')
    if options.quick:
        options.seeds, options.squares, options.swaps = options.seeds[:2], 6, 2
        options.mixed = 2
        options.epochs = options.distill_epochs = 1
    os.environ.setdefault('MUJOCO_GL', 'egl')
    os.environ['OMP_NUM_THREADS'] = '1'
    if options.keep is None:
        with tempfile.TemporaryDirectory() as folder:
            figures = run(options, Path(folder))
    else:
        options.keep.mkdir(parents=True)
        figures = run(options, options.keep)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == '__main__':
    main()
