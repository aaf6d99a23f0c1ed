import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import rclpy
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.context import Context
from std_msgs.msg import String

from vlm_nodes.graph.domain import free_domain
from vlm_nodes.graph.node import LiveGraph
from vlm_nodes.graph.processes import NodeFailedError
from vlm_nodes.graph.spinner import Spinner


def test_graphs_at_the_same_time_are_in_domains_of_their_own():
    with LiveGraph() as first, LiveGraph() as second:
        assert first.domain != second.domain
        assert free_domain() not in (first.domain, second.domain)


def test_a_domain_that_somebody_is_in_is_passed_over():
    first = free_domain(after=40)
    context = Context()
    rclpy.init(context=context, domain_id=first)
    node = rclpy.create_node('somebody', context=context)
    assert free_domain(after=40) != first
    node.destroy_node()
    context.shutdown()


def test_a_late_participant_of_a_busy_process_is_seen_too():
    taken = free_domain(after=70)
    contexts = [Context() for _ in range(8)]
    for context in contexts:
        rclpy.init(context=context, domain_id=taken)
    nodes = [rclpy.create_node('somebody', context=context) for context in contexts]
    for node, context in zip(nodes[:-1], contexts[:-1], strict=True):
        node.destroy_node()
        context.shutdown()
    assert free_domain(after=70) != taken
    nodes[-1].destroy_node()
    contexts[-1].shutdown()


def test_domains_that_were_taken_before_are_left_behind():
    found = [free_domain(after=taken) for taken in range(0, 101, 10)]
    assert len(set(found)) > 1
    assert all(1 <= domain <= 101 for domain in found)


def test_waiting_in_vain_tells_what_the_nodes_said_last():
    with LiveGraph() as graph:
        zen = graph.start('zen', 'this', {})
        graph.wait(lambda: zen.returncode is not None, 60.0, 'the last line')
        with pytest.raises(NodeFailedError, match=r'for rain\nzen said last:\n(.*\n)+Namespaces'):
            graph.wait(lambda: False, 0.0, 'rain')


class Busy:
    """A node whose timers are at work until they are told to go on, and then publish."""

    def __init__(self, domain, threads):
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node('busy', context=self.context)
        self.publisher = self.node.create_publisher(String, 'said', 10)
        self.go_on = threading.Event()
        self.begun, self.done = [], []
        for _ in range(threads):
            self.node.create_timer(
                0.001, self.work, callback_group=MutuallyExclusiveCallbackGroup()
            )
        self.spinner = Spinner(self.node, threads)
        while len(self.begun) < threads:
            time.sleep(0.001)

    def work(self):
        self.begun.append(True)
        self.go_on.wait()
        self.publisher.publish(String())  # raises once the context is shut down
        self.done.append(True)

    def end(self):
        self.go_on.set()
        while len(self.done) < len(self.begun):
            time.sleep(0.001)
        self.node.destroy_node()
        self.context.shutdown()


@pytest.mark.parametrize('threads', [1, 4])
def test_a_spinner_ends_what_was_begun_and_begins_nothing_more(ros_domain, threads):
    busy = Busy(ros_domain, threads)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(busy.spinner.end, 30.0)
        busy.go_on.set()
        assert ended.result()
    assert len(busy.done) == len(busy.begun) >= threads
    busy.end()
    assert len(busy.done) == len(busy.begun)


@pytest.mark.parametrize('threads', [1, 4])
def test_a_spinner_says_that_a_callback_is_still_at_work(ros_domain, threads):
    busy = Busy(ros_domain, threads)
    assert not busy.spinner.end(0.05)
    busy.end()
