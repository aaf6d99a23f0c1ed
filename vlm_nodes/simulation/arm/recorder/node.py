"""The arm, its expert and a recorder on a ROS graph of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from vlm_nodes.graph.node import LiveGraph
from vlm_nodes.graph.processes import NodeFailedError
from vlm_nodes.messages import MessageError, raw_stamp_ns
from vlm_nodes.node import LATCHED
from vlm_nodes.simulation.arm.recorder.episode_bag import EpisodeMessages, IncompleteError

# What is recorded, and of what type.
TOPICS: Final = {
    '/rgb': Image,
    '/depth': Image,
    '/camera_info': CameraInfo,
    '/gelsight1/image_raw': Image,
    '/joint_states': JointState,
    '/joint_command': JointState,
    '/arm_expert_node/intended_command': JointState,
}
LEAST_TICKS: Final = 40
"""Episodes go on for so long even where the task is done before: staying is to be learnt too."""
MOST_TICKS: Final = 140
_AFTER_TICKS: Final = 10
"""And for so long after it is done."""

_QOS = QoSProfile(depth=1000)
_EPISODE_PATIENCE_S = 120.0
_LATE_S = 10.0
_COMMAND_PATIENCE_S = 20.0


class ArmStudio:
    """Records one episode after the other from topics; sim_arm_node waits for each command.

    Args:
        graph: where the nodes run.
        realtime_factor: how fast at most.
    """

    def __init__(self, graph: LiveGraph, realtime_factor: float) -> None:
        self._graph = graph
        self._messages = EpisodeMessages(
            {
                topic: f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'
                for topic, kind in TOPICS.items()
            }
        )
        self._ended: dict[str, Any] = {}
        self._done_tick: int | None = None
        self._listen()
        package = 'vlm_nodes.simulation.arm'
        self._sim = graph.start(
            'sim_arm_node',
            f'{package}.node',
            {'realtime_factor': realtime_factor, 'wait_for_command_s': _COMMAND_PATIENCE_S},
        )
        self._expert = graph.start('arm_expert_node', f'{package}.demonstrator.node', {})

    def _listen(self) -> None:
        node = self._graph.node
        for topic, kind in TOPICS.items():
            node.create_subscription(
                kind, topic, lambda data, topic=topic: self._take(topic, data), _QOS, raw=True
            )
        node.create_subscription(String, 'sim_arm_node/outcome', self._told, LATCHED)

    def record(self, path: Path, seed: int, task: str) -> dict[str, Any]:
        """Have an episode shown, and write it where it succeeds.

        Args:
            path: the bag's folder.
            seed: of the scene.
            task: one of the arm's tasks.

        Returns:
            The last `sim_arm_node/outcome`.

        Raises:
            IncompleteError: messages were lost on the way.
            NodeFailedError: a node ended, or the episode does not.
            FileExistsError: the folder is there.
        """
        episode = self._begin(seed, task)
        self._graph.wait(
            lambda: self._ended.get('episode') == episode,
            _EPISODE_PATIENCE_S,
            f'the end of episode {episode}',
        )
        story = self._ended
        if story['success']:
            self._write(path, story)
        return story

    def _begin(self, seed: int, task: str) -> int:
        """Reset to a scene; returns the number of the episode."""
        self._messages.clear()
        parameters: list[ParameterMessage] = [
            Parameter(name, value=value).to_parameter_msg()
            for name, value in (('seed', seed), ('task', task))
        ]
        request = SetParameters.Request(parameters=parameters)
        self._graph.call(SetParameters, 'sim_arm_node/set_parameters', request)
        answer, _ = self._graph.call(Trigger, 'sim_arm_node/reset', Trigger.Request())
        if not answer.success:
            raise NodeFailedError(f'sim_arm_node cannot begin: {answer.message}')
        return int(json.loads(answer.message)['episode'])

    def _write(self, path: Path, story: dict[str, Any]) -> None:
        begin, end, count = story['begin_ns'], story['stamp_ns'], story['tick'] + 1

        def complete() -> bool:
            return not self._messages.missing(begin, end, count)

        try:
            self._graph.wait(complete, _LATE_S, 'the last messages')
        except NodeFailedError as error:
            if lost := self._messages.missing(begin, end, count):
                raise IncompleteError(lost) from error
            raise
        noted = {key: str(story[key]) for key in ('task', 'seed', 'success', 'peak_force_n')}
        self._messages.write(path, begin, end, noted)

    def _take(self, topic: str, data: bytes) -> None:
        try:
            self._messages.add(topic, raw_stamp_ns(data), data)
        except MessageError as error:
            self._graph.node.get_logger().warning(f'{topic}: {error}')

    def _told(self, message: String) -> None:
        story = json.loads(message.data)
        if story['episode'] == self._ended.get('episode'):
            return
        if not story['success'] or story['tick'] == 0:
            self._done_tick = None
        elif self._done_tick is None:
            self._done_tick = story['tick']
        if story['failed'] or story['tick'] >= self._last_tick():
            self._ended = story

    def _last_tick(self) -> int:
        if self._done_tick is None:
            return MOST_TICKS
        return max(LEAST_TICKS, self._done_tick + _AFTER_TICKS)
