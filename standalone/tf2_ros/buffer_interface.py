"""What every tf2 buffer offers, and the registries by which other packages teach it their types."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, ClassVar, TypeVar, Union

from geometry_msgs.msg import (
    PointStamped,
    PoseStamped,
    PoseWithCovarianceStamped,
    TransformStamped,
    Vector3Stamped,
)
from rclpy.duration import Duration
from rclpy.time import Time
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

MsgStamped = Union[  # noqa: UP007 (part of the interface, and evaluated when imported)
    PointStamped, PoseStamped, PoseWithCovarianceStamped, Vector3Stamped, PointCloud2
]
PyKDLType = TypeVar('PyKDLType')
TransformableObject = Any
TransformableObjectType = TypeVar('TransformableObjectType')

_Transformer = Callable[[Any, TransformStamped], Any]
_Converter = Callable[[Any], Any]
_Registered = TypeVar('_Registered')


class TypeException(Exception):  # noqa: N818 (the name is tf2's)
    """Nobody has registered how to transform or convert a type."""

    def __init__(self, errstr: str) -> None:
        super().__init__(errstr)
        self.errstr = errstr


class NotImplementedException(Exception):  # noqa: N818 (the name is tf2's)
    """A buffer does not offer what was called."""

    def __init__(self) -> None:
        self.errstr = 'CanTransform or LookupTransform not implemented'
        super().__init__(self.errstr)


class BufferInterface:
    """A source of transforms that also applies them to stamped objects of registered types."""

    def __init__(self) -> None:
        self.registration = TransformRegistration()

    def transform(
        self,
        object_stamped: TransformableObject,
        target_frame: str,
        timeout: Duration = Duration(),  # noqa: B008 (never changed; part of the signature)
        new_type: Any = None,
    ) -> TransformableObject:
        """Transform an object from the frame and stamp in its header into another frame.

        Args:
            object_stamped: An object with a header, of a registered type.
            target_frame: Where to.
            timeout: How long to wait for the transform.
            new_type: What to convert the result to; None leaves its type.

        Raises:
            TypeException: If its type, or the conversion, is not registered.
            TransformException: If the transform cannot be looked up.
        """
        do_transform = self.registration.get(type(object_stamped))
        header = object_stamped.header
        transform = self.lookup_transform(target_frame, header.frame_id, header.stamp, timeout)
        result = do_transform(object_stamped, transform)
        return result if new_type is None else convert(result, new_type)

    def transform_full(
        self,
        object_stamped: TransformableObject,
        target_frame: str,
        target_time: Time,
        fixed_frame: str,
        timeout: Duration = Duration(),  # noqa: B008
        new_type: Any = None,
    ) -> TransformableObject:
        """Transform an object into another frame at another time.

        Args:
            object_stamped: An object with a header, of a registered type.
            target_frame: Where to.
            target_time: When the target frame is taken.
            fixed_frame: What stands still between the object's stamp and that time.
            timeout: How long to wait for the transform.
            new_type: What to convert the result to; None leaves its type.

        Raises:
            TypeException: If its type, or the conversion, is not registered.
            TransformException: If the transform cannot be looked up.
        """
        do_transform = self.registration.get(type(object_stamped))
        header = object_stamped.header
        transform = self.lookup_transform_full(
            target_frame, target_time, header.frame_id, header.stamp, fixed_frame, timeout
        )
        result = do_transform(object_stamped, transform)
        return result if new_type is None else convert(result, new_type)

    def lookup_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time,
        timeout: Duration = Duration(),  # noqa: B008
    ) -> TransformStamped:
        """Give the pose of the source in the target; for subclasses to offer."""
        raise NotImplementedException

    def lookup_transform_full(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
        timeout: Duration = Duration(),  # noqa: B008
    ) -> TransformStamped:
        """Give the pose of the source at one time in the target at another; for subclasses."""
        raise NotImplementedException

    def can_transform(
        self,
        target_frame: str,
        source_frame: str,
        time: Time,
        timeout: Duration = Duration(),  # noqa: B008
    ) -> bool:
        """Say whether `lookup_transform` would succeed; for subclasses to offer."""
        raise NotImplementedException

    def can_transform_full(
        self,
        target_frame: str,
        target_time: Time,
        source_frame: str,
        source_time: Time,
        fixed_frame: str,
        timeout: Duration = Duration(),  # noqa: B008
    ) -> bool:
        """Say whether `lookup_transform_full` would succeed; for subclasses to offer."""
        raise NotImplementedException


def Stamped(obj: TransformableObject, stamp: Time, frame_id: str) -> TransformableObject:
    """Give an object a header, and give it back.

    Args:
        obj: Anything that takes a ``header`` attribute.
        stamp: Message time.
        frame_id: The frame that it is in.
    """
    obj.header = Header(frame_id=frame_id, stamp=stamp)
    return obj


def _find(registry: dict[Any, _Registered], key: Any) -> _Registered:
    try:
        return registry[key]
    except KeyError:
        raise TypeException(f'Type {key} is not loaded or supported') from None


class TransformRegistration:
    """How to transform each type; one registry for the whole process."""

    _transformers: ClassVar[dict[Any, _Transformer]] = {}

    def print_me(self) -> None:
        """Print what is registered."""
        print(self._transformers)  # noqa: T201 (its purpose)

    def add(self, key: Any, callback: _Transformer) -> None:
        """Register how to transform a type: ``callback(object, transform)`` gives the result."""
        self._transformers[key] = callback

    def get(self, key: Any) -> _Transformer:
        """Give how to transform a type.

        Raises:
            TypeException: If it is not registered.
        """
        return _find(self._transformers, key)


class ConvertRegistration:
    """How to convert between types, directly or by way of a message; one for the process."""

    _to_msg: ClassVar[dict[Any, _Converter]] = {}
    _from_msg: ClassVar[dict[Any, _Converter]] = {}
    _direct: ClassVar[dict[Any, _Converter]] = {}

    def add_from_msg(self, key: Any, callback: _Converter) -> None:
        """Register how to make a type from its message."""
        self._from_msg[key] = callback

    def add_to_msg(self, key: Any, callback: _Converter) -> None:
        """Register how to make a type's message."""
        self._to_msg[key] = callback

    def add_convert(self, key: tuple[Any, Any], callback: _Converter) -> None:
        """Register a direct way from the first type of a pair to the second."""
        self._direct[key] = callback

    def get_from_msg(self, key: Any) -> _Converter:
        """Give how to make a type from its message, or raise TypeException."""
        return _find(self._from_msg, key)

    def get_to_msg(self, key: Any) -> _Converter:
        """Give how to make a type's message, or raise TypeException."""
        return _find(self._to_msg, key)

    def get_convert(self, key: tuple[Any, Any]) -> _Converter:
        """Give the direct way between a pair of types, or raise TypeException."""
        return _find(self._direct, key)


def convert(a: TransformableObject, b_type: Any) -> TransformableObject:
    """Convert an object: directly where a way is registered, as a copy, or by way of its message.

    Raises:
        TypeException: If no way is registered.
    """
    registration = ConvertRegistration()
    try:
        direct = registration.get_convert((type(a), b_type))
    except TypeException:
        if type(a) is b_type:
            return deepcopy(a)
        to_msg = registration.get_to_msg(type(a))
        from_msg = registration.get_from_msg(b_type)
        return from_msg(to_msg(a))
    return direct(a)
