import numpy as np
import pytest
import torch

from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import BODY_FROM_OPTICAL, invert, transform_points
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.rays import (
    Rays,
    box_span,
    ego_from_view,
    lidar_pixels,
    pixel_rays,
    random_pixels,
)
from vlm_nodes.simulation.street.rig import upright_pose
from vlm_nodes.surround import Keyframe, SurroundImage, VoxelGrid, read_points
from vlm_nodes.surround.keyframe_file import read_keyframe_file

CAMERA = Camera(80, 40, 50.0, 50.0, 39.5, 19.5)
GRID = VoxelGrid((-4.0, -4.0, -1.0), (4.0, 4.0, 3.0), 0.5)


def rays_of(origins, directions):
    unit = torch.nn.functional.normalize(torch.tensor(directions, dtype=torch.float32), dim=-1)
    return Rays(torch.tensor(origins, dtype=torch.float32), unit)


def test_the_middle_of_a_picture_looks_straight_ahead():
    camera = Camera(81, 41, 50.0, 50.0, 40.0, 20.0)
    pose = upright_pose((1.0, 2.0, 1.5), np.pi / 2) @ BODY_FROM_OPTICAL
    rays = pixel_rays(camera, pose, np.array([[40, 20]]))
    assert rays.origins_m[0].tolist() == pytest.approx([1.0, 2.0, 1.5])
    assert rays.directions[0].tolist() == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)


def test_points_on_a_pixels_ray_project_onto_the_pixel():
    rng = np.random.default_rng(3)
    pose = upright_pose((0.3, -0.2, 1.4), 0.7) @ BODY_FROM_OPTICAL
    pixels = random_pixels(CAMERA, 200, rng)
    rays = pixel_rays(CAMERA, pose, pixels)
    points = rays.origins_m + rays.directions * torch.linspace(1, 30, 200)[:, None]
    back = CAMERA.project(transform_points(invert(pose), points.numpy()))
    np.testing.assert_allclose(back, pixels, atol=1e-3)


def test_pixels_outside_of_the_picture_are_refused():
    with pytest.raises(LangOccError, match=r'\[80, 3\].*80x40'):
        pixel_rays(CAMERA, np.eye(4), np.array([[0, 0], [80, 3]]))


def test_directions_must_be_unit_vectors():
    with pytest.raises(LangOccError, match='unit'):
        Rays(torch.zeros(2, 3), torch.ones(2, 3))


def test_random_pixels_reach_every_corner():
    pixels = random_pixels(Camera(3, 2, 1.0, 1.0, 1.0, 0.5), 500, np.random.default_rng(0))
    assert {tuple(p) for p in pixels.tolist()} == {(u, v) for u in range(3) for v in range(2)}


def test_boxes_are_entered_and_left_where_they_should_be():
    rays = rays_of(
        [[0, 0, 0], [-10, 1, 0], [0, 0, 10], [-10, 0, 10], [0, 0, 0], [10, 0, 0]],
        [[1, 0, 0], [1, 0, 0], [0, 0, -1], [1, 0, 0], [1, 1, 0], [1, 0, 0]],
    )
    enter, leave = box_span(rays, GRID)
    assert enter.tolist() == pytest.approx([0, 6, 7, 0, 0, 0])
    assert leave.tolist() == pytest.approx([4, 14, 11, 0, 4 * 2**0.5, 0])


def test_a_larger_box_is_larger_on_all_sides_but_the_floors():
    away = [[1, 0, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]
    rays = rays_of([[0, 0, 0]] * 4, away)
    _, leave = box_span(rays, GRID)
    _, further = box_span(rays, GRID, beyond_m=3.0)
    torch.testing.assert_close(further - leave, torch.tensor([3.0, 3.0, 3.0, 0.0]))


def test_rays_begin_at_the_near_distance():
    enter, leave = box_span(rays_of([[0, 0, 0]], [[0, 0, 1]]), GRID, near_m=0.5)
    assert (enter.item(), leave.item()) == pytest.approx((0.5, 3.0))


def test_a_ray_in_a_face_of_the_box_has_finite_spans():
    enter, leave = box_span(rays_of([[-10, -4, 0], [-10, 4, 0]], [[1, 0, 0], [1, 0, 0]]), GRID)
    assert torch.isfinite(enter).all()
    assert torch.isfinite(leave).all()


def test_mirrored_rays_meet_mirrored_points():
    rays = rays_of([[1, 2, 3]], [[1, 1, 0]])
    mirrored = rays.mirrored(1)
    assert mirrored.origins_m.tolist() == [[1, -2, 3]]
    assert mirrored.directions[0].tolist() == pytest.approx([2**-0.5, -(2**-0.5), 0])


def keyframe_at(x_m, yaw_rad=0.0, picture_ahead_m=0.0):
    mount = upright_pose((1.7, 0.0, 1.5), 0.0) @ BODY_FROM_OPTICAL
    pose = upright_pose((x_m, 5.0, 0.0), yaw_rad)
    taken = upright_pose((x_m + picture_ahead_m, 5.0, 0.0), yaw_rad)
    image = SurroundImage('none.jpg', CAMERA, mount, taken, 0)
    return Keyframe(f'at {x_m}', 0, 'drive', pose, {'CAM_FRONT': image})


def test_rays_of_a_later_keyframe_begin_where_the_vehicle_will_be():
    now, later = keyframe_at(10.0), keyframe_at(16.0, picture_ahead_m=-0.25)
    pose = ego_from_view(now, later.cameras['CAM_FRONT'])
    assert pose[:3, 3] == pytest.approx([6.0 - 0.25 + 1.7, 0.0, 1.5])


def test_a_turned_vehicle_sees_the_same_place():
    """A landmark in the map lies where rays of either keyframe point."""
    landmark = np.array([30.0, 6.0, 1.0])
    now, later = keyframe_at(10.0, yaw_rad=0.3), keyframe_at(16.0, yaw_rad=-0.1)
    expected = transform_points(invert(now.map_from_ego), landmark)
    image = later.cameras['CAM_FRONT']
    pixel = CAMERA.project(transform_points(invert(image.map_from_camera), landmark[None]))
    rays = pixel_rays(CAMERA, ego_from_view(now, image), np.rint(pixel).astype(np.int64))
    offset = expected - rays.origins_m[0].numpy()
    across = offset - rays.directions[0].numpy() * (offset @ rays.directions[0].numpy())
    assert np.linalg.norm(across) < np.linalg.norm(offset) * 0.75 / CAMERA.fx


def test_lidar_pixels_of_the_real_keyframe_lead_back_to_their_points(vlm_data):
    keyframe, _ = read_keyframe_file(vlm_data / 'nuscenes_keyframe' / 'keyframe.json')
    points = read_points(keyframe.lidar)
    in_ego = transform_points(keyframe.lidar.ego_from_lidar, points[:, :3])
    total = 0
    for name in keyframe.cameras:
        hits = lidar_pixels(keyframe, name, points, VoxelGrid())
        image = keyframe.cameras[name]
        rays = pixel_rays(image.camera, ego_from_view(keyframe, image), hits.pixels)
        found = rays.origins_m + rays.directions * torch.from_numpy(hits.depth_m)[:, None]
        # Half a pixel of 1/1260 at 40 m is 2 cm.
        gaps = [np.abs(in_ego - p).sum(1).min() for p in found[::97].numpy()]
        assert max(gaps) < 0.06
        assert hits.kept.sum() == len(hits.pixels)
        total += len(hits.pixels)
    assert total > 10_000


def test_lidar_rays_need_a_sweep():
    with pytest.raises(LangOccError, match='no LiDAR'):
        lidar_pixels(keyframe_at(0.0), 'CAM_FRONT', np.zeros((1, 5), np.float32))
