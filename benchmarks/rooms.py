"""Held-out simulated rooms through the live graph: are things found, and do they leave when moved?

    python benchmarks/rooms.py [--seeds 1000000 1000001 ...] [--quick]

For each room sim_node drives its camera one tour round it, mapping_node fuses what it can keep up
with (as on a robot: the newest pair, the rest is dropped), and its services are asked:

    recall_seen     share of visible objects whose best match of /query_map with their label, such
                    as 'red mug', lies within 0.25 m (in space) of the centre of their true box;
                    for colours and kinds that stood together in training rooms
    recall_unseen   the same for those that never did
    miou            of /label_map with the labels of all objects in the room and 'floor', 'wall',
                    'table': intersection over union of each label over the map's voxels, mean over
                    the labels of a room, mean over rooms. A voxel's true label is that of the
                    nearest true surface point within 5 cm; voxels that have none are left out, a
                    voxel labelled 'other' is a miss.

Then sim_node moves two objects and drives another round:

    moved_forgotten share of moved objects whose old place left the map: at most a tenth of the
                    voxels that were in the object's old box remain. Voxels within 5 cm of what it
                    stood on, or of the box of anything that now stands there, do not count.
    moved_found     share of moved objects found (as above) where they are now

An object is visible if its true surface, as seen by the camera on the tour, fills at least 10
voxels. Test seeds begin at 1000000; their rooms have floors, walls and pairs that no training room
has. The mapping node runs with its defaults.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from vlm_nodes.demo.node import MappingClient, SimulationClient
from vlm_nodes.geometry import Camera
from vlm_nodes.graph.node import LiveGraph
from vlm_nodes.simulation.paths import Tour
from vlm_nodes.simulation.render import Renderer
from vlm_nodes.simulation.scene import World
from vlm_nodes.simulation.simulator import SimulatorSettings
from vlm_nodes.simulation.truth import surface_points
from vlm_nodes.simulation.vocabulary import LABELS, ROOM_LABELS, TEST_SEEDS
from vlm_nodes.simulation.worlds import make_room

WIDTH, HEIGHT, RATE_HZ, TOUR_S = 320, 240, 4.0, 40.0
NEAR_M, VOXEL_M, VISIBLE_VOXELS, REMAINING_SHARE = 0.25, 0.05, 10, 0.1
TRUTH_POSES = 80

Points = NDArray[np.floating[Any]]


def true_surface(seed: int) -> tuple[Points, NDArray[np.str_]]:
    """Points (N, 3) on all that the camera sees on its tour, and their label texts."""
    camera = Camera.from_fov(WIDTH, HEIGHT, np.radians(SimulatorSettings().fovy_deg))
    world = World(make_room(seed))
    tour = Tour(world.room.half_extents, TOUR_S)
    poses = [tour.at(t).map_from_camera() for t in np.arange(TRUTH_POSES) * TOUR_S / TRUTH_POSES]
    with Renderer(WIDTH, HEIGHT, samples=0) as renderer:
        points, ids = surface_points(world, renderer, camera, poses)
    return points, np.array(LABELS)[ids.astype(int) - 1]


def voxel_count(points: Points) -> int:
    return len(np.unique(np.floor(points / VOXEL_M).astype(int), axis=0))


def mean_iou(
    points: Points, found: NDArray[np.int32], labels: Sequence[str], surface: Points, texts: Any
) -> float:
    distance, nearest = cKDTree(surface).query(points)
    known = distance < VOXEL_M
    if not known.any():
        return 0.0
    truth = np.array([labels.index(text) for text in texts])[nearest[known]]
    guess = found[known]
    ious = [
        ((truth == i) & (guess == i)).sum() / ((truth == i) | (guess == i)).sum()
        for i in np.unique(truth)
    ]
    return float(np.mean(ious))


def inside(points: Points, thing: dict[str, Any], margin_m: float) -> NDArray[np.bool_]:
    """Which points lie in the box of a thing, grown by a margin."""
    offset = np.abs(points - np.array(thing['centre']))
    return np.asarray((offset <= np.array(thing['size']) / 2 + margin_m).all(axis=1))


def old_voxels(points: Points, thing: dict[str, Any], present: Sequence[dict[str, Any]]) -> int:
    """How many points lie where a thing was, without what it stood on and what is there now."""
    old = inside(points, thing, 0.0) & (points[:, 2] > thing['position'][2] + VOXEL_M)
    for other in present:
        old &= ~inside(points, other, VOXEL_M)
    return int(old.sum())


class Room:
    """One room, mapped by the graph; results are added to `scores`."""

    def __init__(self, graph: LiveGraph, mapping: MappingClient, seed: int, speed: float) -> None:
        self.mapping = mapping
        self.has_words = mapping.diagnostics()['encoder'] != 'none'
        self.seed = seed
        self.simulation = SimulationClient(
            graph,
            seed=seed,
            width=WIDTH,
            height=HEIGHT,
            rate_hz=RATE_HZ,
            path_duration_s=TOUR_S,
            realtime_factor=speed,
        )

    def drive(self, rounds: float) -> None:
        """Map while the camera goes on for some rounds."""
        self.simulation.wait_until(0.0, 90.0)
        until_s = self.simulation.time_s + rounds * TOUR_S
        fused = self.mapping.number('frames fused')
        self.mapping.pause(False)
        self.simulation.wait_until(until_s, 600.0)
        # A smoke run may be over before the nodes know of each other.
        self.mapping.wait_fused(int(fused) + 1)
        self.mapping.pause(True)
        self.mapping.wait_idle()

    def is_found(self, thing: dict[str, Any]) -> bool:
        """Whether the best match of its label is near its centre."""
        matches = self.mapping.query(thing['label']).matches
        return bool(
            matches and np.linalg.norm(matches[0].centroid - np.array(thing['centre'])) <= NEAR_M
        )

    def ask(self, scores: dict[str, list[float]]) -> None:
        """Query every visible object, and label the map."""
        surface, texts = true_surface(self.seed)
        truth = self.simulation.truth()
        for thing in truth['objects']:
            if voxel_count(surface[texts == thing['label']]) < VISIBLE_VOXELS:
                scores['hidden'].append(1)
                continue
            found = self.is_found(thing)
            scores['unseen' if thing['unseen'] else 'seen'].append(found)
        labels = [*ROOM_LABELS, *(thing['label'] for thing in truth['objects'])]
        scores['miou'].append(mean_iou(*self.mapping.label(labels), labels, surface, texts))

    def move(self, rounds: float, scores: dict[str, list[float]]) -> None:
        """Have objects moved, drive on, and see whether the map follows."""
        before, _ = self.mapping.cloud()
        old = {thing['name']: thing for thing in self.simulation.truth()['objects']}
        moved = self.simulation.move_objects()
        now = self.simulation.truth()
        self.drive(rounds)
        after, _ = self.mapping.cloud()
        present = [*now['objects'], *now['tables']]
        for thing in now['objects']:
            if thing['name'] not in moved:
                continue
            was = old_voxels(before, old[thing['name']], present)
            if was >= VISIBLE_VOXELS:
                remains = old_voxels(after, old[thing['name']], present)
                scores['forgotten'].append(remains <= REMAINING_SHARE * was)
                scores['remains'].append(remains / was)
            if self.has_words:
                scores['moved found'].append(self.is_found(thing))


def mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def run(options: argparse.Namespace) -> dict[str, float]:
    rounds, started_s = (0.05 if options.quick else 1.0), time.monotonic()
    scores: dict[str, list[float]] = defaultdict(list)
    with LiveGraph() as graph:
        mapping = MappingClient(
            graph, model=options.model, pretrained=options.pretrained, publish_period_s=0.5
        )
        mapping.wait_ready()
        for seed in options.seeds:
            mapping.reset()
            room, fused = Room(graph, mapping, seed, options.speed), mapping.number('frames fused')
            room.drive(rounds)
            scores['frames'].append(mapping.number('frames fused') - fused)
            if room.has_words:
                room.ask(scores)
            room.move(rounds, scores)
            room.simulation.stop()
            report = {name: round(mean(values), 3) for name, values in scores.items()}
            print(f'room {seed}, so far: {json.dumps(report)}', file=sys.stderr, flush=True)
    return {
        'recall_seen': mean(scores['seen']),
        'recall_unseen': mean(scores['unseen']),
        'miou': mean(scores['miou']),
        'moved_forgotten': mean(scores['forgotten']),
        'rooms': len(options.seeds),
        'moved_found': mean(scores['moved found']),
        'moved_voxels_left': mean(scores['remains']),
        'objects_seen': len(scores['seen']),
        'objects_unseen': len(scores['unseen']),
        'objects_hidden': len(scores['hidden']),
        'objects_moved': len(scores['forgotten']),
        'frames_a_round': mean(scores['frames']),
        'first_seed': options.seeds[0],
        'minutes': (time.monotonic() - started_s) / 60,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = list(TEST_SEEDS[:10])
    parser.add_argument('--seeds', type=int, nargs='+', default=default, metavar='SEED')
    parser.add_argument('--model', default='tiny', help="mapping_node's model; default tiny")
    parser.add_argument('--pretrained', default='', help="mapping_node's weights of it")
    parser.add_argument('--speed', type=float, default=2.0, help='simulated seconds a second')
    parser.add_argument('--quick', action='store_true', help='a smoke run: figures mean nothing')
    options = parser.parse_args()
    if strangers := [seed for seed in options.seeds if seed not in TEST_SEEDS]:
        parser.error(f'{strangers}: rooms that no model was trained on have seeds {TEST_SEEDS}')
    if options.quick:
        options.seeds = options.seeds[:1]
    print(json.dumps({name: round(value, 4) for name, value in run(options).items()}))


if __name__ == '__main__':
    main()
