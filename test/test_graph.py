from vlm_nodes.graph.domain import free_domain
from vlm_nodes.graph.node import LiveGraph


def test_graphs_at_the_same_time_are_in_domains_of_their_own():
    with LiveGraph() as first, LiveGraph() as second:
        assert first.domain != second.domain
        assert free_domain() not in (first.domain, second.domain)
