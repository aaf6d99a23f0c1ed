"""`occupancy_node`: surround cameras in, what is where about the vehicle out, asked in words."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from rclpy.node import Node
from vlm_interfaces.srv import QueryOccupancy

from vlm_nodes import messages
from vlm_nodes.clip.weights import WeightsError
from vlm_nodes.langocc.camera_rig import CameraRig
from vlm_nodes.langocc.observer import Moment, Observer
from vlm_nodes.langocc.outputs import OccupancyTopics
from vlm_nodes.langocc.parameters import PARAMETERS, observer_config
from vlm_nodes.langocc.scene import sentence
from vlm_nodes.live.image_sets import SECOND_NS, ImageSet
from vlm_nodes.live.newest import NewestWorker
from vlm_nodes.live.statistics import Statistics, resident_megabytes
from vlm_nodes.live.throttle import Throttle
from vlm_nodes.node import STEADY, StartError, declare_parameters
from vlm_nodes.node import main as run_node

WARN_PERIOD_S = 5.0


@dataclass(frozen=True, eq=False)
class _Last:
    moment: Moment
    stamp_ns: int


class OccupancyNode(Node):
    """Predicts occupancy from the newest pictures, and answers where texts are in it.

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
        super().__init__('occupancy_node', **options)
        self._values = values = declare_parameters(self, PARAMETERS)
        if not values['base_frame']:
            raise StartError("parameter base_frame is empty: name the vehicle's frame")
        self._statistics = Statistics()
        self._warnings = Throttle(WARN_PERIOD_S)
        self._trouble: dict[str, str] = {}
        self._last: _Last | None = None
        self._observer = self._load()
        self._outputs = OccupancyTopics(
            self, self._observer.grid, features=values['publish_features']
        )
        self._worker: NewestWorker[ImageSet] = NewestWorker(
            self._look, on_error=self._on_error, name='occupancy'
        )
        self._rig = CameraRig(self, self._observer.cameras, values, self._offer, self._on_restart)
        self._jump_handle = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=True
            ),
            post_callback=lambda jump: self._rig.restart('the clock jumped back'),
        )
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # Reentrant: who asks waits, and holds up no pictures.
        self.create_service(
            QueryOccupancy, '~/query', self._query, callback_group=ReentrantCallbackGroup()
        )
        self.create_timer(
            self.watch_period_s,
            self._watch,
            callback_group=MutuallyExclusiveCallbackGroup(),
            clock=STEADY,
        )
        self.get_logger().info(
            f'looking through {", ".join(self._rig.names)} with {values["checkpoint"]}'
        )

    def destroy_node(self) -> None:
        """Stop looking, then everything else."""
        self._worker.stop(timeout_s=1.0)
        super().destroy_node()

    def _load(self) -> Observer:
        torch.set_num_threads(self._values['torch_threads'])
        try:
            return Observer(observer_config(self._values))
        except (WeightsError, ValueError) as error:  # LangOccError too
            raise StartError(' '.join(str(error).split())) from error

    # Pictures -----------------------------------------------------------------------------------

    def _offer(self, taken: ImageSet) -> None:
        self._statistics.count('moments in')
        self._statistics.count('dropped superseded', self._worker.offer('cameras', taken))

    def _look(self, taken: ImageSet) -> None:
        """In the worker's thread."""
        started_s = time.monotonic()
        restarts = self._statistics.get('restarts of time')
        found = self._rig.views(taken, self._worker.stopping)
        self._trouble = found.complaints
        for name, complaint in found.complaints.items():
            self._complain(name, complaint)
        if not found.images:
            self._statistics.count('dropped without usable pictures')
            return
        ready_s = time.monotonic()
        moment = self._observer.look(found.images, found.views, found.fixed_from_ego)
        if self._statistics.get('restarts of time') != restarts:
            self._statistics.count('dropped of another time')
            self._observer.forget()
            return
        self._last = _Last(moment, taken.stamp_ns)
        self._outputs.show(moment, self._header(taken.stamp_ns))
        self._statistics.count('moments seen')
        self._statistics.time('waiting', (started_s - taken.arrived_s) * 1e3)
        self._statistics.time('preparing', (ready_s - started_s) * 1e3)
        self._statistics.time('network', (time.monotonic() - ready_s) * 1e3)

    def _complain(self, about: str, complaint: str) -> None:
        self._statistics.count(f'dropped {about}')
        if self._warnings.due(about, time.monotonic()):
            self.get_logger().warning(f'{about} left out: {complaint}')

    def _on_error(self, error: Exception) -> None:
        said = f'{type(error).__name__}: {error}'
        self._trouble = {'failed': said}
        self._statistics.count('failed')
        self.get_logger().error(said, throttle_duration_sec=WARN_PERIOD_S)

    def _on_restart(self, why: str) -> None:
        """Time began anew: what waits and what was seen is of another time."""
        self.get_logger().warning(f'{why}: pictures and transforms forgotten')
        self._statistics.count('restarts of time')
        self._worker.clear()
        self._observer.forget()
        self._trouble = {}
        self._last = None
        self._outputs.forget()

    # Questions ----------------------------------------------------------------------------------

    def _query(self, request: Any, response: Any) -> Any:
        try:
            response.message = self._answer(request, response)
            response.success = True
        except (ValueError, WeightsError) as error:
            response.message = str(error)
        except Exception as error:  # a request must never end the node
            response.message = f'{type(error).__name__}: {error}'
            self.get_logger().error(f'query failed: {response.message}')
        return response

    def _answer(self, request: Any, response: Any) -> str:
        started_s, last = time.monotonic(), self._last
        if last is None:
            reasons = '; '.join(self._complaints(0.0))
            raise ValueError(f'nothing was seen yet: {reasons or "the first moment is under way"}')
        texts = list(request.texts)
        threshold = request.threshold or self._values['query_threshold']
        found = self._observer.find(last.moment, texts, threshold)
        response.header = header = self._header(last.stamp_ns)
        response.positions = messages.point_messages(found.positions_m)
        response.scores = found.scores.tolist()
        response.voxels = found.counts.tolist()
        self._outputs.show_found(last.moment, found, header)
        self._statistics.time('query', (time.monotonic() - started_s) * 1e3)
        return sentence(texts, found)

    # Output -------------------------------------------------------------------------------------

    def _header(self, stamp_ns: int) -> Any:
        return messages.header_message(self._values['base_frame'], stamp_ns)

    def _complaints(self, patience_s: float) -> list[str]:
        # What was wrong with the last moment; cameras that sent nothing since are told of once.
        trouble = self._trouble
        silent = self._rig.complaints(patience_s)
        complaints = [
            *(f'{name}: {complaint}' for name, complaint in silent.items()),
            *(f'{about}: {said}' for about, said in trouble.items() if about not in silent),
        ]
        if complaints and self._clock_stands_still():
            complaints.append('use_sim_time is set, but nobody publishes /clock')
        return complaints

    def _watch(self) -> None:
        try:
            self._outputs.publish()
            self._publish_diagnostics()
        except Exception as error:  # what fails in one period must not end the node
            self._on_error(error)

    def _publish_diagnostics(self) -> None:
        problem = '; '.join(self._complaints(self.patience_s))
        if problem:
            self.get_logger().warning(problem, throttle_duration_sec=WARN_PERIOD_S)
        now, last = self.get_clock().now(), self._last
        values = {
            'cameras used': ' '.join(last.moment.cameras) if last else '',
            'occupied voxels': str(len(last.moment.voxels)) if last else '0',
            'age s': f'{(now.nanoseconds - last.stamp_ns) / SECOND_NS:.3f}' if last else '',
            'lift tables made': str(self._observer.tables_made()),
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


def main() -> None:
    """Run the node."""
    run_node(OccupancyNode)


if __name__ == '__main__':
    main()
