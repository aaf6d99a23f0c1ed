"""generate_clip_vlm CHECKPOINT CAM_FRONT=front.jpg ... [--prompt ...]: what pictures show."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vlm_nodes.clip_vlm.captioner import Captioner
from vlm_nodes.clip_vlm.data import DATASETS, add_source_arguments, open_samples
from vlm_nodes.clip_vlm.errors import ClipVlmError
from vlm_nodes.clip_vlm.options import add_run_arguments, load_trained
from vlm_nodes.clip_vlm.samples import CaptionedViews, read_views
from vlm_nodes.command_line import run, say


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: described; 2: it could not be."""
    options = make_parser().parse_intermixed_args(arguments)
    return run('generate_clip_vlm', lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if bool(options.pictures) == (options.dataset is not None):
        raise ClipVlmError('give either pictures, CAMERA=FILE ..., or a --dataset')
    samples = list(_samples(options))
    captioner = Captioner(load_trained(options))
    for sample in samples:
        answer = captioner.describe(
            read_views(sample), options.prompt, max_new_tokens=options.max_new_tokens
        )
        if not options.json:
            say(answer.text if options.pictures else f'{sample.token}: {answer.text}')
            continue
        say(
            json.dumps(
                {
                    'token': sample.token,
                    'cameras': answer.cameras,
                    'text': answer.text,
                    'tokens': answer.tokens,
                    'latency_s': round(answer.latency_s, 4),
                }
            )
        )
    return 0


def _samples(options: argparse.Namespace) -> Iterator[CaptionedViews]:
    if options.dataset is not None:
        yield from open_samples(options, captions_needed=False)
    else:
        yield CaptionedViews('pictures', _pictures(options.pictures), None, 'command line')


def _pictures(given: Sequence[str]) -> Mapping[str, Path]:
    """Of 'CAM_FRONT=front.jpg': file by camera.

    Raises:
        ClipVlmError: One is not of that form, or a camera is named twice.
    """
    found: dict[str, Path] = {}
    for text in given:
        camera, sign, path = text.partition('=')
        if not (camera and sign and path):
            raise ClipVlmError(f'{text!r} is not CAMERA=FILE, such as CAM_FRONT=front.jpg')
        if camera in found:
            raise ClipVlmError(f'{camera} has two pictures')
        found[camera] = Path(path)
    return found


def make_parser() -> argparse.ArgumentParser:
    """The command line of `generate_clip_vlm`."""
    parser = argparse.ArgumentParser(
        prog='generate_clip_vlm', description='Describe pictures with a trained CLIP-VLM.'
    )
    add = parser.add_argument
    add('checkpoint', type=Path, help='folder of train_clip_vlm --mode lm')
    add('pictures', nargs='*', metavar='CAMERA=FILE', help='pictures to describe')
    add('--prompt', help='what is asked (default: the prompt of training)')
    add('--max-new-tokens', type=int, default=128, help='(default: 128)')
    add('--json', action='store_true', help='print a line of JSON a sample')
    add('--dataset', choices=DATASETS, help='describe all samples of a data set instead')
    add('--data-root', type=Path, metavar='DIR', help='its folder')
    add_source_arguments(parser)
    add_run_arguments(parser)
    return parser


if __name__ == '__main__':
    sys.exit(main())
