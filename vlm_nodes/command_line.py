"""What the tools' command lines share: errors as one line, and lines on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator

USAGE_ERROR = 2

# What a tool may end in besides ValueError and OSError, by the module that defines it.
_ERRORS = (
    ('bag_tools.reader', 'BagError'),
    ('vlm_nodes.mapping.datasets', 'DatasetError'),
    ('vlm_nodes.mapping.map_file', 'MapFileError'),
    ('vlm_nodes.clip.weights', 'WeightsError'),
    ('vlm_nodes.sarnn.checkpoint', 'CheckpointError'),
    ('vlm_nodes.simulation.gl', 'RenderingUnavailableError'),
)


def _errors() -> Iterator[type[Exception]]:
    yield from (ValueError, OSError)
    # Of modules that were not loaded, nothing was raised.
    for module, name in _ERRORS:
        if module in sys.modules:
            yield getattr(sys.modules[module], name)


def run(tool: str, main: Callable[[], int]) -> int:
    """Run a tool: what it cannot do is said in one line, and the exit code is 2.

    Args:
        tool: Its name, which the line begins with.
        main: The tool; returns the exit code.
    """
    logging.basicConfig(level=logging.WARNING, format=f'{tool}: %(message)s', stream=sys.stderr)
    try:
        return main()
    except tuple(_errors()) as error:
        print(f'{tool}: {" ".join(str(error).split())}', file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f'{tool}: interrupted', file=sys.stderr)
        return 130


def say(text: str) -> None:
    """Print what a tool has to tell its user, on standard output."""
    print(text)
