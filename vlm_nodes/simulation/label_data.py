"""Pictures with semantic label images, from random rooms: what `vlm_nodes.clip.train` learns from.

    make_label_images OUT --seed 0 --rooms 1500 --views 8

writes `OUT/images/NAME.png` (RGB), `OUT/labels/NAME.png` (uint16 label ids, 0 = unlabelled) and
`OUT/labels.json` ({"1": "floor", "7": "red mug", ...}). The same arguments give the same pictures
on the same machine; the label images and the viewpoints are the same everywhere.
"""

import argparse
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vlm_nodes.simulation import vocabulary
from vlm_nodes.simulation.render import Renderer
from vlm_nodes.simulation.scene import World
from vlm_nodes.simulation.viewpoints import ViewRange, random_view
from vlm_nodes.simulation.worlds import make_room

_LOGGER = logging.getLogger(__name__)
_TRIES: Final = 12


@dataclass(frozen=True)
class LabelImage:
    """One picture of the data set.

    Attributes:
        name: room seed and view number.
        rgb: (H, W, 3) uint8.
        labels: (H, W) uint16 label ids.
    """

    name: str
    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint16]


def label_images(
    seeds: range, views_per_room: int, views: ViewRange, *, min_object_share: float = 0.25
) -> Iterator[LabelImage]:
    """Renders random views of the rooms of some seeds.

    Args:
        seeds: of the rooms, within `vocabulary.TRAIN_SEEDS` or `vocabulary.TEST_SEEDS`.
        views_per_room: pictures of each room.
        views: what the views are drawn from.
        min_object_share: share of pixels that must be on objects; views with less are drawn
            again, some times.

    Yields:
        The pictures, room by room.
    """
    with Renderer(views.size, views.size) as renderer:
        for seed in seeds:
            world = World(make_room(seed))
            rng = np.random.default_rng([seed, 21])
            for number in range(views_per_room):
                rgb, labels = _view_of_objects(renderer, world, rng, views, min_object_share)
                yield LabelImage(f'{seed:07d}_{number:02d}', rgb, labels)


def _view_of_objects(
    renderer: Renderer,
    world: World,
    rng: np.random.Generator,
    views: ViewRange,
    min_object_share: float,
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    for _ in range(_TRIES):
        camera, map_from_camera = random_view(world.room, rng, views)
        labels = renderer.render_labels(world, camera, map_from_camera)
        if np.mean(labels > len(vocabulary.ROOM_LABELS)) >= min_object_share:
            break
    return renderer.render(world, camera, map_from_camera).rgb, labels


def write_label_images(
    out: Path, seeds: range, views_per_room: int, views: ViewRange
) -> dict[str, float]:
    """Writes the data set to a new folder.

    It is written under a temporary name and renamed at the end, so that a folder of that name is
    complete.

    Returns:
        The share of pixels of each label that occurs, in falling order.

    Raises:
        FileExistsError: if the folder is there already.
    """
    if out.exists():
        raise FileExistsError(f'{out} exists already, not overwriting it')
    part = out.with_name(out.name + '.part')
    if part.exists():
        shutil.rmtree(part)
    for folder in ('images', 'labels'):
        (part / folder).mkdir(parents=True)
    pixels = np.zeros(len(vocabulary.LABELS) + 1, np.int64)
    images = label_images(seeds, views_per_room, views)
    for image in tqdm(images, total=len(seeds) * views_per_room, unit='image'):
        _write_png(part / 'images' / f'{image.name}.png', image.rgb[..., ::-1])
        _write_png(part / 'labels' / f'{image.name}.png', image.labels)
        pixels += np.bincount(image.labels.ravel(), minlength=len(pixels))
    names = {str(number): label for label, number in vocabulary.LABEL_IDS.items()}
    (part / 'labels.json').write_text(json.dumps(names, indent=1) + '\n')
    part.rename(out)
    return _shares(pixels)


def _shares(pixels: NDArray[np.int64]) -> dict[str, float]:
    names = ('unlabelled', *vocabulary.LABELS)
    order = np.argsort(-pixels, kind='stable')
    return {names[i]: float(pixels[i] / pixels.sum()) for i in order if pixels[i]}


def _write_png(path: Path, image: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 3]):
        raise OSError(f'could not write {path}')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='make_label_images',
        description='Renders random simulated rooms with ground-truth label images.',
    )
    parser.add_argument('out', type=Path, help='folder to make')
    parser.add_argument(
        '--seed',
        type=int,
        default=0,
        help='first room; training rooms start at 0, test rooms at 1000000 (default: 0)',
    )
    parser.add_argument('--rooms', type=int, default=1500, help='number of rooms (default: 1500)')
    parser.add_argument('--views', type=int, default=8, help='pictures a room (default: 8)')
    parser.add_argument('--size', type=int, default=128, help='image side in pixels (default: 128)')
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `make_label_images`."""
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.rooms < 1 or options.views < 1:
        parser.error(f'--rooms {options.rooms} and --views {options.views} must be at least 1')
    seeds = range(options.seed, options.seed + options.rooms)
    try:
        shares = write_label_images(options.out, seeds, options.views, ViewRange(options.size))
    except (FileExistsError, ValueError) as error:
        parser.error(str(error))
    room = sum(shares.get(label, 0.0) for label in ('unlabelled', *vocabulary.ROOM_LABELS))
    _LOGGER.info(
        '%d pictures in %s: %d labels, %.0f %% of the pixels on objects',
        options.rooms * options.views, options.out, len(shares), 100 * (1 - room),
    )  # fmt: skip


if __name__ == '__main__':
    main()
