"""MuJoCo with off-screen rendering.

The one place that chooses the GL back end, which must come before the import.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault('MUJOCO_GL', 'egl')

_HINT = (
    'MuJoCo cannot render off-screen with MUJOCO_GL={backend}: {reason}. '
    "Install Debian's libegl1 and libgl1-mesa-dri (apt-get install libegl1 libgl1-mesa-dri), "
    'or a GPU driver with EGL.'
)


class RenderingUnavailableError(RuntimeError):
    """GL cannot start on this machine; the message says which Debian packages it needs."""


def _unavailable(error: BaseException) -> RenderingUnavailableError:
    reason = str(error).rstrip('.') or type(error).__name__
    return RenderingUnavailableError(_HINT.format(backend=os.environ['MUJOCO_GL'], reason=reason))


try:
    import mujoco
except (ImportError, AttributeError, OSError) as error:
    if isinstance(error, ModuleNotFoundError) and error.name == 'mujoco':
        raise
    # PyOpenGL fails with an AttributeError where the library that it wraps is missing.
    raise _unavailable(error) from error

__all__ = ['RenderingUnavailableError', 'current', 'make_context', 'mujoco']


def make_context(width: int, height: int) -> Any:
    """An off-screen GL context, tried and not current.

    MuJoCo's calls on it go into `with current(context):`.

    Raises:
        RenderingUnavailableError: if GL cannot start.
    """
    try:
        context = mujoco.GLContext(width, height)
        with current(context):
            return context
    except Exception as error:  # each back end raises its own kinds
        raise _unavailable(error) from error


@contextmanager
def current(context: Any) -> Iterator[None]:
    """Makes a context the thread's own for a while.

    MuJoCo 3, the last for Python 3.10, cannot let go of a context: there it stays with the thread
    that used it first.
    """
    if hasattr(context, 'as_current'):
        with context.as_current():
            yield
    else:
        context.make_current()
        yield
