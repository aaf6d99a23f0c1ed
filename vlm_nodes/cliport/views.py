"""The newest images of several cameras, of which a set is asked for that shows what is so now."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

KINDS: Final = ('rgb', 'depth')
_KEPT: Final = 5
_POLL_S: Final = 0.02
SECOND_NS: Final = 1_000_000_000


class NoImagesError(Exception):
    """No set of images came in time; the text says which cameras lack what."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A colour image and the depth taken with it, as they came.

    Attributes:
        stamp_ns: Of the colour image.
        rgb: Message.
        depth: Message.
        arrived_s: When the later of both came, on the clock of `time.monotonic`.
    """

    stamp_ns: int
    rgb: Any
    depth: Any
    arrived_s: float


@dataclass(frozen=True, eq=False)
class _Image:
    stamp_ns: int
    message: Any
    arrived_s: float


class NewestViews:
    """Keeps a few images of each camera, and pairs colour and depth by their stamps.

    Safe to call from several threads.
    """

    def __init__(self, cameras: Sequence[str], slop_s: float) -> None:
        """Hold nothing yet.

        Args:
            cameras: Names.
            slop_s: How far apart the stamps of colour and depth may be.
        """
        self._images: dict[str, dict[str, deque[_Image]]] = {
            camera: {kind: deque(maxlen=_KEPT) for kind in KINDS} for camera in cameras
        }
        self._pairs: dict[str, Pair] = {}
        self._slop_ns = round(slop_s * SECOND_NS)
        self._changed = threading.Condition()

    def put(self, camera: str, kind: str, stamp_ns: int, message: Any) -> bool:
        """Take an image, `rgb` or `depth`; returns whether it makes the newest pair."""
        image = _Image(stamp_ns, message, time.monotonic())
        with self._changed:
            mine = self._images[camera]
            mine[kind].append(image)
            other = mine['depth' if kind == 'rgb' else 'rgb']
            partner = min(other, key=lambda o: abs(o.stamp_ns - stamp_ns), default=None)
            if partner is None or abs(partner.stamp_ns - stamp_ns) > self._slop_ns:
                return False
            rgb, depth = (image, partner) if kind == 'rgb' else (partner, image)
            newest = self._pairs.get(camera)
            if newest and newest.stamp_ns > rgb.stamp_ns:
                return False
            self._pairs[camera] = Pair(rgb.stamp_ns, rgb.message, depth.message, image.arrived_s)
            self._changed.notify_all()
            return True

    def forget(self) -> None:
        """Drop all images."""
        with self._changed:
            for mine in self._images.values():
                for images in mine.values():
                    images.clear()
            self._pairs.clear()

    def newest(self) -> dict[str, Pair]:
        """The newest pair of each camera that has one."""
        with self._changed:
            return dict(self._pairs)

    def wait(
        self,
        after_ns: int | None,
        after_s: float,
        timeout_s: float,
        is_over: Callable[[], bool],
    ) -> dict[str, Pair]:
        """A pair of each camera that is new enough, waited for.

        Args:
            after_ns: Stamps have to be later than this; None takes any stamp.
            after_s: Images have to have come later than this, on the clock of `time.monotonic`.
            timeout_s: Longest wait.
            is_over: Whether nobody needs them any more.

        Raises:
            NoImagesError: They did not come in time, or nobody needs them.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            with self._changed:
                lacking = {
                    camera: self._lack(camera, after_ns, after_s)
                    for camera in self._images
                    if self._lack(camera, after_ns, after_s)
                }
                if not lacking:
                    return dict(self._pairs)
                if time.monotonic() < deadline and not is_over():
                    self._changed.wait(_POLL_S)
                    continue
            reasons = '; '.join(f'{name or "the camera"} {why}' for name, why in lacking.items())
            raise NoImagesError(f'no images of all cameras within {timeout_s:g} s: {reasons}')

    def _lack(self, camera: str, after_ns: int | None, after_s: float) -> str:
        """Why a camera's newest pair does not do; '' where it does."""
        pair = self._pairs.get(camera)
        if pair is None:
            counts = [len(self._images[camera][kind]) for kind in KINDS]
            if all(counts):
                return 'has colour and depth, but their stamps are never near each other'
            missing = ' and '.join(k for k, n in zip(KINDS, counts, strict=True) if not n)
            return f'sent no {missing}'
        if after_ns is not None and pair.stamp_ns <= after_ns:
            late_s = (after_ns - pair.stamp_ns) / SECOND_NS
            return f'sent nothing new: its newest images are {late_s:.2f} s too old by their stamps'
        if pair.arrived_s <= after_s:
            return 'sent nothing new since it was asked'
        return ''
