"""tf recorded in a bag: poses between frames at any stamp, as tf2 gives them live."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation, Slerp

from bag_tools.reader import time_to_ns
from vlm_nodes.geometry.rigid import invert, matrix_from_quaternion

Matrix = NDArray[np.float64]


class TransformError(Exception):
    """No transform between two frames at a stamp; the text says which and why."""


class UnknownFrameError(TransformError):
    """A frame was never published."""


class NotConnectedError(TransformError):
    """Two frames are in different trees."""


class OutsideTimeError(TransformError):
    """A stamp lies before the first or after the last recorded transform."""


@dataclass
class _Edge:
    """A child's transforms to its parent, in the order of their stamps."""

    stamps: list[int] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    translations: list[NDArray[np.float64]] = field(default_factory=list)
    quaternions: list[NDArray[np.float64]] = field(default_factory=list)

    def insert(self, stamp_ns: int, parent: str, pose: tuple[Matrix, Matrix]) -> None:
        """Keep one transform; one at a stamp that is there already replaces it."""
        at = bisect_right(self.stamps, stamp_ns)
        if at and self.stamps[at - 1] == stamp_ns:
            at -= 1
            self._remove(at)
        self.stamps.insert(at, stamp_ns)
        self.parents.insert(at, parent)
        self.translations.insert(at, pose[0])
        self.quaternions.insert(at, pose[1])

    def _remove(self, at: int) -> None:
        for column in (self.stamps, self.parents, self.translations, self.quaternions):
            del column[at]

    def matrix(self, index: int) -> Matrix:
        """`parent_from_child` (4, 4) of one recorded transform."""
        return matrix_from_quaternion(self.quaternions[index], self.translations[index])

    def between(self, index: int, stamp_ns: int) -> Matrix:
        """`parent_from_child` between two recorded transforms: linear, and slerp."""
        t0, t1 = self.stamps[index], self.stamps[index + 1]
        share = (stamp_ns - t0) / (t1 - t0)
        keys = Rotation.from_quat(np.stack(self.quaternions[index : index + 2]))
        a, b = self.translations[index], self.translations[index + 1]
        matrix = np.eye(4)
        matrix[:3, :3] = Slerp([0.0, 1.0], keys)(share).as_matrix()
        matrix[:3, 3] = a + share * (b - a)
        return matrix


class TransformTree:
    """Frames and how they lie to each other over time.

    Args:
        hold_s: How far before its first and after its last transform a moving frame is taken to
            stand still. 0 refuses every stamp outside of the recorded time, as tf2 does.
    """

    def __init__(self, hold_s: float = 0.0) -> None:
        if not hold_s >= 0:
            raise ValueError(f'hold_s = {hold_s} must be 0 or more seconds')
        self.hold_ns = round(hold_s * 1e9)
        self._static: dict[str, tuple[str, Matrix]] = {}
        self._moving: dict[str, _Edge] = {}
        self._frames: set[str] = set()

    @property
    def frames(self) -> tuple[str, ...]:
        """Names of every frame, sorted."""
        return tuple(sorted(self._frames))

    def add(
        self,
        stamp_ns: int,
        parent: str,
        child: str,
        translation: ArrayLike,
        quaternion_xyzw: ArrayLike,
    ) -> None:
        """Add a moving frame's pose in its parent at a stamp, in any order of stamps.

        Raises:
            ValueError: A name is empty, a frame is its own parent, or the numbers are no pose.
        """
        parent, child = self._names(parent, child)
        matrix_from_quaternion(quaternion_xyzw, translation)  # refuses what is not a pose
        pose = (
            np.asarray(translation, dtype=np.float64),
            np.asarray(quaternion_xyzw, dtype=np.float64),
        )
        self._moving.setdefault(child, _Edge()).insert(stamp_ns, parent, pose)

    def add_static(self, parent: str, child: str, parent_from_child: ArrayLike) -> None:
        """Add a frame that never moves in its parent; the last one added holds."""
        parent, child = self._names(parent, child)
        self._static[child] = (parent, np.asarray(parent_from_child, dtype=np.float64))

    def add_message(self, message: Any, *, static: bool) -> None:
        """Add every transform of a tf2_msgs/TFMessage."""
        for item in message.transforms:
            self.add_transform(item, static=static)

    def add_transform(self, item: Any, *, static: bool) -> None:
        """Add one geometry_msgs/TransformStamped."""
        translation, quaternion = _vector(item.transform.translation), _xyzw(item.transform)
        parent, child = item.header.frame_id, item.child_frame_id
        if static:
            self.add_static(parent, child, matrix_from_quaternion(quaternion, translation))
        else:
            self.add(time_to_ns(item.header.stamp), parent, child, translation, quaternion)

    def add_odometry(self, message: Any) -> None:
        """Add the pose of a nav_msgs/Odometry: `child_frame_id` in its header's frame."""
        pose = message.pose.pose
        quaternion = (
            pose.orientation.x,
            pose.orientation.y,
            pose.orientation.z,
            pose.orientation.w,
        )
        self.add(
            time_to_ns(message.header.stamp),
            message.header.frame_id,
            message.child_frame_id,
            _vector(pose.position),
            quaternion,
        )

    def lookup(self, target: str, source: str, stamp_ns: int) -> Matrix:
        """`target_from_source` (4, 4) at a stamp, interpolated between recorded transforms.

        Raises:
            UnknownFrameError: A frame was never published.
            NotConnectedError: No chain of transforms joins the two.
            OutsideTimeError: A transform of the chain is not known at that stamp.
        """
        target, source = _bare(target), _bare(source)
        for name in (target, source):
            self._require(name)
        if target == source:
            return np.eye(4)
        target_chain = self._chain(target, stamp_ns)
        source_chain = self._chain(source, stamp_ns)
        shared = next((name for name in source_chain if name in target_chain), None)
        if shared is None:
            raise NotConnectedError(
                f'{source} and {target} are not connected at {stamp_ns / 1e9:.3f} s: '
                f'{source} hangs below {list(source_chain)[-1]}, '
                f'{target} below {list(target_chain)[-1]}'
            )
        root_from_source = self._climb(source_chain, shared, stamp_ns)
        root_from_target = self._climb(target_chain, shared, stamp_ns)
        return invert(root_from_target) @ root_from_source

    def ancestors(self, frame: str, stamp_ns: int) -> tuple[str, ...]:
        """The frame itself, its parent, that one's parent and so on up to the root."""
        self._require(_bare(frame))
        return tuple(self._chain(_bare(frame), stamp_ns))

    def _names(self, parent: str, child: str) -> tuple[str, str]:
        parent, child = _bare(parent), _bare(child)
        if not parent or not child:
            raise ValueError(f'a transform from {child!r} to {parent!r} lacks a frame name')
        if parent == child:
            raise ValueError(f'frame {child!r} cannot be its own parent')
        self._frames.update((parent, child))
        return parent, child

    def _require(self, name: str) -> None:
        if name not in self._frames:
            known = ', '.join(self.frames) or 'none'
            raise UnknownFrameError(f'frame {name!r} was never published; known frames: {known}')

    def _chain(self, frame: str, stamp_ns: int) -> dict[str, None]:
        chain: dict[str, None] = {frame: None}
        while (parent := self._parent(frame, stamp_ns)) is not None:
            if parent in chain:
                raise NotConnectedError(f'frames form a loop: {" -> ".join(chain)} -> {parent}')
            chain[parent] = None
            frame = parent
        return chain

    def _parent(self, child: str, stamp_ns: int) -> str | None:
        if child in self._static:
            return self._static[child][0]
        edge = self._moving.get(child)
        if edge is None:
            return None
        return edge.parents[max(0, bisect_right(edge.stamps, stamp_ns) - 1)]

    def _climb(self, chain: Iterable[str], top: str, stamp_ns: int) -> Matrix:
        """`top_from_first` (4, 4) along a chain of frames from its first to `top`."""
        matrix = np.eye(4)
        for frame in chain:
            if frame == top:
                break
            matrix = self._parent_from_child(frame, stamp_ns) @ matrix
        return matrix

    def _parent_from_child(self, child: str, stamp_ns: int) -> Matrix:
        if child in self._static:
            return self._static[child][1]
        edge = self._moving[child]
        self._check_time(child, edge, stamp_ns)
        index = bisect_right(edge.stamps, stamp_ns) - 1
        if index < 0:
            return edge.matrix(0)
        last = index == len(edge.stamps) - 1
        # A frame that changes its parent does not move between the two: keep the earlier one.
        if last or edge.parents[index] != edge.parents[index + 1]:
            return edge.matrix(index)
        return edge.between(index, stamp_ns)

    def _check_time(self, child: str, edge: _Edge, stamp_ns: int) -> None:
        first, last = edge.stamps[0], edge.stamps[-1]
        if first - self.hold_ns <= stamp_ns <= last + self.hold_ns:
            return
        side = 'before the first' if stamp_ns < first else 'after the last'
        away = (first - stamp_ns if stamp_ns < first else stamp_ns - last) / 1e9
        raise OutsideTimeError(
            f'{child} in {edge.parents[0]} is not known at {stamp_ns / 1e9:.3f} s: {away:.3f} s '
            f'{side} transform (recorded from {first / 1e9:.3f} s to {last / 1e9:.3f} s)'
        )


def _bare(name: str) -> str:
    """A frame's name without the leading slash that ROS 1 allowed."""
    return name.removeprefix('/')


def _vector(item: Any) -> tuple[float, float, float]:
    return (item.x, item.y, item.z)


def _xyzw(transform: Any) -> tuple[float, float, float, float]:
    q = transform.rotation
    return (q.x, q.y, q.z, q.w)
