"""The buffer that nodes use: tf2's core with waiting, futures and the clock."""

from __future__ import annotations

import threading
import time as system_time
from collections.abc import Callable
from typing import Any

import rclpy.logging
from geometry_msgs.msg import TransformStamped
from rclpy.clock import Clock, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.task import Future
from rclpy.time import Time
from tf2_msgs.srv import FrameGraph
from tf2_py import BufferCore

from .buffer_interface import BufferInterface

# What the core answers when asked whether a transform can be had.
_Answer = tuple[bool, str]
# A wait without news looks this often whether the node was shut down meanwhile.
_LONGEST_WAIT_S = 0.5


class Buffer(BufferCore, BufferInterface):
    """Poses of frames over time; waits for those that are still to come.

    Args:
        cache_time: How long poses are kept; 10 s by default.
        node: Whose clock to watch, and who offers the tree as the service ``tf2_frames``. Without
            one the system's clock is watched and no service offered.
    """

    def __init__(self, cache_time: Duration | None = None, node: Node | None = None) -> None:
        BufferCore.__init__(self, cache_time)
        BufferInterface.__init__(self)
        self._new_data = threading.Condition()
        self._waiting: dict[Future, Callable[[], None]] = {}
        if node is not None:
            self.srv = node.create_service(FrameGraph, 'tf2_frames', self._answer_frame_graph)
        self.clock = Clock() if node is None else node.get_clock()
        self._context = None if node is None else node.context
        # A second backwards, as a bag or a simulation that starts again, or another clock.
        threshold = JumpThreshold(
            min_forward=None, min_backward=Duration(seconds=-1), on_clock_change=True
        )
        self.jump_handle = self.clock.create_jump_callback(
            threshold, post_callback=self.time_jump_callback
        )

    def _answer_frame_graph(
        self, request: FrameGraph.Request, response: FrameGraph.Response
    ) -> FrameGraph.Response:
        response.frame_yaml = self.all_frames_as_yaml()
        return response

    def time_jump_callback(self, time_jump: TimeJump) -> None:
        """Forget what was stored before the clock jumped."""
        rclpy.logging.get_logger('tf2_buffer').warning(
            'Detected jump back in time. Clearing tf buffer.'
        )
        self.clear()

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """Store the pose of a frame at a stamp, and wake those who wait for it."""
        super().set_transform(transform, authority)
        self._tell_of_new_data()

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """Store the pose of a frame for all times, and wake those who wait for it."""
        super().set_transform_static(transform, authority)
        self._tell_of_new_data()

    def _tell_of_new_data(self) -> None:
        with self._new_data:
            self._new_data.notify_all()
            checks = list(self._waiting.values())
        # Outside of the lock, for a future that is done runs its owner's code.
        for check in checks:
            check()

    def lookup_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time,
        timeout: Duration = Duration(),  # noqa: B008 (never changed; part of the signature)
    ) -> TransformStamped:
        """Give the pose of the source in the target: it takes points of the source into the target.

        Args:
            target_frame: The frame to transform into.
            source_frame: The frame to transform from.
            time: When; zero for the latest.
            timeout: How long to wait for it.

        Raises:
            LookupException: If a frame is unknown.
            ConnectivityException: If there is no way between them.
            ExtrapolationException: If the time is outside of what is stored.
            InvalidArgumentException: If a name is empty or starts with a slash.
        """
        self.can_transform(target_frame, source_frame, time, timeout)
        return self.lookup_transform_core(target_frame, source_frame, time)

    async def lookup_transform_async(
        self, target_frame: str, source_frame: str, time: Time
    ) -> TransformStamped:
        """Wait without blocking until there is a transform, then give it."""
        await self.wait_for_transform_async(target_frame, source_frame, time)
        return self.lookup_transform_core(target_frame, source_frame, time)

    def lookup_transform_full(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
        timeout: Duration = Duration(),  # noqa: B008
    ) -> TransformStamped:
        """Give the pose of the source at one time in the target at another.

        Args:
            target_frame: The frame to transform into.
            target_time: When it is taken; zero for the latest.
            source_frame: The frame to transform from.
            source_time: When it is taken; zero for the latest.
            fixed_frame: What stands still between the two times.
            timeout: How long to wait for it.

        Raises:
            TransformException: As `lookup_transform`.
        """
        frames = (target_frame, target_time, source_frame, source_time, fixed_frame)
        self.can_transform_full(*frames, timeout)
        return self.lookup_transform_full_core(*frames)

    async def lookup_transform_full_async(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
    ) -> TransformStamped:
        """Wait without blocking until there is a transform across time, then give it."""
        frames = (target_frame, target_time, source_frame, source_time, fixed_frame)
        await self.wait_for_transform_full_async(*frames)
        return self.lookup_transform_full_core(*frames)

    def can_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time,
        timeout: Duration = Duration(),  # noqa: B008
        return_debug_tuple: bool = False,
    ) -> Any:
        """Say whether there is a transform, waiting for it up to a timeout of the system's clock.

        Waiting in a callback of a single-threaded executor only helps where the listener spins in a
        thread of its own.

        Returns:
            A bool; with ``return_debug_tuple`` a tuple with the reason why not.
        """
        answer = self._wait(
            lambda: self.can_transform_core(target_frame, source_frame, time), timeout
        )
        return answer if return_debug_tuple else answer[0]

    def can_transform_full(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
        timeout: Duration = Duration(),  # noqa: B008
        return_debug_tuple: bool = False,
    ) -> Any:
        """Say whether there is a transform across time; otherwise as `can_transform`."""
        frames = (target_frame, target_time, source_frame, source_time, fixed_frame)
        answer = self._wait(lambda: self.can_transform_full_core(*frames), timeout)
        return answer if return_debug_tuple else answer[0]

    def _wait(self, ask: Callable[[], _Answer], timeout: Duration) -> _Answer:
        answer = ask()
        if answer[0] or timeout.nanoseconds <= 0:
            return answer
        deadline_s = system_time.monotonic() + timeout.nanoseconds * 1e-9
        with self._new_data:
            while not (answer := ask())[0]:
                left_s = deadline_s - system_time.monotonic()
                if left_s <= 0.0 or (self._context is not None and not self._context.ok()):
                    break
                self._new_data.wait(min(left_s, _LONGEST_WAIT_S))
        return answer

    def wait_for_transform_async(self, target_frame: str, source_frame: str, time: Time) -> Future:
        """Give a future that is done, with the transform, as soon as there is one."""
        return self._future_of(
            lambda: self.can_transform_core(target_frame, source_frame, time),
            lambda: self.lookup_transform_core(target_frame, source_frame, time),
        )

    def wait_for_transform_full_async(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
    ) -> Future:
        """Give a future that is done, with the transform across time, as soon as there is one."""
        frames = (target_frame, target_time, source_frame, source_time, fixed_frame)
        return self._future_of(
            lambda: self.can_transform_full_core(*frames),
            lambda: self.lookup_transform_full_core(*frames),
        )

    def _future_of(
        self, ask: Callable[[], _Answer], look_up: Callable[[], TransformStamped]
    ) -> Future:
        future = Future()

        def check() -> None:
            # Two threads may bring data at once: the one that takes the future ends it.
            try:
                if ask()[0] and self._take(future):
                    future.set_result(look_up())
            except Exception as error:
                self._take(future)
                future.set_exception(error)

        # Listed before the first look, so that data coming in between is not missed.
        with self._new_data:
            self._waiting[future] = check
        future.add_done_callback(self._take)
        check()
        return future

    def _take(self, future: Future) -> bool:
        with self._new_data:
            return self._waiting.pop(future, None) is not None
