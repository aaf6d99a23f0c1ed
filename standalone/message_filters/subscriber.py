from __future__ import annotations

from typing import Any

from message_filters.simple_filter import SimpleFilter

DEFAULT_QUEUE_DEPTH = 10


class Subscriber(SimpleFilter):
    """A ROS 2 subscription as the source of a chain of filters.

    ``Subscriber(node, msg_type, topic, **options)`` takes what ``node.create_subscription`` takes
    save the callback; ``qos_profile`` is 10 unless given. Attributes that a filter lacks are those
    of the subscription, which is also ``sub``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.node = args[0]
        self.topic = args[2]
        kwargs.setdefault('qos_profile', DEFAULT_QUEUE_DEPTH)
        self.sub = self.node.create_subscription(*args[1:], self.callback, **kwargs)

    def callback(self, msg: Any) -> None:
        """Pass a received message on."""
        self.signalMessage(msg)

    def getTopic(self) -> str:
        """Return the topic's name as it was given."""
        return str(self.topic)

    def __getattr__(self, key: str) -> Any:
        # Without this guard an unfinished construction would look for 'sub' in 'sub' for ever.
        if key == 'sub':
            raise AttributeError(key)
        return getattr(self.sub, key)
