"""Clouds and the plan of the last moment, on topics that hold it for who comes later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nav_msgs.msg import OccupancyGrid
from numpy.typing import NDArray
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from vlm_nodes import messages
from vlm_nodes.langocc.observer import Moment
from vlm_nodes.langocc.scene import Found
from vlm_nodes.node import LATCHED
from vlm_nodes.surround import VoxelGrid


@dataclass(frozen=True, eq=False)
class _Shown:
    moment: Moment
    header: Any


class OccupancyTopics:
    """Publishes what is subscribed to: at once, and once more for each who comes later."""

    def __init__(self, node: Node, grid: VoxelGrid, *, features: bool) -> None:
        self._grid = grid
        kinds: list[tuple[str, Any, Callable[[_Shown], Any]]] = [
            ('occupancy', PointCloud2, _cloud),
            ('occupancy_grid', OccupancyGrid, self._plan),
        ]
        if features:
            kinds.append(('features', PointCloud2, _features))
        self._makers = {
            topic: (node.create_publisher(kind, f'~/{topic}', LATCHED), make)
            for topic, kind, make in kinds
        }
        self._query = node.create_publisher(PointCloud2, '~/query_cloud', LATCHED)
        self._lock = threading.Lock()
        self._shown: _Shown | None = None
        self._sent: dict[str, tuple[_Shown, int]] = {}

    def show(self, moment: Moment, header: Any) -> None:
        """Take a moment, and send what is listened to."""
        with self._lock:
            self._shown = _Shown(moment, header)
        self.publish()

    def forget(self) -> None:
        """Time began anew: the last moment is not sent to who comes now."""
        with self._lock:
            self._shown = None

    def publish(self) -> None:
        """Send what is listened to and was not sent, or not to all who listen now."""
        with self._lock:
            if self._shown is None:
                return
            for topic, (publisher, make) in self._makers.items():
                count = publisher.get_subscription_count()
                shown, told = self._sent.get(topic, (None, 0))
                if count and (shown is not self._shown or count > told):
                    publisher.publish(make(self._shown))
                    self._sent[topic] = (self._shown, count)

    def show_found(self, moment: Moment, found: Found, header: Any) -> None:
        """The voxels that fit texts: how well, and which."""
        cloud = messages.cloud_message(
            moment.voxels.points_m[found.fitting],
            header,
            intensity=found.best_scores,
            labels=found.best,
        )
        self._query.publish(cloud)

    def _plan(self, shown: _Shown) -> Any:
        lower = self._grid.lower_m
        return messages.occupancy_message(
            shown.moment.cells, lower[:2], self._grid.voxel_m, shown.header
        )


def _cloud(shown: _Shown) -> Any:
    voxels = shown.moment.voxels
    further: dict[str, NDArray[Any]] = {
        'density': voxels.density,
        'class': voxels.classes,
        'score': voxels.scores,
    }
    return messages.cloud_message(
        voxels.points_m, shown.header, colors=voxels.colours(), further=further
    )


def _features(shown: _Shown) -> Any:
    voxels = shown.moment.voxels
    further = {f'f{i}': numbers for i, numbers in enumerate(voxels.hidden.T)}
    return messages.cloud_message(voxels.points_m, shown.header, further=further)
