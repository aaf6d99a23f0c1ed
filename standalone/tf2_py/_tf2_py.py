"""The tf2 buffer: poses of frames over time, with the interface of the compiled binding."""

from __future__ import annotations

import math
import threading
import warnings
from typing import Any

import rclpy.logging
from builtin_interfaces.msg import Time as TimeMsg
from geometry_msgs.msg import Quaternion as QuaternionMsg
from geometry_msgs.msg import TransformStamped, Vector3
from rclpy.time import Time

from . import _reports
from ._exceptions import (
    ConnectivityException,
    ExtrapolationException,
    InvalidArgumentException,
    LookupException,
    TimeoutException,
    TransformException,
)
from ._frame_tree import LOOKUP_ARGUMENT, NO_PARENT, FrameTree, link_at
from ._rotation import Pose, Quaternion, Vector, canonical, compose
from ._stamps import NS_PER_S, display, to_ns
from ._time_cache import LATEST, Sample
from ._velocity import Question, velocity

__all__ = [
    'BufferCore',
    'ConnectivityException',
    'ExtrapolationException',
    'InvalidArgumentException',
    'LookupException',
    'TimeoutException',
    'TransformException',
]

DEFAULT_CACHE_NS = 10 * NS_PER_S


_logger = rclpy.logging.get_logger('tf2')


class BufferCore:
    """Poses of frames over time, and the pose of any frame in any other.

    Times are rclpy or message times, where zero means the latest. All methods may be called from
    any thread.

    Args:
        cache_time: How long poses are kept, an rclpy or message duration; 10 s by default.
    """

    def __init__(self, cache_time: Any = None) -> None:
        cache_ns = DEFAULT_CACHE_NS if cache_time is None else to_ns(cache_time, 'duration')
        self._tree = FrameTree(cache_ns)
        self._tree_lock = threading.Lock()

    def set_transform(self, transform: TransformStamped, authority: str) -> None:
        """Store the pose of a frame at a stamp.

        What cannot be right (no frame names, a frame in itself, NaN, a zero quaternion, older than
        the cache) is left out with a message in the log.

        Args:
            transform: Pose of ``child_frame_id`` in ``header.frame_id``.
            authority: Who says so, for reports.

        Raises:
            TypeError: If it is not built like a TransformStamped.
        """
        self._insert(transform, authority, static=False)

    def set_transform_static(self, transform: TransformStamped, authority: str) -> None:
        """Store the pose of a frame for all times; otherwise as `set_transform`."""
        self._insert(transform, authority, static=True)

    def _insert(self, transform: TransformStamped, authority: str, *, static: bool) -> None:
        _check_strings(2, authority)
        _check_types(transform.transform, static=static)
        child = transform.child_frame_id.removeprefix('/')
        sample = _sample_of(transform)
        faults = _faults(child, sample, transform.transform.rotation, authority)
        for fault in faults:
            _logger.error(fault)
        if faults:
            return
        with self._tree_lock:
            stored = self._tree.insert(child, sample, authority, static=static)
        if not stored:
            _logger.warning(
                f'TF_OLD_DATA ignoring data from the past for frame {child} at time '
                f'{display(sample.stamp_ns)} according to authority {authority}\n'
                'Possible reasons are listed at http://wiki.ros.org/tf/Errors%20explained'
            )

    def lookup_transform_core(
        self, target_frame: str, source_frame: str, time: Any
    ) -> TransformStamped:
        """Give the pose of the source in the target: it takes points of the source into the target.

        Raises:
            LookupException: If a frame is unknown.
            ConnectivityException: If there is no way between them.
            ExtrapolationException: If the time is outside of what is stored.
            InvalidArgumentException: If a name is empty or starts with a slash.
            TypeError: If an argument is of another type.
        """
        _check_strings(1, target_frame, source_frame)
        time_ns = to_ns(time)
        with self._tree_lock:
            pose, stamp_ns = self._tree.lookup(target_frame, source_frame, time_ns)
        return _message(target_frame, source_frame, stamp_ns, pose)

    def lookup_transform_full_core(
        self,
        target_frame: str,
        target_time: Any,
        source_frame: str,
        source_time: Any,
        fixed_frame: str,
    ) -> TransformStamped:
        """Give the pose of the source at one time in the target at another.

        The fixed frame is what stands still between the two times. Errors are those of
        `lookup_transform_core`.
        """
        _check_strings(1, target_frame)
        _check_strings(3, source_frame)
        _check_strings(5, fixed_frame)
        target_ns, source_ns = to_ns(target_time), to_ns(source_time)
        with self._tree_lock:
            self._tree.require(target_frame, LOOKUP_ARGUMENT + 'target_frame')
            self._tree.require(source_frame, LOOKUP_ARGUMENT + 'source_frame')
            self._tree.require(fixed_frame, LOOKUP_ARGUMENT + 'fixed_frame')
            fixed_from_source, _ = self._tree.lookup(fixed_frame, source_frame, source_ns)
            target_from_fixed, stamp_ns = self._tree.lookup(target_frame, fixed_frame, target_ns)
        pose = compose(target_from_fixed, fixed_from_source)
        return _message(target_frame, source_frame, stamp_ns, pose)

    def can_transform_core(
        self, target_frame: str, source_frame: str, time: Any
    ) -> tuple[bool, str]:
        """Say whether `lookup_transform_core` would succeed, and else why not."""
        _check_strings(1, target_frame, source_frame)
        time_ns = to_ns(time)
        if target_frame == source_frame:
            return True, ''
        names = {'target_frame': target_frame, 'source_frame': source_frame}
        with self._tree_lock:
            error = self._first_complaint(names)
            error = error or self._obstacle(target_frame, source_frame, time_ns)
        return not error, error

    def can_transform_full_core(
        self,
        target_frame: str,
        target_time: Any,
        source_frame: str,
        source_time: Any,
        fixed_frame: str,
    ) -> tuple[bool, str]:
        """Say whether `lookup_transform_full_core` would succeed, and else why not."""
        _check_strings(1, target_frame)
        _check_strings(3, source_frame)
        _check_strings(5, fixed_frame)
        target_ns, source_ns = to_ns(target_time), to_ns(source_time)
        names = {
            'target_frame': target_frame,
            'source_frame': source_frame,
            'fixed_frame': fixed_frame,
        }
        with self._tree_lock:
            error = self._first_complaint(names)
            error = error or self._obstacle(target_frame, fixed_frame, target_ns)
            error = error or self._obstacle(fixed_frame, source_frame, source_ns)
        return not error, error

    def _first_complaint(self, names: dict[str, str]) -> str:
        for argument, frame in names.items():
            if complaint := self._tree.complaint(frame, f'canTransform argument {argument}'):
                return complaint
        return ''

    def _obstacle(self, target: str, source: str, time_ns: int) -> str:
        try:
            self._tree.path(target, source, time_ns, link_at)
        except TransformException as error:
            return str(error)
        return ''

    def get_latest_common_time(self, target_frame: str, source_frame: str, /) -> Time:
        """Give the newest time at which one frame can be had in the other; zero if that is static.

        Raises:
            TransformException: If a frame is unknown or there is no way between them.
        """
        _check_strings(1, target_frame, source_frame)
        with self._tree_lock:
            self._tree.require(target_frame, 'get_latest_common_time')
            self._tree.require(source_frame, 'get_latest_common_time')
            try:
                common_ns = self._tree.latest_common_ns(target_frame, source_frame)
            except TransformException as error:
                raise TransformException(str(error)) from None
        return Time(nanoseconds=common_ns)

    def lookupVelocityCore(
        self, tracking_frame: str, observation_frame: str, time: Any, averaging_interval: Any
    ) -> tuple[Vector, Vector]:
        """Give the velocity of a frame seen from another, averaged over an interval around a time.

        Returns:
            Linear (m/s) and angular (rad/s) velocity in the axes of the observation frame.

        Raises:
            TransformException: If the poses cannot be looked up.
        """
        return self.lookupVelocityFullCore(
            tracking_frame,
            observation_frame,
            observation_frame,
            (0.0, 0.0, 0.0),
            tracking_frame,
            time,
            averaging_interval,
        )

    def lookupVelocityFullCore(
        self,
        tracking_frame: str,
        observation_frame: str,
        reference_frame: str,
        reference_point: Vector,
        reference_point_frame: str,
        time: Any,
        averaging_interval: Any,
        /,
    ) -> tuple[Vector, Vector]:
        """Give a velocity as `lookupVelocityCore`, in the axes of any frame and about any point.

        Args:
            tracking_frame: Whose velocity.
            observation_frame: Seen from here.
            reference_frame: Told in the axes of this frame.
            reference_point: About this point (metres),
            reference_point_frame: which is given in this frame.
            time: The middle of the interval.
            averaging_interval: Its length.
        """
        _check_strings(1, tracking_frame, observation_frame, reference_frame)
        _check_strings(5, reference_point_frame)
        px, py, pz = reference_point
        question = Question(
            tracking_frame,
            observation_frame,
            reference_frame,
            (float(px), float(py), float(pz)),
            reference_point_frame,
        )
        with self._tree_lock:
            return velocity(
                self._tree, question, to_ns(time), to_ns(averaging_interval, 'duration')
            )

    def clear(self) -> None:
        """Forget all poses that have a time; static poses, and which frames there are, stay."""
        with self._tree_lock:
            self._tree.clear()

    def all_frames_as_yaml(self) -> str:
        """Give parent, broadcaster, rate and time span of every frame as YAML."""
        with self._tree_lock:
            return _reports.as_yaml(self._tree)

    def all_frames_as_string(self) -> str:
        """Give a line a frame: its name and its parent."""
        with self._tree_lock:
            return self._tree.describe()

    def _allFramesAsDot(self, time: Any = None) -> str:
        now_ns = LATEST if time is None else to_ns(time)
        with self._tree_lock:
            return _reports.as_dot(self._tree, now_ns)

    def _frameExists(self, frame_id: str, /) -> bool:
        _check_strings(1, frame_id)
        with self._tree_lock:
            return frame_id in self._tree or frame_id == NO_PARENT

    def _getFrameStrings(self) -> list[str]:
        with self._tree_lock:
            return self._tree.names

    def _chain(
        self,
        target_frame: str,
        target_time: Any,
        source_frame: str,
        source_time: Any,
        fixed_frame: str,
    ) -> list[str]:
        """Name the frames on the way from the source over the fixed frame to the target."""
        _check_strings(1, target_frame)
        _check_strings(3, source_frame)
        _check_strings(5, fixed_frame)
        target_ns, source_ns = to_ns(target_time), to_ns(source_time)
        with self._tree_lock:
            to_fixed = self._names_between(fixed_frame, source_frame, source_ns)
            onwards = self._names_between(target_frame, fixed_frame, target_ns)
        return to_fixed + onwards[1:]

    def _names_between(self, target: str, source: str, time_ns: int) -> list[str]:
        path = self._tree.path(target, source, time_ns)
        upwards = [source] + [link.parent for link in path.from_source]
        downwards = [target] + [link.parent for link in path.from_target]
        return upwards + downwards[-2::-1]


def _check_strings(first: int, *values: Any) -> None:
    for position, value in enumerate(values, first):
        if not isinstance(value, str):
            raise TypeError(f'argument {position} must be str, not {type(value).__name__}')


def _check_types(transform: Any, *, static: bool) -> None:
    """Refuse a translation of another type and warn of such a rotation, as upstream does."""
    if not isinstance(transform.translation, Vector3):
        warnings.warn('translation should be of type Vector3', UserWarning, stacklevel=4)
        demand = 'be of type Vector3' if static else 'have members x, y, z'
        raise TypeError(f'transform.translation must {demand}')
    if not isinstance(transform.rotation, QuaternionMsg):
        warnings.warn('translation should be of type Quaternion', UserWarning, stacklevel=4)


def _sample_of(transform: TransformStamped) -> Sample:
    q, t = transform.transform.rotation, transform.transform.translation
    return Sample(
        to_ns(transform.header.stamp),
        transform.header.frame_id.removeprefix('/'),
        canonical((float(q.x), float(q.y), float(q.z), float(q.w))),
        (float(t.x), float(t.y), float(t.z)),
    )


def _faults(child: str, sample: Sample, given: Any, authority: str) -> list[str]:
    """Tell every reason not to store a pose.

    Args:
        child: The frame.
        sample: Its pose, the rotation of unit length or NaN.
        given: The rotation as it came.
        authority: Who sent it.
    """
    faults = []
    if child == sample.parent:
        faults.append(
            f'TF_SELF_TRANSFORM: Ignoring transform from authority "{authority}" with frame_id '
            f'and  child_frame_id "{child}" because they are the same'
        )
    if not child:
        faults.append(
            f'TF_NO_CHILD_FRAME_ID: Ignoring transform from authority "{authority}" because '
            'child_frame_id not set '
        )
    if not sample.parent:
        faults.append(
            f'TF_NO_FRAME_ID: Ignoring transform with child_frame_id "{child}"  from authority '
            f'"{authority}" because frame_id not set'
        )
    unusable = math.isnan(sample.rotation[3])
    if unusable or any(map(math.isnan, sample.translation)):
        faults.append(
            f'TF_NAN_INPUT: Ignoring transform for child_frame_id "{child}" from authority '
            f'"{authority}" because of a nan value in the transform '
            f'({_listed(sample.translation)}) ({_listed(sample.rotation)})'
        )
    if unusable:
        faults.append(
            f'TF_DENORMALIZED_QUATERNION: Ignoring transform for child_frame_id "{child}" from '
            f'authority "{authority}" because of an invalid quaternion in the transform '
            f'({_listed((given.x, given.y, given.z, given.w))})'
        )
    return faults


def _listed(values: Vector | Quaternion) -> str:
    return ' '.join(f'{value:f}' for value in values)


def _message(target: str, source: str, stamp_ns: int, pose: Pose) -> TransformStamped:
    message = TransformStamped(child_frame_id=source)
    message.header.frame_id = target
    sec, nanosec = divmod(stamp_ns, NS_PER_S)
    message.header.stamp = TimeMsg(sec=sec, nanosec=nanosec)
    rotation, translation = message.transform.rotation, message.transform.translation
    translation.x, translation.y, translation.z = pose[1]
    rotation.x, rotation.y, rotation.z, rotation.w = canonical(pose[0])
    return message
