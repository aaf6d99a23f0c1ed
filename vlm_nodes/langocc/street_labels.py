"""Label images of simulated streets, from which `train_clip` makes a CLIP that knows streets.

    python -m vlm_nodes.langocc.street_labels STREET... --out labels

The package's `tiny` knows rooms only. A real CLIP learned words from pictures with captions; this
one learns them from pictures of training streets with label images, in which each class goes by one
of two names: in every second picture by the word, in the others by a synonym. Nothing in it is 3D.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bag_tools.whole_folder import check_free, whole_folder
from vlm_nodes.command_line import run, say
from vlm_nodes.simulation.street.truth_files import read_pixel_truth
from vlm_nodes.surround import NuScenes, read_image
from vlm_nodes.surround.occupancy import CLASSES

WORDS: Final = MappingProxyType(
    {
        'driveable_surface': ('road', 'asphalt'),
        'sidewalk': ('sidewalk', 'pavement'),
        'terrain': ('grass', 'lawn'),
        'manmade': ('building', 'house'),
        'vegetation': ('vegetation', 'tree'),
        'car': ('car', 'automobile'),
        'truck': ('truck', 'lorry'),
        'pedestrian': ('person', 'pedestrian'),
        'free': ('sky', 'heaven'),
    }
)
"""The word and the synonym of each class of pixels that streets have; `free` is sky."""

TEXTS: Final = tuple(text for pair in WORDS.values() for text in pair)
HOLDS: Final = ('images', 'labels', 'labels.json')


def label_ids(semantics: NDArray[np.uint8], *, synonyms: bool) -> NDArray[np.uint8]:
    """Occ3D's class numbers of pixels as places in `TEXTS`, counted from 1; 0 is none of them."""
    table = np.zeros(256, np.uint8)
    for place, name in enumerate(WORDS):
        table[CLASSES.index(name)] = 1 + 2 * place + synonyms
    labels: NDArray[np.uint8] = table[semantics]
    return labels


def write_street_labels(
    out: Path, streets: Sequence[NuScenes], step: int = 1, *, overwrite: bool = False
) -> int:
    """Write every `step`th picture of the streets as a data set of label images.

    Returns:
        Number of pictures.

    Raises:
        SurroundError: A picture or its truth is missing.
    """
    pictures = [
        image for drives in streets for keyframe in drives for image in keyframe.cameras.values()
    ][::step]
    with whole_folder(out, overwrite=overwrite, holds=HOLDS) as part:
        for name in HOLDS[:2]:
            (part / name).mkdir(parents=True)
        names = {str(number + 1): text for number, text in enumerate(TEXTS)}
        (part / 'labels.json').write_text(json.dumps(names, indent=1) + '\n')
        for number, image in enumerate(tqdm(pictures, unit='picture', desc='labels')):
            truth = read_pixel_truth(image.path)
            labels = label_ids(truth.semantics, synonyms=number % 2 == 1)
            # With the number: pictures of two streets may have one name.
            stem = f'{number:06d}_{image.path.stem}'
            _write(part / 'images' / f'{stem}.png', read_image(image)[..., ::-1])
            _write(part / 'labels' / f'{stem}.png', labels)
    return len(pictures)


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise OSError(f'could not write {path}')


def _run(options: argparse.Namespace) -> int:
    if options.step < 1:
        raise ValueError(f'--step must be at least 1, is {options.step}')
    check_free(options.out, overwrite=options.overwrite, holds=HOLDS)
    streets = [NuScenes(folder) for folder in options.streets]
    count = write_street_labels(options.out, streets, options.step, overwrite=options.overwrite)
    say(f'{count} pictures with labels in {options.out}')
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The tool."""
    parser = argparse.ArgumentParser(
        prog='street_labels', description='Label images of simulated streets, for train_clip.'
    )
    add = parser.add_argument
    add('streets', type=Path, nargs='+', help='folders of make_street')
    add('--out', type=Path, required=True, help='folder to make')
    add('--step', type=int, default=1, help='take every so many pictures (default: 1)')
    add('--overwrite', action='store_true', help='replace OUT if it is there')
    options = parser.parse_args(arguments)
    return run('street_labels', lambda: _run(options))


if __name__ == '__main__':
    sys.exit(main())
