"""`playback_node`: a recording on the topics that `mapping_node` listens to."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.utilities import remove_ros_args
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import CameraInfo, Image
from tf2_ros import TransformBroadcaster

from vlm_nodes import messages
from vlm_nodes.command_line import run as run_tool
from vlm_nodes.geometry import Camera, RgbdFrame
from vlm_nodes.mapping.dataset_options import add_dataset_arguments, open_dataset
from vlm_nodes.mapping.datasets import RgbdDataset
from vlm_nodes.node import STEADY, Audience
from vlm_nodes.node import run as run_node
from vlm_nodes.transforms import transform_message

COLOR_FRAME = 'camera_color_optical_frame'
DEPTH_FRAME = 'camera_depth_optical_frame'


class PlaybackNode(Node):
    """Publishes one frame a period: rgb, depth (32FC1), both camera infos and the poses on tf.

    Waits for somebody to listen before the first frame, and ends the node's run after the last.
    Stamps are of now; with `clock` they are the recorded ones, which go out on /clock as well.
    """

    def __init__(self, dataset: RgbdDataset, rate_hz: float, *, clock: bool) -> None:
        super().__init__('playback_node')
        self._map_frame = dataset.frame_id
        self._frames: Iterator[RgbdFrame] = iter(dataset)
        self._upcoming: RgbdFrame | None = next(self._frames, None)
        self.played = 0
        qos = QoSProfile(depth=10)
        self._rgb = self.create_publisher(Image, 'rgb', qos)
        self._depth = self.create_publisher(Image, 'depth', qos)
        self._infos = {
            COLOR_FRAME: self.create_publisher(CameraInfo, 'camera_info', qos),
            DEPTH_FRAME: self.create_publisher(CameraInfo, 'depth_camera_info', qos),
        }
        self._clock_publisher = (
            self.create_publisher(ClockMessage, '/clock', qos) if clock else None
        )
        self._broadcaster = TransformBroadcaster(self)
        others = [*self._infos.values(), self._broadcaster.pub_tf]
        self._audience = Audience(self, [self._rgb, self._depth, *others])
        self.get_logger().info(f'{dataset.description}: waiting for listeners of rgb and depth')
        self.create_timer(1.0 / rate_hz, self._play, clock=STEADY)

    def _play(self) -> None:
        if not self.played and not (self._is_listened_to() and self._audience.has_settled()):
            return
        if self._upcoming is None:
            self.get_logger().info(f'the end, after {self.played} frames')
            self._audience.wait_until_taken()
            self.context.try_shutdown()  # which ends the executor's spin
            return
        self._publish(self._upcoming)
        self.played += 1
        self._upcoming = next(self._frames, None)

    def _is_listened_to(self) -> bool:
        images = (self._rgb, self._depth)
        return self.count_subscribers('/tf') > 0 and all(
            publisher.get_subscription_count() for publisher in images
        )

    def _publish(self, frame: RgbdFrame) -> None:
        if self._clock_publisher is not None:
            stamp = messages.stamp_message(frame.stamp_ns)
            self._clock_publisher.publish(ClockMessage(clock=stamp))
        else:
            stamp = self.get_clock().now().to_msg()
        poses = {COLOR_FRAME: frame.map_from_color, DEPTH_FRAME: frame.map_from_depth}
        self._broadcaster.sendTransform(
            [
                transform_message(self._map_frame, child, pose, stamp)
                for child, pose in poses.items()
            ]
        )
        cameras: dict[str, Camera] = {
            COLOR_FRAME: frame.color_camera,
            DEPTH_FRAME: frame.depth_camera,
        }
        headers = {name: messages.header_message(name, stamp) for name in cameras}
        for name, camera in cameras.items():
            self._infos[name].publish(messages.camera_info_message(camera, headers[name]))
        self._rgb.publish(messages.image_message(frame.rgb, 'rgb8', headers[COLOR_FRAME]))
        self._depth.publish(messages.image_message(frame.depth_m, '32FC1', headers[DEPTH_FRAME]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='playback_node',
        description='Play a recording as rgb, depth, camera_info, depth_camera_info and tf. '
        'Topics are remapped as those of any node: --ros-args -r rgb:=/camera/color/image_raw',
    )
    add_dataset_arguments(parser)
    parser.add_argument('--rate', type=float, default=5.0, metavar='HZ', help='frames a second')
    parser.add_argument(
        '--clock', action='store_true', help='keep the recorded stamps and publish them as /clock'
    )
    return parser


def main() -> None:
    """Run the node."""
    options = _parser().parse_args(remove_ros_args(sys.argv)[1:])

    def play() -> int:
        if not options.rate > 0:
            raise ValueError(f'--rate {options.rate} is not positive')
        dataset = open_dataset(options)
        return run_node(lambda: PlaybackNode(dataset, options.rate, clock=options.clock), threads=1)

    sys.exit(run_tool('playback_node', play))


if __name__ == '__main__':
    main()
