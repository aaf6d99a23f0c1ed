"""Diagnostics that a node in this process makes from now on."""

from diagnostic_msgs.msg import KeyValue


def fresh_status(node, diagnostics, until):
    """The newest status, once it is of now.

    Args:
        node: Which publishes its counts in its diagnostics.
        diagnostics: List that what comes on /diagnostics is added to.
        until: Waits for a condition, given with the words for what it is.
    """
    node._statistics.count('asks')
    asks = KeyValue(key='asks', value=str(node._statistics.get('asks')))
    until(lambda: diagnostics and asks in diagnostics[-1].status[0].values, 'diagnostics')
    seen = len(diagnostics)  # whose message may be older than their counts
    until(lambda: len(diagnostics) > seen, 'diagnostics')
    return diagnostics[-1].status[0]
