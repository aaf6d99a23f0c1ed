"""A ROS graph of nodes in processes of their own, and a client among them."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from vlm_interfaces.srv import LabelMap, QueryMap

from vlm_nodes import messages
from vlm_nodes.demo.domain import free_domain
from vlm_nodes.demo.files import config_file
from vlm_nodes.demo.processes import NodeFailedError, NodeProcess, ros_words
from vlm_nodes.mapping.instances import MapMatch
from vlm_nodes.node import LATCHED

_POLL_S = 0.02
START_PATIENCE_S = 90.0


class LiveGraph:
    """Nodes as separate processes on a ROS domain of their own, with a client's node beside them.

    A context manager: at its end all processes are ended in order, also after SIGTERM.

    Attributes:
        domain: The ROS domain.
        node: The client's node; its callbacks run in a thread of their own.
        log_folder: What each process says, as NAME.log; gone at the end.
    """

    def __init__(self) -> None:
        os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
        if profile := config_file('fastdds.xml'):
            os.environ.setdefault('FASTRTPS_DEFAULT_PROFILES_FILE', str(profile))
        self.domain = free_domain()
        self._processes: list[NodeProcess] = []
        self._clients: dict[str, Any] = {}
        self._context = Context()

    def __enter__(self) -> LiveGraph:
        self._folder = tempfile.TemporaryDirectory(prefix='vlm_nodes_')
        self.log_folder = Path(self._folder.name)
        if threading.current_thread() is threading.main_thread():
            self._old_handler = signal.signal(signal.SIGTERM, _interrupt)
        rclpy.init(context=self._context, domain_id=self.domain)
        self.node: Any = Node('vlm_client', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name='client', daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in reversed(self._processes):
            process.end()
        self._executor.shutdown()
        self._context.try_shutdown()
        self._thread.join(5.0)
        self._folder.cleanup()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._old_handler)

    def start(
        self,
        name: str,
        module: str,
        parameters: Mapping[str, object],
        *,
        arguments: Sequence[str] = (),
        remappings: Mapping[str, str] | None = None,
    ) -> NodeProcess:
        """Start a node; what it says goes to NAME.log."""
        environment = os.environ | {'ROS_DOMAIN_ID': str(self.domain), 'PYTHONUNBUFFERED': '1'}
        process = NodeProcess(
            module,
            [*arguments, *ros_words(parameters, remappings)],
            environment,
            self.log_folder / f'{name}.log',
        )
        self._processes.append(process)
        return process

    def stop(self, process: NodeProcess) -> int:
        """End a node; returns its exit status."""
        self._processes.remove(process)
        return process.end()

    def wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait until a condition holds.

        Raises:
            NodeFailedError: A node ended with an error, or the condition does not hold in time;
                the text then says what was waited for.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            for process in self._processes:
                process.check()
            if time.monotonic() > deadline:
                raise NodeFailedError(f'waited {timeout_s:.0f} s in vain for {what}')
            time.sleep(_POLL_S)

    def call(
        self, kind: Any, name: str, request: Any, timeout_s: float = START_PATIENCE_S
    ) -> tuple[Any, float]:
        """Call a service; its answer, and the milliseconds until it came.

        Raises:
            NodeFailedError: No answer came.
        """
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = self.node.create_client(kind, name)
        self.wait(client.service_is_ready, timeout_s, f'the service {name}')
        done = threading.Event()
        start = time.perf_counter()
        future = client.call_async(request)
        took: list[float] = []

        def finish(_: Any) -> None:
            took.append((time.perf_counter() - start) * 1e3)
            done.set()

        future.add_done_callback(finish)
        self.wait(done.is_set, timeout_s, f'an answer of {name}')
        return future.result(), took[0]

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            return


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


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
