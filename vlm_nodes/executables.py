"""What `ros2 run` starts.

Importing a node takes a second or more. Until the node minds signals itself they just end the
process, without the trace that Python would print.
"""

from __future__ import annotations

import signal


def mapping_node() -> None:
    """`ros2 run vlm_nodes mapping_node`."""
    _end_on_signals()
    from vlm_nodes.mapping.node import main

    main()


def playback_node() -> None:
    """`ros2 run vlm_nodes playback_node`."""
    _end_on_signals()
    from vlm_nodes.mapping.playback.node import main

    main()


def sim_node() -> None:
    """`ros2 run vlm_nodes sim_node`."""
    _end_on_signals()
    from vlm_nodes.simulation.node import main

    main()


def _end_on_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
