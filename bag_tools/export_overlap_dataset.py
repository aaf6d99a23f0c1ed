"""export_overlap_dataset --data-root NUSCENES --nuinteract-dir DIR --out DIR: both in one folder.

What nuScenes has pictures of and NuInteract has captions of, as a folder that training needs
nothing beside.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from bag_tools.overlap_writer import HOLDS, OverlapWriter, jpeg_of_file
from bag_tools.whole_folder import check_free, whole_folder
from vlm_nodes.clip_vlm.captions import CaptionTable, read_captions
from vlm_nodes.clip_vlm.data import add_source_arguments
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.nuinteract import nuinteract_captions
from vlm_nodes.clip_vlm.nuscenes_captions import open_nuscenes
from vlm_nodes.clip_vlm.samples import BEYOND, SampleSet, Tally
from vlm_nodes.command_line import run, say
from vlm_nodes.surround import CAMERAS

BROKEN = 'a picture is broken'


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: the folder was written; 2: it could not be."""
    parser = argparse.ArgumentParser(
        prog='export_overlap_dataset',
        description='Write the samples of nuScenes that have captions as a folder of their own, '
        'for --dataset overlap_export. Captions are of NuInteract, or of a JSON file.',
    )
    add = parser.add_argument
    add('--data-root', type=Path, required=True, metavar='DIR', help="nuScenes' folder")
    add('--out', type=Path, required=True, metavar='DIR', help='folder to make')
    add('--overwrite', action='store_true', help='replace OUT if it is such a folder')
    add_source_arguments(parser)
    options = parser.parse_args(arguments)
    return run('export_overlap_dataset', lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if options.max_samples is not None and options.max_samples < 1:
        raise ClipVlmError(f'--max-samples must be at least 1, is {options.max_samples}')
    check_free(options.out, overwrite=options.overwrite, holds=HOLDS)
    found = open_nuscenes(
        options.data_root,
        _captions(options),
        version=options.version,
        cameras=options.cameras,
        require_files=options.require_files,
    )
    with whole_folder(options.out, overwrite=options.overwrite, holds=HOLDS) as folder:
        counts = _write(OverlapWriter(folder, found.cameras), found, options)
    say(f'{counts}\nwritten: {options.out}')
    return 0


def _captions(options: argparse.Namespace) -> CaptionTable:
    if (options.captions is None) == (options.nuinteract_dir is None):
        raise ClipVlmError('say where captions are from: --nuinteract-dir, or else --captions')
    cameras, strategy = options.cameras or CAMERAS, options.caption_strategy
    if options.captions is not None:
        return read_captions(options.captions, strategy=strategy, cameras=cameras)
    return nuinteract_captions(
        options.nuinteract_dir, source=options.caption_source, strategy=strategy, cameras=cameras
    )


def _write(writer: OverlapWriter, found: SampleSet, options: argparse.Namespace) -> str:
    tally = Tally()
    tally.skipped.update(found.skipped)
    tally.notes.update(found.notes)
    kept = 0
    for sample in tqdm(found, unit='sample', leave=False, disable=None):
        if kept == options.max_samples:
            tally.skipped[BEYOND] += 1
            continue
        try:
            pictures = {camera: jpeg_of_file(path) for camera, path in sample.images.items()}
        except ClipVlmError as error:
            if not options.require_files:
                raise ClipVlmError(f'{error}; --require-files leaves such samples out') from None
            tally.skipped[BROKEN] += 1
            continue
        writer.add(sample.token, pictures, sample.caption)
        kept += 1
    return writer.finish(_source(options), tally)


def _source(options: argparse.Namespace) -> dict[str, str]:
    captions = options.captions or options.nuinteract_dir
    source = {
        'pictures': options.data_root.resolve().name,
        'captions': captions.resolve().name,
        'caption_strategy': options.caption_strategy,
    }
    if options.nuinteract_dir is not None:
        source['caption_source'] = options.caption_source
    return source


if __name__ == '__main__':
    sys.exit(main())
