from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any


class SimpleFilter:
    """A source of messages that callbacks, and so other filters, can be connected to."""

    def __init__(self) -> None:
        self.callbacks: dict[int, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
        self._connection_ids = itertools.count()

    def registerCallback(self, cb: Callable[..., Any], *args: Any) -> int:
        """Have ``cb`` called with every output of this filter.

        Args:
            cb: Called with the filter's messages, then ``args``.
            *args: Handed to ``cb`` after the messages.

        Returns:
            The connection, which ``unregisterCallback`` takes.
        """
        connection = next(self._connection_ids)
        self.callbacks[connection] = (cb, args)
        return connection

    def unregisterCallback(self, conn: int) -> None:
        """Forget the callback of a connection; one that is not known is no error."""
        self.callbacks.pop(conn, None)

    def signalMessage(self, *msg: Any) -> None:
        """Call every registered callback, in the order of registration."""
        # A copy, because a callback may register or unregister others.
        for cb, args in tuple(self.callbacks.values()):
            cb(*msg, *args)
