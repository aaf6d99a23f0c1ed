"""Filling a buffer from what is published."""

from __future__ import annotations

import atexit
import threading
import weakref

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile
from tf2_msgs.msg import TFMessage

from .buffer import Buffer

_AUTHORITY = 'default_authority'


def _profile(durability: DurabilityPolicy) -> QoSProfile:
    return QoSProfile(depth=100, durability=durability, history=HistoryPolicy.KEEP_LAST)


# Threads that spin. They are daemons, so as not to keep a process alive that forgot to shut down,
# and are ended in time: killed inside the middleware by the interpreter they would abort it.
_spinning: weakref.WeakSet[_SpinningThread] = weakref.WeakSet()


@atexit.register
def _end_spinning() -> None:
    for thread in list(_spinning):
        thread.end()


class _SpinningThread(threading.Thread):
    def __init__(self, node: Node) -> None:
        super().__init__(name='tf2_listener', daemon=True)
        self.executor = SingleThreadedExecutor(context=node.context)
        self.executor.add_node(node)
        self._node = node
        self._ending = threading.Event()
        _spinning.add(self)

    def run(self) -> None:
        try:
            while not self._ending.is_set():
                self.executor.spin_once()
        except Exception:
            # What it stumbles over once its context is shut down is no error.
            if self._node.context.ok():
                raise
        finally:
            self.executor.remove_node(self._node)

    def end(self) -> None:
        # An executor that is shut down just before its thread waits may let it wait for ever.
        self._ending.set()
        if self.is_alive():
            self.executor.create_task(lambda: None)  # wakes it
        if self is not threading.current_thread():
            self.join()
        self.executor.shutdown()


class TransformListener:
    """Stores in a buffer what arrives on ``/tf`` and ``/tf_static``.

    The node keeps the listener alive: it listens until `unregister` or the end of the node.

    Args:
        buffer: Where to.
        node: Who subscribes. Somebody must spin it.
        spin_thread: Spin the node in a thread of the listener's own, all its callbacks included.
        qos: Profile or history depth for ``/tf``; reliable, volatile, 100 deep by default.
        static_qos: The same for ``/tf_static``; transient-local with a depth of 100 by default.
    """

    def __init__(
        self,
        buffer: Buffer,
        node: Node,
        *,
        spin_thread: bool = False,
        qos: QoSProfile | int | None = None,
        static_qos: QoSProfile | int | None = None,
    ) -> None:
        self.buffer = buffer
        self.node = node
        # Reentrant, so that another callback of the node may wait for a transform meanwhile.
        self.group = ReentrantCallbackGroup()
        self.tf_sub = node.create_subscription(
            TFMessage,
            '/tf',
            self.callback,
            _profile(DurabilityPolicy.VOLATILE) if qos is None else qos,
            callback_group=self.group,
        )
        self.tf_static_sub = node.create_subscription(
            TFMessage,
            '/tf_static',
            self.static_callback,
            _profile(DurabilityPolicy.TRANSIENT_LOCAL) if static_qos is None else static_qos,
            callback_group=self.group,
        )
        if spin_thread:
            self._start_spinning()

    def _start_spinning(self) -> None:
        self.dedicated_listener_thread = _SpinningThread(self.node)
        self.executor = self.dedicated_listener_thread.executor
        self.dedicated_listener_thread.start()

    def __del__(self) -> None:
        if hasattr(self, 'dedicated_listener_thread'):
            self.dedicated_listener_thread.end()
        self.unregister()

    def unregister(self) -> None:
        """Stop listening."""
        for name in ('tf_sub', 'tf_static_sub'):
            if hasattr(self, name):
                self.node.destroy_subscription(getattr(self, name))

    def callback(self, data: TFMessage) -> None:
        """Store what moves."""
        for transform in data.transforms:
            self.buffer.set_transform(transform, _AUTHORITY)

    def static_callback(self, data: TFMessage) -> None:
        """Store what stays."""
        for transform in data.transforms:
            self.buffer.set_transform_static(transform, _AUTHORITY)
