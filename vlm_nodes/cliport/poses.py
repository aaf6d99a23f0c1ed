"""Tool poses over the table and their pixels and angles in a heightmap.

Angles are radians counterclockwise about the table's z, seen from above: x turns to y, so columns
of a heightmap turn to rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.geometry.rigid import is_rigid

Matrix = NDArray[np.float64]

# A tool that leans further than this from the vertical has no angle to speak of about z.
MAX_TILT_RAD = np.deg2rad(30.0)

# A tool frame whose z points down at the table, as most grippers' does, from one whose z is up.
UP_FROM_DOWN: Matrix = np.diag([1.0, -1.0, -1.0, 1.0])


class OutsideWorkspaceError(ValueError):
    """A pose lies outside the heightmap."""


@dataclass(frozen=True)
class PixelPose:
    """A pose as a heightmap has it.

    Attributes:
        row: Pixel along y.
        col: Pixel along x.
        angle_rad: Counterclockwise about z, in [-pi, pi).
        z_m: Height in the table frame.
    """

    row: int
    col: int
    angle_rad: float = 0.0
    z_m: float = 0.0


def wrapped(angle_rad: ArrayLike) -> NDArray[np.float64]:
    """Angles in [-pi, pi), any shape."""
    angle = np.asarray(angle_rad, dtype=np.float64)
    return np.asarray((angle + np.pi) % (2 * np.pi) - np.pi)


def angle_between(
    first_rad: ArrayLike, second_rad: ArrayLike, symmetry_rad: float = 2 * np.pi
) -> NDArray[np.float64]:
    """Smallest turn between angles of a thing that looks the same after every `symmetry_rad`.

    Args:
        first_rad: Angles, any shape.
        second_rad: Angles that broadcast with them.
        symmetry_rad: 2 pi for none, pi / 2 for a square, 0 where every angle looks the same.

    Returns:
        Angles in [0, symmetry_rad / 2].

    Raises:
        ValueError: The symmetry is negative or more than a full turn.
    """
    if not 0 <= symmetry_rad <= 2 * np.pi + 1e-9:
        raise ValueError(f'symmetry_rad = {symmetry_rad} is not in 0 to 2 pi')
    difference = np.asarray(first_rad, dtype=np.float64) - np.asarray(second_rad, dtype=np.float64)
    if symmetry_rad == 0:
        return np.zeros_like(difference)
    turn = difference % symmetry_rad
    return np.asarray(np.minimum(turn, symmetry_rad - turn))


def angle_bin(angle_rad: ArrayLike, bins: int) -> NDArray[np.int64]:
    """The nearest of `bins` even turns; bin k is k * 2 pi / bins."""
    turns = np.asarray(angle_rad, dtype=np.float64) * bins / (2 * np.pi)
    return np.asarray(np.floor(turns + 0.5).astype(np.int64) % bins)


def bin_angle(index: ArrayLike, bins: int) -> NDArray[np.float64]:
    """The angle of a bin, in [-pi, pi)."""
    return wrapped(np.asarray(index) * (2 * np.pi / bins))


def tool_pose(position: ArrayLike, angle_rad: float, *, tool_down: bool = False) -> Matrix:
    """A tool over the table.

    Args:
        position: (3,) metres of the table frame.
        angle_rad: Turn about the table's z.
        tool_down: The tool's z points down at the table, x where it would point anyway; otherwise
            z points up, as in the published poses.

    Returns:
        (4, 4) table_from_tool.
    """
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    pose = np.eye(4)
    pose[:2, :2] = [[cos, -sin], [sin, cos]]
    pose[:3, 3] = np.asarray(position, dtype=np.float64)
    return pose @ UP_FROM_DOWN if tool_down else pose


def tool_angle(table_from_tool: ArrayLike, max_tilt_rad: float = MAX_TILT_RAD) -> float:
    """A tool's turn about the table's z, in [-pi, pi), whether its z points up or down.

    Raises:
        ValueError: It is no rigid transform, or the tool leans more than `max_tilt_rad`.
    """
    m = np.asarray(table_from_tool, dtype=np.float64)
    if not is_rigid(m):
        raise ValueError(f'table_from_tool is not a rigid transform:\n{m}')
    tilt = float(np.arccos(min(1.0, abs(m[2, 2]))))
    if tilt > max_tilt_rad:
        raise ValueError(
            f'the tool leans {np.degrees(tilt):.0f} degrees from the vertical, more than '
            f'{np.degrees(max_tilt_rad):.0f}: a turn about z does not describe it'
        )
    return float(wrapped(np.arctan2(m[1, 0], m[0, 0])))


def pose_of_pixel(workspace: Workspace, pixel: PixelPose, *, tool_down: bool = False) -> Matrix:
    """The (4, 4) table_from_tool over a pixel's centre."""
    ((x, y),) = workspace.points(pixel.row, pixel.col)
    return tool_pose((x, y, pixel.z_m), pixel.angle_rad, tool_down=tool_down)


def pixel_of_pose(workspace: Workspace, table_from_tool: ArrayLike) -> PixelPose:
    """The pixel that a tool is over; back with `pose_of_pixel` it misses by half a pixel at most.

    Raises:
        OutsideWorkspaceError: It is over none.
        ValueError: It is no rigid transform, or the tool leans too far.
    """
    m = np.asarray(table_from_tool, dtype=np.float64)
    angle = tool_angle(m)
    ((row, col),) = workspace.pixels(m[None, :2, 3])
    if not workspace.contains(row, col):
        raise OutsideWorkspaceError(
            f'pose at x {m[0, 3]:.3f}, y {m[1, 3]:.3f} m is outside the workspace: '
            f'x {workspace.x_range_m}, y {workspace.y_range_m}'
        )
    return PixelPose(int(row), int(col), angle, float(m[2, 3]))


def labels_of_poses(
    workspace: Workspace, pick: ArrayLike, place: ArrayLike
) -> tuple[PixelPose, PixelPose]:
    """What a network learns of a pick and a place pose: the place's angle is the turn between."""
    picked, placed = pixel_of_pose(workspace, pick), pixel_of_pose(workspace, place)
    turn = float(wrapped(placed.angle_rad - picked.angle_rad))
    return picked, PixelPose(placed.row, placed.col, turn, placed.z_m)


def poses_of_labels(
    workspace: Workspace, pick: PixelPose, place: PixelPose, *, tool_down: bool = False
) -> tuple[Matrix, Matrix]:
    """The poses of `labels_of_poses`, but for half a pixel."""
    turned = PixelPose(place.row, place.col, pick.angle_rad + place.angle_rad, place.z_m)
    return (
        pose_of_pixel(workspace, pick, tool_down=tool_down),
        pose_of_pixel(workspace, turned, tool_down=tool_down),
    )


def pixel_motion(
    center: tuple[float, float], angle_rad: float, shift: tuple[float, float] = (0.0, 0.0)
) -> Matrix:
    """A turn of a heightmap about a pixel, then a shift.

    Args:
        center: (row, col) that the turn leaves where it is.
        angle_rad: Turn of the scene, counterclockwise about z.
        shift: Rows and columns that everything then moves by.

    Returns:
        (3, 3) that takes (row, col, 1) to (row, col, 1). It is the same whether the coordinates of
        a pixel are its index or, as in `Workspace.pixels`, half more, as long as the centre's are.
    """
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    turn = np.array([[cos, sin], [-sin, cos]])
    motion = np.eye(3)
    motion[:2, :2] = turn
    motion[:2, 2] = np.asarray(center) - turn @ np.asarray(center) + np.asarray(shift)
    return motion


def moved_pixels(motion: ArrayLike, pixels: ArrayLike) -> NDArray[np.float64]:
    """(N, 2) of (row, col) after a motion of `pixel_motion`."""
    m = np.asarray(motion, dtype=np.float64)
    return np.asarray(np.asarray(pixels, dtype=np.float64) @ m[:2, :2].T + m[:2, 2])
