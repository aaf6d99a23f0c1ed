"""Joint commands as they come in from outside: by name, some joints only, and not always right."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.simulation.arm.kinematics import JOINTS, Limits


class CommandInbox:
    """The newest joint targets, and which tick they are for."""

    def __init__(self) -> None:
        self._limits = Limits()
        self.clear(np.zeros(len(JOINTS)))

    def clear(self, joints: NDArray[np.float64], begin_ns: int = 0) -> None:
        """Begin an episode: the targets are where the joints are.

        Args:
            joints: (4,) radians.
            begin_ns: stamp of the episode's first tick.
        """
        self._targets = np.array(joints, np.float64)
        self._begin_ns = begin_ns
        self._stamp_ns = 0
        self._fresh = False

    def put(self, positions: Mapping[str, float], stamp_ns: int = 0) -> str:
        """Take a command; joints that it does not name keep their targets.

        Args:
            positions: radians by joint.
            stamp_ns: of the command; 0 where it does not say.

        Returns:
            What was done about joints beyond their limits; '' where none was.

        Raises:
            ValueError: it names no joint, or one that there is not, or a position is not finite, or
                it is older than the episode.
        """
        if 0 < stamp_ns < self._begin_ns:
            raise ValueError('it is stamped before this episode began')
        if not positions:
            raise ValueError('it has no position of any joint')
        if unknown := [name for name in positions if name not in JOINTS]:
            raise ValueError(
                f'there is no joint {unknown[0]!r}: the joints are {", ".join(JOINTS)}'
            )
        if bad := [name for name, value in positions.items() if not np.isfinite(value)]:
            raise ValueError(f'the position of {bad[0]} is {positions[bad[0]]}')
        wanted = self._targets.copy()
        for name, value in positions.items():
            wanted[JOINTS.index(name)] = value
        self._targets = self._limits.clip(wanted)
        self._stamp_ns, self._fresh = stamp_ns, True
        beyond = [JOINTS[i] for i in np.flatnonzero(np.abs(wanted - self._targets) > 1e-6)]
        return f'{", ".join(beyond)} kept within the limits' if beyond else ''

    def answers(self, tick_stamp_ns: int) -> bool:
        """Whether a command came since the last `take` that is not for an earlier tick."""
        return self._fresh and (self._stamp_ns == 0 or self._stamp_ns >= tick_stamp_ns)

    def take(self) -> NDArray[np.float64]:
        """The newest targets (4,), radians in the order of `JOINTS`."""
        self._fresh = False
        return self._targets
