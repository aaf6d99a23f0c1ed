"""What `ros2 run` starts.

Importing a node takes a second or more. Until the node minds signals itself they just end the
process, without the trace that Python would print.
"""

from __future__ import annotations

import signal


def arm_expert_node() -> None:
    """`ros2 run vlm_nodes arm_expert_node`."""
    _end_on_signals()
    from vlm_nodes.simulation.arm.demonstrator.node import main

    main()


def caption_node() -> None:
    """`ros2 run vlm_nodes caption_node`."""
    _end_on_signals()
    from vlm_nodes.clip_vlm.node import main

    main()


def cliport_node() -> None:
    """`ros2 run vlm_nodes cliport_node`."""
    _end_on_signals()
    from vlm_nodes.cliport.node import main

    main()


def mapping_node() -> None:
    """`ros2 run vlm_nodes mapping_node`."""
    _end_on_signals()
    from vlm_nodes.mapping.node import main

    main()


def occupancy_node() -> None:
    """`ros2 run vlm_nodes occupancy_node`."""
    _end_on_signals()
    from vlm_nodes.langocc.node import main

    main()


def playback_node() -> None:
    """`ros2 run vlm_nodes playback_node`."""
    _end_on_signals()
    from vlm_nodes.mapping.playback.node import main

    main()


def policy_node() -> None:
    """`ros2 run vlm_nodes policy_node`."""
    _end_on_signals()
    from vlm_nodes.sarnn.node import main

    main()


def sim_arm_node() -> None:
    """`ros2 run vlm_nodes sim_arm_node`."""
    _end_on_signals()
    from vlm_nodes.simulation.arm.node import main

    main()


def sim_node() -> None:
    """`ros2 run vlm_nodes sim_node`."""
    _end_on_signals()
    from vlm_nodes.simulation.node import main

    main()


def sim_street_node() -> None:
    """`ros2 run vlm_nodes sim_street_node`."""
    _end_on_signals()
    from vlm_nodes.simulation.street.node import main

    main()


def sim_table_node() -> None:
    """`ros2 run vlm_nodes sim_table_node`."""
    _end_on_signals()
    from vlm_nodes.simulation.tabletop.node import main

    main()


def surround_player_node() -> None:
    """`ros2 run vlm_nodes surround_player_node`."""
    _end_on_signals()
    from vlm_nodes.surround.player.node import main

    main()


def table_player_node() -> None:
    """`ros2 run vlm_nodes table_player_node`."""
    _end_on_signals()
    from vlm_nodes.simulation.tabletop.player.node import main

    main()


def _end_on_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
