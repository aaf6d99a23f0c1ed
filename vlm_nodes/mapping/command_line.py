"""What the mapping tools' command lines share: errors as one line, and lines on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from vlm_nodes.mapping.datasets import DatasetError

USAGE_ERROR = 2


def run(tool: str, main: Callable[[], int]) -> int:
    """Run a tool: what it cannot do is said in one line, and the exit code is 2.

    Args:
        tool: Its name, which the line begins with.
        main: The tool; returns the exit code.
    """
    # Imported here: a tool runs on folders without the libraries for bags.
    from bag_tools.reader import BagError

    logging.basicConfig(level=logging.WARNING, format=f'{tool}: %(message)s', stream=sys.stderr)
    try:
        return main()
    except (DatasetError, BagError, ValueError, OSError) as error:
        print(f'{tool}: {" ".join(str(error).split())}', file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print(f'{tool}: interrupted', file=sys.stderr)
        return 130
