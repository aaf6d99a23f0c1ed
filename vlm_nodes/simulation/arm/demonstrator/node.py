"""`arm_expert_node`: does the task of `sim_arm_node`, by what its ground truth says of the things.

Of the hidden stop it knows nothing: it goes by the force on the fingertip.
"""

import json
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from vlm_nodes.messages import header_message, joint_state_message
from vlm_nodes.node import LATCHED, Parameter, declare_parameters
from vlm_nodes.node import main as run_node
from vlm_nodes.simulation.arm.expert import ArmExpert, Shake, sight_from_truth
from vlm_nodes.simulation.arm.kinematics import JOINTS

_PARAMETERS = (
    Parameter('rate_hz', 10.0, "Of sim_arm_node's ticks.", 1, 50),
    Parameter('shake', True, 'Disturb the commands a little, and correct what comes of it.'),
)


class ArmExpertNode(Node):
    """Answers each `sim_arm_node/ground_truth` with a `joint_command` of the same stamp.

    Publishes on `~/intended_command` what it would have commanded without disturbing itself.
    """

    def __init__(self) -> None:
        super().__init__('arm_expert_node')
        values = declare_parameters(self, _PARAMETERS)
        self._rate_hz: float = values['rate_hz']
        self._shake = Shake() if values['shake'] else None
        self._expert: ArmExpert | None = None
        self._episode: int | None = None
        self._commands = self.create_publisher(JointState, 'joint_command', 10)
        self._intended = self.create_publisher(JointState, '~/intended_command', 10)
        self.create_subscription(String, 'sim_arm_node/ground_truth', self._on_truth, LATCHED)

    def _on_truth(self, message: String) -> None:
        truth: dict[str, Any] = json.loads(message.data)
        if self._expert is None or truth['episode'] != self._episode:
            seed = truth['seed']
            self._expert = ArmExpert(truth['task'], self._rate_hz, self._shake, seed)
            self._episode = truth['episode']
        targets = self._expert.act(sight_from_truth(truth))
        header = header_message('', truth['stamp_ns'])
        intended = joint_state_message(JOINTS, self._expert.intended, (), header)
        self._intended.publish(intended)
        self._commands.publish(joint_state_message(JOINTS, targets, (), header))


def main() -> None:
    """Entry point of `arm_expert_node`."""
    run_node(ArmExpertNode, threads=1)


if __name__ == '__main__':
    main()
