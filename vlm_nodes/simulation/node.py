"""`sim_node`: a simulated room on the topics that the Isaac Sim bridge publishes by default."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger
from tf2_ros import TransformBroadcaster

from vlm_nodes.messages import (
    camera_info_message,
    header_message,
    image_message,
    joint_state_message,
    stamp_message,
)
from vlm_nodes.node import LATCHED, STEADY, Parameter, StartError, declare_parameters
from vlm_nodes.node import main as run_node
from vlm_nodes.simulation.gl import RenderingUnavailableError
from vlm_nodes.simulation.simulator import JOINTS, PATHS, Simulator, SimulatorSettings
from vlm_nodes.transforms import transform_message

MAP_FRAME = 'map'
BASE_FRAME = 'base_link'
CAMERA_FRAME = 'sim_camera'

# The QoS of the bridge's publishers: reliable, volatile, the last 10.
_BRIDGE_QOS = QoSProfile(depth=10)

_WORLD = SimulatorSettings()
_PARAMETERS = (
    Parameter(
        'seed',
        _WORLD.seed,
        'Room: 0 to 999999 are training rooms, from 1000000 on test rooms.',
        0,
        1_999_999,
    ),
    Parameter('width', _WORLD.width, 'Image width in pixels.', 16, 4096),
    Parameter('height', _WORLD.height, 'Image height in pixels.', 16, 4096),
    Parameter('fovy_deg', _WORLD.fovy_deg, 'Vertical field of view in degrees.', 1, 150),
    Parameter('rate_hz', _WORLD.rate_hz, 'Pictures per simulated second.', 0.1, 240),
    Parameter(
        'path',
        _WORLD.path,
        'How the camera moves: "tour" goes round the room, "still" stays.',
        choices=PATHS,
    ),
    Parameter(
        'path_duration_s', _WORLD.path_duration_s, 'Simulated seconds of one round.', 1, 3600
    ),
    Parameter('loop', _WORLD.loop, 'Whether the camera goes round again, or stays at the end.'),
    Parameter('samples', _WORLD.samples, 'Samples a pixel for smooth edges; 0 is fastest.', 0, 16),
    Parameter('use_wall_time', False, 'Stamp with the wall clock and publish no /clock.'),
    Parameter('publish_labels', False, 'Publish label images on ~/semantic_segmentation.'),
    Parameter(
        'realtime_factor',
        1.0,
        'Simulated seconds a second, where rendering keeps up.',
        0.01,
        100,
    ),
    Parameter('move_count', 2, 'Objects that ~/move_objects moves at once.', 1, 10),
)


class SimNode(Node):
    """Publishes a simulated room; all that it shows comes from `Simulator`.

    Publishes `rgb` (rgb8), `depth` (32FC1 metres along z, inf where nothing is hit), `camera_info`
    of both, `joint_states`, `/tf` (map -> base_link -> sim_camera), `/clock`, `~/ground_truth`
    (JSON, transient local) and, by parameter, `~/semantic_segmentation` (32SC1 label ids). Serves
    `~/reset` and `~/move_objects`.

    Raises:
        StartError: A parameter is wrong or GL cannot start.
    """

    def __init__(self) -> None:
        super().__init__('sim_node')
        values = declare_parameters(self, _PARAMETERS)
        self._wall_time: bool = values['use_wall_time']
        self._with_labels: bool = values['publish_labels']
        self._move_count: int = values['move_count']
        self._simulator = _make_simulator(values)
        self._make_publishers()
        self.create_service(Trigger, '~/reset', self._on_reset)
        self.create_service(Trigger, '~/move_objects', self._on_move_objects)
        self._publish_truth()
        # Simulated time must not wait for itself, whatever use_sim_time says.
        period_s = 1.0 / (values['rate_hz'] * values['realtime_factor'])
        self.create_timer(period_s, self._on_timer, clock=STEADY)

    def _make_publishers(self) -> None:
        self._rgb_publisher = self.create_publisher(Image, 'rgb', _BRIDGE_QOS)
        self._depth_publisher = self.create_publisher(Image, 'depth', _BRIDGE_QOS)
        self._camera_info_publisher = self.create_publisher(CameraInfo, 'camera_info', _BRIDGE_QOS)
        self._joint_states_publisher = self.create_publisher(
            JointState, 'joint_states', _BRIDGE_QOS
        )
        self._truth_publisher = self.create_publisher(String, '~/ground_truth', LATCHED)
        self._broadcaster = TransformBroadcaster(self)
        if not self._wall_time:
            self._clock_publisher = self.create_publisher(Clock, '/clock', _BRIDGE_QOS)
        if self._with_labels:
            self._labels_publisher = self.create_publisher(
                Image, '~/semantic_segmentation', _BRIDGE_QOS
            )

    def _on_timer(self) -> None:
        stamp = self._stamp()
        if not self._wall_time:
            self._clock_publisher.publish(Clock(clock=stamp))
        self._publish_motion(stamp)
        self._publish_images(header_message(CAMERA_FRAME, stamp))
        self._simulator.step()

    def _stamp(self) -> Time:
        if self._wall_time:
            return self.get_clock().now().to_msg()
        return stamp_message(self._simulator.stamp_ns)

    def _publish_motion(self, stamp: Time) -> None:
        pose = self._simulator.pose()
        self._broadcaster.sendTransform(
            [
                transform_message(MAP_FRAME, BASE_FRAME, pose.map_from_base(), stamp),
                transform_message(BASE_FRAME, CAMERA_FRAME, pose.base_from_camera(), stamp),
            ]
        )
        joints = joint_state_message(
            JOINTS,
            self._simulator.joint_positions(),
            self._simulator.joint_velocities(),
            header_message('', stamp),
        )
        self._joint_states_publisher.publish(joints)

    def _publish_images(self, header: Header) -> None:
        view = self._simulator.view()
        self._camera_info_publisher.publish(camera_info_message(self._simulator.camera, header))
        self._rgb_publisher.publish(image_message(view.rgb, 'rgb8', header))
        self._depth_publisher.publish(image_message(view.depth_m, '32FC1', header))
        if self._with_labels:
            labels = self._simulator.labels().astype('int32')
            self._labels_publisher.publish(image_message(labels, '32SC1', header))

    def _publish_truth(self) -> None:
        self._truth_publisher.publish(String(data=json.dumps(self._simulator.truth())))

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        del request
        self._simulator.reset()
        self._publish_truth()
        response.success, response.message = True, 'time is 0, all objects are back'
        return response

    def _on_move_objects(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        del request
        moved = self._simulator.move_objects(self._move_count)
        self._publish_truth()
        response.success = bool(moved)
        response.message = json.dumps(moved) if moved else 'no object has another place to go to'
        return response


def _make_simulator(values: Mapping[str, Any]) -> Simulator:
    try:
        settings = SimulatorSettings(
            **{field.name: values[field.name] for field in fields(SimulatorSettings)}
        )
        return Simulator(settings)
    except (ValueError, RenderingUnavailableError) as error:
        raise StartError(f'sim_node: {error}') from error


def main() -> None:
    """Entry point of `sim_node`."""
    run_node(SimNode, threads=1)  # one thread owns the GL context


if __name__ == '__main__':
    main()
