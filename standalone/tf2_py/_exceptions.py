"""The errors of tf2, which tracebacks show as ``tf2.NAME`` like those of the compiled binding."""


class TransformException(Exception):  # noqa: N818 (the name is tf2's)
    """Base of every error that tf2 raises."""

    __module__ = 'tf2'


class ConnectivityException(TransformException):
    """The two frames are in different trees."""

    __module__ = 'tf2'


class LookupException(TransformException):
    """A frame is unknown, or the tree has a loop."""

    __module__ = 'tf2'


class ExtrapolationException(TransformException):
    """The time lies outside of what is stored."""

    __module__ = 'tf2'


class InvalidArgumentException(TransformException):
    """An argument cannot be right, such as an empty frame name."""

    __module__ = 'tf2'


class TimeoutException(TransformException):
    """An answer did not come in time."""

    __module__ = 'tf2'
