"""The data sets that CLIP-VLM is trained with, as a command line names them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from vlm_nodes.clip_vlm.captions import SOURCES, STRATEGIES, CaptionTable, read_captions
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.nuinteract import open_nuinteract
from vlm_nodes.clip_vlm.nuscenes_captions import open_nuscenes
from vlm_nodes.clip_vlm.overlap import open_overlap
from vlm_nodes.clip_vlm.samples import SampleSet
from vlm_nodes.surround import CAMERAS

DATASETS: Final = ('nuscenes', 'nuinteract', 'overlap_export')


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that say what `open_samples` opens."""
    add = parser.add_argument_group('data').add_argument
    add('--dataset', choices=DATASETS, required=True, help='layout of the data set')
    add(
        '--data-root',
        type=Path,
        metavar='DIR',
        help="nuScenes' folder (nuscenes, nuinteract), or that of export_overlap_dataset "
        'or bag2captions (overlap_export)',
    )
    add_source_arguments(parser)


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `add_data_arguments` that say which of a data set's samples are taken, and how."""
    add = parser.add_argument_group('captions').add_argument
    add('--version', help="folder of nuScenes' tables; needed where there are several")
    add('--captions', type=Path, metavar='JSON', help='sample token -> text, for nuscenes')
    add('--nuinteract-dir', type=Path, metavar='DIR', help='its folder all_caption_public/')
    add(
        '--caption-source',
        choices=SOURCES,
        default='auto',
        help='of NuInteract: auto takes gpt_caption, else gemini_caption (default: auto)',
    )
    add(
        '--caption-strategy',
        choices=STRATEGIES,
        default='overall',
        help='how a caption of several parts becomes one text (default: overall)',
    )
    add(
        '--cameras',
        nargs='+',
        metavar='CAM',
        help="which, in order (default: nuScenes' six, or the manifest's)",
    )
    add('--require-files', action='store_true', help='skip samples with missing pictures')
    add('--max-samples', type=int, metavar='N', help='keep the first N')


def open_samples(options: argparse.Namespace, *, captions_needed: bool) -> SampleSet:
    """The samples that the options of `add_data_arguments` name.

    Args:
        options: As parsed.
        captions_needed: Skip samples without a caption, and count them; otherwise keep them.

    Raises:
        ClipVlmError: An option is missing or wrong, a file is broken, or no sample is left.
        SurroundError: nuScenes' tables cannot be used.
    """
    if options.max_samples is not None and options.max_samples < 1:
        raise ClipVlmError(f'--max-samples must be at least 1, is {options.max_samples}')
    root = _needed(options.data_root, '--data-root', options.dataset)
    if options.dataset == 'nuscenes':
        if captions_needed:
            _needed(options.captions, '--captions', options.dataset)
        found = open_nuscenes(
            root,
            _captions(options),
            version=options.version,
            cameras=options.cameras,
            captions_needed=captions_needed,
            require_files=options.require_files,
            max_samples=options.max_samples,
        )
    elif options.dataset == 'nuinteract':
        found = open_nuinteract(
            _needed(options.nuinteract_dir, '--nuinteract-dir', options.dataset),
            root,
            cameras=options.cameras,
            source=options.caption_source,
            strategy=options.caption_strategy,
            captions_needed=captions_needed,
            require_files=options.require_files,
            max_samples=options.max_samples,
        )
    else:
        found = open_overlap(
            root,
            cameras=options.cameras,
            captions_needed=captions_needed,
            require_files=options.require_files,
            max_samples=options.max_samples,
        )
    if not found:
        raise ClipVlmError(f'{root} leaves no sample: {"; ".join(str(found).splitlines())}')
    return found


def _captions(options: argparse.Namespace) -> CaptionTable | None:
    if options.captions is None:
        return None
    cameras = options.cameras or CAMERAS
    return read_captions(options.captions, strategy=options.caption_strategy, cameras=cameras)


def _needed(path: Path | None, option: str, dataset: str) -> Path:
    if path is None:
        raise ClipVlmError(f'--dataset {dataset} needs {option}')
    return path
