"""Where a message's time comes from, shared by the filters that order messages by it."""

from __future__ import annotations

from typing import Any

from rclpy.clock import ROSClock
from rclpy.logging import LoggingSeverity, get_logger
from rclpy.time import Time

WARNING_PERIOD_S = 5.0


def header_stamp(msg: Any) -> Any:
    """Return ``msg.header.stamp``, a builtin_interfaces Time or a rclpy Time; None without one."""
    return getattr(getattr(msg, 'header', None), 'stamp', None)


def stamp_ns(stamp: Any) -> int:
    """Return the nanoseconds of a builtin_interfaces Time or a rclpy Time."""
    if hasattr(stamp, 'nanosec'):
        return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
    return int(stamp.nanoseconds)


def as_time(stamp: Any) -> Time:
    """Return a stamp as a rclpy Time; one that is a Time already keeps its clock type."""
    return stamp if hasattr(stamp, 'nanoseconds') else Time.from_msg(stamp)


def arrival_time() -> Time:
    """Return the present ROS time."""
    return ROSClock().now()


def warn_of_headerless(logger_name: str) -> None:
    """Say that a message without a stamp was dropped, and what would keep it."""
    logger = get_logger(logger_name)
    logger.set_level(LoggingSeverity.INFO)
    logger.warning(
        'dropped a message that has no header.stamp: publish stamped messages, or pass '
        "'allow_headerless=True' to stamp such messages with the ROS time of their arrival",
        throttle_duration_sec=WARNING_PERIOD_S,
    )
