"""A buffer that asks a buffer server, in another process, over an action."""

from __future__ import annotations

import threading
import time as system_time
import warnings
from typing import Any

import builtin_interfaces.msg
from geometry_msgs.msg import TransformStamped
from rclpy.action.client import ActionClient
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.task import Future
from rclpy.time import Time
from tf2_msgs.action import LookupTransform
from tf2_msgs.msg import TF2Error
from tf2_py import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    TimeoutException,
    TransformException,
)

from .buffer_interface import BufferInterface

_EXCEPTIONS = {
    TF2Error.LOOKUP_ERROR: LookupException,
    TF2Error.CONNECTIVITY_ERROR: ConnectivityException,
    TF2Error.EXTRAPOLATION_ERROR: ExtrapolationException,
    TF2Error.INVALID_ARGUMENT_ERROR: InvalidArgumentException,
    TF2Error.TIMEOUT_ERROR: TimeoutException,
}
_BLAME = 'Something is likely wrong with the server.'


class BufferClient(BufferInterface):
    """Looks transforms up on a buffer server. Somebody else must spin the node meanwhile.

    Args:
        node: Who asks.
        ns: Name of the server's action.
        check_frequency: How often (Hz) a wait looks whether it is still wanted.
        timeout_padding: How much longer than the server to wait; a number is in seconds.
    """

    def __init__(
        self,
        node: Node,
        ns: str,
        check_frequency: float = 10.0,
        timeout_padding: Duration | float = Duration(seconds=2.0),  # noqa: B008 (part of the signature)
    ) -> None:
        super().__init__()
        self.node = node
        self.action_client = ActionClient(node, LookupTransform, action_name=ns)
        self.check_frequency = check_frequency
        self.timeout_padding = timeout_padding

    def lookup_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time,
        timeout: Duration = Duration(),  # noqa: B008
    ) -> TransformStamped:
        """Give the pose of the source in the target.

        Args:
            target_frame: The frame to transform into.
            source_frame: The frame to transform from.
            time: When; zero for the latest.
            timeout: How long the server waits for it.

        Raises:
            TimeoutException: If the server does not answer.
            TransformException: What the lookup on the server raised.
            TypeError: If the time is none.
        """
        goal = LookupTransform.Goal(target_frame=target_frame, source_frame=source_frame)
        goal.source_time = _time_message(time)
        goal.timeout = timeout.to_msg()
        return self._ask(goal, timeout)

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

        Errors are those of `lookup_transform`.
        """
        goal = LookupTransform.Goal(
            target_frame=target_frame,
            source_frame=source_frame,
            fixed_frame=fixed_frame,
            advanced=True,
        )
        goal.source_time = source_time.to_msg()
        goal.target_time = target_time.to_msg()
        goal.timeout = timeout.to_msg()
        return self._ask(goal, timeout)

    def can_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time,
        timeout: Duration = Duration(),  # noqa: B008
    ) -> bool:
        """Say whether `lookup_transform` succeeds."""
        try:
            self.lookup_transform(target_frame, source_frame, time, timeout)
        except TransformException:
            return False
        return True

    def can_transform_full(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
        timeout: Duration = Duration(),  # noqa: B008
    ) -> bool:
        """Say whether `lookup_transform_full` succeeds."""
        try:
            self.lookup_transform_full(
                target_frame, target_time, source_frame, source_time, fixed_frame, timeout
            )
        except TransformException:
            return False
        return True

    def _ask(self, goal: LookupTransform.Goal, timeout: Duration) -> TransformStamped:
        if not self.action_client.server_is_ready():
            raise TimeoutException('The BufferServer is not ready.')
        patience_s = _seconds(timeout) + _seconds(self.timeout_padding)
        deadline_s = system_time.monotonic() + patience_s
        handle = self._outcome(self.action_client.send_goal_async(goal), deadline_s)
        if not handle.accepted:
            raise TimeoutException(
                'The LookupTransform goal sent to the BufferServer did not come back with accepted '
                f'status. {_BLAME}'
            )
        return _transform_of(self._outcome(handle.get_result_async(), deadline_s).result)

    def _outcome(self, future: Future, deadline_s: float) -> Any:
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        while not done.wait(1.0 / self.check_frequency):
            if system_time.monotonic() > deadline_s or not self.node.context.ok():
                raise TimeoutException(
                    'The LookupTransform goal sent to the BufferServer did not come back in the '
                    f'specified time. {_BLAME}'
                )
        return future.result()

    def destroy(self) -> None:
        """Give the action client back."""
        self.action_client.destroy()


def _seconds(duration: Duration | float) -> float:
    """Give a duration in seconds; numbers are let through, as upstream does."""
    return duration.nanoseconds * 1e-9 if isinstance(duration, Duration) else float(duration)


def _time_message(time: Any) -> builtin_interfaces.msg.Time:
    if isinstance(time, builtin_interfaces.msg.Time):
        warnings.warn(
            'Passing a builtin_interfaces.msg.Time argument is deprecated, and will be removed in '
            'the near future. Use rclpy.time.Time instead.',
            stacklevel=3,
        )
        return time
    if isinstance(time, Time):
        return time.to_msg()
    raise TypeError('Must pass a rclpy.time.Time object.')


def _transform_of(result: Any) -> TransformStamped:
    if result is None or result.error is None:
        raise TransformException(
            f'The BufferServer returned None for result or result.error!  {_BLAME}'
        )
    if result.error.error != TF2Error.NO_ERROR:
        exception = _EXCEPTIONS.get(result.error.error, TransformException)
        raise exception(result.error.error_string)
    return result.transform
