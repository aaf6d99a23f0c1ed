from __future__ import annotations

from typing import Any

from message_filters.simple_filter import SimpleFilter


class Chain(SimpleFilter):
    """Filters in a row, each fed by the one before; what the last puts out, the chain puts out."""

    def __init__(self, message_filter: Any = None) -> None:
        super().__init__()
        self.incoming_connection: int | None = None
        self._filters: dict[int, Any] = {}
        self._output_connection: int | None = None
        if message_filter is not None:
            self.connectInput(message_filter)

    def connectInput(self, message_filter: Any) -> None:
        """Take the output of a filter as input.

        Raises:
            RuntimeError: The chain has an input already.
        """
        if self.incoming_connection is not None:
            raise RuntimeError('Already connected')
        self.incoming_connection = message_filter.registerCallback(self.add)

    def add(self, message: Any) -> None:
        """Feed a message to the first filter; an empty chain passes it on."""
        if self._filters:
            self._filters[0].add(message)
        else:
            self.signalMessage(message)

    def addFilter(self, message_filter: Any) -> None:
        """Append a filter, which must have an ``add`` method."""
        if self._filters:
            last = self._filters[len(self._filters) - 1]
            last.callbacks.pop(self._output_connection)
            last.registerCallback(message_filter.add)
        self._filters[len(self._filters)] = message_filter
        self._output_connection = message_filter.registerCallback(self.signalMessage)

    def getFilter(self, index: int) -> Any:
        """Return the filter at ``index``, counted from 0.

        Raises:
            KeyError: There is no such filter.
        """
        return self._filters[index]
