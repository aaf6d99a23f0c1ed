"""The buffer that nodes use: waiting, futures, conversions. Without a graph."""

from __future__ import annotations

import threading

import pytest
import tf2_ros
from geometry_msgs.msg import PointStamped, PoseStamped, TransformStamped, Vector3Stamped
from rclpy.clock import ClockChange, TimeJump
from rclpy.duration import Duration, Infinite
from rclpy.time import Time
from tf2_poses import at, matrix, only_stand_in, pose, xyz_of
from tf2_ros import (
    Buffer,
    BufferInterface,
    ConvertRegistration,
    ExtrapolationException,
    LookupException,
    NotImplementedException,
    Stamped,
    TypeException,
    convert,
)

LATEST = Time()


def later(buffer: Buffer, message: TransformStamped) -> threading.Timer:
    timer = threading.Timer(0.05, buffer.set_transform, (message, 'test'))
    timer.start()
    return timer


# --- Waiting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'timeout', [Duration(seconds=30), pytest.param(Infinite, marks=only_stand_in)]
)
def test_a_lookup_waits_for_data_of_another_thread(timeout):
    buffer = Buffer()
    later(buffer, pose('map', 'base', 1, (4, 0, 0)))
    found = buffer.lookup_transform('map', 'base', at(1), timeout)
    assert xyz_of(found) == [4, 0, 0]


def test_a_lookup_across_time_waits_as_well():
    buffer = Buffer()
    buffer.set_transform(pose('map', 'base', 1), 'test')
    later(buffer, pose('map', 'base', 2, (1, 0, 0)))
    frames = ('base', at(2), 'base', at(1), 'map')
    assert xyz_of(buffer.lookup_transform_full(*frames, Duration(seconds=30))) == [-1, 0, 0]


def test_a_wait_in_vain_ends_with_the_reason():
    buffer = Buffer()
    buffer.set_transform(pose('map', 'base', 1), 'test')
    with pytest.raises(ExtrapolationException, match=r'only time 1\.000000 is in the buffer'):
        buffer.lookup_transform('map', 'base', at(2), Duration(seconds=0.05))
    with pytest.raises(LookupException):
        buffer.lookup_transform_full(
            'map', at(1), 'cam', at(1), 'map', timeout=Duration(seconds=0.05)
        )


def test_without_a_timeout_the_answer_is_immediate():
    buffer = Buffer()
    assert not buffer.can_transform('map', 'base', LATEST)
    possible, error = buffer.can_transform('map', 'base', LATEST, return_debug_tuple=True)
    assert not possible
    assert 'frame does not exist' in error
    possible, error = buffer.can_transform_full(
        'map', LATEST, 'base', LATEST, 'map', return_debug_tuple=True
    )
    assert not possible
    assert 'frame does not exist' in error


# --- Futures -------------------------------------------------------------------------------------


def test_a_future_is_done_when_the_data_comes():
    buffer = Buffer()
    future = buffer.wait_for_transform_async('map', 'base', at(1))
    called = []
    future.add_done_callback(lambda done: called.append(xyz_of(done.result())))
    buffer.set_transform(pose('map', 'other', 1), 'test')
    assert not future.done()
    buffer.set_transform(pose('map', 'base', 1, (3, 0, 0)), 'test')
    assert future.done()
    assert called == [[3, 0, 0]]
    buffer.set_transform(pose('map', 'base', 2), 'test')
    assert called == [[3, 0, 0]]


def test_a_future_of_what_is_there_is_done_at_once():
    buffer = Buffer()
    buffer.set_transform_static(pose('map', 'base', 1, (3, 0, 0)), 'test')
    assert xyz_of(buffer.wait_for_transform_async('map', 'base', at(1)).result()) == [3, 0, 0]
    frames = ('map', at(1), 'base', at(2), 'map')
    assert xyz_of(buffer.wait_for_transform_full_async(*frames).result()) == [3, 0, 0]


@only_stand_in
def test_a_future_may_be_cancelled_and_its_callback_may_ask_the_buffer():
    buffer = Buffer()
    cancelled = buffer.wait_for_transform_async('map', 'base', at(1))
    cancelled.cancel()
    seen = []
    waiting = buffer.wait_for_transform_async('map', 'base', at(1))
    waiting.add_done_callback(
        lambda _: seen.append(buffer.lookup_transform('map', 'base', at(1)).child_frame_id)
    )
    buffer.set_transform(pose('map', 'base', 1), 'test')
    assert cancelled.cancelled()
    assert seen == ['base']


@pytest.mark.parametrize('full', [False, True])
def test_a_coroutine_yields_until_the_data_comes(full):
    buffer = Buffer()
    if full:
        coroutine = buffer.lookup_transform_full_async('map', at(1), 'base', at(1), 'map')
    else:
        coroutine = buffer.lookup_transform_async('map', 'base', at(1))
    coroutine.send(None)
    coroutine.send(None)
    buffer.set_transform(pose('map', 'base', 1, (3, 0, 0)), 'test')
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    assert xyz_of(ended.value.value) == [3, 0, 0]


def test_futures_of_many_threads_are_all_done():
    buffer = Buffer()
    futures = [
        buffer.wait_for_transform_async('map', f'f{index % 5}', at(1)) for index in range(50)
    ]
    threads = [
        threading.Thread(
            target=buffer.set_transform, args=(pose('map', f'f{index}', 1), f'thread {index}')
        )
        for index in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [future.result().child_frame_id for future in futures] == [
        f'f{index % 5}' for index in range(50)
    ]


def test_a_jump_of_time_clears_what_moves(capfd):
    buffer = Buffer(cache_time=Duration(seconds=5))
    buffer.set_transform(pose('map', 'base', 1), 'test')
    buffer.set_transform_static(pose('base', 'camera', 1), 'test')
    buffer.time_jump_callback(TimeJump(ClockChange.ROS_TIME_NO_CHANGE, Duration(seconds=-2)))
    assert not buffer.can_transform('map', 'base', LATEST)
    assert buffer.can_transform('base', 'camera', LATEST)
    assert 'Detected jump back in time. Clearing tf buffer.' in capfd.readouterr().err


# --- Conversions ---------------------------------------------------------------------------------


def moved(point: PointStamped, transform: TransformStamped) -> PointStamped:
    x, y, z, _ = matrix(transform) @ [point.point.x, point.point.y, point.point.z, 1.0]
    result = PointStamped(header=transform.header)
    result.point.x, result.point.y, result.point.z = map(float, (x, y, z))
    return result


def a_point(x: float, seconds: float = 1.0) -> PointStamped:
    point = Stamped(PointStamped(), at(seconds).to_msg(), 'base')
    point.point.x = x
    return point


@pytest.fixture
def buffer() -> Buffer:
    result = Buffer()
    result.registration.add(PointStamped, moved)
    for seconds in (1.0, 2.0):
        result.set_transform(pose('map', 'base', seconds, (10 * seconds, 0, 0)), 'test')
    return result


def test_objects_of_registered_types_are_transformed(buffer):
    result = buffer.transform(a_point(1.0), 'map')
    assert (result.header.frame_id, result.point.x) == ('map', 11)
    result = buffer.transform_full(a_point(1.0), 'base', at(2), 'map')
    assert (result.header.frame_id, result.point.x) == ('base', -9)


def test_other_types_are_refused_by_name(buffer):
    with pytest.raises(TypeException, match='is not loaded or supported') as caught:
        buffer.transform(Stamped(PoseStamped(), at(1).to_msg(), 'base'), 'map')
    assert 'PoseStamped' in caught.value.errstr


def test_results_are_converted_where_asked(buffer):
    registration = ConvertRegistration()
    registration.add_to_msg(PointStamped, lambda point: point)
    registration.add_from_msg(tuple, lambda point: (point.point.x, point.point.y))
    registration.add_convert((PointStamped, float), lambda point: point.point.x)
    assert buffer.transform(a_point(1.0), 'map', new_type=tuple) == (11, 0)
    assert buffer.transform_full(a_point(1.0), 'base', at(2), 'map', new_type=float) == -9
    original = a_point(2.0)
    copy = convert(original, PointStamped)
    assert copy == original
    assert copy is not original
    with pytest.raises(TypeException):
        convert(original, Vector3Stamped)


@pytest.mark.parametrize(
    'call',
    [
        lambda b: b.lookup_transform('a', 'b', LATEST),
        lambda b: b.lookup_transform_full('a', LATEST, 'b', LATEST, 'c'),
        lambda b: b.can_transform('a', 'b', LATEST),
        lambda b: b.can_transform_full('a', LATEST, 'b', LATEST, 'c'),
    ],
)
def test_the_interface_itself_offers_nothing(call):
    with pytest.raises(NotImplementedException):
        call(BufferInterface())


def test_the_package_gives_the_names_of_the_core():
    for name in ('BufferCore', 'TransformException', 'TimeoutException', 'BufferClient'):
        assert hasattr(tf2_ros, name)
    assert tf2_ros.LookupException is LookupException
