"""policy_node on a real graph: what it sends, and what it is told."""

import numpy as np
from policy_rig import HOME, NAMES, PERIOD_NS, drifting, policy_rig


def test_it_starts_disabled_then_moves_slowly_and_within_the_limits(tmp_path):
    with policy_rig(drifting(), tmp_path, ramp_s=0.5, max_velocity=0.8) as rig:
        rig.tick(3)
        assert rig.state == 'disabled'
        assert rig.commands == []
        rig.enable()
        rig.tick(40)
        assert rig.state == 'running'
        assert len(rig.commands) == 40
        command = rig.commands[0]
        assert tuple(command.joint_names) == NAMES
        assert (command.header.stamp.sec, command.header.stamp.nanosec) == (0, 0)
        assert command.points[0].time_from_start.nanosec == 1.5 * PERIOD_NS
        moved = np.diff(np.vstack([HOME, rig.positions()]), axis=0)
        assert (np.abs(moved) <= 0.08 + 1e-9).all()
        assert (np.abs(moved[:5]) <= 0.08 * np.arange(1, 6)[:, None] / 5 + 1e-9).all()
        # As far as training went, and the margin.
        np.testing.assert_allclose(rig.positions()[-1], [1.1, 2.1, 0.105], atol=1e-6)
        assert rig.count('velocity clamps') > 0
        assert rig.count('position clamps') > 0
        answer = rig.call('enable', data=False)
        assert (answer.success, answer.message) == (True, 'disabled')
        rig.tick(2)
        assert len(rig.commands) == 40
