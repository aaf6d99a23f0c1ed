"""The whole tree as text: YAML for the tf2_frames service, and a Graphviz drawing."""

from __future__ import annotations

from ._frame_tree import NO_PARENT, Cache, FrameTree
from ._stamps import NS_PER_S, display, to_seconds
from ._time_cache import LATEST

# A shorter history than this says nothing about a rate.
_SHORTEST_NS = 100_000


def _rate_hz(cache: Cache) -> float:
    return len(cache) * NS_PER_S / max(cache.latest_ns - cache.oldest_ns, _SHORTEST_NS)


def _span_s(cache: Cache) -> float:
    return to_seconds(cache.latest_ns - cache.oldest_ns)


def as_yaml(tree: FrameTree) -> str:
    """Give parent, broadcaster, rate and stored time span of every frame that has data."""
    if not tree.names:
        return '[]'
    return ''.join(
        f'{name}: \n'
        f"  parent: '{cache.latest()[1]}'\n"
        f"  broadcaster: '{authority}'\n"
        f'  rate: {_rate_hz(cache):.3f}\n'
        f'  most_recent_transform: {display(cache.latest_ns)}\n'
        f'  oldest_transform: {display(cache.oldest_ns)}\n'
        f'  buffer_length: {_span_s(cache):.3f}\n'
        for name, cache, authority in tree.cached()
        if cache.latest()[1] is not None
    )


def as_dot(tree: FrameTree, now_ns: int = LATEST) -> str:
    """Give the tree in Graphviz' language, with the age of every frame where the time is given."""
    lines = ['digraph G {']
    if not tree.names:
        lines.append('"no tf data received"')
    lines += [
        _edge(name, cache, authority, now_ns)
        for name, cache, authority in tree.cached()
        if cache.latest()[1] is not None
    ]
    if now_ns != LATEST:
        lines += [_legend(root, now_ns) for root in tree.roots()]
    return '\n'.join([*lines, '}'])


def _edge(name: str, cache: Cache, authority: str, now_ns: int) -> str:
    age = ''
    if now_ns != LATEST:
        age = f'( {to_seconds(now_ns - cache.latest_ns):.3f} sec old)'
    return (
        f'"{cache.latest()[1] or NO_PARENT}" -> "{name}"[label="'
        f'Broadcaster: {authority}\\n'
        f'Average rate: {_rate_hz(cache):.3f} Hz\\n'
        f'Most recent transform: {display(cache.latest_ns)} {age}\\n'
        f'Buffer length: {_span_s(cache):.3f} sec\\n"];'
    )


def _legend(root: str, now_ns: int) -> str:
    return (
        'edge [style=invis];\n'
        ' subgraph cluster_legend { style=bold; color=black; label ="view_frames Result";\n'
        f'"Recorded at time: {display(now_ns)}"[ shape=plaintext ] ;\n'
        f' }}->"{root}";'
    )
