"""Frames that come in, good and bad, on a real ROS graph."""

import array
import itertools

import numpy as np
import pytest
from color_oracle import ColorOracle
from geometry_msgs.msg import Quaternion
from mapping_rig import (
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
from nav_msgs.msg import OccupancyGrid
from ray_cast_rooms import BOXES, ROOM
from sensor_msgs.msg import PointCloud2
from sensor_msgs_py import point_cloud2
from tf2_msgs.msg import TFMessage

from vlm_nodes import messages
from vlm_nodes.node import LATCHED_QUEUE
from vlm_nodes.transforms import transform_message

VOXEL_M = 0.05


@pytest.fixture(scope='module')
def shared():
    with mapping_rig(encoder=ColorOracle(), frames_waiting=20, voxel_size_m=VOXEL_M) as rig:
        rig.node.patience_s = PATIENCE_S  # complaints stay until they are read
        yield rig.ready()


_hours = itertools.count(1)


@pytest.fixture
def rig(shared):
    """The rig with an empty map and a time of its own, `rig.now`, later than all before."""
    shared.call('mapping_node/reset')
    shared.call('mapping_node/pause', data=False)
    shared.now = next(_hours) * 3600 * SECOND_NS
    shared.logs.clear()
    shared.node._warnings._last_s.clear()
    return shared


def test_frames_become_a_map_of_the_room(rig):
    late = []
    for view in range(len(VIEWS)):
        rig.fuse(rig.now + view * SECOND_NS, view)
    rig.listen(PointCloud2, 'mapping_node/cloud', into=late, qos=LATCHED_QUEUE)
    rig.until(lambda: late, 'the cloud')
    cloud = late[-1]
    assert cloud.header.frame_id == 'map'
    assert messages.stamp_ns(cloud.header.stamp) == rig.now + 7 * SECOND_NS
    assert [field.name for field in cloud.fields] == ['x', 'y', 'z', 'rgb']
    points = point_cloud2.read_points_numpy(cloud, ['x', 'y', 'z'])
    assert len(points) == int(rig.fresh()['voxels']) > 1000
    assert np.percentile(distance_to_room(points, BOXES, ROOM), 95) < VOXEL_M


def test_everything_latched_reaches_those_who_come_later(rig):
    rig.fuse(rig.now)
    clouds = rig.listen(PointCloud2, 'mapping_node/cloud', qos=LATCHED_QUEUE)
    plans = rig.listen(OccupancyGrid, 'mapping_node/occupancy', qos=LATCHED_QUEUE)
    rig.until(lambda: clouds and plans, 'cloud and occupancy')
    latecomers = rig.listen(OccupancyGrid, 'mapping_node/occupancy', qos=LATCHED_QUEUE)
    rig.until(lambda: latecomers, 'occupancy for one who comes later')
    plan = latecomers[-1]
    assert plan.info.resolution == pytest.approx(VOXEL_M)
    cells = np.array(plan.data).reshape(plan.info.height, plan.info.width)
    assert set(np.unique(cells)) <= {-1, 0, 100}
    assert (cells == 100).any()
    rig.call('mapping_node/reset')
    rig.until(lambda: len(clouds[-1].data) == 0, 'a cloud without points')
    rig.until(lambda: len(plans[-1].data) == 0, 'a plan without cells')


BAD_COLOUR = {
    'of depth': (lambda m: setattr(m, 'encoding', '32FC1'), 'is the depth topic remapped to rgb?'),
    'of no known encoding': (lambda m: setattr(m, 'encoding', 'pink8'), 'pink8'),
    'cut short': (lambda m: setattr(m, 'data', m.data[:100]), 'colour image'),
    'with a step too small': (lambda m: setattr(m, 'step', 10), 'colour image'),
    'empty': (lambda m: setattr(m, 'data', array.array('B')), 'colour image'),
}
BAD_DEPTH = {
    'of colour': (
        lambda m: setattr(m, 'encoding', 'rgb8'),
        'is the colour topic remapped to depth?',
    ),
    'cut short': (lambda m: setattr(m, 'data', m.data[:-1]), 'depth image'),
    'with a step too small': (lambda m: setattr(m, 'step', 1), 'depth image'),
    'without height': (lambda m: setattr(m, 'height', 0), 'depth image'),
}


def drops(rig, why, *parts, **changes):
    """Send a bad frame on a map; it is dropped with a message and costs nothing else."""
    rig.fuse(rig.now)
    voxels = len(rig.node._mapper.map)
    with rig.counting(f'dropped {why}'):
        rig.send(rig.now + SECOND_NS, 1, **changes)
    rig.hears('frame dropped', *parts)
    rig.problem('frames are dropped', *parts)
    assert len(rig.node._mapper.map) == voxels
    rig.fuse(rig.now + 2 * SECOND_NS, 2)
    rig.healthy()


def later(rig):
    return messages.header_message('camera', rig.now + SECOND_NS)


@pytest.mark.parametrize('kind', BAD_COLOUR)
def test_a_bad_colour_image_is_dropped_with_a_message(rig, kind):
    spoil, words = BAD_COLOUR[kind]
    message = messages.image_message(VIEWS[1][0], 'rgb8', later(rig))
    spoil(message)
    drops(rig, 'bad message', words, rgb=message)


@pytest.mark.parametrize('kind', BAD_DEPTH)
def test_a_bad_depth_image_is_dropped_with_a_message(rig, kind):
    spoil, words = BAD_DEPTH[kind]
    message = messages.image_message(VIEWS[1][1], '32FC1', later(rig))
    spoil(message)
    drops(rig, 'bad message', words, depth=message)


@pytest.mark.parametrize(('topic', 'channel'), [('rgb', 0), ('depth', 1)])
def test_an_image_of_another_size_than_its_info_says(rig, topic, channel):
    smaller = messages.image_message(VIEWS[1][channel][:40], ('rgb8', '32FC1')[channel], later(rig))
    drops(rig, 'bad message', '(40, 64', 'its camera_info says (48, 64', **{topic: smaller})


def test_depth_without_a_reading(rig):
    blind = messages.image_message(np.full((48, 64), np.nan, np.float32), '32FC1', later(rig))
    drops(rig, 'no depth', 'none of 0 depth readings', depth=blind)


def test_depth_out_of_range(rig):
    far = messages.image_message(np.full((48, 64), 50, np.float32), '32FC1', later(rig))
    drops(rig, 'no depth', 'none of 3072 depth readings', 'max_depth_m = 6.0', depth=far)


def test_an_info_without_focal_length_is_refused_and_the_last_good_one_serves(rig):
    rig.fuse(rig.now)
    info = messages.camera_info_message(CAMERA, later(rig))
    info.k[0] = 0.0
    rig.publishers['camera_info'].publish(info)
    rig.hears('/camera_info', 'focal length fx = 0.0')
    with rig.counting('frames fused'):
        rig.send_tf(rig.now + SECOND_NS, POSES[1])
        rig.send_images(rig.now + SECOND_NS, 1)


# Transforms


def test_a_transform_that_is_absent_names_both_frames_and_the_stamp(rig):
    header = messages.header_message('nowhere', rig.now)
    with rig.giving_up(), rig.counting('dropped no transform'):
        rig.send_info(rig.now)
        rig.send_images(rig.now, 0, rgb=messages.image_message(VIEWS[0][0], 'rgb8', header))
    rig.hears("from 'nowhere' to 'map'", f'at {rig.now // SECOND_NS}.000000000', 'within 0.3 s')
    rig.problem('frames are dropped', 'nowhere')


def test_a_transform_that_comes_late_is_waited_for(rig):
    rig.fuse(rig.now)
    with rig.counting('frames fused'):
        rig.send_images(rig.now + SECOND_NS, 1)
        rig.until(lambda: not rig.node._worker.idle(), 'the worker at its wait')
        rig.send_tf(rig.now + SECOND_NS, POSES[1])


def test_a_transform_that_would_be_extrapolated_is_none(rig):
    rig.fuse(rig.now)
    with rig.giving_up(), rig.counting('dropped no transform'):
        rig.send_images(rig.now + SECOND_NS, 1)
    rig.hears("from 'camera' to 'map'", 'extrapolation')
    rig.fuse(rig.now + 2 * SECOND_NS)


def test_a_transform_between_two_stamps_is_interpolated(rig):
    rig.send_info(rig.now)
    rig.send_tf(rig.now, POSES[0])
    rig.send_tf(rig.now + SECOND_NS, POSES[0])
    with rig.counting('frames fused'):
        rig.send_images(rig.now + SECOND_NS // 2, 0)


def test_a_rotation_of_zeros_on_tf_is_no_pose(rig):
    rig.fuse(rig.now)
    voxels = len(rig.node._mapper.map)
    stamp = messages.stamp_message(rig.now + SECOND_NS)
    nothing = transform_message('map', 'camera', POSES[0], stamp)
    nothing.transform.rotation = Quaternion(x=0.0, y=0.0, z=0.0, w=0.0)
    with rig.giving_up(), rig.counting('dropped no transform'):
        rig.publishers['/tf'].publish(TFMessage(transforms=[nothing]))
        rig.send_images(rig.now + SECOND_NS, 1)
    assert len(rig.node._mapper.map) == voxels
    rig.fuse(rig.now + 2 * SECOND_NS)


# Time


def test_stamps_slightly_out_of_order_are_all_fused(rig):
    rig.send_info(rig.now)
    for late_ms in (0, 100, 200):
        rig.send_tf(rig.now + late_ms * MS_NS, POSES[0])
    restarts = rig.node._statistics.get('restarts of time')
    with rig.counting('frames fused', 3):
        for late_ms in (0, 200, 100):
            rig.send_images(rig.now + late_ms * MS_NS, 0)
    assert rig.node._statistics.get('restarts of time') == restarts


def test_stamps_that_jump_back_empty_queues_and_leave_the_map(rig):
    for view in range(4):
        rig.fuse(rig.now + view * SECOND_NS, view)
    voxels = len(rig.node._mapper.map)
    header = messages.header_message('camera', rig.now - 100 * SECOND_NS)
    with rig.counting('restarts of time'):
        rig.publishers['rgb'].publish(messages.image_message(VIEWS[0][0], 'rgb8', header))
    rig.hears('jumped back', 'the map stays')
    assert len(rig.node._mapper.map) == voxels
    rig.fuse(rig.now - 99 * SECOND_NS, 1)
    restarts = rig.node._statistics.get('restarts of time')
    rig.fuse(rig.now - 98 * SECOND_NS, 2)
    assert rig.node._statistics.get('restarts of time') == restarts
    assert len(rig.node._mapper.map) >= voxels


# Pause and diagnostics


def test_a_paused_node_takes_nothing_and_complains_of_nothing(rig, monkeypatch):
    monkeypatch.setattr(rig.node, 'patience_s', QUICK_S)
    rig.fuse(rig.now)
    voxels = len(rig.node._mapper.map)
    assert rig.call('mapping_node/pause', data=True).message == 'mapping pauses'
    with rig.counting('dropped paused'):
        rig.send(rig.now + SECOND_NS, 1)
    assert len(rig.node._mapper.map) == voxels
    rig.healthy()
    assert rig.call('mapping_node/pause', data=False).success
    rig.fuse(rig.now + 2 * SECOND_NS, 2)


def test_diagnostics_say_what_happened_and_how_long_it_took(rig):
    before = rig.fresh()
    rig.fuse(rig.now)
    values = rig.fresh()
    assert int(values['frames in']) == int(before.get('frames in', 0)) + 1
    assert int(values['frames fused']) == int(before.get('frames fused', 0)) + 1
    assert int(values['voxels']) == len(rig.node._mapper.map)
    assert values['encoder'] == ColorOracle.identity
    for stage in ('waiting', 'preparing', 'encode', 'fuse', 'arrival to fused'):
        assert float(values[f'ms {stage}']) >= 0
    assert float(values['process megabytes']) > 10
    status = rig.diagnostics[-1].status[0]
    assert status.name == 'mapping_node'
