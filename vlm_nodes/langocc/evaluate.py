"""evaluate_langocc CHECKPOINT DATA...: occupancy mIoU in Occ3D's way, and retrieval of points."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from vlm_nodes.command_line import run, say
from vlm_nodes.langocc.checkpoint import load_checkpoint
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.pictures import draw_above, draw_cameras, write_picture
from vlm_nodes.langocc.predictor import THRESHOLD, Prediction, Predictor
from vlm_nodes.langocc.prompts import OCC3D_PROMPTS, Prompts, checked_prompts, read_prompts
from vlm_nodes.langocc.retrieval import PointQueries, read_benchmark, score_retrieval
from vlm_nodes.langocc.scoring import OccupancyScore
from vlm_nodes.langocc.vocabulary import ClassTexts, EncodeText, TextVectors
from vlm_nodes.surround import Keyframe, NuScenes, Occupancy, read_occupancy, write_occupancy
from vlm_nodes.surround.occupancy import occupancy_path


def score_occupancy(
    predictor: Predictor,
    drives: NuScenes,
    texts: ClassTexts,
    *,
    threshold: float = THRESHOLD,
    cameras: tuple[str, ...] | None = None,
    save: Path | None = None,
) -> OccupancyScore:
    """Score a network on the keyframes of a data set with occupancy labels.

    Args:
        predictor: The network.
        drives: The data set.
        texts: Classes that may be predicted.
        threshold: Opacity from which a voxel is occupied.
        cameras: Only these pictures are given to the network; None gives all.
        save: Folder for what is predicted, in the labels' layout, and pictures of it.

    Raises:
        SurroundError: A picture or labels cannot be read.
        LangOccError: The labels are of another grid.
    """
    score = OccupancyScore()
    for place in tqdm(range(len(drives)), unit='keyframe', desc='occupancy', disable=None):
        keyframe = drives[place]
        truth = read_occupancy(occupancy_path(drives.root, keyframe.scene, keyframe.token))
        prediction = predictor.predict_place(drives, place, cameras)
        semantics = prediction.semantics(texts, threshold)
        score.add(truth, semantics)
        if save is not None:
            _save(save, predictor, keyframe, prediction, truth, semantics)
    return score


def _save(
    folder: Path,
    predictor: Predictor,
    keyframe: Keyframe,
    prediction: Prediction,
    truth: Occupancy,
    semantics: Any,
) -> None:
    path = occupancy_path(folder, keyframe.scene, keyframe.token)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_occupancy(path, Occupancy(semantics, truth.mask_camera, truth.mask_lidar))
    gap = np.zeros((4 * semantics.shape[0], 8, 3), np.uint8)
    above = [draw_above(semantics), gap, draw_above(truth.semantics)]
    write_picture(path.with_name('above.png'), np.hstack(above))
    cameras = draw_cameras(predictor.model, prediction, keyframe)
    write_picture(path.with_name('cameras.png'), cameras)


def _run(options: argparse.Namespace) -> int:
    if not 0 < options.threshold < 1:
        raise LangOccError(f'--threshold must be between 0 and 1, is {options.threshold}')
    if options.threads:
        torch.set_num_threads(options.threads)
    checkpoint = load_checkpoint(options.checkpoint)
    predictor = Predictor(checkpoint, options.device)
    encode = TextVectors(
        checkpoint.space, options.cache or options.checkpoint / 'texts', options.weights_dir
    )
    figures: dict[str, Any] = {}
    score = OccupancyScore()
    texts = ClassTexts.of(checkpoint, encode, _prompts(options))
    cameras = tuple(options.cameras) if options.cameras else None
    for folder in options.data:
        drives = _drives(options, folder, predictor)
        part = score_occupancy(
            predictor,
            drives,
            texts,
            threshold=options.threshold,
            cameras=cameras,
            save=options.save_occ_path,
        )
        score.counts += part.counts
    figures |= score.figures()
    if options.retrieval is not None:
        queries = read_benchmark(options.retrieval)
        figures['retrieval'] = _retrieval(options, predictor, encode, queries)
    say(json.dumps(figures, indent=2) if options.json else _words(figures))
    return 0


def _retrieval(
    options: argparse.Namespace,
    predictor: Predictor,
    encode: EncodeText,
    queries: Sequence[PointQueries],
) -> Mapping[str, Any]:
    drives = [_drives(options, folder, predictor, lidar=True) for folder in options.data]
    return score_retrieval(predictor, drives, encode, queries)


def _drives(
    options: argparse.Namespace, folder: Path, predictor: Predictor, *, lidar: bool = False
) -> NuScenes:
    return NuScenes(
        folder,
        cameras=predictor.config.cameras,
        lidar=lidar,
        require_files=options.require_files,
        max_samples=options.max_samples,
    )


def _prompts(options: argparse.Namespace) -> Prompts:
    prompts: Prompts = OCC3D_PROMPTS if options.prompts is None else read_prompts(options.prompts)
    if options.classes:
        unknown = sorted(set(options.classes) - set(prompts))
        if unknown:
            raise LangOccError(f'no prompts for classes {", ".join(unknown)}')
        prompts = {name: prompts[name] for name in options.classes}
    return checked_prompts(prompts, 'prompts')


def _words(figures: Mapping[str, Any]) -> str:
    lines = [
        f'IoU, occupied or free      {figures["iou"]:.4f}',
        f'mIoU over 17 classes       {figures["miou_17"]:.4f}',
        f'mIoU over 15 classes       {figures["miou_15"]:.4f}',
        f'classes that occur         {figures["classes_present"]}',
        *(f'  {name:24} {value:.4f}' for name, value in figures['classes'].items()),
    ]
    for kind, values in figures.get('retrieval', {}).items():
        lines.append(
            f'retrieval, {kind:8} points  mAP {values["map"]:.4f}, chance '
            f'{values["prevalence"]:.4f}, ratio {values["ratio"]:.2f}'
        )
    return '\n'.join(lines)


def make_parser() -> argparse.ArgumentParser:
    """The command line of `evaluate_langocc`."""
    parser = argparse.ArgumentParser(
        prog='evaluate_langocc',
        description='Score a LangOcc network: occupancy over what cameras see, and retrieval.',
    )
    add = parser.add_argument
    add('checkpoint', type=Path, help='folder of train_langocc')
    add('data', type=Path, nargs='+', help="data sets with Occ3D's labels in gts/")
    add('--prompts', type=Path, help='JSON file of prompts by class (default: our own of 17)')
    add('--classes', nargs='+', metavar='CLASS', help='only these may be predicted')
    add(
        '--threshold',
        type=float,
        default=THRESHOLD,
        help='opacity of a voxel (default: %(default)s)',
    )
    add('--cameras', nargs='+', metavar='CAM', help='give the network only these pictures')
    add('--retrieval', type=Path, metavar='CSV', help='file of queries, to score retrieval too')
    add('--save-occ-path', type=Path, metavar='DIR', help='write predictions and pictures')
    add('--max-samples', type=int, help='score the first so many keyframes of each data set')
    add('--require-files', action='store_true', help='leave keyframes with missing files out')
    add('--weights-dir', type=Path, help='folder of fetched weights')
    add('--cache', type=Path, help='folder of text vectors (default: CHECKPOINT/texts)')
    add('--device', default='cpu', help='cpu, cuda or cuda:N (default: cpu)')
    add('--threads', type=int, default=0, help='CPU threads of torch; 0 for its own choice')
    add('--json', action='store_true', help='print the figures as JSON')
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script."""
    options = make_parser().parse_args(arguments)
    return run('evaluate_langocc', lambda: _run(options))


if __name__ == '__main__':
    sys.exit(main())
