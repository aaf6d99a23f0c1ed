"""`sim_table_node`: a table and its three cameras on topics; two poses move the gripper."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from geometry_msgs.msg import PoseArray
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger
from tf2_ros import StaticTransformBroadcaster

from vlm_nodes import messages
from vlm_nodes.node import LATCHED, STEADY, Parameter, StartError, declare_parameters
from vlm_nodes.node import main as run_node
from vlm_nodes.simulation.gl import RenderingUnavailableError
from vlm_nodes.simulation.tabletop.cameras import Cameras, TableView, camera_poses
from vlm_nodes.simulation.tabletop.colors import MODES
from vlm_nodes.simulation.tabletop.registry import make_task
from vlm_nodes.simulation.tabletop.story import Story, truth_of
from vlm_nodes.simulation.tabletop.tabletop import Tabletop
from vlm_nodes.transforms import transform_message

TABLE_FRAME: Final = 'table'
SECOND_NS: Final = 1_000_000_000
_QOS: Final = QoSProfile(depth=10)

PARAMETERS = (
    Parameter(
        'task',
        'put-block-in-bowl',
        'Task of the next episode, with its split or without.',
        changeable=True,
    ),
    Parameter(
        'split',
        '',
        "seen, unseen or full; empty: as the task's name says, else seen.",
        changeable=True,
    ),
    Parameter('mode', 'test', f'One of {", ".join(MODES)}.', changeable=True),
    Parameter(
        'seed',
        10001,
        'Table of the next episode: even ones are for training, odd ones below 10000 for '
        'validation, odd ones from 10001 on for tests.',
        0,
        2**31 - 1,
        changeable=True,
    ),
    Parameter('object_dir', '', 'Folder of meshes for the tasks that pack objects.'),
    Parameter('rate_hz', 5.0, 'Images of each camera per simulated second.', 0.1, 50),
    Parameter('use_wall_time', False, 'Stamp with the wall clock and publish no /clock.'),
)


def camera_frame(name: str) -> str:
    """The optical frame of a camera."""
    return f'{name}_camera'


class SimTableNode(Node):
    """Publishes a table of `Tabletop`, and carries out pairs of poses on it.

    Publishes of each camera, `front`, `left` and `right`: `NAME/rgb` (rgb8), `NAME/depth` (32FC1),
    `NAME/camera_info` and, on `/tf_static`, table -> NAME_camera; `/clock`, `~/outcome` and
    `~/ground_truth` (JSON, transient local) and `~/instruction` (transient local). Takes
    `~/execute` (PoseArray of a pick and a place). Serves `~/reset`.

    Raises:
        StartError: A parameter is wrong or GL cannot start.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__('sim_table_node', **options)
        self._values = values = declare_parameters(self, PARAMETERS)
        self._wall_time: bool = values['use_wall_time']
        self._period_ns = round(SECOND_NS / values['rate_hz'])
        # Time goes on from episode to episode, and none of its stamps is 0.
        self._stamp_ns = 0
        self._episode = 0
        self._views: list[TableView] = []
        self._make_publishers()
        try:
            self._cameras = Cameras()
            self._begin()
        except (ValueError, RenderingUnavailableError) as error:
            raise StartError(f'sim_table_node: {error}') from error
        self.create_subscription(PoseArray, '~/execute', self._on_execute, 10)
        self.create_service(Trigger, '~/reset', self._on_reset)
        # Simulated time must not wait for itself, whatever use_sim_time says.
        self.create_timer(1.0 / values['rate_hz'], self._on_timer, clock=STEADY)

    def destroy_node(self) -> None:
        """Free GL, then everything else."""
        self._cameras.close()
        super().destroy_node()

    def _make_publishers(self) -> None:
        kinds: dict[str, type] = {'rgb': Image, 'depth': Image, 'camera_info': CameraInfo}
        poses = camera_poses()
        self._publishers_of = {
            name: {
                topic: self.create_publisher(kind, f'{name}/{topic}', _QOS)
                for topic, kind in kinds.items()
            }
            for name in poses
        }
        self._outcome = self.create_publisher(String, '~/outcome', LATCHED)
        self._truth = self.create_publisher(String, '~/ground_truth', LATCHED)
        self._instruction = self.create_publisher(String, '~/instruction', LATCHED)
        if not self._wall_time:
            self._clock_publisher = self.create_publisher(Clock, '/clock', _QOS)
        self._broadcaster = StaticTransformBroadcaster(self)
        self._broadcaster.sendTransform(
            [
                transform_message(TABLE_FRAME, camera_frame(name), pose, messages.stamp_message(0))
                for name, pose in poses.items()
            ]
        )

    # Episodes -----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Begin the episode that the parameters name.

        Raises:
            ValueError: There is no such task, split or mode, or no room for its things.
        """
        task, split, mode, seed = (
            self.get_parameter(name).value for name in ('task', 'split', 'mode', 'seed')
        )
        folder = self._values['object_dir']
        objects = Path(folder).expanduser() if folder else None
        table = Tabletop(make_task(task, split or None, mode, objects), seed, self._cameras)
        table.reset()
        self._table = table
        self._episode += 1
        self._story = Story(
            self._episode, table.task.name, mode, seed, table.instruction, self._stamp_ns
        )
        self._show(self._period_ns)

    def _on_reset(self, request: Any, response: Any) -> Any:
        del request
        try:
            self._begin()
        except ValueError as error:
            response.success, response.message = False, str(error)
            return response
        response.success, response.message = True, self._story.to_json()
        return response

    def _on_execute(self, message: Any) -> None:
        story = replace(
            self._story,
            commands=self._story.commands + 1,
            command_stamp_ns=messages.stamp_ns(message.header.stamp),
        )
        try:
            pick, place = self._poses(message)
        except ValueError as error:
            self.get_logger().warning(f'not carried out: {error}')
            self._story = replace(story, refused=str(error), picked=None, reward=0.0)
            self._publish_story()
            return
        before_s = self._table.world.data.time
        reward, done, info = self._table.step(pick, place)
        took_s = self._table.world.data.time - before_s
        self._story = replace(
            story,
            steps=info.steps,
            instruction=info.instruction,
            picked=info.picked,
            reward=reward,
            total=info.total,
            done=done,
            success=info.is_success,
            refused='',
        )
        self._show(self._period_ns + round(took_s * SECOND_NS))

    def _poses(self, message: Any) -> list[NDArray[np.float64]]:
        """Pick and place, if they can be carried out.

        Raises:
            ValueError: They cannot; the text says why.
        """
        if message.header.frame_id != TABLE_FRAME:
            raise ValueError(
                f'poses are in frame {message.header.frame_id!r}, not in {TABLE_FRAME!r}'
            )
        if len(message.poses) != 2:
            raise ValueError(f'{len(message.poses)} pose(s) came, not a pick and a place')
        if self._table.is_done:
            raise ValueError('the episode is over: call ~/reset')
        return messages.pose_matrices(message)

    # Output -------------------------------------------------------------------------------------

    def _show(self, passed_ns: int) -> None:
        """Look at what changed, then tell of it: whoever hears of it can have its images."""
        self._views = self._table.observe()
        self._publish_images(passed_ns)
        self._publish_story()

    def _on_timer(self) -> None:
        # What nobody touches looks as it did.
        self._publish_images(self._period_ns)

    def _publish_images(self, passed_ns: int) -> None:
        self._stamp_ns += passed_ns
        if self._wall_time:
            self._stamp_ns = int(self.get_clock().now().nanoseconds)
        else:
            self._clock_publisher.publish(Clock(clock=messages.stamp_message(self._stamp_ns)))
        makers: dict[str, Callable[[TableView, Any], Any]] = {
            'rgb': lambda view, header: messages.image_message(view.rgb, 'rgb8', header),
            'depth': lambda view, header: messages.image_message(view.depth_m, '32FC1', header),
            'camera_info': lambda view, header: messages.camera_info_message(view.camera, header),
        }
        for view in self._views:
            header = messages.header_message(camera_frame(view.name), self._stamp_ns)
            for topic, make in makers.items():
                self._publishers_of[view.name][topic].publish(make(view, header))

    def _publish_story(self) -> None:
        self._story = replace(self._story, stamp_ns=self._stamp_ns)
        self._truth.publish(String(data=truth_of(self._table)))
        self._instruction.publish(String(data=self._story.instruction))
        self._outcome.publish(String(data=self._story.to_json()))


def main() -> None:
    """Entry point of `sim_table_node`."""
    run_node(SimTableNode, threads=1)  # one thread owns the GL context


if __name__ == '__main__':
    main()
