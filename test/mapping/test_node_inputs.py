"""Ways in which images come, or do not come, on a real ROS graph."""

import struct

import cv2
import numpy as np
import pytest
from mapping_rig import (
    BEST_EFFORT,
    CAMERA,
    MS_NS,
    PATIENCE_S,
    POSES,
    QUICK_S,
    SECOND_NS,
    VIEWS,
    distance_to_room,
    mapping_rig,
)
from ray_cast_rooms import BOXES, ROOM, cast
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from vlm_nodes import messages
from vlm_nodes.geometry import Camera
from vlm_nodes.node import LATCHED
from vlm_nodes.transforms import transform_message

NOW = 7200 * SECOND_NS
RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)


def on_the_room(rig):
    grid = rig.node._mapper.map
    assert len(grid) > 300
    return np.percentile(distance_to_room(grid.exact_points(), BOXES, ROOM), 95) < 0.05


def compressed(stamp_ns, format_, extension, pixels, head=b''):
    ok, data = cv2.imencode(extension, pixels)
    assert ok
    header = messages.header_message('camera', stamp_ns)
    return CompressedImage(header=header, format=format_, data=head + data.tobytes())


def test_compressed_images_of_remapped_topics():
    remaps = ('rgb:=/front/color', 'depth:=/front/depth', 'camera_info:=/front/info')
    transports = {'rgb_transport': 'compressed', 'depth_transport': 'compressedDepth'}
    rgb, depth_m = VIEWS[0]
    millimetres = np.rint(depth_m * 1000).astype(np.uint16)
    color = compressed(NOW, 'rgb8; png compressed bgr8', '.png', cv2.cvtColor(rgb, 4))
    depth = compressed(
        NOW, '16UC1; compressedDepth png', '.png', millimetres, struct.pack('<iff', 0, 0, 0)
    )
    with mapping_rig(remaps=remaps, **transports) as rig:
        rig.problem('nobody publishes /front/color/compressed', '/front/depth/compressedDepth')
        rig.send_info(NOW, '/front/info')
        rig.send_tf(NOW, POSES[0])
        color_out = rig.publisher(CompressedImage, '/front/color/compressed')
        depth_out = rig.publisher(CompressedImage, '/front/depth/compressedDepth')
        with rig.counting('frames fused'):
            color_out.publish(color)
            depth_out.publish(depth)
        assert on_the_room(rig)
        grey = rig.node._mapper.map.colors
        assert (grey.max(axis=0) > 100).all()
        with rig.counting('dropped bad message'):
            rig.send_tf(NOW + SECOND_NS, POSES[0])
            color.header.stamp = depth.header.stamp = messages.stamp_message(NOW + SECOND_NS)
            depth.data = depth.data[:200]
            color_out.publish(color)
            depth_out.publish(depth)
        rig.hears('frame dropped', 'depth image', '16UC1; compressedDepth png')


def test_depth_that_is_not_registered_to_colour():
    """The depth camera stands 10 cm aside, with a lens of its own."""
    beside = POSES[0].copy()
    beside[:3, 3] += 0.1 * beside[:3, 0]
    lens = Camera(80, 60, 60.0, 60.0, 39.0, 30.0)
    _, depth_m = cast(lens, beside)
    header = messages.header_message('depth_camera', NOW + 5 * MS_NS)
    with mapping_rig(depth_registered=False) as rig:
        rig.ready()
        rig.send_info(NOW)
        rig.send_tf(NOW, POSES[0])
        depth = messages.image_message(depth_m, '32FC1', header)
        with rig.giving_up(), rig.counting('dropped no camera_info'):
            rig.send_images(NOW, 0, depth=depth)
        rig.hears('frame dropped', '/depth_camera_info')
        rig.problem('nobody publishes /depth_camera_info')
        rig.send_info(NOW, 'depth_camera_info', lens, 'depth_camera')
        rig.until(lambda: not rig.node._inputs[''].missing_infos(), 'its lens')
        with rig.giving_up(), rig.counting('dropped no transform'):
            rig.send_images(NOW, 0, depth=depth)
        rig.hears("'depth_camera'")
        rig.send_tf(NOW + 5 * MS_NS, beside, 'depth_camera')
        rig.until(lambda: tf_knows(rig, header), 'its pose')
        with rig.counting('frames fused'):
            rig.send_images(NOW, 0, depth=depth)
        assert on_the_room(rig)


def tf_knows(rig, header):
    return rig.node._buffer.can_transform('map', header.frame_id, header.stamp)


def test_two_cameras_by_parameter_and_the_one_that_is_silent_is_named():
    with mapping_rig(cameras=['left', 'right']) as rig:
        rig.ready_for('left/')
        for view in range(2):
            stamp = NOW + view * SECOND_NS
            rig.send_info(stamp, 'left/camera_info', frame='left_eye')
            rig.send_tf(stamp, POSES[view], 'left_eye')
            with rig.counting('frames fused'):
                rig.send_images(stamp, view, 'left/', 'left_eye')
        rig.fresh()
        problem = rig.problem('nobody publishes /right/rgb', '/right/depth', '/right/camera_info')
        assert 'publishes /left' not in problem
        rig.ready_for('right/')
        rig.send_info(NOW + 2 * SECOND_NS, 'right/camera_info', frame='right_eye')
        rig.send_tf(NOW + 2 * SECOND_NS, POSES[2], 'right_eye')
        with rig.counting('frames fused'):
            rig.send_images(NOW + 2 * SECOND_NS, 2, 'right/', 'right_eye')
        assert on_the_room(rig)


def test_the_newest_pair_wins_and_keyframes_spare_the_rest():
    with mapping_rig(keyframe_translation_m=0.2, frames_waiting=10) as rig:
        rig.ready()
        rig.fuse(NOW, 0)
        with rig.counting('dropped no keyframe'):
            rig.send(NOW + SECOND_NS, 0)
        spoilt = messages.image_message(
            VIEWS[4][1][:10], '32FC1', messages.header_message('camera', NOW + 2 * SECOND_NS)
        )
        with rig.counting('dropped bad message'):
            rig.send(NOW + 2 * SECOND_NS, 4, depth=spoilt)
        with rig.counting('frames fused'):  # the bad one did not use the keyframe up
            rig.send(NOW + 3 * SECOND_NS, 4)


# What is said where nothing comes out


def test_it_says_that_nobody_publishes():
    with mapping_rig() as rig:
        rig.problem('nobody publishes /rgb', 'nobody publishes /depth', '/camera_info')
        rig.hears('no image pair for', 'nobody publishes /rgb', 'remapping')
        rig.ready()
        rig.problem('/rgb has 1 publisher(s), but no message has come')
        rig.node.patience_s = PATIENCE_S
        rig.fuse(NOW)
        rig.healthy()
        rig.node.patience_s = QUICK_S
        rig.problem('/rgb came, then stopped', '/depth came, then stopped')


def test_it_says_that_stamps_are_never_within_the_slop():
    with mapping_rig() as rig:
        rig.ready().send_info(NOW)
        header = messages.header_message('camera', NOW + 150 * MS_NS)
        depth = messages.image_message(VIEWS[0][1], '32FC1', header)
        seen = []

        def complained():
            rig.send_images(NOW, 0, depth=depth)
            seen.append(rig.diagnostics[-1].status[0].message)
            return 'apart' in seen[-1]

        rig.until(complained, 'the complaint')
        assert 'never within sync_slop_s = 0.01 s: the nearest were 0.150 s apart' in seen[-1]


def test_it_says_that_no_camera_info_comes_and_then_that_it_is_of_no_use():
    with mapping_rig() as rig:
        rig.ready()
        with rig.giving_up(), rig.counting('dropped no camera_info'):
            rig.send_images(NOW, 0)
        rig.problem('/camera_info has 1 publisher(s), but no message has come')
        info = messages.camera_info_message(CAMERA, messages.header_message('camera', NOW))
        info.k[4] = 0.0
        rig.publishers['camera_info'].publish(info)
        rig.problem('/camera_info cannot be used', "frame 'camera'", 'fy = 0.0', 'not calibrated')
        rig.node.patience_s = PATIENCE_S
        rig.fuse(NOW)
        rig.healthy()


def test_it_says_that_a_publisher_is_best_effort_where_reliable_is_asked():
    with mapping_rig(sensor_reliability='reliable') as rig:
        rig.publishers['rgb'] = rig.robot.create_publisher(Image, 'rgb', BEST_EFFORT)
        rig.publisher(Image, 'depth', RELIABLE)
        rig.publisher(CameraInfo, 'camera_info', RELIABLE)
        rig.hears('/rgb: its publisher offers best effort', 'set sensor_reliability')
        problem = rig.problem('/rgb: its publisher offers best effort')
        assert '/depth: its' not in problem


@pytest.mark.parametrize('qos', [BEST_EFFORT, RELIABLE])
def test_the_default_hears_every_publisher(qos):
    with mapping_rig() as rig:
        rig.publisher(Image, 'rgb', qos)
        rig.publisher(Image, 'depth', qos)
        rig.publisher(CameraInfo, 'camera_info', qos)

        def fused():  # best effort may lose one
            rig.send(NOW)
            return rig.count('frames fused')

        rig.until(fused, 'a frame')


# Simulated time


def set_clock(rig, stamp_ns):
    message = Clock(clock=messages.stamp_message(stamp_ns))
    rig.publisher(Clock, '/clock').publish(message)
    rig.until(lambda: rig.node.get_clock().now().nanoseconds == stamp_ns, 'the time')


def test_a_clock_that_is_missing_is_named_and_one_that_jumps_back_leaves_the_map():
    with mapping_rig(use_sim_time=True) as rig:
        rig.problem('use_sim_time is set, but nobody publishes /clock')
        rig.ready()
        set_clock(rig, NOW)
        rig.until(lambda: '/clock' not in rig.diagnostics[-1].status[0].message, 'no complaint')
        rig.fuse(NOW)
        voxels = len(rig.node._mapper.map)
        assert rig.count('restarts of time') == 0
        with rig.counting('restarts of time'):
            set_clock(rig, SECOND_NS)
        rig.hears('the clock jumped back', 'the map stays')
        assert len(rig.node._mapper.map) == voxels
        rig.fuse(SECOND_NS, 1)
        assert rig.node._statistics.get('restarts of time') == 1
        assert len(rig.node._mapper.map) >= voxels


def test_stamps_of_wall_time_under_simulated_time_end_in_a_named_transform():
    """Frames are not held up by a clock that stands still."""
    with mapping_rig(use_sim_time=True) as rig:
        rig.ready().send_info(NOW)
        with rig.giving_up(), rig.counting('dropped no transform'):
            rig.send_images(NOW, 0)
        rig.hears("from 'camera' to 'map'")


def test_static_transforms_outlive_a_jump_of_time():
    """They are sent once only."""
    with mapping_rig() as rig:
        rig.ready().send_info(NOW)
        stamp = messages.stamp_message(NOW)
        fixed = transform_message('map', 'camera', POSES[0], stamp)
        rig.publisher(TFMessage, '/tf_static', LATCHED).publish(TFMessage(transforms=[fixed]))
        for stamp_ns in (NOW, NOW - 100 * SECOND_NS, NOW - 99 * SECOND_NS):
            with rig.counting('frames fused'):
                rig.send_images(stamp_ns, 0)
        assert rig.node._statistics.get('restarts of time') == 1
