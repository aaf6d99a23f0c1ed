"""What mapping_node costs beyond its encoder and its fusion, and how fast it answers meanwhile.

    python benchmarks/mapping_node.py [--quick]

sim_node sends 640x480 colour and depth to mapping_node; both are processes of their own on this
machine, and compete for its cores. The encoder is the tiny one, on one thread.

On a tour round a room, at 5 Hz:

    overhead_ms      from the callback that gets a pair to the pair being fused, without the times
                     of encoder and fusion: waiting for the worker and for tf, decoding messages;
                     mean of the last 50 frames, as the node publishes it on /diagnostics
    overhead_share   the same, of the time of encoder and fusion
    query_p50_ms     time of a call of /query_map at a client, texts new and old, while frames are
    query_p99_ms     being fused; 10 calls a second

At 30 Hz, with a camera that stands still (its one picture is not rendered again, so that sending is
cheap):

    dropped_share_30hz          share of the pairs sent that were not fused, without an encoder
                                (model none): what the node itself and its fusion keep up with
    dropped_share_30hz_encoder  the same with the tiny encoder: the newest pair is fused, the rest
                                is dropped, as is meant

Pairs are counted at the sender: what gets lost on the way counts as dropped.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time

import numpy as np

from vlm_nodes.demo.node import MappingClient, SimulationClient
from vlm_nodes.graph.node import LiveGraph
from vlm_nodes.simulation.vocabulary import LABELS, TEST_SEEDS

WIDTH, HEIGHT = 640, 480
WARM_UP_S, QUERY_PERIOD_S = 3.0, 0.1


def start(
    graph: LiveGraph, options: argparse.Namespace, model: str, **simulated: object
) -> tuple[MappingClient, SimulationClient]:
    """Both nodes, some seconds into mapping."""
    pretrained = options.pretrained if model != 'none' else ''
    mapping = MappingClient(graph, model=model, pretrained=pretrained)
    mapping.wait_ready()
    simulation = SimulationClient(graph, seed=options.seed, width=WIDTH, height=HEIGHT, **simulated)
    simulation.wait_until(WARM_UP_S, 120.0)
    mapping.wait_fused(1)
    return mapping, simulation


def overhead(options: argparse.Namespace, seconds: float) -> dict[str, float]:
    with LiveGraph() as graph:
        mapping, simulation = start(graph, options, options.model, rate_hz=5.0)
        simulation.wait_until(WARM_UP_S + seconds, 300.0)
        quiet = {key: float(v) for key, v in mapping.diagnostics().items() if key[:3] == 'ms '}
        latencies = query_latencies(mapping, seconds)
        voxels = mapping.number('voxels')
    work = quiet['ms encode'] + quiet['ms fuse']
    beyond = quiet['ms arrival to fused'] - work
    return {
        'overhead_ms': beyond,
        'overhead_share': beyond / work,
        'query_p50_ms': float(np.quantile(latencies, 0.5)),
        'query_p99_ms': float(np.quantile(latencies, 0.99)),
        'query_max_ms': max(latencies),
        'queries': len(latencies),
        'voxels': voxels,
        'encode_ms': quiet['ms encode'],
        'fuse_ms': quiet['ms fuse'],
        'waiting_ms': quiet['ms waiting'],
        'preparing_ms': quiet['ms preparing'],
    }


def query_latencies(mapping: MappingClient, seconds: float) -> list[float]:
    """Milliseconds of calls, made at a steady rate."""
    texts = itertools.cycle(LABELS)
    latencies = []
    end_s = next_s = time.monotonic()
    end_s += seconds
    while next_s < end_s:
        time.sleep(max(0.0, next_s - time.monotonic()))
        latencies.append(mapping.query(next(texts)).latency_ms)
        next_s = max(next_s + QUERY_PERIOD_S, time.monotonic())
    return latencies


def dropped_share(options: argparse.Namespace, model: str, seconds: float) -> tuple[float, float]:
    """Share of the pairs sent at 30 Hz that were not fused, and how many a second were sent."""
    with LiveGraph() as graph:
        mapping, simulation = start(graph, options, model, rate_hz=30.0, path='still')
        mapping.pause(True)
        mapping.wait_idle()
        fused, sent, start_s = mapping.number('frames fused'), simulation.frames, time.monotonic()
        mapping.pause(False)
        time.sleep(seconds)
        sent, took_s = simulation.frames - sent, time.monotonic() - start_s
        mapping.pause(True)
        mapping.wait_idle()
        fused = mapping.number('frames fused') - fused
    return max(0.0, 1.0 - fused / max(1, sent)), sent / took_s


def run(options: argparse.Namespace) -> dict[str, float]:
    seconds = 2.0 if options.quick else 15.0
    result = overhead(options, seconds)
    alone, sent_hz = dropped_share(options, 'none', seconds)
    encoding, encoding_sent_hz = dropped_share(options, options.model, seconds)
    return result | {
        'dropped_share_30hz': alone,
        'dropped_share_30hz_encoder': encoding,
        'sent_hz': sent_hz,
        'sent_hz_encoder': encoding_sent_hz,
        'seed': options.seed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--seed', type=int, default=TEST_SEEDS[0], help='of the room')
    parser.add_argument('--model', default='tiny', help="mapping_node's model; default tiny")
    parser.add_argument('--pretrained', default='', help="mapping_node's weights of it")
    parser.add_argument('--quick', action='store_true', help='a smoke run: figures mean nothing')
    options = parser.parse_args()
    print(json.dumps({name: round(value, 4) for name, value in run(options).items()}))


if __name__ == '__main__':
    main()
