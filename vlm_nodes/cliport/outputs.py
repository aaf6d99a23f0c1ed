"""Pictures and markers of the last answer, on topics that hold it for who comes later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import Image
from visualization_msgs.msg import MarkerArray

from vlm_nodes import messages
from vlm_nodes.cliport.pictures import action_picture, affordance_picture
from vlm_nodes.cliport.planner import Answer
from vlm_nodes.node import LATCHED


@dataclass(frozen=True, eq=False)
class _Shown:
    answer: Answer
    header: Any


class AnswerTopics:
    """Publishes what is subscribed to: at once, and once more for each who comes later.

    Heightmaps and affordances are as the network has them: rows along y, columns along x. The
    overlay is turned to how the table looks from above.
    """

    def __init__(self, node: Node) -> None:
        self._makers: dict[str, tuple[Any, Callable[[_Shown], Any]]] = {
            topic: (node.create_publisher(kind, f'~/{topic}', LATCHED), make)
            for topic, kind, make in (
                ('heightmap/color', Image, _color),
                ('heightmap/height', Image, _height),
                ('pick/affordance', Image, _pick),
                ('place/affordance', Image, _place),
                ('overlay', Image, _overlay),
                ('markers', MarkerArray, _markers),
            )
        }
        self._lock = threading.Lock()
        self._shown: dict[str, _Shown] = {}
        self._sent: dict[str, _Shown] = {}

    def show(self, answer: Answer, header: Any, *, asked: bool) -> None:
        """Take an answer; pictures that it has nothing for stay.

        Args:
            answer: To somebody's question, or just of a look.
            header: Table frame, and the stamp of its oldest image.
            asked: Whether it was a question: what it has no answer for has no markers.
        """
        shown = _Shown(answer, header)
        with self._lock:
            if answer.heightmap:
                for topic in ('heightmap/color', 'heightmap/height'):
                    self._shown[topic] = shown
            if answer.plan:
                for topic in ('pick/affordance', 'place/affordance', 'overlay'):
                    self._shown[topic] = shown
            if asked:
                self._shown['markers'] = shown
        self.publish()

    def publish(self) -> None:
        """Send what is listened to and was not sent."""
        with self._lock:
            for topic, shown in self._shown.items():
                publisher, make = self._makers[topic]
                if self._sent.get(topic) is not shown and publisher.get_subscription_count():
                    self._sent[topic] = shown
                    publisher.publish(make(shown))

    def wants_heightmap(self) -> bool:
        """Whether somebody looks at the heightmap."""
        return any(
            self._makers[topic][0].get_subscription_count() > 0
            for topic in ('heightmap/color', 'heightmap/height')
        )


def _color(shown: _Shown) -> Any:
    assert shown.answer.heightmap
    return messages.image_message(shown.answer.heightmap.color, 'rgb8', shown.header)


def _height(shown: _Shown) -> Any:
    heightmap = shown.answer.heightmap
    assert heightmap
    height = np.where(heightmap.seen, heightmap.height_m, np.float32(np.nan))
    return messages.image_message(height, '32FC1', shown.header)


def _pick(shown: _Shown) -> Any:
    assert shown.answer.plan
    return messages.image_message(shown.answer.plan.pick_map, '32FC1', shown.header)


def _place(shown: _Shown) -> Any:
    assert shown.answer.plan
    return messages.image_message(shown.answer.plan.place_map, '32FC1', shown.header)


def _overlay(shown: _Shown) -> Any:
    """Affordances of both over the table; arrows only where there is a plan."""
    answer = shown.answer
    assert answer.plan
    assert answer.heightmap
    both = [p / max(float(p.max()), 1e-30) for p in (answer.plan.pick_map, answer.plan.place_map)]
    picture = affordance_picture(answer.heightmap, np.maximum(*both))
    if answer.actions:
        best = answer.actions[0].candidate
        picture = action_picture(answer.heightmap, best.pick, best.place, picture=picture)
    return messages.image_message(picture, 'rgb8', shown.header)


def _markers(shown: _Shown) -> Any:
    actions = [(action.pick, action.place) for action in shown.answer.actions]
    return messages.pick_place_markers(actions, shown.header)
