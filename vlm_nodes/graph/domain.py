from __future__ import annotations

import os
import socket

# DDS's rules: a domain's discovery takes the UDP port 7400 + 250 times its number. Up to 101 these
# lie below Linux's ephemeral ports.
_PORT_BASE, _PORTS_A_DOMAIN, _DOMAINS = 7400, 250, 101
# Discovery by multicast, which nobody listens to where it is confined to this machine, and the
# ports of all of the domain's participants: a process numbers its own on over its domains.
_PORTS = (0, *range(10, _PORTS_A_DOMAIN))


def free_domain(after: int = 0) -> int:
    """A ROS domain from 1 to 101 that nobody on this machine seems to be in.

    Begins at one that follows from this process, so that two started at once seldom meet.

    Args:
        after: How many were taken before: each call of a process that counts begins at another, so
            that what is left of one domain does not reach into the next.
    """
    first = os.getpid() * 7 + after
    domains = [1 + (first + step) % _DOMAINS for step in range(_DOMAINS)]
    return next((domain for domain in domains if _is_free(domain)), domains[0])


def _is_free(domain: int) -> bool:
    first = _PORT_BASE + _PORTS_A_DOMAIN * domain
    return all(_can_bind(first + port) for port in _PORTS)


def _can_bind(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(('', port))
        except OSError:
            return False
    return True
