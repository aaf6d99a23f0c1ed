"""The three cameras that look at the table, and one from far above for ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry import Camera
from vlm_nodes.simulation.paths import look_at
from vlm_nodes.simulation.render import Renderer
from vlm_nodes.simulation.tabletop.layout import PIXEL_M, X_RANGE_M, Y_RANGE_M
from vlm_nodes.simulation.tabletop.world import TableWorld

Matrix = NDArray[np.float64]

CAMERA: Final = Camera(640, 480, 450.0, 450.0, 320.0, 240.0)
EYES_M: Final = {'front': (1.0, 0.0, 0.75), 'left': (0.0, 0.5, 0.75), 'right': (0.0, -0.5, 0.75)}
_MIDDLE_M: Final = (0.5, 0.0, 0.0)
# So far up that a thing's top hides nothing beside it by more than a pixel.
_ABOVE_M: Final = 20.0


def camera_poses() -> dict[str, Matrix]:
    """(4, 4) table_from_camera (optical frame) of 'front', 'left' and 'right'."""
    return {name: look_at(eye, _MIDDLE_M) for name, eye in EYES_M.items()}


@dataclass(frozen=True, eq=False)
class TableView:
    """What one camera sees.

    Attributes:
        name: of the camera.
        rgb: (480, 640, 3) uint8.
        depth_m: (480, 640) float32 metres along z; +inf where nothing is.
        camera: of both images.
        table_from_camera: (4, 4) optical frame to table frame.
    """

    name: str
    rgb: NDArray[np.uint8]
    depth_m: NDArray[np.float32]
    camera: Camera
    table_from_camera: Matrix


class Cameras:
    """Renders the views. Holds one GL context: one thread at a time, any number of worlds."""

    def __init__(self) -> None:
        self._renderer = Renderer(CAMERA.width, CAMERA.height, samples=0)
        self._poses = camera_poses()
        rows = round((Y_RANGE_M[1] - Y_RANGE_M[0]) / PIXEL_M)
        columns = round((X_RANGE_M[1] - X_RANGE_M[0]) / PIXEL_M)
        f = _ABOVE_M / PIXEL_M
        # The image's right is the table's +y, its down the table's +x.
        self._above = Camera(rows, columns, f, f, (rows - 1) / 2, (columns - 1) / 2)
        down = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1.0]])
        self._above_pose = np.eye(4)
        self._above_pose[:3, :3] = down
        self._above_pose[:3, 3] = (sum(X_RANGE_M) / 2, sum(Y_RANGE_M) / 2, _ABOVE_M)

    def __enter__(self) -> Cameras:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees GL."""
        self._renderer.close()

    def views(self, world: TableWorld) -> list[TableView]:
        """What the three cameras see now."""
        views = []
        for name, pose in self._poses.items():
            seen = self._renderer.render(world, CAMERA, pose)
            views.append(TableView(name, seen.rgb, seen.depth_m, CAMERA, pose.copy()))
        return views

    def bodies_from_above(self, world: TableWorld) -> NDArray[np.uint16]:
        """Which body lies on top where.

        Returns:
            (rows along y, columns along x) uint16 numbers of `TableWorld.label_of_geom`, over the
            table as a heightmap shows it.
        """
        labels = self._renderer.render_labels(world, self._above, self._above_pose)
        return np.ascontiguousarray(labels.T)
