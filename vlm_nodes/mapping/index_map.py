"""index_map MAP "text" ...: where in a map things are, as a table and as pictures from above."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.command_line import run
from vlm_nodes.mapping.instances import MapMatch
from vlm_nodes.mapping.pictures import (
    TopDownView,
    framed,
    heat_map,
    mark_matches,
    top_down_color,
    write_picture,
)
from vlm_nodes.mapping.query import DEFAULT_NEGATIVES
from vlm_nodes.mapping.text_encoder import TextEncoder
from vlm_nodes.mapping.voxel_map import VoxelMap


def main(arguments: Sequence[str] | None = None, encoder: TextEncoder | None = None) -> int:
    """The console script.

    Args:
        arguments: The command line; None takes the process's.
        encoder: Encodes the texts; None loads the one that the map names.

    Returns:
        Exit code 0: every text has a match; 1: a text has none; 2: the map cannot be read.
    """
    options = _parser().parse_args(arguments)
    return run('index_map', lambda: _run(options, encoder))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='index_map',
        description='Ask a map for things by text. Prints where they are, writes a picture from '
        'above with the matches marked, and a heat map for each text.',
        epilog='Exit code: 0 every text has a match, 1 a text has none, 2 the map cannot be read.',
    )
    parser.add_argument('map', metavar='MAP', type=Path, help='map file that create_map wrote')
    parser.add_argument('texts', metavar='TEXT', nargs='+', help='what to look for: "red mug"')
    parser.add_argument(
        '--negatives',
        nargs='+',
        default=list(DEFAULT_NEGATIVES),
        metavar='TEXT',
        help='what else things may be (default: %(default)s)',
    )
    parser.add_argument(
        '--max-matches', type=int, default=5, metavar='N', help='matches a text (default 5)'
    )
    parser.add_argument(
        '--min-score', type=float, default=0.5, metavar='S', help='lowest score (default 0.5)'
    )
    parser.add_argument(
        '--pictures',
        type=Path,
        metavar='DIR',
        help="folder for the pictures (default: the map's folder)",
    )
    parser.add_argument('--no-pictures', action='store_true', help='write no pictures')
    parser.add_argument('--json', action='store_true', help='print the matches as JSON')
    return parser


def _run(options: argparse.Namespace, encoder: TextEncoder | None) -> int:
    voxel_map = VoxelMap.load(options.map, encoder)
    if not voxel_map.weights.any():
        raise ValueError(
            f'{options.map} holds geometry and colour only: make it with a model (create_map '
            '--model) to ask it for things'
        )
    found = {
        text: voxel_map.query(
            text,
            negatives=options.negatives,
            max_matches=options.max_matches,
            min_score=options.min_score,
        )
        for text in dict.fromkeys(options.texts)
    }
    pictures: list[Path] = []
    if not options.no_pictures:
        folder = options.pictures or options.map.parent
        pictures = write_pictures(voxel_map, found, options.negatives, folder, options.map.stem)
    if options.json:
        print(json.dumps(_as_json(voxel_map, found, pictures), indent=2))
    else:
        _print_table(voxel_map, found, pictures)
    return 0 if all(found.values()) else 1


def write_pictures(
    voxel_map: VoxelMap,
    found: dict[str, list[MapMatch]],
    negatives: Sequence[str],
    folder: Path,
    name: str,
) -> list[Path]:
    """Write NAME_matches.png with every match, and NAME_heat_TEXT.png for each text.

    Returns:
        The files, the one with the matches first.
    """
    points, colors = voxel_map.color_cloud()
    view = TopDownView.around(points, voxel_map.config.voxel_size_m)
    color = top_down_color(points, colors, view)
    marked = mark_matches(color, view, [match for matches in found.values() for match in matches])
    title = f'{name}: {", ".join(found)}'
    pictures = {folder / f'{name}_matches.png': framed(marked, view, title)}
    for text, matches in found.items():
        points, scores = voxel_map.score_cloud(text, negatives)
        heat = heat_map(points, scores, view, color, matches)
        pictures[_unused(folder / f'{name}_heat_{_slug(text)}.png', pictures)] = framed(
            heat, view, f'{name}: {text}'
        )
    for path, picture in pictures.items():
        write_picture(path, picture)
    return list(pictures)


def _slug(text: str) -> str:
    """A text as part of a file's name."""
    return re.sub(r'\W+', '_', text.lower()).strip('_')[:40] or 'text'


def _unused(path: Path, taken: dict[Path, NDArray[np.uint8]]) -> Path:
    """A path that no other text of this run has taken."""
    number, free = 2, path
    while free in taken:
        free = path.with_stem(f'{path.stem}_{number}')
        number += 1
    return free


def _print_table(
    voxel_map: VoxelMap, found: dict[str, list[MapMatch]], pictures: Sequence[Path]
) -> None:
    print(f'{len(voxel_map)} voxels in frame {voxel_map.frame_id}; positions and sizes in metres')
    width = max([12, *(len(text) for text in found)])
    print(f'{"text":{width}} {"score":>6} {"x":>8} {"y":>8} {"z":>8}   {"size":17} {"voxels":>6}')
    for text, matches in found.items():
        for match in matches:
            x, y, z = match.centroid
            size = ' x '.join(f'{length:.2f}' for length in match.size)
            print(
                f'{text:{width}} {match.score:6.2f} {x:8.2f} {y:8.2f} {z:8.2f}   {size:17} '
                f'{match.voxels:6d}'
            )
        if not matches:
            print(f'{text:{width}} no match')
    for path in pictures:
        print(f'picture: {path}')


def _as_json(
    voxel_map: VoxelMap, found: dict[str, list[MapMatch]], pictures: Sequence[Path]
) -> dict[str, Any]:
    return {
        'frame_id': voxel_map.frame_id,
        'voxels': len(voxel_map),
        'matches': {text: [_match_json(m) for m in matches] for text, matches in found.items()},
        'pictures': [str(path) for path in pictures],
    }


def _match_json(match: MapMatch) -> dict[str, Any]:
    return {
        'label': match.label,
        'score': match.score,
        'centroid_m': [float(value) for value in match.centroid],
        'size_m': [float(value) for value in match.size],
        'voxels': match.voxels,
        'first_seen_ns': match.first_seen_ns,
        'last_seen_ns': match.last_seen_ns,
    }


if __name__ == '__main__':
    sys.exit(main())
