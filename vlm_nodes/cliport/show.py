"""cliport_show DATA --out DIR: look through demonstrations, with pick and place drawn."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from vlm_nodes.cliport.episode import Episode, episode_files
from vlm_nodes.cliport.pictures import Image, action_picture, height_picture, titled
from vlm_nodes.cliport.poses import PixelPose, labels_of_poses
from vlm_nodes.cliport.record_video import final_picture, write_png
from vlm_nodes.command_line import run, say

SHEET, SCALE = 'sheet.png', 2
# Of the pictures of a sheet.
_TITLE_LETTERS = 72


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: there are pictures; 2: there are none."""
    options = make_parser().parse_args(arguments)
    return run('cliport_show', lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    for name in ('count', 'columns'):
        if getattr(options, name) < 1:
            raise ValueError(f'--{name} must be at least 1, got {getattr(options, name)}')
    files = episode_files(options.data)
    options.out.mkdir(parents=True, exist_ok=True)
    show = _show_all if options.index is None else _show_one
    figures = show(files, options)
    say(json.dumps(figures, indent=2) if options.json else _text(figures))
    return 0


def _show_one(files: Sequence[Path], options: argparse.Namespace) -> dict[str, Any]:
    """Every step of one episode, each in a file."""
    if not -len(files) <= options.index < len(files):
        raise ValueError(
            f'{options.data} has {len(files)} episodes, there is no --index {options.index}'
        )
    path = files[options.index]
    episode = Episode.load(path)
    paths = [options.out / f'{path.stem}-{k}.png' for k in range(len(episode.steps) + 1)]
    _refuse_to_overwrite(paths, options.overwrite)
    for each, image in zip(paths, episode_pictures(episode, heights=options.heights), strict=True):
        write_png(each, image)
    return {
        'episode': str(path),
        'task': episode.task,
        'seed': episode.seed,
        'steps': [_step_page(episode, number) for number in range(len(episode.steps))],
        'reward': round(episode.total_reward, 4),
        'pictures': [str(each) for each in paths],
    }


def _show_all(files: Sequence[Path], options: argparse.Namespace) -> dict[str, Any]:
    """First steps of the first episodes on a sheet, and what there is of all of them."""
    sheet = options.out / SHEET
    _refuse_to_overwrite([sheet], options.overwrite)
    pictures, tasks = [], Counter[str]()
    instructions, rewards, steps = Counter[str](), [], 0
    for number, path in enumerate(tqdm(files, options.data.name, unit='episode', disable=None)):
        episode = Episode.load(path)
        tasks[episode.task] += 1
        instructions.update(step.instruction for step in episode.steps)
        rewards.append(episode.total_reward)
        steps += len(episode.steps)
        if number < options.count:
            pictures.append(step_picture(episode, 0, heights=options.heights, name=path.stem))
    write_png(sheet, sheet_of(pictures, options.columns))
    return {
        'folder': str(options.data),
        'episodes': len(files),
        'steps': steps,
        'tasks': dict(tasks),
        'least_reward': round(min(rewards), 4),
        'instructions': dict(instructions.most_common()),
        'pictures': [str(sheet)],
    }


def episode_pictures(episode: Episode, *, heights: bool = False) -> list[Image]:
    """A picture of every step, and of the end."""
    shown = [step_picture(episode, k, heights=heights) for k in range(len(episode.steps))]
    end = final_picture(episode.final, f'at the end   reward {episode.total_reward:.2f}', SCALE)
    if heights:
        end = np.concatenate([end, height_picture(episode.final, SCALE)])
    return [*shown, end]


def step_picture(episode: Episode, number: int, *, heights: bool = False, name: str = '') -> Image:
    """A step's table with pick and place under its instruction, and its heights below."""
    step = episode.steps[number]
    pick, place = _labels(episode, number)
    image = action_picture(step.heightmap, pick, place, scale=SCALE)
    title = ' '.join(filter(None, [name, step.instruction]))
    image = titled(image, title[:_TITLE_LETTERS])
    if heights:
        image = np.concatenate([image, height_picture(step.heightmap, SCALE)])
    return image


def sheet_of(pictures: Sequence[Image], columns: int) -> Image:
    """Pictures side by side in rows, with a gap; smaller ones are filled up with black.

    Raises:
        ValueError: There is no picture.
    """
    if not pictures:
        raise ValueError('a sheet needs a picture')
    height = max(each.shape[0] for each in pictures) + 4
    width = max(each.shape[1] for each in pictures) + 4
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = np.zeros((rows * height, columns * width, 3), dtype=np.uint8)
    for index, each in enumerate(pictures):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + each.shape[0], left : left + each.shape[1]] = each
    return sheet


def _labels(episode: Episode, number: int) -> tuple[PixelPose, PixelPose]:
    step = episode.steps[number]
    return labels_of_poses(episode.workspace, step.pick, step.place)


def _step_page(episode: Episode, number: int) -> dict[str, Any]:
    pick, place = _labels(episode, number)
    step = episode.steps[number]
    return {
        'instruction': step.instruction,
        'pick_px': [pick.row, pick.col],
        'place_px': [place.row, place.col],
        'turn_deg': round(float(np.degrees(place.angle_rad)), 1),
        'reward': round(step.reward, 4),
    }


def _refuse_to_overwrite(paths: Sequence[Path], overwrite: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise FileExistsError(f'{there[0]} is there: say --overwrite, or choose another --out')


def _text(figures: dict[str, Any]) -> str:
    lines = []
    for name, value in figures.items():
        if isinstance(value, dict):
            lines.append(f'{name}:')
            lines += [f'  {count:5d}  {key}' for key, count in value.items()]
        elif name == 'steps' and isinstance(value, list):
            lines += [
                f'  {k}: {each["instruction"]}: pick {each["pick_px"]}, place {each["place_px"]}, '
                f'turn {each["turn_deg"]} degrees, reward {each["reward"]}'
                for k, each in enumerate(value)
            ]
        elif name == 'pictures':
            lines.append(f'written: {value[0]}' + (f' to {value[-1]}' if len(value) > 1 else ''))
        else:
            lines.append(f'{name}: {value}')
    return '\n'.join(lines)


def make_parser() -> argparse.ArgumentParser:
    """The command line of `cliport_show`."""
    parser = argparse.ArgumentParser(
        prog='cliport_show',
        description='Draw demonstrations: first steps of many on one sheet, or all steps of one.',
        epilog='Green: pick. Pink: place. As seen from above by somebody across from the robot.',
    )
    add = parser.add_argument
    add('data', type=Path, help='folder of episodes')
    add('--out', type=Path, required=True, help='folder for PNG files')
    add('--index', type=int, help='show every step of this episode, from 0; -1 is the last')
    add('--count', type=int, default=24, help='episodes on the sheet (default 24)')
    add('--columns', type=int, default=3, help='of the sheet (default 3)')
    add('--heights', action='store_true', help='show heights below the colours')
    add('--overwrite', action='store_true', help='write over pictures that are there')
    add('--json', action='store_true', help='print what there is as JSON')
    return parser


if __name__ == '__main__':
    sys.exit(main())
