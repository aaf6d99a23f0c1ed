"""What the nodes of all rooms share on the ROS side: parameters, start and end."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import rclpy
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.executors import (
    ExternalShutdownException,
    MultiThreadedExecutor,
    SingleThreadedExecutor,
)
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_profile_sensor_data,
)

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

__all__ = [
    'LATCHED',
    'LATCHED_QUEUE',
    'STEADY',
    'Audience',
    'Parameter',
    'StartError',
    'SubscriptionEventCallbacks',
    'declare_parameters',
    'main',
    'sensor_qos',
]

# What a signal may take to end a node, whatever it is about.
LONGEST_END_S = 1.5

# rclpy's threads poll while a callback that is ready waits for its thread. At Python's 5 ms a turn
# they would hold up that thread, and the worker, for most of the time.
SWITCH_INTERVAL_S = 0.0002

# For timers that must go on when simulated time stands still.
STEADY = Clock(clock_type=ClockType.STEADY_TIME)

# What a player's listener needs to find all publishers, since it last found one.
_SETTLE_S = 0.7
# How long a player's end may wait for listeners that are slow to take what was sent.
_TAKEN_S = 10.0
_BRIEFLY = Duration(seconds=0.2)


def _latched(depth: int) -> QoSProfile:
    return QoSProfile(
        depth=depth,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


LATCHED = _latched(1)
# For those who must hear each word: a queue of one keeps the last, whoever said it.
LATCHED_QUEUE = _latched(100)


_interrupted = threading.Event()


class StartError(Exception):
    """A node cannot start; the text is the one line its user sees."""


@dataclass(frozen=True)
class Parameter:
    """A parameter, with what `ros2 param describe` says of it.

    Attributes:
        name: As in the YAML file.
        default: Its type is the parameter's type.
        description: In users' words, with the unit.
        low: Least value of a number.
        high: Greatest value of a number.
        choices: What a text may be.
        changeable: Whether it may be set while the node runs.
    """

    name: str
    default: Any
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    changeable: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """The descriptor to declare it with."""
        descriptor = ParameterDescriptor(
            description=self.description, read_only=not self.changeable
        )
        if self.choices:
            descriptor.additional_constraints = f'one of {", ".join(self.choices)}'
        if self.low is None or self.high is None:
            return descriptor
        if isinstance(self.default, int):
            bounds = IntegerRange(from_value=int(self.low), to_value=int(self.high))
            descriptor.integer_range = [bounds]
        else:
            bounds = FloatingPointRange(from_value=float(self.low), to_value=float(self.high))
            descriptor.floating_point_range = [bounds]
        return descriptor


def declare_parameters(node: Node, parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Declare parameters and read their values.

    Raises:
        StartError: A value has the wrong type, is out of its range, or is none of its choices.
    """
    values = {}
    for parameter in parameters:
        try:
            node.declare_parameter(parameter.name, parameter.default, parameter.descriptor())
        except ParameterException as error:
            raise StartError(f'parameter {parameter.name}: {error}') from error
        value = node.get_parameter(parameter.name).value
        if parameter.choices and value not in parameter.choices:
            choices = ', '.join(parameter.choices)
            raise StartError(f'parameter {parameter.name} is {value!r}, not one of {choices}')
        # An empty list has no type in a YAML file: [''] stands for it.
        values[parameter.name] = [v for v in value if v != ''] if isinstance(value, list) else value
    return values


def sensor_qos(reliability: str, depth: int) -> QoSProfile:
    """Sensor-data QoS: best effort hears everyone; 'reliable' loses nothing of who offers it."""
    return QoSProfile(
        depth=depth,
        history=HistoryPolicy.KEEP_LAST,
        reliability=ReliabilityPolicy.RELIABLE
        if reliability == 'reliable'
        else qos_profile_sensor_data.reliability,
    )


class Audience:
    """Those who listen to a node that plays a recording, and must miss neither begin nor end.

    Args:
        node: Which plays.
        publishers: Whose listeners are given time to be found before the first message.
    """

    def __init__(self, node: Node, publishers: Sequence[Publisher]) -> None:
        self._node, self._publishers = node, publishers
        self._found: list[int] = []
        self._since_s = 0.0

    def has_settled(self) -> bool:
        """Whether for some time no further listener was found."""
        found = [publisher.get_subscription_count() for publisher in self._publishers]
        if found != self._found:
            self._found, self._since_s = found, time.monotonic()
        return time.monotonic() - self._since_s >= _SETTLE_S

    def wait_until_taken(self) -> None:
        """Wait for listeners to have all that was sent, which the end would take from them."""
        deadline_s = time.monotonic() + _TAKEN_S
        for publisher in self._node.publishers:
            # Briefly at a time: a signal is minded in between.
            while not publisher.wait_for_all_acked(_BRIEFLY) and time.monotonic() < deadline_s:
                pass


def run(make_node: Callable[[], Node], *, threads: int = 4) -> int:
    """Run a node until it is interrupted; returns the process's exit status.

    SIGINT and SIGTERM end it in order, while it starts as well as while it runs, and within
    `LONGEST_END_S` in any case. A `StartError` is said in one line and ends with status 1.
    """
    _interrupted.clear()
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(make_node, threads)
    except KeyboardInterrupt:  # it came when the end had begun
        return 0


def _run(make_node: Callable[[], Node], threads: int) -> int:
    node: Node | None = None
    status = 0
    try:
        with _signals_held_back():
            _init()
            # An executor that a signal finds half built says a trace when it is deleted.
            executor = SingleThreadedExecutor() if threads == 1 else MultiThreadedExecutor(threads)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        node = make_node()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except StartError as error:
        sys.stderr.write(f'{error}\n')
        status = 1
    except Exception:
        # What a start stumbles over once its context is shut down is no error.
        if not _interrupted.is_set():
            raise
    finally:
        # A second signal, or one during the end, must not turn an orderly end into a trace.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return status


def _init() -> None:
    try:
        rclpy.init()
    except Exception as error:  # rclpy has no public name for what it raises
        raise StartError(f'bad ROS arguments: {" ".join(str(error).split())}') from error


def main(make_node: Callable[[], Node], *, threads: int = 4) -> None:
    """`run`, then leave at once: threads that still compute or save must not hold up the end."""
    status = run(make_node, threads=threads)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """SIGINT and SIGTERM come when this is over."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _interrupt(signum: int, frame: object) -> None:
    if not _interrupted.is_set():
        _interrupted.set()
        late_end = threading.Timer(LONGEST_END_S, os._exit, [0])
        late_end.daemon = True
        late_end.start()
    raise KeyboardInterrupt
