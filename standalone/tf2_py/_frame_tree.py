"""The tree of frames: who hangs under whom, and the way from one frame to another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ._exceptions import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
)
from ._rotation import IDENTITY, ORIGIN, Pose, Quaternion, Vector, compose, invert, multiply, rotate
from ._time_cache import LATEST, Sample, StaticCache, TimeCache

Cache = TimeCache | StaticCache
Reader = Callable[[Cache, int], Sample]

# A longer way up than this is taken for a loop.
MAX_DEPTH = 1000
# The name that reports give to the place above a root.
NO_PARENT = 'NO_PARENT'
# How errors of a lookup begin to name the argument at fault.
LOOKUP_ARGUMENT = 'lookupTransform argument '


def pose_at(cache: Cache, time_ns: int) -> Sample:
    """Read the interpolated pose."""
    return cache.at(time_ns)


def link_at(cache: Cache, time_ns: int) -> Sample:
    """Read a stored pose, which is enough to know the parent."""
    return cache.before(time_ns)


class Path(NamedTuple):
    """The links from two frames up to where they meet."""

    time_ns: int
    from_source: list[Sample]
    from_target: list[Sample]

    def pose(self) -> Pose:
        """Give the pose of the source in the target."""
        if not self.from_target:
            return _stack(self.from_source)
        if not self.from_source:
            return invert(_stack(self.from_target))
        return compose(invert(_stack(self.from_target)), _stack(self.from_source))


def _stack(links: list[Sample]) -> Pose:
    """Compose links, lowest first, into the pose of the lowest frame in the highest."""
    rotation: Quaternion = IDENTITY
    translation: Vector = ORIGIN
    for link in links:
        x, y, z = rotate(link.rotation, translation)
        dx, dy, dz = link.translation
        translation = (x + dx, y + dy, z + dz)
        rotation = multiply(link.rotation, rotation)
    return rotation, translation


class FrameTree:
    """Frames by name, in the order they became known. Not safe for threads: its owner locks.

    Args:
        cache_ns: How long poses are kept.
    """

    def __init__(self, cache_ns: int) -> None:
        self._cache_ns = cache_ns
        # A root is known by name alone.
        self._caches: dict[str, Cache | None] = {}
        self._authorities: dict[str, str] = {}

    def __contains__(self, frame: str) -> bool:
        return frame in self._caches

    @property
    def names(self) -> list[str]:
        """All frames, oldest first."""
        return list(self._caches)

    def cached(self) -> Iterator[tuple[str, Cache, str]]:
        """Go over the frames that were ever set: name, cache, who set it last."""
        for name, cache in self._caches.items():
            if cache is not None:
                yield name, cache, self._authorities.get(name, 'no recorded authority')

    def roots(self) -> list[str]:
        """Name the frames that have no parent: never set, or cleared since."""
        return [name for name, cache in self._caches.items() if cache is None or len(cache) == 0]

    def insert(self, child: str, sample: Sample, authority: str, *, static: bool) -> bool:
        """Store a pose of a frame; a frame that turns static, or back, loses what it had.

        Returns:
            False where the pose is too old to keep.
        """
        wanted = StaticCache if static else TimeCache
        cache = self._caches.get(child)
        if not isinstance(cache, wanted):
            cache = StaticCache() if static else TimeCache(self._cache_ns)
            self._caches[child] = cache
        self._caches.setdefault(sample.parent, None)
        if not cache.insert(sample):
            return False
        self._authorities[child] = authority
        return True

    def clear(self) -> None:
        """Forget every pose that has a time; names and static poses stay."""
        for _, cache, _ in self.cached():
            cache.clear()

    def require(self, frame: str, caller: str) -> None:
        """Check that a frame can be asked for.

        Raises:
            InvalidArgumentException: If the name is empty or starts with a slash.
            LookupException: If nobody has told of the frame.
        """
        fault = _fault_of_name(frame)
        if fault:
            raise InvalidArgumentException(
                f'Invalid argument "{frame}" passed to {caller} - {fault}'
            )
        if frame not in self._caches:
            raise LookupException(f'"{frame}" passed to {caller} does not exist. ')

    def complaint(self, frame: str, caller: str) -> str:
        """Say what keeps a frame from being asked for; empty where nothing does."""
        fault = _fault_of_name(frame)
        if not fault and frame not in self._caches:
            fault = 'frame does not exist'
        return f'Invalid frame ID "{frame}" passed to {caller} - {fault}' if fault else ''

    def latest_ns(self, frame: str) -> int:
        """Give the newest stamp of a frame; zero for static ones, roots and unknown ones."""
        cache = self._caches.get(frame)
        return cache.latest_ns if cache is not None else 0

    def lookup(self, target: str, source: str, time_ns: int) -> tuple[Pose, int]:
        """Give the pose of the source in the target, and the time that it holds at.

        A frame in itself is the identity, whether anybody knows the frame or not.

        Raises:
            TransformException: As `require` and `path`.
        """
        if target != source:
            self.require(target, LOOKUP_ARGUMENT + 'target_frame')
            self.require(source, LOOKUP_ARGUMENT + 'source_frame')
        elif time_ns == LATEST:
            time_ns = self.latest_ns(target)
        path = self.path(target, source, time_ns)
        return path.pose(), path.time_ns

    def path(self, target: str, source: str, time_ns: int, read: Reader = pose_at) -> Path:
        """Find the way between two known frames at one time (zero: the latest that all links have).

        The way goes up from the source as far as there is data, then up from the target until
        the two meet. What lies above the meeting point may be missing.

        Raises:
            ConnectivityException: If they do not meet.
            ExtrapolationException: If a link between them has no data at that time.
            LookupException: If the tree has a loop.
        """
        if source == target:
            return Path(time_ns, [], [])
        if time_ns == LATEST:
            time_ns = self.latest_common_ns(target, source)
        rising, steps, gap = self._rise(target, source, time_ns, read)
        if target in steps:
            return Path(time_ns, rising[: steps[target]], [])
        falling: list[Sample] = []
        frame = target
        while frame not in steps:
            cache = self._caches.get(frame)
            if cache is None:
                break
            try:
                link = read(cache, time_ns)
            except ExtrapolationException as error:
                raise _between(error, target, source) from None
            falling.append(link)
            frame = link.parent
            self._check_depth(len(falling))
        if frame in steps:
            return Path(time_ns, rising[: steps[frame]], falling)
        if gap is not None:
            raise _between(gap, target, source) from None
        raise ConnectivityException(_unconnected(target, source))

    def _rise(
        self, target: str, source: str, time_ns: int, read: Reader
    ) -> tuple[list[Sample], dict[str, int], ExtrapolationException | None]:
        """Climb from the source to the target, a root or a gap in the data.

        Returns:
            The links; for every frame met, how many links lie below it; what ended the climb early.
        """
        links: list[Sample] = []
        steps = {source: 0}
        frame = source
        while frame != target:
            cache = self._caches.get(frame)
            if cache is None:
                break
            try:
                link = read(cache, time_ns)
            except ExtrapolationException as error:
                return links, steps, error
            links.append(link)
            frame = link.parent
            steps.setdefault(frame, len(links))
            self._check_depth(len(links))
        return links, steps, None

    def latest_common_ns(self, target: str, source: str) -> int:
        """Give the newest time at which every link between two known frames has data.

        Returns:
            Nanoseconds; zero where all links are static.

        Raises:
            ConnectivityException: If there is no way between them.
            LookupException: If the tree has a loop.
        """
        if source == target:
            return self.latest_ns(source)
        # What the links below each ancestor of the source share; None while all are static.
        common_below: dict[str, int | None] = {}
        for parent, common in self._latest_upwards(source):
            if parent == target:
                return common or 0
            common_below.setdefault(parent, common)
        for parent, common in self._latest_upwards(target):
            if parent in common_below:
                return _earlier(common, common_below[parent]) or 0
            if parent == source:
                return common or 0
        raise ConnectivityException(_unconnected(target, source))

    def _latest_upwards(self, frame: str) -> Iterator[tuple[str, int | None]]:
        """Go over the ancestors of a frame, with the newest stamp that the links to each share."""
        common: int | None = None
        depth = 0
        while (cache := self._caches.get(frame)) is not None:
            stamp_ns, parent = cache.latest()
            if parent is None:
                return
            common = _earlier(common, stamp_ns or None)
            yield parent, common
            frame = parent
            depth += 1
            self._check_depth(depth)

    def _check_depth(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise LookupException(
                f'The tf tree is invalid because it contains a loop.\n{self.describe()}\n'
            )

    def describe(self) -> str:
        """List every frame with its parent, one a line."""
        return ''.join(
            f'Frame {name} exists with parent {cache.latest()[1] or NO_PARENT}.\n'
            for name, cache, _ in self.cached()
        )


def _earlier(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)


def _fault_of_name(frame: str) -> str:
    if not frame:
        return 'in tf2 frame_ids cannot be empty'
    if frame.startswith('/'):
        return "in tf2 frame_ids cannot start with a '/'"
    return ''


def _unconnected(target: str, source: str) -> str:
    # The missing space is tf2's: the text is matched against as it is.
    return (
        f"Could not find a connection between '{target}' and '{source}' because they are not part "
        'of the same tree.Tf has two or more unconnected trees.'
    )


def _between(error: ExtrapolationException, target: str, source: str) -> ExtrapolationException:
    return ExtrapolationException(
        f'{error}, when looking up transform from frame [{source}] to frame [{target}]'
    )
