"""Images of several cameras that belong together, though some of them may be late or missing."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one moment, one of each camera that has one.

    Attributes:
        images: Messages by camera, in the cameras' order.
        stamp_ns: The latest of their stamps.
        arrived_s: When the first of them came.
    """

    images: Mapping[str, Any]
    stamp_ns: int
    arrived_s: float


@dataclass(frozen=True, eq=False)
class _Image:
    stamp_ns: int
    message: Any
    arrived_s: float


class ImageSets:
    """Puts the newest images of cameras together; each image is used once.

    A set is ready once every camera that lives has an image in it, or when it waited long enough. A
    camera that sent nothing for some time is not waited for, until it sends again, or all do.

    Safe to call from several threads. Times are seconds of any clock that never jumps.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        *,
        slop_s: float,
        wait_s: float,
        alive_s: float,
        now_s: float,
    ) -> None:
        """Hold nothing yet; all cameras count as alive.

        Args:
            cameras: Names.
            slop_s: How far apart the stamps of a set may be.
            wait_s: How long a set waits for its last images.
            alive_s: How long a camera may be silent before it is not waited for.
            now_s: Now.

        Raises:
            ValueError: There is no camera, one is named twice, or a time is negative.
        """
        if not cameras or len(set(cameras)) < len(cameras):
            raise ValueError(f'cameras must be different names, are {list(cameras)}')
        for name, seconds in (('slop_s', slop_s), ('wait_s', wait_s), ('alive_s', alive_s)):
            if not seconds >= 0:
                raise ValueError(f'{name} = {seconds} is not zero or positive')
        self._slop_ns = round(slop_s * SECOND_NS)
        self._wait_s, self._alive_s = wait_s, alive_s
        self._seen_s = dict.fromkeys(cameras, now_s)
        self._newest: dict[str, _Image] = {}
        self._since_s: float | None = None
        self._taken_ns: int | None = None
        self._lock = threading.Lock()

    def put(self, camera: str, stamp_ns: int, message: Any, now_s: float) -> ImageSet | None:
        """Take an image; returns the set that it completes. Images of sets that are gone are late.

        Raises:
            KeyError: There is no such camera.
        """
        with self._lock:
            if now_s - max(self._seen_s.values()) > self._alive_s:
                # Nobody sent anything, as at a start: which of them live is not known.
                self._seen_s = dict.fromkeys(self._seen_s, now_s)
            self._seen_s[camera] = max(now_s, self._seen_s[camera])
            if self._taken_ns is not None and stamp_ns <= self._taken_ns:
                return None
            self._newest[camera] = _Image(stamp_ns, message, now_s)
            self._since_s = now_s if self._since_s is None else self._since_s
            chosen = self._chosen()
            living = [c for c, seen_s in self._seen_s.items() if now_s - seen_s <= self._alive_s]
            return self._take(chosen) if all(c in chosen for c in living) else None

    def due(self, now_s: float) -> ImageSet | None:
        """The set that waited long enough, if there is one."""
        with self._lock:
            # Not since its own images came: newer ones replace them all the time.
            if self._since_s is None or now_s - self._since_s < self._wait_s:
                return None
            return self._take(self._chosen())

    def clear(self, now_s: float) -> None:
        """Time began anew: drop all images; all cameras count as alive again."""
        with self._lock:
            self._newest.clear()
            self._since_s = None
            self._taken_ns = None
            self._seen_s = dict.fromkeys(self._seen_s, now_s)

    def _chosen(self) -> dict[str, _Image]:
        """The newest images that belong together, in the cameras' order."""
        last_ns = max((image.stamp_ns for image in self._newest.values()), default=0)
        return {
            camera: self._newest[camera]
            for camera in self._seen_s
            if camera in self._newest and last_ns - self._newest[camera].stamp_ns <= self._slop_ns
        }

    def _take(self, chosen: Mapping[str, _Image]) -> ImageSet:
        self._newest.clear()
        self._since_s = None
        self._taken_ns = max(image.stamp_ns for image in chosen.values())
        return ImageSet(
            {camera: image.message for camera, image in chosen.items()},
            self._taken_ns,
            min(image.arrived_s for image in chosen.values()),
        )
