"""Importing torchvision beside a CPU build of torch.

open_clip imports torchvision for picture transforms only. The torchvision wheel has no CPU build:
beside the CPU build of torch its C++ operators do not load, and its Python side then fails while it
declares fake kernels for them (`operator torchvision::nms does not exist`).
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


def ensure_torchvision() -> None:
    """Import torchvision, without its C++ operators where these do not load.

    Does nothing where torchvision imports normally. Any other failure is passed on.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: torchvision fails for another reason than missing operators.
    """
    try:
        importlib.import_module('torchvision')
    except RuntimeError as error:
        if 'torchvision::' not in str(error):
            raise
        _forget_partial_import()
        with _without_fake_kernels():
            importlib.import_module('torchvision')


def _forget_partial_import() -> None:
    for name in [name for name in sys.modules if name.split('.')[0] == 'torchvision']:
        del sys.modules[name]


@contextmanager
def _without_fake_kernels() -> Iterator[None]:
    """Let `torch.library.register_fake` do nothing for the time of one import."""
    original = torch.library.register_fake

    def skip(*_args: Any, **_kwargs: Any) -> Callable[[Any], Any]:
        return lambda function: function

    torch.library.register_fake = skip
    try:
        yield
    finally:
        torch.library.register_fake = original
