"""A ROS graph of nodes in processes of their own, and a client among them."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.node import Node

from vlm_nodes.graph.domain import free_domain
from vlm_nodes.graph.files import config_file
from vlm_nodes.graph.processes import NodeFailedError, NodeProcess, ros_words
from vlm_nodes.graph.spinner import Spinner

_POLL_S = 0.02
_END_PATIENCE_S = 5.0
START_PATIENCE_S = 90.0


class LiveGraph:
    """Nodes as separate processes on a ROS domain of their own, with a client's node beside them.

    A context manager: at its end all processes are ended in order, also after SIGINT and SIGTERM.

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
        self._starting = self._interrupted = False
        self._clients: dict[str, Any] = {}
        self._context = Context()

    def __enter__(self) -> LiveGraph:
        self._folder = tempfile.TemporaryDirectory(prefix='vlm_nodes_')
        self.log_folder = Path(self._folder.name)
        if threading.current_thread() is threading.main_thread():
            self._old_handlers = {
                number: signal.signal(number, self._interrupt)
                for number in (signal.SIGINT, signal.SIGTERM)
            }
        rclpy.init(context=self._context, domain_id=self.domain)
        self.node: Any = Node('vlm_client', context=self._context, enable_rosout=False)
        self._spinner = Spinner(self.node)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in reversed(self._processes):
            process.end()
        self._spinner.end(_END_PATIENCE_S)
        self.node.destroy_node()
        self._context.try_shutdown()
        self._folder.cleanup()
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._old_handlers.items():
                signal.signal(number, handler)

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
        self._starting = True
        try:
            process = NodeProcess(
                module,
                [*arguments, *ros_words(parameters, remappings)],
                environment,
                self.log_folder / f'{name}.log',
            )
            self._processes.append(process)
        finally:
            self._starting = False
        if self._interrupted:
            raise KeyboardInterrupt
        return process

    def stop(self, process: NodeProcess) -> int:
        """End a node; returns its exit status."""
        self._processes.remove(process)
        return process.end()

    def wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait until a condition holds.

        Raises:
            NodeFailedError: A node ended with an error, or the condition does not hold in time;
                the text then says what was waited for, and what the nodes said last.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            for process in self._processes:
                process.check()
            if time.monotonic() > deadline:
                said = [f'{node.name} said last:\n{node.last_words()}' for node in self._processes]
                raise NodeFailedError(
                    '\n'.join([f'waited {timeout_s:.0f} s in vain for {what}', *said])
                )
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

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        # A process that is half started is not known yet, and would be left behind.
        self._interrupted = True
        if not self._starting:
            raise KeyboardInterrupt
