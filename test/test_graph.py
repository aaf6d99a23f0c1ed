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
