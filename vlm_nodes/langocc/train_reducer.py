"""train_clip_reducer --out FILE: CLIP's features in fewer numbers, fitted to a vocabulary."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from vlm_nodes.clip.encoder import Encoder
from vlm_nodes.clip.reducer import (
    METHODS,
    Reducer,
    balanced,
    fit_autoencoder,
    fit_svd,
    lost_degrees,
    save_reducer,
)
from vlm_nodes.command_line import run, say
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.prompts import OCC3D_PROMPTS

_PATCH_STRIDE: Final = 7
_KINDS: Final = ('.jpg', '.jpeg', '.png')


def read_vocabulary(path: Path) -> list[str]:
    """Texts of a file: one a line, or JSON as `{"car": ["car", "van"], ...}` or `["car", ...]`.

    Raises:
        LangOccError: The file is missing or holds no texts.
    """
    try:
        content = path.read_text(encoding='utf-8')
        if path.suffix == '.json':
            page = json.loads(content)
            groups = page.values() if isinstance(page, dict) else [page]
            texts = [str(text) for group in groups for text in group]
        else:
            texts = [line.strip() for line in content.splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise LangOccError(f'{path} holds no vocabulary: {error}') from error
    found = list(dict.fromkeys(text for text in texts if text))
    if not found:
        raise LangOccError(f'{path} holds no vocabulary: it is empty')
    return found


def picture_features(encoder: Encoder, folder: Path, most: int) -> NDArray[np.float32]:
    """(N, D) features of patches of pictures of a folder, spread over it.

    Raises:
        LangOccError: There is no picture.
    """
    paths = sorted(p for p in folder.rglob('*') if p.suffix.lower() in _KINDS)
    if not paths:
        raise LangOccError(f'{folder} has no pictures ({", ".join(_KINDS)})')
    rows = []
    for place in np.unique(np.linspace(0, len(paths) - 1, most).round().astype(int)):
        bgr = cv2.imread(str(paths[place]), cv2.IMREAD_COLOR)
        if bgr is None:
            raise LangOccError(f'{paths[place]} is not a picture, or is cut short')
        dense = encoder.encode_dense(np.ascontiguousarray(bgr[..., ::-1]))
        rows.append(dense.reshape(-1, encoder.dim)[::_PATCH_STRIDE])
    return np.concatenate(rows)


def _run(options: argparse.Namespace) -> int:
    encoder = Encoder.load(
        str(options.model),
        options.pretrained,
        weights_dir=options.weights_dir,
        num_threads=options.threads or None,
    )
    if not 1 <= options.dim <= encoder.dim:
        raise LangOccError(f'--dim {options.dim} must be 1 to {encoder.dim}, what CLIP gives')
    if options.vocabulary is None:
        names = [text for group in OCC3D_PROMPTS.values() for text in group]
    else:
        names = read_vocabulary(options.vocabulary)
    texts = encoder.encode_text(names)
    pictures = np.zeros((0, encoder.dim), np.float32)
    if options.pictures is not None:
        pictures = picture_features(encoder, options.pictures, options.most_pictures)
    samples = balanced(texts, pictures)
    svd = fit_svd(samples, options.dim)
    projection = fit_autoencoder(samples, options.dim) if options.by == 'autoencoder' else svd
    figures = {
        'texts': len(texts),
        'picture_patches': len(pictures),
        'dim': options.dim,
        'text_degrees': round(lost_degrees(texts, projection), 3),
    }
    if len(pictures):
        figures['picture_degrees'] = round(lost_degrees(pictures, projection), 3)
    about = {'by': options.by, **figures}
    save_reducer(options.out, Reducer(projection, encoder.identity), about)
    lines = '\n'.join(f'{name:16} {value}' for name, value in figures.items())
    say(json.dumps({'reducer': str(options.out), **about}) if options.json else lines)
    return 0


def make_parser() -> argparse.ArgumentParser:
    """The command line of `train_clip_reducer`."""
    parser = argparse.ArgumentParser(
        prog='train_clip_reducer',
        description="Fit a reducer of CLIP's features to a vocabulary, and to pictures where there "
        'are some: for extract_rays --reducer, train_langocc --reducer and create_map --reducer.',
    )
    add = parser.add_argument
    add('--out', type=Path, required=True, metavar='FILE.npz', help='file to write')
    add('--model', default='tiny', help='CLIP: an open_clip model or a folder (default: tiny)')
    add('--pretrained', help='its weights: an open_clip tag or a file')
    add('--weights-dir', type=Path, help='folder of fetched weights')
    add('--vocabulary', type=Path, help="texts, one a line, or JSON (default: Occ3D's classes)")
    add('--pictures', type=Path, metavar='FOLDER', help='pictures whose features count as much')
    add('--most-pictures', type=int, default=64, help='of that folder (default: 64)')
    add('--dim', type=int, default=128, help='numbers that are kept (default: 128)')
    add('--by', choices=METHODS, default='svd', help='how (default: svd)')
    add('--threads', type=int, default=0, help='CPU threads of torch; 0 for its own choice')
    add('--json', action='store_true', help='print the figures as JSON')
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script."""
    options = make_parser().parse_args(arguments)
    return run('train_clip_reducer', lambda: _run(options))


if __name__ == '__main__':
    sys.exit(main())
