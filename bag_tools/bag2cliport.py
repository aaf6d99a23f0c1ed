"""bag2cliport BAG ACTIONS OUT: a recording of a real robot as CLIPort episodes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from bag_tools.action_table import Action, read_actions
from bag_tools.cliport_episodes import Scenes, ToolConfig, make_episodes, stamps_of
from bag_tools.cliport_options import cameras_of, parser, workspace_of
from bag_tools.reader import BagError, BagReader
from bag_tools.table_cameras import TableCamera, check_topics, transforms
from bag_tools.table_scenes import first_stamp_ns, read_scenes
from bag_tools.whole_file import write_whole
from vlm_nodes.cliport.episode import SUFFIX, Episode
from vlm_nodes.cliport.pictures import action_picture, height_picture, titled
from vlm_nodes.cliport.poses import labels_of_poses
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.command_line import run, say

# Views that differ by more than this in median show things twice.
_DISAGREES_M = 0.01


@dataclass(frozen=True)
class _Result:
    paths: list[Path]
    episodes: list[Episode]
    scenes: Scenes
    problems: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Exit code 0: the episodes were written; 2: they could not be."""
    options = parser().parse_args(arguments)
    return run('bag2cliport', lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    workspace = workspace_of(options)
    groups = read_actions(options.actions)
    paths = _free_paths(options, groups)
    cameras = cameras_of(options)
    result = _convert(options, groups, paths, cameras, workspace)
    options.out.mkdir(parents=True, exist_ok=True)
    for path, episode in zip(result.paths, result.episodes, strict=True):
        episode.save(path)
        if options.pictures:
            _draw(options.pictures, path.stem, episode)
    figures = _figures(result, options.out)
    say(json.dumps(figures, indent=2) if options.json else _text(figures))
    return 0


def _convert(
    options: argparse.Namespace,
    groups: list[list[Action]],
    paths: list[Path],
    cameras: list[TableCamera],
    workspace: Workspace,
) -> _Result:
    scenes = Scenes(workspace, cameras, _index(options.align, cameras), options.scale_depth)
    tool = ToolConfig(options.tool_frame, options.table_frame, tuple(options.tip_m))
    with BagReader(options.bag, distro=options.distro, recover=options.recover) as bag:
        check_topics(bag, cameras)
        tree = transforms(bag, options.hold_s)
        start_ns = first_stamp_ns(bag, cameras)
        stamps = stamps_of(groups, start_ns)
        found = read_scenes(bag, cameras, tree, options.table_frame, stamps, slop_s=options.slop_s)
        total = len(set(stamps))
        for scene in tqdm(found, total=total, unit='scene', leave=False, disable=None):
            scenes.add(scene)
        problems = [*bag.recovery, *bag.problems]
    if problems and not options.recover:
        raise BagError(f'{"; ".join(problems)}; --recover takes what can be had')
    episodes = make_episodes(
        groups,
        scenes,
        tree,
        tool,
        start_ns,
        task=options.task or options.out.resolve().name,
        mode=options.mode,
        provenance=_provenance(options),
    )
    return _Result(paths, list(episodes), scenes, problems)


def _free_paths(options: argparse.Namespace, groups: list[list[Action]]) -> list[Path]:
    """A file for each episode, named by it or else by the bag."""
    stem = options.bag.resolve().stem
    names = [group[0].episode or f'{stem}-{number:03d}' for number, group in enumerate(groups)]
    for group, name in zip(groups, names, strict=True):
        if not name.replace('-', '').replace('_', '').replace('.', '').isalnum() or name[0] == '.':
            raise ValueError(
                f'line {group[0].line} of the table: episode {name!r} is to be a file name: '
                'letters, digits, -, _ and . only'
            )
    paths = [options.out / f'{name}{SUFFIX}' for name in names]
    taken = [path for path in paths if path.exists()]
    if taken and not options.overwrite:
        raise FileExistsError(f'{taken[0]} is there already: --overwrite replaces it')
    return paths


def _index(name: str | None, cameras: Sequence[TableCamera]) -> int | None:
    if name is None:
        return None
    names = [camera.name for camera in cameras]
    if name not in names:
        raise ValueError(f'--align {name!r} is none of the cameras: {", ".join(names)}')
    return names.index(name)


def _provenance(options: argparse.Namespace) -> dict[str, str]:
    try:
        version = metadata.version('vlm_nodes')
    except metadata.PackageNotFoundError:
        version = 'not installed'
    return {
        'tool': 'bag2cliport',
        'vlm_nodes': version,
        'bag': options.bag.resolve().name,
        'actions': options.actions.name,
        'table_frame': options.table_frame,
        **({'aligned_to': options.align} if options.align else {}),
    }


def _draw(folder: Path, name: str, episode: Episode) -> None:
    """Each action over what was seen before it, and the heights."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(episode.steps):
        pick, place = labels_of_poses(episode.workspace, step.pick, step.place)
        drawn = np.concatenate(
            [action_picture(step.heightmap, pick, place), height_picture(step.heightmap)]
        )
        picture = titled(drawn, step.instruction)
        content = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()
        write_whole(folder / f'{name}-{number:02d}.png', content)


def _figures(result: _Result, out: Path) -> dict[str, Any]:
    scenes = result.scenes
    both = [a.median_m for a in scenes.agreements if a.share > 0]
    return {
        'episodes': len(result.episodes),
        'steps': sum(len(episode.steps) for episode in result.episodes),
        'cameras': [camera.name for camera in scenes.cameras],
        'least_coverage': round(min(h.coverage for h in scenes.heightmaps.values()), 4),
        'greatest_disagreement_m': round(max(both), 4) if both else None,
        'aligned': {
            scenes.cameras[index].name: {
                'depth_scale': round(correction.depth_scale, 4),
                'residual_m': round(correction.residual_m, 4),
            }
            for index, correction in scenes.corrections.items()
        },
        'lag_s': round(scenes.lag_s, 4),
        'problems': result.problems,
        'out': str(out),
    }


def _text(figures: dict[str, Any]) -> str:
    lines = [
        f'{figures["steps"]} actions in {figures["episodes"]} episodes, seen by '
        f'{", ".join(figures["cameras"])} within {figures["lag_s"]:g} s of their stamps; '
        f'{figures["least_coverage"]:.0%} of the workspace at least'
    ]
    apart = figures['greatest_disagreement_m']
    if apart is not None:
        lines.append(f'cameras disagree on heights by {1e3 * apart:.1f} mm (median) at most')
        if apart > _DISAGREES_M:
            lines.append(
                'problem: that shows things twice; calibrate the cameras, or try --align NAME'
            )
    for name, found in figures['aligned'].items():
        lines.append(
            f'{name} was aligned: depth times {found["depth_scale"]:g}, '
            f'{1e3 * found["residual_m"]:.1f} mm left'
        )
    lines += [f'problem: {problem}' for problem in figures['problems']]
    return '\n'.join([*lines, f'written: {figures["out"]}'])


if __name__ == '__main__':
    sys.exit(main())
