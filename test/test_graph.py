import rclpy
from rclpy.context import Context

from vlm_nodes.graph.domain import free_domain
from vlm_nodes.graph.node import LiveGraph


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


def test_domains_that_were_taken_before_are_left_behind():
    found = [free_domain(after=taken) for taken in range(5)]
    assert len(set(found)) > 1
    assert all(1 <= domain <= 101 for domain in found)
