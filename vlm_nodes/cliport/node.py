"""`cliport_node`: what cameras see of a table and an instruction in, pick and place poses out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.action import ActionServer, CancelResponse
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from vlm_interfaces.action import PlanPickPlace as PlanPickPlaceAction
from vlm_interfaces.srv import PlanPickPlace

from vlm_nodes import messages
from vlm_nodes.clip.encoder import EncoderConfig
from vlm_nodes.clip.weights import WeightsError
from vlm_nodes.cliport.checkpoint import CheckpointError, read_page
from vlm_nodes.cliport.outputs import AnswerTopics
from vlm_nodes.cliport.parameters import (
    MOST_CANDIDATES,
    PARAMETERS,
    camera_parameters,
    planner_config,
    workspace_difference,
)
from vlm_nodes.cliport.planner import STAGES, Answer, Planner
from vlm_nodes.cliport.policy import CliportPolicy
from vlm_nodes.cliport.requests import PlanRequest
from vlm_nodes.cliport.rig import CameraRig, NoViewsError
from vlm_nodes.cliport.views import SECOND_NS, NoImagesError
from vlm_nodes.live.newest import NewestWorker
from vlm_nodes.live.requests import Requests
from vlm_nodes.live.statistics import Statistics, resident_megabytes
from vlm_nodes.node import STEADY, StartError, declare_parameters
from vlm_nodes.node import main as run_node

WARN_PERIOD_S = 5.0
_NO_CLOCK = 'use_sim_time is set, but nobody publishes /clock'


class CliportNode(Node):
    """Answers instructions with poses of pick and place. Plans only, never moves a robot.

    Attributes:
        patience_s: How long nothing may come from a camera before the node says why.
        watch_period_s: How often it looks, and publishes diagnostics.
    """

    patience_s = 5.0
    watch_period_s = 1.0

    def __init__(self, **options: Any) -> None:
        """Declare, load, listen.

        Args:
            options: For rclpy's Node, such as its context and parameter overrides.

        Raises:
            StartError: A parameter is wrong, or what it names cannot be loaded.
        """
        super().__init__('cliport_node', **options)
        self._values = values = declare_parameters(self, PARAMETERS)
        self._statistics = Statistics()
        self._last = ''
        self._seen: dict[str, str] = {}
        self._trouble: tuple[float, str] | None = None
        names = self._camera_names()
        scales = declare_parameters(self, camera_parameters(names))
        self._planner = self._load()
        self._outputs = AnswerTopics(self)
        self._worker: NewestWorker[Callable[[], None]] = NewestWorker(
            lambda job: job(), on_error=self._on_error, name='planner'
        )
        self._requests: Requests[PlanRequest, Answer] = Requests(
            self._worker, self._plan, self.get_logger().error, Answer
        )
        self._rig = CameraRig(
            self, dict(zip(names, scales.values(), strict=True)), values, self._on_restart
        )
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
            ),
            post_callback=lambda jump: self._rig.restart('the clock jumped back'),
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._serve()
        self.create_timer(
            self.watch_period_s,
            self._watch,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=STEADY,
        )
        self.get_logger().info(
            f'planning in {values["table_frame"]!r} with {values["checkpoint"]}, '
            f'{len(names)} camera(s)'
        )

    def destroy_node(self) -> None:
        """Stop planning, then everything else."""
        self._worker.stop(timeout_s=1.0)
        self._action.destroy()
        super().destroy_node()

    # Setting up ---------------------------------------------------------------------------------

    def _camera_names(self) -> list[str]:
        names = self._values['cameras'] or ['']
        if len(set(names)) != len(names):
            raise StartError(f'parameter cameras names one camera twice: {names}')
        for name in filter(None, names):
            if not all(part.isidentifier() for part in name.removeprefix('/').split('/')):
                raise StartError(f'parameter cameras: {name!r} cannot begin the name of a topic')
        return list(names)

    def _load(self) -> Planner:
        values = self._values
        if not values['checkpoint']:
            raise StartError(
                'parameter checkpoint is empty: name a folder that cliport_train wrote'
            )
        folder = Path(values['checkpoint']).expanduser()
        torch.set_num_threads(values['torch_threads'])
        try:
            config = planner_config(values)
            EncoderConfig(device=values['device'])
            policy = CliportPolicy.load(
                folder,
                values['device'],
                values['precision'],
                weights_dir=Path(values['weights_dir']).expanduser()
                if values['weights_dir']
                else None,
            )
            trained = read_page(folder)['training'].get('workspace')
            difference, is_useless = workspace_difference(trained, config.workspace)
        except (CheckpointError, WeightsError, ValueError) as error:
            raise StartError(str(error)) from error
        if is_useless:
            raise StartError(f'{folder} cannot work on this workspace: {difference}')
        if difference:
            self.get_logger().warning(f'the workspace is another than in training: {difference}')
        planner = Planner(policy, config)
        try:
            planner.warm_up()
        except (ValueError, RuntimeError) as error:
            raise StartError(
                f'{folder} cannot work on a map of {config.workspace.shape}: {error}'
            ) from error
        return planner

    def _serve(self) -> None:
        # Reentrant: who asks waits, and holds up no images.
        group = ReentrantCallbackGroup()
        self.create_service(
            PlanPickPlace, 'plan_pick_place', self._answer_service, callback_group=group
        )
        self._action = ActionServer(
            self,
            PlanPickPlaceAction,
            'plan_pick_place',
            self._answer_action,
            callback_group=group,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
        )

    # The worker's thread ------------------------------------------------------------------------

    def _look(self) -> None:
        """A heightmap for who looks at it, without a question."""
        pairs = self._rig.newest()
        if len(pairs) < len(self._rig.names):
            return
        try:
            views = self._rig.views(pairs, self._worker.stopping)
        except NoViewsError as error:
            self._trouble = (time.monotonic(), str(error))
            return
        answer = self._planner.look(views, self._rig.names)
        self._take_in(answer, min(pair.stamp_ns for pair in pairs.values()), asked=False)

    def _plan(self, request: PlanRequest) -> Answer:
        refusal, _ = self._planner.check_instruction(request.instruction)
        if refusal:
            return Answer(refusal, 'instruction')
        self._requests.begin(request, STAGES[0])
        if not self._has_time(request):
            return Answer(_NO_CLOCK, 'no clock')
        try:
            pairs = self._rig.wait(
                request.asked_ns, request.asked_s, lambda: self._requests.is_over(request)
            )
            views = self._rig.views(pairs, self._worker.stopping)
        except NoImagesError as error:
            self._requests.check(request)
            return Answer('; '.join([str(error), *self._complaints(0.0)]), 'no images')
        except NoViewsError as error:
            self._trouble = (time.monotonic(), str(error))
            return Answer(str(error), error.kind)
        request.stamp_ns = min(pair.stamp_ns for pair in pairs.values())
        answer = self._planner.plan(
            views,
            request.instruction,
            request.count,
            names=self._rig.names,
            progress=lambda stage: self._requests.begin(request, stage),
        )
        self._requests.check(request)
        self._take_in(answer, request.stamp_ns, asked=True)
        return answer

    def _has_time(self, request: PlanRequest) -> bool:
        """Whether the clock goes; at the start its first message may be under way."""
        deadline_s = request.asked_s + self._values['image_timeout_s']
        return self._requests.wait(request, lambda: not self._clock_stands_still(), deadline_s)

    def _take_in(self, answer: Answer, stamp_ns: int, *, asked: bool) -> None:
        """What everybody may know of an answer."""
        self._trouble = None
        if answer.kind in ('no depth', 'low coverage'):
            self._trouble = (time.monotonic(), answer.refusal)
        seen = {}
        if answer.heightmap:
            seen['coverage'] = f'{answer.heightmap.coverage:.3f}'
        for a in answer.agreements:
            names = [self._rig.names[i] for i in (a.first, a.second)]
            seen[f'agreement mm {" ".join(names)}'] = f'{a.median_m * 1e3:.1f}'
        self._seen = seen
        for stage, milliseconds in answer.times_ms.items():
            self._statistics.time(stage, milliseconds)
        self._outputs.show(answer, self._header(stamp_ns), asked=asked)

    def _on_restart(self, why: str) -> None:
        self.get_logger().warning(f'{why}: images forgotten')
        self._statistics.count('restarts of time')

    def _on_error(self, error: Exception) -> None:
        self._trouble = (time.monotonic(), f'{type(error).__name__}: {error}')
        self.get_logger().error(self._trouble[1], throttle_duration_sec=WARN_PERIOD_S)

    # Requests -----------------------------------------------------------------------------------

    def _answer_service(self, asked: Any, response: Any) -> Any:
        request = self._request(asked)
        self._requests.follow(request, lambda: None)
        self._fill(response, request)
        return response

    def _answer_action(self, goal: Any) -> Any:
        request = self._request(goal.request)

        def follow() -> None:
            if goal.is_cancel_requested:
                request.cancelled.set()
            while not request.stages.empty():
                elapsed_s = time.monotonic() - request.asked_s
                goal.publish_feedback(
                    PlanPickPlaceAction.Feedback(stage=request.stages.get(), elapsed_s=elapsed_s)
                )

        self._requests.follow(request, follow)
        result = PlanPickPlaceAction.Result()
        self._fill(result, request)
        if result.success:
            goal.succeed()
        elif goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()
        return result

    def _request(self, asked: Any) -> PlanRequest:
        return PlanRequest(
            asked.instruction,
            min(asked.max_candidates or self._values['max_candidates'], MOST_CANDIDATES),
            asked_ns=int(self.get_clock().now().nanoseconds),
            asked_s=time.monotonic(),
        )

    def _fill(self, response: Any, request: PlanRequest) -> None:
        """A service's response or an action's result; both have the same fields."""
        answer = request.answer or Answer('cancelled', 'cancelled')
        response.success = not answer.refusal
        response.message = '; '.join(filter(None, (answer.refusal, *answer.notes)))
        response.header = header = self._header(request.stamp_ns)
        response.pick_entropy = float(answer.pick_entropy)
        response.place_entropy = float(answer.place_entropy)
        if answer.actions:
            best = answer.actions[0]
            response.message = '; '.join(
                (f'pick {best.pick_score:.2f}, place {best.place_score:.2f}', *answer.notes)
            )
            response.pick = messages.pose_stamped_message(best.pick, header)
            response.place = messages.pose_stamped_message(best.place, header)
            response.candidates = [
                messages.candidate_message(a.pick, a.place, a.pick_score, a.place_score)
                for a in answer.actions
            ]
        if request.stamp_ns:
            now_ns = self.get_clock().now().nanoseconds
            response.latency_s = (now_ns - request.stamp_ns) / SECOND_NS
        self._count(answer, response.message, time.monotonic() - request.asked_s)

    def _count(self, answer: Answer, message: str, took_s: float) -> None:
        self._last = message
        if not answer.refusal:
            self._statistics.count('plans')
            self._statistics.time('request', took_s * 1e3)
            if answer.notes:
                self._warn('; '.join(answer.notes))
        elif answer.kind == 'cancelled':
            self._statistics.count('cancelled')
        else:
            self._statistics.count(f'refused {answer.kind}')
            self._warn(f'no plan: {message}')

    def _warn(self, text: str) -> None:
        # Whoever asks again and again gets each answer; the log need not.
        self.get_logger().warning(text, throttle_duration_sec=WARN_PERIOD_S)

    # Output -------------------------------------------------------------------------------------

    def _header(self, stamp_ns: int) -> Any:
        return messages.header_message(self._values['table_frame'], stamp_ns)

    def _complaints(self, patience_s: float) -> list[str]:
        complaints = self._rig.complaints(patience_s)
        if complaints and self._clock_stands_still():
            complaints.append(_NO_CLOCK)
        return complaints

    def _watch(self) -> None:
        try:
            self._outputs.publish()
            if self._outputs.wants_heightmap() and self._worker.idle():
                self._worker.offer('look', self._look)
            self._publish_diagnostics()
        except Exception as error:  # what fails in one period must not end the node
            self._on_error(error)

    def _publish_diagnostics(self) -> None:
        complaints = self._complaints(self.patience_s)
        if self._trouble and time.monotonic() - self._trouble[0] < self.patience_s:
            complaints.append(self._trouble[1])
        problem = '; '.join(complaints)
        if problem:
            self.get_logger().warning(problem, throttle_duration_sec=WARN_PERIOD_S)
        now_ns = self.get_clock().now().nanoseconds
        ages = {
            f'age s {camera}'.strip(): f'{(now_ns - pair.stamp_ns) / SECOND_NS:.3f}'
            for camera, pair in self._rig.newest().items()
        }
        values = {
            **ages,
            **self._seen,
            'last answer': self._last,
            **self._statistics.values(),
            'process megabytes': f'{resident_megabytes():.1f}',
        }
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(
            messages.diagnostics_message(self.get_name(), problem or None, values, stamp)
        )

    def _clock_stands_still(self) -> bool:
        return bool(
            self.get_parameter('use_sim_time').value and self.get_clock().now().nanoseconds == 0
        )


def main() -> None:
    """Run the node."""
    run_node(CliportNode)


if __name__ == '__main__':
    main()
