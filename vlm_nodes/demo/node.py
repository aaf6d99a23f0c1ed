"""Nodes of other rooms in a graph, as their users see them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from vlm_interfaces.srv import LabelMap, QueryMap

from vlm_nodes import messages
from vlm_nodes.graph.node import START_PATIENCE_S, LiveGraph
from vlm_nodes.graph.processes import NodeFailedError
from vlm_nodes.mapping.instances import MapMatch
from vlm_nodes.node import LATCHED


@dataclass(frozen=True)
class Answer:
    """What `/query_map` answered.

    Attributes:
        matches: Best first.
        latency_ms: From the call to the answer, at the client.
    """

    matches: list[MapMatch]
    latency_ms: float


class MappingClient:
    """`mapping_node` in a graph, as its user sees it: services and topics."""

    def __init__(self, graph: LiveGraph, **parameters: object) -> None:
        """Start the node and listen to it.

        Args:
            graph: Where it runs.
            parameters: Of the node.
        """
        self._graph = graph
        self._diagnostics: dict[str, str] = {}
        self._reports = 0
        self._clouds: dict[str, PointCloud2] = {}
        self.problem = ''
        self.process = graph.start('mapping_node', 'vlm_nodes.mapping.node', parameters)
        node = graph.node
        node.create_subscription(DiagnosticArray, '/diagnostics', self._diagnosed, 10)
        for name in ('cloud', 'query_cloud', 'label_cloud'):
            node.create_subscription(
                PointCloud2,
                f'mapping_node/{name}',
                lambda message, name=name: self._clouds.__setitem__(name, message),
                LATCHED,
            )

    def wait_ready(self) -> None:
        """Wait until the node reports.

        Raises:
            NodeFailedError: It cannot start; the text says why.
        """
        self._graph.wait(lambda: self._reports > 0, START_PATIENCE_S, 'mapping_node to start')

    def diagnostics(self) -> dict[str, str]:
        """The newest report, once a second."""
        return self._diagnostics

    def number(self, key: str) -> float:
        """One number of the newest report; 0 where it is absent."""
        return float(self._diagnostics.get(key, 0))

    def dropped(self) -> dict[str, int]:
        """Frames not fused, by reason."""
        prefix = 'dropped '
        return {
            key.removeprefix(prefix): int(value)
            for key, value in self._diagnostics.items()
            if key.startswith(prefix) and int(value)
        }

    def wait_fused(self, frames: int, timeout_s: float = 120.0) -> None:
        """Wait until the report tells of so many frames."""
        self._graph.wait(
            lambda: self.number('frames fused') >= frames,
            timeout_s,
            f'{frames} frame(s) to be fused',
        )

    def wait_idle(self, timeout_s: float = 120.0) -> None:
        """Wait until every pair that came is fused or dropped, and no more come."""
        fused, reports = -1, self._reports

        def settled() -> bool:
            nonlocal fused, reports
            # The first report after the call may have been on its way before it.
            if self._reports < reports + 2:
                return False
            reports = self._reports - 1
            before, fused = fused, int(self.number('frames fused'))
            return fused == before and self._waiting() == 0

        self._graph.wait(settled, timeout_s, 'mapping_node to fuse what it got')

    def _waiting(self) -> int:
        taken = self.number('frames fused') + sum(self.dropped().values())
        return int(self.number('frames in') - taken)

    def query(self, text: str, **options: Any) -> Answer:
        """Ask `/query_map`.

        Raises:
            NodeFailedError: It refused; the text says why.
        """
        request = QueryMap.Request(text=text, **options)
        response, latency_ms = self._graph.call(QueryMap, 'query_map', request)
        _require(response, f'the query {text!r}')
        return Answer([messages.match_from_message(m) for m in response.matches], latency_ms)

    def score_cloud(self, text: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Points (N, 3) metres and their scores (N,), from `~/query_cloud` after a query."""
        self._clouds.pop('query_cloud', None)
        self.query(text)
        points, values = self._wait_cloud('query_cloud')
        return points, values['intensity']

    def label(self, labels: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Points (N, 3) metres and positions (N,) in `labels`, from `/label_map`'s cloud."""
        self._clouds.pop('label_cloud', None)
        request = LabelMap.Request(labels=list(labels))
        response, _ = self._graph.call(LabelMap, 'label_map', request)
        _require(response, 'label_map')
        points, values = self._wait_cloud('label_cloud')
        return points, values['label']

    def cloud(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Points (N, 3) metres and colours (N, 3) RGB, from `~/cloud`, once all is fused."""
        self.wait_idle()
        newest_ns = int(self._diagnostics.get('newest stamp ns', 0))

        def current() -> bool:
            cloud = self._clouds.get('cloud')
            return cloud is not None and messages.stamp_ns(cloud.header.stamp) == newest_ns

        self._graph.wait(current, START_PATIENCE_S, "mapping_node's cloud")
        points, values = self._wait_cloud('cloud')
        return points, values['rgb']

    def reset(self) -> None:
        """Begin with an empty map."""
        self._clouds.clear()
        response, _ = self._graph.call(Trigger, 'mapping_node/reset', Trigger.Request())
        _require(response, 'reset')

    def pause(self, paused: bool) -> None:
        """Stop taking frames, or go on."""
        request = SetBool.Request(data=paused)
        response, _ = self._graph.call(SetBool, 'mapping_node/pause', request)
        _require(response, 'pause')

    def _wait_cloud(self, name: str) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
        self._graph.wait(lambda: name in self._clouds, START_PATIENCE_S, f'~/{name}')
        return messages.cloud_arrays(self._clouds[name])

    def _diagnosed(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == 'mapping_node':
                self.problem, self._diagnostics = messages.diagnostics_values(status)
                self._reports += 1


class SimulationClient:
    """`sim_node` in a graph: its clock, its truth, and objects that move."""

    def __init__(self, graph: LiveGraph, **parameters: object) -> None:
        """Start the node and listen to it.

        Args:
            graph: Where it runs.
            parameters: Of the node.
        """
        self._graph = graph
        self._truths: list[dict[str, Any]] = []
        self.stamp_ns = -1
        self.frames = 0
        self.process = graph.start('sim_node', 'vlm_nodes.simulation.node', parameters)
        self._subscriptions = [
            graph.node.create_subscription(String, 'sim_node/ground_truth', self._told, LATCHED),
            graph.node.create_subscription(Clock, '/clock', self._ticked, 100),
        ]

    def stop(self) -> None:
        """End the node."""
        self._graph.stop(self.process)
        for subscription in self._subscriptions:
            self._graph.node.destroy_subscription(subscription)

    @property
    def time_s(self) -> float:
        """Simulated time; negative before the first picture."""
        return self.stamp_ns / messages.SECOND_NS

    def wait_until(self, time_s: float, timeout_s: float) -> None:
        """Wait for a simulated time."""
        self._graph.wait(
            lambda: self.time_s >= time_s, timeout_s, f'{time_s:.0f} s of simulated time'
        )

    def truth(self) -> dict[str, Any]:
        """What is truly in the room, as `vlm_nodes.simulation.truth.RoomTruth`."""
        self._graph.wait(lambda: bool(self._truths), START_PATIENCE_S, "sim_node's ground truth")
        return self._truths[-1]

    def move_objects(self) -> list[str]:
        """Have objects moved; returns their names, after the new truth is known."""
        told = len(self._truths)
        response, _ = self._graph.call(Trigger, 'sim_node/move_objects', Trigger.Request())
        if not response.success:
            return []
        self._graph.wait(lambda: len(self._truths) > told, START_PATIENCE_S, 'the new truth')
        return list(json.loads(response.message))

    def _told(self, message: String) -> None:
        self._truths.append(json.loads(message.data))

    def _ticked(self, message: Clock) -> None:
        self.stamp_ns = messages.stamp_ns(message.clock)
        self.frames += 1


def _require(response: Any, what: str) -> None:
    if not response.success:
        raise NodeFailedError(f'{what} failed: {response.message}')
