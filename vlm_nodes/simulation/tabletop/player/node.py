"""`table_player_node`: asks `/plan_pick_place` and has `sim_table_node` do it, episode by episode.

Nothing but topics and services: a real robot's program would do the same.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from geometry_msgs.msg import PoseArray
from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter as ParameterValue
from std_msgs.msg import String
from std_srvs.srv import Trigger
from vlm_interfaces.srv import PlanPickPlace

from bag_tools.whole_file import write_whole
from vlm_nodes.node import LATCHED, LATCHED_QUEUE, STEADY, Parameter, declare_parameters
from vlm_nodes.node import main as run_node
from vlm_nodes.simulation.tabletop.story import Story

_LOOK_S = 0.05
_SAY_PERIOD_S = 5.0

PARAMETERS = (
    Parameter('episodes', 1, 'Episodes to play; each has the seed of the last plus 2.', 1, 10000),
    Parameter(
        'most_refusals',
        3,
        'Refusals in a row by the planner after which an episode is given up.',
        1,
        1000,
    ),
    Parameter('results', '', 'File for the results as JSON; empty: none.'),
)


class TablePlayerNode(Node):
    """Plays the episode at hand, then further ones, and says what came of each.

    Attributes:
        results: Of each episode that is over: seed, task, total, success, steps, refusals.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('table_player_node', **options)
        self._values = declare_parameters(self, PARAMETERS)
        self.results: list[dict[str, Any]] = []
        self._story: Story | None = None
        self._waits_for: tuple[int, int] | None = None
        self._refusals = 0
        self._given_up = False
        self._asked: tuple[Any, Any, Any] | None = None
        self._future: Any = None
        self._execute = self.create_publisher(PoseArray, 'sim_table_node/execute', 10)
        self._planner = self.create_client(PlanPickPlace, 'plan_pick_place')
        self._set = self.create_client(SetParameters, 'sim_table_node/set_parameters')
        self._reset = self.create_client(Trigger, 'sim_table_node/reset')
        self._done = self.create_publisher(String, '~/results', LATCHED)
        self.create_subscription(String, 'sim_table_node/outcome', self._on_outcome, LATCHED_QUEUE)
        self._waiting_since_s = time.monotonic()
        self._timer = self.create_timer(_LOOK_S, self._go_on, clock=STEADY)

    def _on_outcome(self, message: Any) -> None:
        try:
            story = Story.from_json(message.data)
        except ValueError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=_SAY_PERIOD_S)
            return
        if self._waits_for and (story.episode, story.commands) >= self._waits_for:
            self._waits_for = None
            self._count(story.refused)
        self._story = story

    def _go_on(self) -> None:
        """Do what is to be done next, if nothing is waited for."""
        if self._asked is not None:
            self._hear(*self._asked)
            return
        if self._story is None or self._waits_for or not self._execute.get_subscription_count():
            self._say('waiting for sim_table_node')
            return
        if self._story.done or self._given_up:
            self._finish()
        elif self._planner.service_is_ready():
            request = PlanPickPlace.Request(instruction=self._story.instruction)
            self._ask(self._planner, request, self._take_plan)
        else:
            self._say('waiting for the service plan_pick_place')

    def _ask(self, client: Any, request: Any, take: Any) -> None:
        self._asked = client, request, take
        self._future = client.call_async(request)
        self._waiting_since_s = time.monotonic()

    def _hear(self, client: Any, request: Any, take: Any) -> None:
        """Take the answer if it is there; ask again where whoever was asked went and came back."""
        if self._future is None:
            if client.service_is_ready():
                self._ask(client, request, take)
        elif self._future.done():
            answer, self._asked, self._future = self._future.result(), None, None
            take(answer)
            return
        elif not client.service_is_ready():
            client.remove_pending_request(self._future)
            self._future = None
            self.get_logger().warning(
                f'{client.srv_name} went before it answered: it is asked again once it is back'
            )
        self._say(f'waiting for an answer of {client.srv_name}')

    def _take_plan(self, answer: Any) -> None:
        story = self._story
        assert story is not None
        if not answer.success:
            self._count(answer.message)
            return
        self._waits_for = (story.episode, story.commands + 1)
        self._waiting_since_s = time.monotonic()
        self._execute.publish(
            PoseArray(header=answer.header, poses=[answer.pick.pose, answer.place.pose])
        )

    def _count(self, refusal: str) -> None:
        """Count refusals in a row; an action that is carried out ends the row."""
        self._refusals = self._refusals + 1 if refusal else 0
        self._given_up = self._refusals >= self._values['most_refusals']
        if refusal:
            instruction = self._story.instruction if self._story else ''
            self.get_logger().warning(f'{instruction!r}: {refusal}')

    def _finish(self) -> None:
        story = self._story
        assert story is not None
        self.results.append(
            {
                'seed': story.seed,
                'task': story.task,
                'total': story.total,
                'success': story.success,
                'steps': story.steps,
                'refusals': self._refusals,
            }
        )
        self.get_logger().info(
            f'episode {len(self.results)}, seed {story.seed}: {story.total:.2f} of 1 after '
            f'{story.steps} action(s)' + (', given up' if self._given_up else '')
        )
        self._refusals, self._given_up = 0, False
        self._publish_results()
        if len(self.results) >= self._values['episodes']:
            self._timer.cancel()
            return
        self._waits_for = (story.episode + 1, 0)
        seed = ParameterValue('seed', value=story.seed + 2).to_parameter_msg()
        request = SetParameters.Request(parameters=[seed])
        self._ask(self._set, request, lambda _: self._begin_next())

    def _begin_next(self) -> None:
        self._ask(self._reset, Trigger.Request(), self._check_reset)

    def _check_reset(self, answer: Any) -> None:
        if not answer.success:
            self.get_logger().error(f'sim_table_node cannot begin anew: {answer.message}')
            self._timer.cancel()

    def _publish_results(self) -> None:
        count = len(self.results)
        page = {
            'episodes': self.results,
            'mean': sum(result['total'] for result in self.results) / count,
            'success': sum(result['success'] for result in self.results) / count,
            'is_complete': count >= self._values['episodes'],
        }
        text = json.dumps(page, indent=2)
        self._done.publish(String(data=text))
        if self._values['results']:
            write_whole(Path(self._values['results']).expanduser(), (text + '\n').encode())

    def _say(self, text: str) -> None:
        if time.monotonic() - self._waiting_since_s > _SAY_PERIOD_S:
            self.get_logger().info(text, throttle_duration_sec=_SAY_PERIOD_S)


def main() -> None:
    """Entry point of `table_player_node`."""
    run_node(TablePlayerNode, threads=1)


if __name__ == '__main__':
    main()
