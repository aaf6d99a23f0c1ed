"""MuJoCo with off-screen rendering.

The one place that chooses the GL back end, which must come before the import.
"""

import os
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

__all__ = ['RenderingUnavailableError', 'make_context', 'mujoco']


def make_context(width: int, height: int) -> Any:
    """An off-screen GL context, tried and not current.

    MuJoCo's calls on it go into `with context.as_current():`.

    Raises:
        RenderingUnavailableError: if GL cannot start.
    """
    try:
        context = mujoco.GLContext(width, height)
        with context.as_current():
            return context
    except Exception as error:  # each back end raises its own kinds
        raise _unavailable(error) from error
