import itertools
import threading
import time

import pytest
import rclpy
from builtin_interfaces.msg import Time as TimeMessage
from hypothesis import given, settings
from hypothesis import strategies as st
from message_filters import (
    ApproximateTimeSynchronizer,
    Cache,
    Chain,
    SimpleFilter,
    Subscriber,
    TimeSynchronizer,
)
from message_filters.delta_filter import (
    CachedComparisonHandler,
    ComparisonFilter,
    DeltaFilter,
    PathDeltaFilter,
)
from message_filters.input_aligner import InputAligner
from rclpy.clock import ClockType, ROSClock
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.time import Time
from sensor_msgs.msg import Temperature
from std_msgs.msg import ColorRGBA, Header, String

MS = 1_000_000


def stamped(stamp_ms: int, value: float = 0.0) -> Temperature:
    sec, nanosec = divmod(stamp_ms * MS, 1000 * MS)
    header = Header(stamp=TimeMessage(sec=sec, nanosec=nanosec))
    return Temperature(header=header, temperature=float(value))


def stamp_ms(message: Temperature) -> int:
    return message.header.stamp.sec * 1000 + message.header.stamp.nanosec // MS


def ros_time(stamp_ms: int) -> Time:
    return Time(nanoseconds=stamp_ms * MS, clock_type=ClockType.ROS_TIME)


class Recorder:
    """Keeps what it is called with."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def __call__(self, *messages: object) -> None:
        self.calls.append(messages)

    @property
    def stamps(self) -> list[tuple[int, ...]]:
        return [tuple(stamp_ms(message) for message in call) for call in self.calls]


def synchronize(kind, inputs: int, *args, **kwargs):
    """Return the input filters, the synchronizer and what comes out of it."""
    filters = [SimpleFilter() for _ in range(inputs)]
    synchronizer = kind(filters, *args, **kwargs)
    recorder = Recorder()
    synchronizer.registerCallback(recorder)
    return filters, synchronizer, recorder


# SimpleFilter


def test_callbacks_run_in_order_with_messages_then_their_own_arguments():
    calls = []
    source = SimpleFilter()
    source.registerCallback(lambda *args: calls.append(('first', *args)), 'a', 'b')
    source.registerCallback(lambda *args: calls.append(('second', *args)))
    source.signalMessage(1, 2)
    assert calls == [('first', 1, 2, 'a', 'b'), ('second', 1, 2)]


def test_a_callback_registered_after_another_left_displaces_nobody():
    calls = []
    source = SimpleFilter()
    first = source.registerCallback(calls.append)
    source.registerCallback(lambda value: calls.append(value * 10))
    source.unregisterCallback(first)
    source.unregisterCallback(first)
    source.registerCallback(lambda value: calls.append(value * 100))
    source.signalMessage(1)
    assert calls == [10, 100]


def test_a_callback_may_unregister_itself():
    calls = []
    source = SimpleFilter()

    def once(value: int) -> None:
        calls.append(value)
        source.unregisterCallback(connection)

    connection = source.registerCallback(once)
    source.signalMessage(1)
    source.signalMessage(2)
    assert calls == [1]


# Subscriber


@pytest.fixture
def node(ros_domain):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node = rclpy.create_node('filters', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    node.test_executor = executor
    yield node
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


def spin_until(node, condition, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        node.test_executor.spin_once(timeout_sec=0.05)


def test_subscriber_passes_messages_of_a_real_topic_to_a_synchronizer(node):
    publishers = [node.create_publisher(Temperature, name, 10) for name in ('left', 'right')]
    subscribers = [
        Subscriber(node, Temperature, 'left'),
        Subscriber(node, Temperature, 'right', qos_profile=qos_profile_sensor_data),
    ]
    synchronizer = ApproximateTimeSynchronizer(subscribers, queue_size=10, slop=0.01)
    recorder = Recorder()
    synchronizer.registerCallback(recorder)
    spin_until(node, lambda: all(p.get_subscription_count() for p in publishers))
    for stamp in (100, 200, 300):
        publishers[0].publish(stamped(stamp))
        publishers[1].publish(stamped(stamp + 4))
    spin_until(node, lambda: len(recorder.calls) == 3)
    assert recorder.stamps == [(100, 104), (200, 204), (300, 304)]


def test_subscriber_hands_its_options_to_the_subscription(node):
    group = rclpy.callback_groups.ReentrantCallbackGroup()
    subscriber = Subscriber(
        node,
        String,
        'text',
        qos_profile=QoSProfile(depth=3, reliability=ReliabilityPolicy.BEST_EFFORT),
        callback_group=group,
    )
    assert subscriber.getTopic() == 'text'
    assert subscriber.sub.callback_group is group
    # What a filter lacks is the subscription's.
    assert subscriber.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    assert subscriber.topic_name == '/text'
    with pytest.raises(AttributeError):
        _ = subscriber.no_such_thing


def test_subscriber_has_a_queue_of_ten_by_default(node):
    subscriber = Subscriber(node, String, 'text')
    assert subscriber.qos_profile.depth == 10
    assert subscriber.qos_profile.reliability == ReliabilityPolicy.RELIABLE


# Cache


def filled_cache(stamps_ms: list[int], size: int = 5) -> Cache:
    source = SimpleFilter()
    cache = Cache(source, size)
    for stamp in stamps_ms:
        source.signalMessage(stamped(stamp))
    return cache


def test_cache_keeps_the_last_arrivals_and_passes_all_on():
    source = SimpleFilter()
    cache, recorder = Cache(source, cache_size=2), Recorder()
    cache.registerCallback(recorder)
    for stamp in (10, 20, 30):
        source.signalMessage(stamped(stamp))
    assert recorder.stamps == [(10,), (20,), (30,)]
    assert [stamp_ms(m) for m in cache.cache_msgs] == [20, 30]
    assert cache.getOldestTime() == ros_time(20)
    assert cache.getLastestTime() == ros_time(30)
    assert stamp_ms(cache.getLast()) == 30


def test_cache_size_is_one_by_default():
    source = SimpleFilter()
    cache = Cache(source)
    source.signalMessage(stamped(1))
    source.signalMessage(stamped(2))
    assert [stamp_ms(m) for m in cache.cache_msgs] == [2]


def test_cache_interval_includes_both_ends():
    cache = filled_cache([10, 20, 30, 40])
    inside = cache.getInterval(ros_time(20), ros_time(30))
    assert [stamp_ms(m) for m in inside] == [20, 30]
    assert cache.getInterval(ros_time(21), ros_time(29)) == []
    with pytest.raises(AssertionError, match='ends before it begins'):
        cache.getInterval(ros_time(30), ros_time(20))


def test_cache_neighbours_of_a_time():
    cache = filled_cache([10, 20, 30])
    assert stamp_ms(cache.getElemAfterTime(ros_time(20))) == 20
    assert stamp_ms(cache.getElemAfterTime(ros_time(21))) == 30
    assert cache.getElemAfterTime(ros_time(31)) is None
    assert stamp_ms(cache.getElemBeforeTime(ros_time(20))) == 20
    assert stamp_ms(cache.getElemBeforeTime(ros_time(19))) == 10
    assert cache.getElemBeforeTime(ros_time(9)) is None


def test_cache_keeps_the_order_of_arrival_whatever_the_stamps():
    cache = filled_cache([30, 10, 20], size=2)
    assert [stamp_ms(m) for m in cache.cache_msgs] == [10, 20]
    cache = filled_cache([30, 10, 20])
    assert cache.getLastestTime() == ros_time(20)
    assert stamp_ms(cache.getElemAfterTime(ros_time(5))) == 30


def test_empty_cache_has_nothing():
    cache = filled_cache([])
    assert cache.getLast() is None
    assert cache.getLastestTime() is None
    assert cache.getOldestTime() is None
    assert cache.getInterval(ros_time(0), ros_time(10)) == []


def test_cache_drops_headerless_messages_unless_allowed():
    source = SimpleFilter()
    strict, lenient = Cache(source, 5), Cache(source, 5, allow_headerless=True)
    recorder = Recorder()
    strict.registerCallback(recorder)
    before = ROSClock().now()
    source.signalMessage(String(data='no header'))
    assert strict.cache_msgs == []
    assert recorder.calls == []
    assert [m.data for m in lenient.cache_msgs] == ['no header']
    assert before <= lenient.getLastestTime() <= ROSClock().now()


def test_cache_of_another_clock_type_is_a_type_error():
    with pytest.raises(TypeError):
        filled_cache([10]).getElemAfterTime(Time(seconds=1, clock_type=ClockType.SYSTEM_TIME))


# Chain


def test_chain_feeds_each_filter_from_the_one_before():
    source, chain, recorder = SimpleFilter(), Chain(), Recorder()
    chain.registerCallback(recorder)
    chain.connectInput(source)
    source.signalMessage(stamped(1))
    first, second = Cache(SimpleFilter(), 5), Cache(SimpleFilter(), 5)
    chain.addFilter(first)
    source.signalMessage(stamped(2))
    chain.addFilter(second)
    source.signalMessage(stamped(3))
    assert [stamp_ms(m) for m in first.cache_msgs] == [2, 3]
    assert [stamp_ms(m) for m in second.cache_msgs] == [3]
    assert recorder.stamps == [(1,), (2,), (3,)]
    assert (chain.getFilter(0), chain.getFilter(1)) == (first, second)
    with pytest.raises(KeyError):
        chain.getFilter(2)
    with pytest.raises(RuntimeError, match='Already connected'):
        chain.connectInput(source)


# TimeSynchronizer


def test_exact_sets_come_in_the_order_of_the_inputs():
    (left, right), _, recorder = synchronize(TimeSynchronizer, 2, 10)
    one, two = stamped(5, 1.0), stamped(5, 2.0)
    right.signalMessage(two)
    left.signalMessage(one)
    assert recorder.calls == [(one, two)]


def test_exact_ignores_stamps_that_are_only_near():
    (left, right), _, recorder = synchronize(TimeSynchronizer, 2, 10)
    left.signalMessage(stamped(5))
    near = stamped(5)
    near.header.stamp.nanosec += 1
    right.signalMessage(near)
    assert recorder.calls == []


def test_exact_takes_inputs_in_any_order_of_arrival():
    for left_order, right_order in itertools.product(itertools.permutations(range(4)), repeat=2):
        (left, right), _, recorder = synchronize(TimeSynchronizer, 2, 4)
        for stamp in left_order:
            left.signalMessage(stamped(stamp))
        for stamp in right_order:
            right.signalMessage(stamped(stamp))
        assert recorder.stamps == [(stamp, stamp) for stamp in right_order]


def test_exact_input_that_completes_a_set_forgets_what_it_brought_before():
    (left, right), synchronizer, recorder = synchronize(TimeSynchronizer, 2, 10)
    left.signalMessage(stamped(1))
    right.signalMessage(stamped(2))
    left.signalMessage(stamped(2))
    right.signalMessage(stamped(1))
    assert recorder.stamps == [(2, 2)]
    assert list(synchronizer.queues[0]) == []


def test_exact_queue_loses_the_earliest_stamp():
    (left, right), synchronizer, recorder = synchronize(TimeSynchronizer, 2, 2)
    for stamp in (3, 1, 2):
        left.signalMessage(stamped(stamp))
    assert sorted(synchronizer.queues[0]) == [2 * MS, 3 * MS]
    for stamp in (1, 2, 3):
        right.signalMessage(stamped(stamp))
    assert recorder.stamps == [(2, 2), (3, 3)]


def test_exact_later_message_of_a_stamp_replaces_the_earlier():
    (left, right), _, recorder = synchronize(TimeSynchronizer, 2, 10)
    left.signalMessage(stamped(1, 10.0))
    left.signalMessage(stamped(1, 20.0))
    right.signalMessage(stamped(1, 30.0))
    right.signalMessage(stamped(1, 40.0))
    assert [[m.temperature for m in call] for call in recorder.calls] == [[20.0, 30.0]]


def test_exact_refuses_a_message_without_header_and_goes_on():
    (left, right), _, recorder = synchronize(TimeSynchronizer, 2, 10)
    with pytest.raises(AttributeError):
        left.signalMessage(String())
    left.signalMessage(stamped(1))
    right.signalMessage(stamped(1))
    assert recorder.stamps == [(1, 1)]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sets(st.integers(0, 30)), min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)
def test_exact_ordered_inputs_yield_every_common_stamp_once(stamps, random):
    filters, _, recorder = synchronize(TimeSynchronizer, len(stamps), 31)
    waiting = [sorted(s) for s in stamps]
    while any(waiting):
        index = random.choice([i for i, rest in enumerate(waiting) if rest])
        filters[index].signalMessage(stamped(waiting[index].pop(0)))
    common = sorted(set.intersection(*stamps))
    assert recorder.stamps == [(stamp,) * len(stamps) for stamp in common]


# ApproximateTimeSynchronizer


@pytest.mark.parametrize(('gap_ns', 'fires'), [(9_999_999, True), (10_000_000, False)])
def test_slop_is_a_strict_bound(gap_ns, fires):
    (left, right), _, recorder = synchronize(ApproximateTimeSynchronizer, 2, 10, 0.01)
    left.signalMessage(stamped(0))
    late = stamped(0)
    late.header.stamp.nanosec = gap_ns
    right.signalMessage(late)
    assert bool(recorder.calls) is fires


def test_slop_of_zero_never_fires():
    (left, right), _, recorder = synchronize(ApproximateTimeSynchronizer, 2, 10, 0.0)
    left.signalMessage(stamped(1))
    right.signalMessage(stamped(1))
    assert recorder.calls == []


def test_nearest_stamp_wins_and_the_rest_waits():
    (left, right), synchronizer, recorder = synchronize(ApproximateTimeSynchronizer, 2, 10, 0.1)
    for stamp in (0, 40, 90):
        left.signalMessage(stamped(stamp))
    right.signalMessage(stamped(50))
    assert recorder.stamps == [(40, 50)]
    assert sorted(synchronizer.queues[0]) == [0, 90 * MS]
    right.signalMessage(stamped(10))
    assert recorder.stamps == [(40, 50), (0, 10)]


def test_of_equally_near_stamps_the_first_arrival_wins():
    for first, second in ((40, 60), (60, 40)):
        (left, right), _, recorder = synchronize(ApproximateTimeSynchronizer, 2, 10, 0.1)
        left.signalMessage(stamped(first))
        left.signalMessage(stamped(second))
        right.signalMessage(stamped(50))
        assert recorder.stamps == [(first, 50)]


def test_the_spread_of_the_whole_set_counts():
    filters, _, recorder = synchronize(ApproximateTimeSynchronizer, 3, 10, 0.1)
    filters[0].signalMessage(stamped(0))
    filters[1].signalMessage(stamped(140))
    filters[2].signalMessage(stamped(70))
    assert recorder.calls == []
    filters[1].signalMessage(stamped(80))
    assert recorder.stamps == [(0, 80, 70)]


def test_a_full_queue_refuses_what_is_earlier_than_all_it_holds():
    (left, right), _, recorder = synchronize(ApproximateTimeSynchronizer, 2, 1, 0.1)
    left.signalMessage(stamped(500))
    right.signalMessage(stamped(10))
    left.signalMessage(stamped(10))
    assert recorder.calls == []


def test_headerless_messages_are_dropped_unless_allowed():
    (left, right), synchronizer, recorder = synchronize(ApproximateTimeSynchronizer, 2, 10, 5.0)
    left.signalMessage(String())
    right.signalMessage(String())
    assert recorder.calls == []
    assert synchronizer.queues == [{}, {}]
    (left, right), _, recorder = synchronize(
        ApproximateTimeSynchronizer, 2, 10, 5.0, allow_headerless=True
    )
    now = Temperature(header=Header(stamp=ROSClock().now().to_msg()))
    text = String(data='x')
    left.signalMessage(now)
    right.signalMessage(text)
    assert recorder.calls == [(now, text)]


def test_arrival_time_can_stand_for_the_stamp():
    (left, right), _, recorder = synchronize(
        ApproximateTimeSynchronizer, 2, 10, 60.0, sync_arrival_time=True
    )
    left.signalMessage(stamped(0))
    right.signalMessage(stamped(9_000_000))
    assert recorder.stamps == [(0, 9_000_000)]


def test_rclpy_times_serve_as_stamps():
    class Reading:
        def __init__(self, seconds: float) -> None:
            self.header = type('HeaderOfTime', (), {'stamp': Time(seconds=seconds)})()

    for kind, args in ((TimeSynchronizer, (5,)), (ApproximateTimeSynchronizer, (5, 0.1))):
        (left, right), _, recorder = synchronize(kind, 2, *args)
        one, two = Reading(1.5), Reading(1.5)
        left.signalMessage(one)
        right.signalMessage(two)
        assert recorder.calls == [(one, two)]


arrivals = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 60)), max_size=40)


@settings(max_examples=150, deadline=None)
@given(arrivals, st.integers(1, 3), st.sampled_from([1, 2, 5, 40]), st.sampled_from([1, 8, 30]))
def test_approximate_sets_are_tight_complete_and_never_missed(events, inputs, queue_size, slop_ms):
    filters, synchronizer, recorder = synchronize(
        ApproximateTimeSynchronizer, inputs, queue_size, slop_ms / 1000
    )
    used: list[Temperature] = []
    for index, stamp in ((i, s) for i, s in events if i < inputs):
        arriving = stamped(stamp)
        waiting = [list(queue) for queue in synchronizer.queues]
        recorder.calls.clear()
        filters[index].signalMessage(arriving)
        assert all(len(queue) <= queue_size for queue in synchronizer.queues)
        if recorder.calls:
            (messages,) = recorder.calls
            stamps = [stamp_ms(message) for message in messages]
            assert messages[index] is arriving
            assert max(stamps) - min(stamps) < slop_ms
            assert not any(message is earlier for message in messages for earlier in used)
            used += messages
        elif stamp * MS in synchronizer.queues[index]:
            others = [waiting[i] if i != index else [stamp * MS] for i in range(inputs)]
            for combination in itertools.product(*others):
                assert max(combination) - min(combination) >= slop_ms * MS


@pytest.mark.parametrize(
    ('kind', 'args'), [(TimeSynchronizer, (1000,)), (ApproximateTimeSynchronizer, (1000, 0.0005))]
)
def test_inputs_may_come_from_different_threads(kind, args):
    filters, _, recorder = synchronize(kind, 2, *args)
    threads = [
        threading.Thread(target=lambda f=f: [f.signalMessage(stamped(s)) for s in range(500)])
        for f in filters
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(recorder.stamps) == [(stamp, stamp) for stamp in range(500)]


@pytest.mark.parametrize(
    ('kind', 'args'), [(TimeSynchronizer, (10,)), (ApproximateTimeSynchronizer, (10, 0.1))]
)
def test_a_callback_that_raises_leaves_the_synchronizer_working(kind, args):
    filters = [SimpleFilter(), SimpleFilter()]
    synchronizer = kind(filters, *args)
    recorder = Recorder()

    def fail_once(*messages: object) -> None:
        recorder(*messages)
        if len(recorder.calls) == 1:
            raise ValueError('first')

    synchronizer.registerCallback(fail_once)
    filters[0].signalMessage(stamped(1))
    with pytest.raises(ValueError, match='first'):
        filters[1].signalMessage(stamped(1))
    for source in filters:
        source.signalMessage(stamped(1000))
    assert recorder.stamps == [(1, 1), (1000, 1000)]


# DeltaFilter


def test_delta_filter_passes_changes_against_the_last_passed_message():
    source, recorder = SimpleFilter(), Recorder()
    delta = DeltaFilter([lambda m: m.r, lambda m: m.g], source)
    delta.registerCallback(recorder)
    for r, g, b in ((0, 0, 0), (0, 0, 1), (0, 1, 1), (0, 1, 0), (0, 0, 0)):
        source.signalMessage(ColorRGBA(r=float(r), g=float(g), b=float(b)))
    assert [(m.r, m.g, m.b) for (m,) in recorder.calls] == [(0, 0, 0), (0, 1, 1), (0, 0, 0)]


def test_path_delta_filter_follows_dotted_paths():
    recorder, delta = Recorder(), PathDeltaFilter(['header.frame_id'])
    delta.registerCallback(recorder)
    for frame, value in (('a', 1.0), ('a', 2.0), ('b', 2.0)):
        delta.add(Temperature(header=Header(frame_id=frame), temperature=value))
    assert [m.header.frame_id for (m,) in recorder.calls] == ['a', 'b']
    broken = PathDeltaFilter(['header.no_such'])
    broken.add(Temperature())
    with pytest.raises(RuntimeError, match=r"'no_such' in Header .*'header.no_such'"):
        broken.add(Temperature())


def test_delta_filter_refuses_values_without_a_plain_comparison():
    delta = DeltaFilter([lambda m: m.header])
    delta.add(stamped(1))
    with pytest.raises(TypeError, match='Header'):
        delta.add(stamped(2))


def test_comparison_filter_asks_its_handler_and_takes_one_input():
    class Warm(CachedComparisonHandler):
        def message_fits(self, message: Temperature) -> bool:
            return message.temperature > 20

    source, recorder = SimpleFilter(), Recorder()
    comparison = ComparisonFilter(Warm(), source)
    comparison.registerCallback(recorder)
    for value in (10, 30, 20):
        source.signalMessage(stamped(0, value))
    assert [m.temperature for (m,) in recorder.calls] == [30]
    with pytest.raises(RuntimeError, match='already has'):
        comparison.connectInput(source)


# InputAligner


def aligned(inputs: int, period_ms: int = 0, timeout_ms: int = 1000):
    filters = [SimpleFilter() for _ in range(inputs)]
    aligner = InputAligner(Duration(nanoseconds=timeout_ms * MS), filters=filters)
    out: list[int] = []
    for index in range(inputs):
        aligner.registerCallback(index, lambda m: out.append(stamp_ms(m)))
        aligner.setInputPeriod(index, Duration(nanoseconds=period_ms * MS))
    return filters, aligner, out


def test_aligner_orders_the_messages_of_all_inputs():
    filters, aligner, out = aligned(2, period_ms=2)
    for index, stamp in ((1, 4), (0, 3), (0, 1), (1, 2), (0, 5)):
        filters[index].signalMessage(stamped(stamp))
    assert out == []
    aligner.dispatchMessages()
    assert out == [1, 2, 3, 4, 5]


def test_aligner_waits_for_the_input_that_is_due_until_the_timeout():
    filters, aligner, out = aligned(2, period_ms=2, timeout_ms=10)
    for stamp in range(1, 17, 2):
        filters[0].signalMessage(stamped(stamp))
    for stamp in (2, 4):
        filters[1].signalMessage(stamped(stamp))
    aligner.dispatchMessages()
    assert out == [1, 2, 3, 4, 5]
    assert aligner.getQueueStatus(1).active
    filters[0].signalMessage(stamped(17))
    aligner.dispatchMessages()
    assert out == [1, 2, 3, 4, 5, 7, 9, 11, 13, 15, 17]
    assert not aligner.getQueueStatus(1).active


def test_aligner_drops_what_comes_after_its_time():
    filters, aligner, out = aligned(1)
    for stamp in (3, 1, 4):
        filters[0].signalMessage(stamped(stamp))
        aligner.dispatchMessages()
    assert out == [3, 4]
    status = aligner.getQueueStatus(0)
    assert (status.msgs_processed, status.msgs_dropped, status.queue_size) == (2, 1, 0)


def test_aligner_reconnected_forgets_inputs_and_callbacks():
    filters, aligner, out = aligned(2)
    aligner.connectInput(filters[0])
    assert len(aligner.event_queues) == 1
    fresh: list[int] = []
    aligner.registerCallback(0, lambda m, tag: fresh.append((tag, stamp_ms(m))), 'tag')
    filters[0].signalMessage(stamped(1))
    filters[1].signalMessage(stamped(2))
    aligner.dispatchMessages()
    assert (out, fresh) == ([], [('tag', 1)])
    aligner.disconnectAll()
    filters[0].signalMessage(stamped(3))
    aligner.dispatchMessages()
    assert fresh == [('tag', 1)]


def test_aligner_has_a_name():
    aligner = InputAligner(Duration(seconds=1))
    assert aligner.getName() == ''
    aligner.setName('cameras')
    assert aligner.getName() == 'cameras'


def test_aligner_dispatches_by_a_timer_of_a_node(node):
    filters, aligner, out = aligned(2, period_ms=2)
    aligner.setupDispatchTimer(node, Duration(nanoseconds=5 * MS))
    filters[1].signalMessage(stamped(2))
    filters[0].signalMessage(stamped(1))
    spin_until(node, lambda: len(out) == 2)
    assert out == [1, 2]
