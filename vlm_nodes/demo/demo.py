"""`make demo`: a robot's camera, a map and questions to it, from start to end.

    python -m vlm_nodes.demo.demo                   a simulated room that no model was trained on
    python -m vlm_nodes.demo.demo --recording PATH  an RGB-D folder or a bag of your own

Starts the nodes as separate processes on a ROS domain of their own, maps, asks over /query_map,
prints the answers and writes pictures.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlm_nodes.command_line import run as run_tool
from vlm_nodes.demo.node import MappingClient, SimulationClient
from vlm_nodes.demo.report import Asked, MapCloud, table, write_heat, write_map
from vlm_nodes.graph.files import config_file
from vlm_nodes.graph.node import LiveGraph
from vlm_nodes.graph.processes import NodeFailedError
from vlm_nodes.mapping.config import VoxelMapConfig
from vlm_nodes.mapping.dataset_options import add_dataset_arguments, open_dataset
from vlm_nodes.mapping.datasets import RgbdDataset
from vlm_nodes.simulation.simulator import SimulatorSettings
from vlm_nodes.simulation.vocabulary import TEST_SEEDS

TOOL = 'demo'
QUERIES = 6
PROGRESS_S = 5.0
RVIZ_CONFIG, FOXGLOVE_LAYOUT = 'rviz/mapping.rviz', 'foxglove_mapping.json'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options, rest = _parser().parse_known_args(words)
    recording = _recording(options.recording, rest)

    def show() -> int:
        try:
            if recording is None:
                return _show_room(options)
            return _show_recording(options, recording, rest)
        except NodeFailedError as error:
            print(f'{TOOL}: {error}', file=sys.stderr)
            return 1

    return run_tool(TOOL, show)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=TOOL,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='With --recording, all options of playback_node are understood as well, such as '
        '--color-intrinsics FX FY CX CY, --up=-y or --rate 10; see playback_node --help.',
        allow_abbrev=False,
    )
    parser.add_argument('--recording', type=Path, metavar='PATH', help='RGB-D folder or bag to map')
    parser.add_argument('--query', nargs='+', metavar='TEXT', help='what to ask for')
    parser.add_argument('--seed', type=int, default=TEST_SEEDS[2], help='of the simulated room')
    parser.add_argument(
        '--model',
        help="mapping_node's model; default tiny for the simulated room, none (geometry and colour "
        'only) for recordings',
    )
    parser.add_argument('--pretrained', default='', help='open_clip tag or file of its weights')
    parser.add_argument('--out', type=Path, default=Path('demo'), help='folder for pictures')
    parser.add_argument('--rviz', action='store_true', help='show it in RViz while it runs')
    parser.add_argument(
        '--quick', action='store_true', help='a smoke run: a tenth of the tour, which finds little'
    )
    return parser


# A simulated room -------------------------------------------------------------------------------


def _show_room(options: argparse.Namespace) -> int:
    if options.seed not in TEST_SEEDS:
        raise ValueError(f'--seed {options.seed}: rooms of no training have seeds {TEST_SEEDS}')
    model = options.model or 'tiny'
    with LiveGraph() as graph:
        print(
            f'starting sim_node (room {options.seed}) and mapping_node (model {model})', flush=True
        )
        mapping = MappingClient(
            graph, model=model, pretrained=options.pretrained, publish_period_s=0.5
        )
        mapping.wait_ready()
        viewer = _start_viewer(options, graph)
        simulation = SimulationClient(graph, seed=options.seed)
        _drive(mapping, simulation, 0.1 if options.quick else 1.0)
        asked = [_ask(mapping, thing) for thing in _questions(options.query, simulation.truth())]
        print(f'\n{table(asked)}')
        errors = [one.error_m for one in asked if one.truth is not None]
        found = sum(error is not None and error <= 0.25 for error in errors)
        print(f'{found} of {len(errors)} found within 0.25 m of their true centre')
        _write_pictures(options.out, f'room_{options.seed}', mapping, asked)
        _keep_showing(viewer)
    return 0


def _drive(mapping: MappingClient, simulation: SimulationClient, share: float) -> None:
    """Map while the camera goes round the room."""
    end_s = share * SimulatorSettings().path_duration_s
    simulation.wait_until(0.0, 90.0)
    for until_s in np.append(np.arange(PROGRESS_S, end_s, PROGRESS_S), end_s):
        simulation.wait_until(float(until_s), 120.0)
        print(f'{until_s:5.0f} s driven: {_progress(mapping)}', flush=True)
    mapping.wait_fused(1)
    mapping.pause(True)
    mapping.wait_idle()
    print(f'mapped: {_progress(mapping)}')


def _progress(mapping: MappingClient) -> str:
    fused, voxels = (int(mapping.number(key)) for key in ('frames fused', 'voxels'))
    return f'{fused} frames fused, {voxels} voxels'


def _questions(texts: Sequence[str] | None, truth: dict[str, Any]) -> list[dict[str, Any]]:
    """What to ask: the texts wished for, else things in the room, unseen pairs among them."""
    things = [*truth['objects'], *truth['tables']]
    if texts:
        known = {thing['label']: thing for thing in things}
        return [known.get(text, {'label': text}) for text in texts]
    unseen = [thing for thing in truth['objects'] if thing['unseen']]
    seen = [thing for thing in truth['objects'] if not thing['unseen']]
    few = seen[: QUERIES - min(len(unseen), QUERIES // 2)]
    return [*few, *unseen][:QUERIES]


def _ask(mapping: MappingClient, thing: dict[str, Any]) -> Asked:
    answer = mapping.query(thing['label'])
    truth = np.array(thing['centre']) if 'centre' in thing else None
    return Asked(
        thing['label'], answer.matches, answer.latency_ms, truth, bool(thing.get('unseen'))
    )


# A recording ------------------------------------------------------------------------------------


def _recording(path: Path | None, rest: Sequence[str]) -> argparse.Namespace | None:
    """playback_node's options; without a recording there must be none."""
    parser = argparse.ArgumentParser(prog=TOOL, allow_abbrev=False)
    if path is None:
        if rest:
            parser.error(f'{" ".join(rest)}: understood with --recording only')
        return None
    add_dataset_arguments(parser)
    parser.add_argument('--rate', type=float, default=5.0)
    return parser.parse_args([str(path), *rest])


def _show_recording(
    options: argparse.Namespace, recording: argparse.Namespace, rest: Sequence[str]
) -> int:
    dataset = open_dataset(recording)
    model = options.model or 'none'
    print(f'{dataset.description}\nstarting playback_node and mapping_node (model {model})')
    _explain_words(model, options)
    with LiveGraph() as graph:
        mapping = MappingClient(
            graph,
            model=model,
            pretrained=options.pretrained,
            map_frame=dataset.frame_id,
            depth_registered=False,  # playback_node publishes both cameras in any case
            sensor_reliability='reliable',
            frames_waiting=10,
            tf_timeout_s=5.0,
            publish_period_s=0.5,
        )
        mapping.wait_ready()
        viewer = _start_viewer(options, graph)
        _play(graph, mapping, dataset, recording, rest)
        asked = []
        if model != 'none':
            asked = [_ask(mapping, {'label': text}) for text in options.query or ()]
        if asked:
            print(f'\n{table(asked)}')
        name = recording.dataset.resolve().stem
        _write_pictures(options.out, name, mapping, asked)
        _keep_showing(viewer)
    return 0


def _explain_words(model: str, options: argparse.Namespace) -> None:
    if model == 'none' and options.query:
        print('no model, so no words: --query needs --model, such as ViT-B-16 with fetched weights')
    elif model == 'none':
        print('geometry and colour only; to ask for things, name a --model and a --query')
    elif model == 'tiny':
        print(
            'the tiny model knows simulated rooms only: its answers about a real one mean nothing'
        )


def _play(
    graph: LiveGraph,
    mapping: MappingClient,
    dataset: RgbdDataset,
    recording: argparse.Namespace,
    rest: Sequence[str],
) -> None:
    started_s = time.monotonic()
    player = graph.start(
        'playback_node',
        'vlm_nodes.mapping.playback.node',
        {},
        arguments=[str(recording.dataset), *rest],
    )
    patience_s = 90.0 + 5.0 * len(dataset) / recording.rate
    end_s = started_s + PROGRESS_S

    def ended() -> bool:
        nonlocal end_s
        if time.monotonic() > end_s:
            end_s += PROGRESS_S
            print(f'{time.monotonic() - started_s:5.0f} s: {_progress(mapping)}', flush=True)
        return player.returncode is not None

    graph.wait(ended, patience_s, 'the end of the recording')
    mapping.wait_idle()
    print(f'mapped: {_progress(mapping)}, of {len(dataset)} frames sent')
    if dropped := mapping.dropped():
        print('dropped: ' + ', '.join(f'{number} {why}' for why, number in dropped.items()))
    if mapping.problem and not mapping.number('frames fused'):
        raise NodeFailedError(f'nothing was mapped: {mapping.problem}')


# Pictures and viewers ---------------------------------------------------------------------------


def _write_pictures(
    folder: Path, name: str, mapping: MappingClient, asked: Sequence[Asked]
) -> None:
    points, colors = mapping.cloud()
    if not len(points):
        raise NodeFailedError('the map is empty: there is nothing to draw')
    cloud = MapCloud(points, colors, VoxelMapConfig().voxel_size_m)
    print(f'the map: {len(points)} voxels over {cloud.extent()}')
    marks = 'boxes: found, circles: truly there' if any(o.truth is not None for o in asked) else ''
    path = folder / f'{name}_map.png'
    write_map(path, cloud, asked, f'{name} from above. {marks}')
    print(f'picture: {path}')
    # The picture of one query shows most where there is something to see.
    best = max(asked, key=lambda one: one.best.score if one.best else -1.0, default=None)
    for one in [best] if best else []:
        path = folder / f'{name}_heat_{one.text.replace(" ", "_")}.png'
        write_heat(path, cloud, mapping.score_cloud(one.text), one, f'{name}: "{one.text}"')
        print(f'picture: {path}')


def _start_viewer(options: argparse.Namespace, graph: LiveGraph) -> subprocess.Popen[bytes] | None:
    if not options.rviz:
        return None
    rviz = shutil.which('rviz2')
    if rviz is None:
        print(
            'rviz2 is not installed here; in Foxglove open config/'
            + FOXGLOVE_LAYOUT
            + f' and connect to ROS_DOMAIN_ID={graph.domain}'
        )
        return None
    config = config_file(RVIZ_CONFIG)
    words = ['-d', str(config)] if config else []
    environment = os.environ | {'ROS_DOMAIN_ID': str(graph.domain)}
    return subprocess.Popen([rviz, *words], env=environment)


def _keep_showing(viewer: subprocess.Popen[bytes] | None) -> None:
    if viewer is not None:
        print('RViz shows the map until it is closed', flush=True)
        viewer.wait()


if __name__ == '__main__':
    sys.exit(main())
