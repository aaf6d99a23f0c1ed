"""A node's callbacks in threads of their own, with an end that leaves none at work."""

from __future__ import annotations

import threading

from rclpy.executors import (
    ExternalShutdownException,
    MultiThreadedExecutor,
    SingleThreadedExecutor,
)
from rclpy.node import Node


class Spinner:
    """Runs the callbacks of a node until `end`.

    Call `end` before the node is destroyed and before its context is shut down: a callback that is
    at work by then could not publish any more, and would raise.

    Args:
        node: Whose callbacks; also those of timers and services.
        threads: In which they run, several at once.
    """

    def __init__(self, node: Node, threads: int = 1) -> None:
        self._node, self._count = node, threads
        self._executor = (
            SingleThreadedExecutor(context=node.context)
            if threads == 1
            else MultiThreadedExecutor(threads, context=node.context)
        )
        self._executor.add_node(node)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._spin, name=node.get_name(), daemon=True)
        self._thread.start()

    def end(self, timeout_s: float) -> bool:
        """Begin no callback any more, and wait for those at work.

        Returns:
            Whether none is at work now; False where one takes longer.
        """
        self._executor.remove_node(self._node)
        # Executors do not wait for their callbacks. But once each of their threads stands here, all
        # that was begun before is done.
        gate = threading.Barrier(self._count + 1, timeout=timeout_s)
        for _ in range(self._count):
            self._executor.create_task(_stand, gate)
        done = self._thread.is_alive() and _stand(gate)
        self._ending.set()
        self._executor.create_task(lambda: None)  # wakes it
        self._thread.join(timeout_s)
        self._executor.shutdown()
        return done

    def _spin(self) -> None:
        try:
            while self._node.context.ok() and not self._ending.is_set():
                self._executor.spin_once()
        except ExternalShutdownException:
            return


def _stand(gate: threading.Barrier) -> bool:
    try:
        gate.wait()
    except threading.BrokenBarrierError:
        return False
    return True
