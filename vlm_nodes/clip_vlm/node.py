"""`caption_node`: surround cameras and a prompt in, text out, now and then or when asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger
from vlm_interfaces.srv import Describe

from vlm_nodes import messages
from vlm_nodes.clip.weights import WeightsError
from vlm_nodes.clip_vlm.captioner import Captioner
from vlm_nodes.clip_vlm.describing import Answer, Describer, DescribeRequest
from vlm_nodes.clip_vlm.parameters import MOST_TOKENS, PARAMETERS
from vlm_nodes.live.camera_sets import CameraSets
from vlm_nodes.live.image_sets import SECOND_NS, ImageSet
from vlm_nodes.live.newest import NewestWorker
from vlm_nodes.live.requests import Requests
from vlm_nodes.live.statistics import Statistics, resident_megabytes
from vlm_nodes.node import LATCHED, STEADY, StartError, declare_parameters
from vlm_nodes.node import main as run_node

WARN_PERIOD_S = 5.0
_NO_CLOCK = 'use_sim_time is set, but nobody publishes /clock'
_SHOWN = 200


class CaptionNode(Node):
    """Says what surround cameras see. One text at a time; pictures are dropped, not queued.

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
        super().__init__('caption_node', **options)
        self._values = values = declare_parameters(self, PARAMETERS)
        self._statistics = Statistics()
        self._newest: ImageSet | None = None
        self._described: ImageSet | None = None
        self._last: dict[str, Any] = {}
        self._trouble: dict[str, str] = {}
        self._active: set[DescribeRequest] = set()
        self._lock = threading.Lock()
        self._describer = self._load()
        self._captions = self.create_publisher(String, '~/caption', LATCHED)
        self._pages = self.create_publisher(String, '~/caption_stamped', LATCHED)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._worker: NewestWorker[Callable[[], None]] = NewestWorker(
            lambda job: job(), on_error=self._on_error, name='describer'
        )
        self._requests: Requests[DescribeRequest, Answer] = Requests(
            self._worker, self._work, self.get_logger().error, Answer
        )
        self._sets = CameraSets(self, self._describer.cameras, values, self._take, self._on_restart)
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
            ),
            post_callback=lambda jump: self._sets.restart('the clock jumped back'),
        )
        self._serve()
        self.get_logger().info(
            f'looking through {", ".join(self._sets.cameras)} with {values["checkpoint"]}'
        )

    def destroy_node(self) -> None:
        """End what is being said, then everything else."""
        self._worker.stopping.set()  # what begins from now on is over at once
        self._end('the node ends', lambda request: True)
        self._worker.stop(timeout_s=1.0)
        super().destroy_node()

    # Setting up ---------------------------------------------------------------------------------

    def _load(self) -> Describer:
        values = self._values
        if not values['checkpoint']:
            raise StartError(
                'parameter checkpoint is empty: name a folder that train_clip_vlm --save wrote'
            )
        torch.set_num_threads(values['torch_threads'])
        try:
            captioner = Captioner.load(
                Path(values['checkpoint']).expanduser(),
                base=_path(values['base']),
                clip_model=values['clip_model'] or None,
                clip_pretrained=values['clip_pretrained'] or None,
                device=values['device'],
                dtype=None if values['dtype'] == 'auto' else values['dtype'],
                quant=values['quant'],
                weights_dir=_path(values['weights_dir']),
            )
            describer = Describer(
                captioner,
                values['cameras'],
                need_all=values['need_all_cameras'],
                longest_s=values['longest_s'],
            )
            describer.warm_up()
        except (WeightsError, ValueError, OSError, RuntimeError) as error:
            raise StartError(' '.join(str(error).split())) from error
        return describer

    def _serve(self) -> None:
        # Reentrant: who asks waits, and holds up no pictures.
        self.create_service(
            Describe, '~/describe', self._answer, callback_group=ReentrantCallbackGroup()
        )
        self.create_service(
            Trigger, '~/cancel', self._cancel, callback_group=MutuallyExclusiveCallbackGroup()
        )
        watching = MutuallyExclusiveCallbackGroup()
        self.create_timer(self.watch_period_s, self._watch, callback_group=watching, clock=STEADY)
        if self._values['rate'] > 0:
            self.create_timer(
                1.0 / self._values['rate'], self._tick, callback_group=watching, clock=STEADY
            )

    # Pictures -----------------------------------------------------------------------------------

    def _take(self, taken: ImageSet) -> None:
        self._statistics.count('moments in')
        if self._newest is not None and self._newest is not self._described:
            self._statistics.count('dropped superseded')
        self._newest = taken

    def _on_restart(self, why: str) -> None:
        self.get_logger().warning(f'{why}: pictures forgotten')
        self._statistics.count('restarts of time')
        self._newest = self._described = None
        self._trouble = {}
        # Those that wait for pictures go on waiting.
        self._end(f'{why} while it was described', lambda request: request.stamp_ns != 0)

    def _tick(self) -> None:
        """It is time for a caption; where one is still being written, or nothing is new, none."""
        taken = self._newest
        if taken is None or taken is self._described:
            return
        if self._worker.idle():
            self._worker.offer('rate', self._describe_newest)
        else:
            self._statistics.count('skipped while busy')

    # The worker's thread ------------------------------------------------------------------------

    def _describe_newest(self) -> None:
        taken = self._newest
        if taken is None:
            return
        request = self._request('', (), 0, asked=False)
        with self._under_way(request):
            if self._somebody_asks():  # whose question is about to come: it would wait for this
                self._statistics.count('skipped while busy')
                return
            answer = self._look(request, taken)
        if not answer.refusal:
            self._publish(answer, request.stamp_ns, asked=False)
        elif answer.kind == 'cancelled':
            self._statistics.count('captions ended early')
        else:
            self._statistics.count('captions without pictures')

    def _work(self, request: DescribeRequest) -> Answer:
        taken = self._wait(request)
        if taken is None:
            self._requests.check(request)
            waited_s = self._values['image_timeout_s']
            silent = self._sets.complaints(min(waited_s, self._values['camera_alive_s']))
            reasons = [f'{name}: {why}' for name, why in silent.items()]
            if not reasons:
                reasons = ['those that came last are too old' if self._newest else 'none came yet']
            clock = [_NO_CLOCK] if self._clock_stands_still() else []
            return Answer(
                '; '.join([f'no pictures within {waited_s:g} s', *reasons, *clock]), 'no pictures'
            )
        answer = self._look(request, taken)
        if not answer.refusal:
            self._publish(answer, request.stamp_ns, asked=True)
        return answer

    def _wait(self, request: DescribeRequest) -> ImageSet | None:
        """Pictures that are new enough for a request, of all its cameras that live if they come."""
        whole: ImageSet | None = None

        def has_come() -> bool:
            nonlocal whole
            taken = self._fresh(request)
            whole = taken if taken is not None and self._is_whole(taken, request) else None
            return whole is not None

        deadline_s = request.asked_s + self._values['image_timeout_s']
        self._requests.wait(request, has_come, deadline_s)
        return whole or self._fresh(request)

    def _fresh(self, request: DescribeRequest) -> ImageSet | None:
        taken, max_age_s = self._newest, self._values['max_age_s']
        if taken is None or max_age_s < 0:
            return taken
        return taken if taken.arrived_s >= request.asked_s - max_age_s else None

    def _is_whole(self, taken: ImageSet, request: DescribeRequest) -> bool:
        """Whether only pictures are missing of cameras that no other moment will have either."""
        lacking = set(self._describer.wanted(request)) - set(taken.images)
        return not lacking or lacking <= set(self._sets.complaints(self._values['camera_alive_s']))

    def _look(self, request: DescribeRequest, taken: ImageSet) -> Answer:
        self._described = taken
        request.stamp_ns = taken.stamp_ns
        images, missing, broken = {}, {}, {}
        silent = self._sets.complaints(self._values['camera_alive_s'])
        for name in self._describer.wanted(request):
            if name not in taken.images:
                missing[name] = silent.get(name, 'it sent nothing of this moment')
                continue
            try:
                images[name] = messages.rgb_from_image(taken.images[name])
            except messages.MessageError as error:
                broken[name] = str(error)
        self._trouble = broken
        return self._describer.answer(request, images, missing | broken)

    def _publish(self, answer: Answer, stamp_ns: int, *, asked: bool) -> None:
        now_ns = int(self.get_clock().now().nanoseconds)
        self._last = page = answer.page(stamp_ns, now_ns, asked=asked)
        self._captions.publish(String(data=answer.text))
        self._pages.publish(String(data=json.dumps(page, ensure_ascii=False)))
        self._statistics.count('answers' if asked else 'captions')
        self._statistics.time('latency', answer.took_s * 1e3)
        if answer.first_token_s is not None:
            self._statistics.time('first token', answer.first_token_s * 1e3)
        self._statistics.count('tokens', page['tokens'])

    def _on_error(self, error: Exception) -> None:
        self._trouble = {'failed': f'{type(error).__name__}: {error}'}
        self._statistics.count('failed')
        self.get_logger().error(self._trouble['failed'], throttle_duration_sec=WARN_PERIOD_S)

    # Requests -----------------------------------------------------------------------------------

    def _answer(self, asked: Any, response: Any) -> Any:
        request = self._request(
            asked.prompt, tuple(asked.cameras), asked.max_new_tokens, asked=True
        )
        answer = Answer(self._describer.refusal(request), 'request')
        if not answer.refusal:
            with self._under_way(request):
                # A caption that nobody asked for makes way; none begins from now on.
                self._end('a request came', lambda other: not other.asked)
                self._requests.follow(request, lambda: None)
            answer = request.answer or Answer(request.over or 'cancelled', 'cancelled')
        self._fill(response, answer, request)
        return response

    def _request(
        self, prompt: str, cameras: tuple[str, ...], tokens: int, *, asked: bool
    ) -> DescribeRequest:
        return DescribeRequest(
            prompt or self.get_parameter('prompt').value,
            cameras,
            min(tokens or self.get_parameter('max_new_tokens').value, MOST_TOKENS),
            asked,
            asked_ns=int(self.get_clock().now().nanoseconds),
            asked_s=time.monotonic(),
        )

    def _fill(self, response: Any, answer: Answer, request: DescribeRequest) -> None:
        response.success = not answer.refusal
        response.message, response.text = answer.message, answer.text
        response.complete = answer.complete
        response.latency_s = time.monotonic() - request.asked_s
        response.time_to_first_token_s = answer.first_token_s or 0.0
        if answer.description is not None:
            response.cameras = list(answer.description.cameras)
            response.tokens = answer.description.tokens
            response.stamp = messages.stamp_message(request.stamp_ns)
        if answer.refusal:
            self._statistics.count(f'refused {answer.kind}')
            # Whoever asks again and again gets each answer; the log need not.
            self.get_logger().warning(
                f'no answer: {answer.message}', throttle_duration_sec=WARN_PERIOD_S
            )

    def _cancel(self, asked: Any, response: Any) -> Any:
        count = self._end('cancelled', lambda request: True)
        response.success = count > 0
        response.message = f'{count} cancelled' if count else 'nothing is being described'
        return response

    @contextmanager
    def _under_way(self, request: DescribeRequest) -> Iterator[None]:
        """While a request may be ended."""
        with self._lock:
            self._active.add(request)
        if self._worker.stopping.is_set():
            request.end('the node ends')
        try:
            yield
        finally:
            with self._lock:
                self._active.discard(request)

    def _somebody_asks(self) -> bool:
        with self._lock:
            return any(request.asked for request in self._active)

    def _end(self, why: str, which: Callable[[DescribeRequest], bool]) -> int:
        """End requests; returns how many there were."""
        with self._lock:
            ended = [request for request in self._active if which(request)]
        for request in ended:
            request.end(why)
        return len(ended)

    # Output -------------------------------------------------------------------------------------

    def _complaints(self) -> list[str]:
        trouble = self._trouble
        silent = self._sets.complaints(self.patience_s)
        complaints = [
            *(f'{name}: {complaint}' for name, complaint in silent.items()),
            *(f'{about}: {said}' for about, said in trouble.items() if about not in silent),
        ]
        if complaints and self._clock_stands_still():
            complaints.append(_NO_CLOCK)
        return complaints

    def _watch(self) -> None:
        try:
            self._publish_diagnostics()
        except Exception as error:  # what fails in one period must not end the node
            self._on_error(error)

    def _publish_diagnostics(self) -> None:
        problem = '; '.join(self._complaints())
        if problem:
            self.get_logger().warning(problem, throttle_duration_sec=WARN_PERIOD_S)
        now, newest, last = self.get_clock().now(), self._newest, self._last
        age_s = (now.nanoseconds - newest.stamp_ns) / SECOND_NS if newest else None
        values = {
            'age s': '' if age_s is None else f'{age_s:.3f}',
            'last text': last.get('text', '')[:_SHOWN],
            'last cameras': ' '.join(last.get('cameras', ())),
            **{
                f'last {key.replace("_", " ")}': str(last.get(key, ''))
                for key in ('latency_s', 'time_to_first_token_s', 'tokens_per_s')
            },
            'busy': str(not self._worker.idle()),
            **self._statistics.values(),
            'process megabytes': f'{resident_megabytes():.1f}',
        }
        self._diagnostics.publish(
            messages.diagnostics_message(self.get_name(), problem or None, values, now.to_msg())
        )

    def _clock_stands_still(self) -> bool:
        return bool(
            self.get_parameter('use_sim_time').value and self.get_clock().now().nanoseconds == 0
        )


def _path(text: str) -> Path | None:
    return Path(text).expanduser() if text else None


def main() -> None:
    """Run the node."""
    run_node(CaptionNode)


if __name__ == '__main__':
    main()
