"""Filters that pass a message on only if it differs from the last one that they passed on."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from message_filters.simple_filter import SimpleFilter

FieldGetter = Callable[[Any], Any]
COMPARABLE_TYPES = (bool, int, float, str)


class ComparisonHandler(ABC):  # noqa: B024  upstream's interface, of which parts may be left out
    """Decides which messages pass."""

    def message_fits(self, message: Any) -> bool:
        """Return whether the message passes."""
        raise NotImplementedError

    def do_fields_fit(self, field_a: Any, field_b: Any) -> bool:
        """Return whether a field's value in two messages lets the second one pass."""
        raise NotImplementedError


class CachedComparisonHandler(ComparisonHandler):
    """Compares with the last message that passed; one field that fits is enough.

    A class derived from this one gives ``do_fields_fit`` and ``_field_getters``.
    """

    _field_getters: Sequence[FieldGetter] = ()

    def __init__(self) -> None:
        self._message_cache: Any = None

    def message_fits(self, message: Any) -> bool:
        """Return whether the message passes, as the first one does, and remember it if so."""
        last = self._message_cache
        fits = last is None or any(
            self.do_fields_fit(get_field(last), get_field(message))
            for get_field in self._field_getters
        )
        if fits:
            self._message_cache = message
        return fits

    def do_fields_fit(self, field_a: Any, field_b: Any) -> bool:
        """Return whether a field's value in two messages lets the second one pass."""
        raise NotImplementedError(f'{type(self).__name__} must define do_fields_fit')


class DeltaCompare(CachedComparisonHandler):
    """Lets a message pass if any of its fields has changed.

    Args:
        field_getters: Each takes a message and returns a bool, int, float or str of it.
    """

    def __init__(self, field_getters: Sequence[FieldGetter]) -> None:
        super().__init__()
        self._field_getters = field_getters

    def do_fields_fit(self, field_a: Any, field_b: Any) -> bool:
        """Return whether two values differ.

        Raises:
            TypeError: A value is no bool, int, float or str.
        """
        if not (isinstance(field_a, COMPARABLE_TYPES) and isinstance(field_b, COMPARABLE_TYPES)):
            raise TypeError(
                f'Unable to compare fields of types {type(field_a)} and {type(field_b)}'
            )
        return field_a != field_b


class ComparisonFilter(SimpleFilter):
    """Passes on the messages that a comparison handler lets pass."""

    def __init__(
        self, comparison_handler: ComparisonHandler, message_filter: SimpleFilter | None = None
    ) -> None:
        super().__init__()
        self._comparison_handler = comparison_handler
        self.incoming_connection: int | None = None
        self.connectInput(message_filter)

    def add(self, message: Any) -> None:
        """Take a message and pass it on if it fits."""
        if self.message_fits(message):
            self.signalMessage(message)

    def message_fits(self, message: Any) -> bool:
        """Return whether the handler lets the message pass."""
        return self._comparison_handler.message_fits(message)

    def connectInput(self, message_filter: SimpleFilter | None) -> None:
        """Take the output of a filter as input; None leaves the filter without.

        Raises:
            RuntimeError: There is an input already.
        """
        if self.incoming_connection is not None:
            raise RuntimeError(f'{type(self).__name__} already has an incoming connection')
        if message_filter is not None:
            self.incoming_connection = message_filter.registerCallback(self.add)


class DeltaFilter(ComparisonFilter):
    """Passes on the messages in which any of the fields has changed; see ``DeltaCompare``."""

    def __init__(
        self, field_getters: Sequence[FieldGetter], message_filter: SimpleFilter | None = None
    ) -> None:
        super().__init__(DeltaCompare(field_getters), message_filter)


class PathDeltaFilter(DeltaFilter):
    """A ``DeltaFilter`` whose fields are given as paths, such as ``'pose.position.x'``."""

    def __init__(
        self, field_path_list: Sequence[str], message_filter: SimpleFilter | None = None
    ) -> None:
        getters = [partial(self.get_field_by_path, field_path=path) for path in field_path_list]
        super().__init__(getters, message_filter)

    def get_field_by_path(self, message: Any, field_path: str) -> Any:
        """Return the field at a dotted path.

        Raises:
            RuntimeError: The message has no such field.
        """
        value = message
        for name in field_path.split('.'):
            owner, value = value, getattr(value, name, None)
            if value is None:
                raise RuntimeError(
                    f'no field {name!r} in {type(owner).__name__} (full path: {field_path!r})'
                )
        return value
