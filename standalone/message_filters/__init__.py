"""Filters that messages pass through: a stand-in for ROS 2 Jazzy's Python package of this name.

Names, signatures and behaviour follow ros2/message_filters 4.11. Where ROS is installed its own
package is imported instead of this one.
"""

from message_filters.cache import Cache
from message_filters.chain import Chain
from message_filters.simple_filter import SimpleFilter
from message_filters.subscriber import Subscriber
from message_filters.synchronizers import ApproximateTimeSynchronizer, TimeSynchronizer

__all__ = [
    'ApproximateTimeSynchronizer',
    'Cache',
    'Chain',
    'SimpleFilter',
    'Subscriber',
    'TimeSynchronizer',
]
