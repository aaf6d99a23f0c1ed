"""LangOcc learned from nothing on simulated streets, scored on streets it never saw.

1. Streets of training and held-out seeds are recorded (not timed). LangOcc is never given their
   occupancy, depth or LiDAR.
2. A CLIP is trained on pictures of the training streets with 2D label images, in CLIP's stead: it
   learns words and synonyms in 2D, as CLIP did from captions, and nothing of 3D.
3. Its patch features are looked up on random pixels, and LangOcc is trained to render them.
4. Held-out streets: Occ3D's mIoU and IoU over what cameras see; average precision of LiDAR points
   asked for by words that classes are named by, and by synonyms that they are not.

`train_minutes` is 2 and 3 together, `langocc_minutes` of it LangOcc's own, `train_cpu_minutes` what
processors gave to it (to the first of the processes that train LangOcc together): where others use
them too, clocks say little. Beside it: `iou_floor`
and `miou_floor`, of a prediction that is the most frequent class of each voxel over the training
streets (which do have 3D labels), the same for every picture; `iou_three_best` and
`miou_three_best`, the best figures that three of the cameras reach on the first held-out scenes,
beside those of all six there; `teacher_miou`, of the CLIP in 2D.

    python benchmarks/langocc_street.py [--seeds 1000000 ...] [--steps 2200] [--keep DIR] [--quick]

Prints one JSON object.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from vlm_nodes.clip.confusion import count_pairs, intersection_over_union, mean_iou
from vlm_nodes.langocc.checkpoint import load_checkpoint
from vlm_nodes.langocc.evaluate import score_occupancy
from vlm_nodes.langocc.predictor import THRESHOLD, Predictor
from vlm_nodes.langocc.prompts import SEVENTEEN
from vlm_nodes.langocc.ray_store import RayStore, reduce_features
from vlm_nodes.langocc.retrieval import score_retrieval
from vlm_nodes.langocc.scoring import OccupancyScore
from vlm_nodes.langocc.street_labels import WORDS
from vlm_nodes.langocc.street_queries import street_queries
from vlm_nodes.langocc.vocabulary import ClassTexts, TextVectors
from vlm_nodes.simulation.street.truth_files import read_pixel_truth
from vlm_nodes.simulation.street.vocabulary import VAL_SEEDS
from vlm_nodes.surround import CAMERAS, NuScenes, read_occupancy
from vlm_nodes.surround.occupancy import CLASSES, occupancy_path

# Its floor is that of the ground's voxels: below the ground there is nothing to be learned.
GRID = ('--lower', '-16', '-16', '-0.2', '--upper', '16', '16', '5.4', '--voxel', '0.8')
PROMPTS = {name: (words[0],) for name, words in WORDS.items() if name != 'free'}


class Stages:
    """Runs the product's own tools, each in a process."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.minutes: dict[str, float] = {}
        self.cpu_minutes: dict[str, float] = {}

    def tool(self, stage: str, module: str, *arguments: object, threads: int = 1) -> None:
        """Run one, and keep its minutes, by the clock and of processors."""
        command = [sys.executable, '-m', f'vlm_nodes.{module}', *map(str, arguments)]
        given = str(threads)
        environment = os.environ | {'OMP_NUM_THREADS': given, 'MKL_NUM_THREADS': given}
        environment.setdefault('MUJOCO_GL', 'egl')
        # A thread that spins while the other waits for a core would take that core from it.
        environment.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        log = self.folder / f'{stage}.log'
        with log.open('w') as stream:
            done = subprocess.run(
                command, env=environment, stdout=stream, stderr=subprocess.STDOUT, check=False
            )
        if done.returncode:
            raise SystemExit(f'{module} failed:\n{log.read_text()[-2000:]}')
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        self.minutes[stage] = (time.perf_counter() - start) / 60
        self.cpu_minutes[stage] = used / 60

    def record(self) -> None:
        """Streets to train on, and one folder for each held-out seed."""
        small = ('--width', '64', '--height', '32') if self.options.quick else ()
        scenes, keyframes = (2, 2) if self.options.quick else (self.options.scenes, 8)
        street = 'simulation.street.command'
        common = (*GRID, *small, '--samples', '0')
        self.tool(
            'record', street, '--out', self.train, '--scenes', scenes, '--keyframes', keyframes,
            *common,
        )  # fmt: skip
        for seed in self.options.seeds:
            number = seed - VAL_SEEDS.start
            self.tool(
                f'record_{seed}', street, '--split', 'val', '--seed', number, '--scenes', 1,
                '--out', self.held_out(seed), '--keyframes', 2 if self.options.quick else 6,
                *common,
            )  # fmt: skip

    @property
    def train(self) -> Path:
        """Streets to train on."""
        return self.folder / 'train'

    def held_out(self, seed: int) -> Path:
        """One street to test on."""
        return self.folder / f'val-{seed}'

    def teach(self) -> None:
        """A CLIP that knows streets, from 2D labels."""
        quick, options = self.options.quick, self.options
        labels = self.folder / 'labels'
        module = 'langocc.street_labels'
        self.tool('labels', module, self.train, '--out', labels, '--step', 1)
        # Its validation is for looking at; nothing is chosen by it.
        few = self.folder / 'labels_few'
        self.tool('labels_few', module, self.train, '--out', few, '--step', 23)
        epochs = 1 if quick else options.clip_epochs
        self.tool(
            'clip', 'clip.train', labels, '--val', few, '--out', self.folder / 'clip',
            '--scratch', '--model', 'tiny', '--labels-only', '--size', 32 if quick else 96,
            '--epochs', epochs, '--batch', 8 if quick else 32, '--precision', 'bf16',
            '--ema', 0.98, '--half', '--threads', options.cores, '--workers', 0,
            '--val-every', epochs, threads=options.cores,
        )  # fmt: skip

    def learn(self) -> None:
        """Rays, and LangOcc trained on them."""
        options, quick = self.options, self.options.quick
        held_out = [self.held_out(seed) for seed in options.seeds]
        rays = self.folder / 'rays'
        self.tool(
            'rays', 'langocc.extract', self.train, *held_out, '--out', rays,
            '--model', self.folder / 'clip', '--clip-size', 32 if quick else 96,
            '--feature-dim', 32, '--rays-a-camera', 64 if quick else 512,
            '--threads', 1, '--workers', options.cores,
        )  # fmt: skip
        small = ('--image-size', '32', '64') if quick else ()
        self.tool(
            'train', 'langocc.train', self.train, '--val', *held_out[:1], '--store', rays,
            '--out', self.folder / 'langocc', '--size', 'small', *GRID,
            '--accelerator', 'cpu', '--devices', options.cores, '--threads', 1,
            '--steps', 4 if quick else options.steps, '--batch', max(1, 2 // options.cores),
            '--lr', 3e-3,
            '--rays', 200 if quick else 2500, '--before', 3, '--after', 3, '--ema', 0.99,
            '--drop-camera', 0.03, '--spread-weight', 0.01, '--rarity', 0.5, '--val-every', 5,
            '--seed', options.seed, *small,
        )  # fmt: skip


def floor(train: NuScenes, held_out: list[NuScenes]) -> OccupancyScore:
    """The most frequent class of each voxel, over what cameras see of the training streets."""
    counts: np.ndarray | None = None
    for place in range(len(train)):
        keyframe = train[place]
        truth = read_occupancy(occupancy_path(train.root, keyframe.scene, keyframe.token))
        one = (truth.semantics[..., None] == np.arange(len(CLASSES))) & truth.mask_camera[..., None]
        counts = one.astype(np.int32) if counts is None else counts + one
    assert counts is not None
    # Where nothing was ever seen, argmax would say class 0.
    counts[..., -1] += counts.sum(-1) == 0
    constant = counts.argmax(-1).astype(np.uint8)
    score = OccupancyScore()
    for drives in held_out:
        for place in range(len(drives)):
            keyframe = drives[place]
            path = occupancy_path(drives.root, keyframe.scene, keyframe.token)
            score.add(read_occupancy(path), constant)
    return score


def teacher_miou(store: RayStore, encode: TextVectors, held_out: list[NuScenes]) -> float:
    """Of the CLIP's features on rays of held-out pictures, sky among the classes."""
    texts = reduce_features(encode([words[0] for words in WORDS.values()]), store.projection)
    numbers = np.array([CLASSES.index(name) for name in WORDS])
    counts = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for drives in held_out:
        for place in range(len(drives)):
            keyframe = drives[place]
            rays = store.read(keyframe.token)
            predicted = numbers[(rays.features.astype(np.float32) @ texts.T).argmax(1)]
            for number, name in enumerate(store.page.cameras):
                mine = rays.camera == number
                truth = read_pixel_truth(keyframe.cameras[name].path).semantics
                u, v = rays.pixels[mine].T
                counts += count_pairs(truth[v, u].astype(np.int64), predicted[mine], len(CLASSES))
    return mean_iou(intersection_over_union(counts), list(range(len(CLASSES))))


def scored(
    predictor: Predictor,
    held_out: list[NuScenes],
    texts: ClassTexts,
    threshold: float,
    cameras: tuple[str, ...] | None = None,
) -> OccupancyScore:
    total = OccupancyScore()
    for drives in held_out:
        one = score_occupancy(predictor, drives, texts, threshold=threshold, cameras=cameras)
        total.counts += one.counts
    return total


def evaluate(stages: Stages) -> dict[str, float]:
    options = stages.options
    torch.set_num_threads(options.cores)
    checkpoint = load_checkpoint(stages.folder / 'langocc')
    predictor = Predictor(checkpoint)
    encode = TextVectors(checkpoint.space)
    texts = ClassTexts.of(checkpoint, encode, PROMPTS)
    held_out = [NuScenes(stages.held_out(seed), lidar=True) for seed in options.seeds]
    score = scored(predictor, held_out, texts, options.threshold)
    result: dict[str, float] = {'iou': score.iou(), 'miou': score.miou(SEVENTEEN)}
    result |= {f'iou_{name}': v for name, v in score.class_iou().items() if name in PROMPTS}
    constant = floor(NuScenes(stages.train), held_out)
    result |= {'iou_floor': constant.iou(), 'miou_floor': constant.miou(SEVENTEEN)}
    for kind, synonyms in (('seen', False), ('synonym', True)):
        queries = [
            query
            for drives in held_out
            for place in range(len(drives))
            for query in street_queries(drives, place, synonyms=synonyms)
        ]
        found = score_retrieval(predictor, held_out, encode, queries)
        result |= {
            f'map_over_prevalence_{kind}': found['all']['ratio'],
            f'map_over_prevalence_{kind}_visible': found['visible']['ratio'],
            f'map_{kind}': found['all']['map'],
        }
    triples = list(itertools.combinations(CAMERAS, 3))
    triples = triples[:1] if options.quick else triples
    few = held_out[: options.three_scenes]
    threes = [scored(predictor, few, texts, options.threshold, names) for names in triples]
    six = scored(predictor, few, texts, options.threshold)
    result |= {
        'iou_three_best': max(three.iou() for three in threes),
        'miou_three_best': max(three.miou(SEVENTEEN) for three in threes),
        'iou_six_there': six.iou(),
        'miou_six_there': six.miou(SEVENTEEN),
    }
    store = RayStore(stages.folder / 'rays')
    return result | {'teacher_miou': teacher_miou(store, encode, held_out)}


def run(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    stages = Stages(options, folder)
    stages.record()
    stages.teach()
    stages.learn()
    result = evaluate(stages)
    trained = ('labels', 'labels_few', 'clip', 'rays', 'train')
    return {
        **result,
        'train_minutes': sum(stages.minutes[name] for name in trained),
        'train_cpu_minutes': sum(stages.cpu_minutes[name] for name in trained),
        'clip_minutes': stages.minutes['clip'],
        'langocc_minutes': stages.minutes['train'],
        'steps': options.steps,
        'scenes': options.scenes,
        'held_out_scenes': len(options.seeds),
        'cores': options.cores,
        'seed': options.seed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    first = VAL_SEEDS.start
    add('--seeds', type=int, nargs='+', default=list(range(first, first + 8)), help='held out')
    add('--scenes', type=int, default=24, help='drives to train on (default: 24)')
    add('--steps', type=int, default=2200, help='of LangOcc (default: 2200)')
    add('--clip-epochs', type=int, default=10)
    add('--threshold', type=float, default=THRESHOLD, help='opacity of an occupied voxel')
    add('--three-scenes', type=int, default=2, help='held-out scenes for all sets of three cameras')
    add('--cores', type=int, default=2, help='processes that train LangOcc together')
    add('--seed', type=int, default=0, help='of the training')
    add('--keep', type=Path, help='folder to make and keep')
    add('--quick', action='store_true', help='a smoke run: figures mean nothing')
    options = parser.parse_args()
    if any(seed not in VAL_SEEDS for seed in options.seeds):
        parser.error(f'seeds must be held out, in {VAL_SEEDS}: {options.seeds}')
    if options.quick:
        options.seeds = options.seeds[:1]
    if options.keep is None:
        with tempfile.TemporaryDirectory() as folder:
            figures = run(options, Path(folder))
    else:
        options.keep.mkdir(parents=True)
        figures = run(options, options.keep)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == '__main__':
    main()
