from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vlm_nodes.cliport.poses import (
    OutsideWorkspaceError,
    PixelPose,
    angle_between,
    angle_bin,
    bin_angle,
    labels_of_poses,
    moved_pixels,
    pixel_motion,
    pixel_of_pose,
    pose_of_pixel,
    poses_of_labels,
    tool_angle,
    tool_pose,
    wrapped,
)
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.geometry.rigid import is_rigid

WORKSPACE = Workspace()


@pytest.mark.parametrize('tool_down', [False, True])
def test_pose_to_pixel_to_pose_misses_by_half_a_pixel_at_most(tool_down: bool) -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        position = rng.uniform((0.25, -0.5, -0.02), (0.75, 0.5, 0.28))
        angle = rng.uniform(-np.pi, np.pi)
        pose = tool_pose(position, angle, tool_down=tool_down)
        back = pose_of_pixel(WORKSPACE, pixel_of_pose(WORKSPACE, pose), tool_down=tool_down)
        assert np.abs(back - pose)[:2, 3].max() <= WORKSPACE.pixel_m / 2 + 1e-9
        np.testing.assert_allclose(back[2, 3], pose[2, 3])
        np.testing.assert_allclose(back[:3, :3], pose[:3, :3], atol=1e-9)


def test_pixel_to_pose_to_pixel_is_exact() -> None:
    for row in range(0, 320, 7):
        for col in range(0, 160, 3):
            pixel = PixelPose(row, col, 0.5, 0.1)
            back = pixel_of_pose(WORKSPACE, pose_of_pixel(WORKSPACE, pixel))
            assert (back.row, back.col) == (row, col)
            assert back.angle_rad == pytest.approx(0.5)


def test_a_turn_takes_x_to_y() -> None:
    pose = tool_pose((0.5, 0.0, 0.1), np.pi / 2)
    np.testing.assert_allclose(pose[:3, 0], (0, 1, 0), atol=1e-12)
    np.testing.assert_allclose(pose[:3, 2], (0, 0, 1), atol=1e-12)


def test_a_tool_that_points_down_keeps_its_x() -> None:
    pose = tool_pose((0.5, 0.0, 0.1), 0.3, tool_down=True)
    assert is_rigid(pose)
    np.testing.assert_allclose(pose[:3, 2], (0, 0, -1), atol=1e-12)
    np.testing.assert_allclose(pose[:3, 0], (np.cos(0.3), np.sin(0.3), 0), atol=1e-12)
    assert tool_angle(pose) == pytest.approx(0.3)


def test_a_tool_that_leans_a_little_has_an_angle_and_one_that_lies_has_none() -> None:
    leaning = tool_pose((0, 0, 0), 0.4)
    leaning[:3, :3] = leaning[:3, :3] @ Rotation.from_euler('y', 5, degrees=True).as_matrix()
    assert tool_angle(leaning) == pytest.approx(0.4, abs=0.01)
    leaning[:3, :3] = leaning[:3, :3] @ Rotation.from_euler('y', 40, degrees=True).as_matrix()
    with pytest.raises(ValueError, match='leans 45 degrees'):
        tool_angle(leaning)


def test_what_is_no_pose_or_outside_is_refused() -> None:
    with pytest.raises(ValueError, match='not a rigid'):
        tool_angle(np.zeros((4, 4)))
    with pytest.raises(OutsideWorkspaceError, match=r'x 0\.900, y 0\.000'):
        pixel_of_pose(WORKSPACE, tool_pose((0.9, 0.0, 0.0), 0.0))


def test_labels_hold_the_turn_between_pick_and_place() -> None:
    pick, place = tool_pose((0.4, 0.1, 0.02), 3.0), tool_pose((0.6, -0.2, 0.05), -3.0)
    labels = labels_of_poses(WORKSPACE, pick, place)
    assert labels[1].angle_rad == pytest.approx(2 * np.pi - 6.0)
    for pose, back in zip((pick, place), poses_of_labels(WORKSPACE, *labels), strict=True):
        np.testing.assert_allclose(back[:3, :3], pose[:3, :3], atol=1e-9)
        assert np.abs(back - pose)[:3, 3].max() <= WORKSPACE.pixel_m / 2 + 1e-9


def test_wrapped() -> None:
    np.testing.assert_allclose(wrapped([np.pi, -np.pi, 3 * np.pi, 0.1]), [-np.pi] * 3 + [0.1])


@pytest.mark.parametrize(
    ('first', 'second', 'symmetry', 'expected'),
    [
        (0.1, 2 * np.pi - 0.1, 2 * np.pi, 0.2),
        (0.0, np.pi, 2 * np.pi, np.pi),
        (0.0, np.pi, np.pi, 0.0),
        (0.0, np.pi / 2 + 0.1, np.pi / 2, 0.1),
        (0.0, np.pi / 4, np.pi / 2, np.pi / 4),
        (0.0, 1.234, 0.0, 0.0),
    ],
)
def test_angle_between(first: float, second: float, symmetry: float, expected: float) -> None:
    assert angle_between(first, second, symmetry) == pytest.approx(expected)
    assert angle_between(second, first, symmetry) == pytest.approx(expected)


def test_angle_between_refuses_other_symmetries() -> None:
    with pytest.raises(ValueError, match='symmetry_rad = -1'):
        angle_between(0.0, 0.0, -1)


def test_bins() -> None:
    assert angle_bin(np.deg2rad([0, 4.9, 5.1, 355, 354, -10, 180]), 36).tolist() == [
        0, 0, 1, 0, 35, 35, 18,
    ]  # fmt: skip
    np.testing.assert_array_equal(angle_bin(bin_angle(np.arange(36), 36), 36), np.arange(36))
    assert bin_angle(35, 36) == pytest.approx(np.deg2rad(-10))


def test_moving_pixels_is_moving_points() -> None:
    center, angle, shift = (100.0, 60.0), 0.7, (5.0, -3.0)
    pixels = np.array([[100.5, 60.5], [120.5, 60.5], [90.5, 33.5]])
    moved = moved_pixels(pixel_motion((center[0], center[1]), angle, shift), pixels)
    xy = WORKSPACE.points(pixels[:, 0] - 0.5, pixels[:, 1] - 0.5)
    about = WORKSPACE.points(center[0] - 0.5, center[1] - 0.5)
    turn = Rotation.from_euler('z', angle).as_matrix()[:2, :2]
    step = np.array([shift[1], shift[0]]) * WORKSPACE.pixel_m
    np.testing.assert_allclose(
        WORKSPACE.pixels((xy - about) @ turn.T + about + step), moved, atol=1e-9
    )


def test_a_quarter_turn_takes_columns_to_rows() -> None:
    motion = pixel_motion((0.0, 0.0), np.pi / 2)
    np.testing.assert_allclose(moved_pixels(motion, [[0.0, 10.0]]), [[10.0, 0.0]], atol=1e-12)
