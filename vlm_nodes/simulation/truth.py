"""What is truly in a room: the answers that a map is held against."""

from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from vlm_nodes.geometry import Camera
from vlm_nodes.simulation import vocabulary
from vlm_nodes.simulation.render import Renderer
from vlm_nodes.simulation.room import Room, Table, Thing
from vlm_nodes.simulation.scene import World


class ObjectTruth(TypedDict):
    """One object or table; lengths in metres, map frame."""

    name: str
    label: str
    unseen: bool
    """Whether its colour and kind never stand together in a training room."""
    support: str
    position: list[float]
    """Middle of its foot."""
    orientation: list[float]
    """Quaternion x, y, z, w."""
    centre: list[float]
    """Centre of the axis-aligned box around it."""
    size: list[float]
    """Sides of that box."""


class RoomTruth(TypedDict):
    """A room as plain JSON data."""

    frame_id: str
    seed: int
    half_extents: list[float]
    height_m: float
    labels: dict[str, str]
    """Label ids of the label images to label texts."""
    objects: list[ObjectTruth]
    tables: list[ObjectTruth]


def room_truth(room: Room, frame_id: str = 'map') -> RoomTruth:
    """Every object's pose, size and label."""
    return {
        'frame_id': frame_id,
        'seed': room.seed,
        'half_extents': list(room.half_extents),
        'height_m': room.height_m,
        'labels': {str(number): label for label, number in vocabulary.LABEL_IDS.items()},
        'objects': [_thing_truth(thing) for thing in room.things],
        'tables': [_table_truth(table) for table in room.tables],
    }


def surface_points(
    world: World,
    renderer: Renderer,
    camera: Camera,
    poses: list[NDArray[np.float64]],
    stride: int = 4,
) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
    """Labelled points on all surfaces that a camera sees on its way.

    Args:
        world: the room.
        renderer: large enough for the camera; without anti-aliasing, points are exact.
        camera: the camera.
        poses: of its optical frame, each (4, 4), `map_from_camera`.
        stride: every how many pixels a point is taken.

    Returns:
        (N, 3) metres in the map frame and (N,) label ids.
    """
    clouds, labels = [np.empty((0, 3))], [np.empty(0, np.uint16)]
    rays = np.dstack([camera.rays(), np.ones((camera.height, camera.width))])[::stride, ::stride]
    for map_from_camera in poses:
        depth = renderer.render(world, camera, map_from_camera).depth_m[::stride, ::stride]
        ids = renderer.render_labels(world, camera, map_from_camera)[::stride, ::stride]
        hit = np.isfinite(depth) & (ids != vocabulary.UNLABELLED)
        points = rays[hit] * depth[hit, None]
        clouds.append(points @ map_from_camera[:3, :3].T + map_from_camera[:3, 3])
        labels.append(ids[hit])
    return np.concatenate(clouds), np.concatenate(labels)


def _thing_truth(thing: Thing) -> ObjectTruth:
    low, high = thing.box()
    half = thing.yaw_rad / 2
    return {
        'name': thing.name,
        'label': thing.label,
        'unseen': vocabulary.held_out(thing.colour, thing.kind),
        'support': thing.support,
        'position': list(thing.position),
        'orientation': [0.0, 0.0, float(np.sin(half)), float(np.cos(half))],
        'centre': ((low + high) / 2).tolist(),
        'size': (high - low).tolist(),
    }


def _table_truth(table: Table) -> ObjectTruth:
    x, y = table.centre
    return {
        'name': table.name,
        'label': 'table',
        'unseen': False,
        'support': 'floor',
        'position': [x, y, 0.0],
        'orientation': [0.0, 0.0, 0.0, 1.0],
        'centre': [x, y, table.height_m / 2],
        'size': [2 * table.half_extents[0], 2 * table.half_extents[1], table.height_m],
    }
