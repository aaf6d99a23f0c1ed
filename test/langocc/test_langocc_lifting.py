import json

import numpy as np
import pytest
import torch

from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import BODY_FROM_OPTICAL, invert, transform_points
from vlm_nodes.langocc.config import LangOccConfig
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.lifting import RigView, Tables, lift, make_table
from vlm_nodes.simulation.street.rig import MOUNTS, upright_pose
from vlm_nodes.surround import CAMERAS, VoxelGrid


def config_of(lift='pull', cameras=('A', 'B'), **changes):
    grid = VoxelGrid((-8.0, -8.0, -1.0), (8.0, 8.0, 3.0), 0.5)
    values = {'grid': grid, 'margin': 0, 'depth_m': (1.0, 9.0, 0.5), 'cameras': cameras}
    return LangOccConfig.small(lift=lift, **values | changes)


def view_at(yaw_rad=0.0, position=(0.0, 0.0, 1.0), focal=80.0):
    pose = upright_pose(position, yaw_rad) @ BODY_FROM_OPTICAL
    return RigView(Camera(160, 96, focal, focal, 79.5, 47.5), pose)


def peaked(config, bin_number):
    depth = torch.zeros(len(config.cameras), config.bins, *config.feature_size)
    depth[:, bin_number] = 1.0
    return depth


def test_pushing_puts_a_wall_at_its_depth():
    config = config_of('push')
    table = make_table(config, [view_at(), None])
    context = torch.ones(2, 3, *config.feature_size)
    volume = lift(context, peaked(config, 7), table, config)
    # Bin 7 is 4.5 to 5 m, its middle 4.75 m ahead: voxel 25 from -8 m in steps of 0.5 m.
    filled = volume[0].nonzero()
    assert filled[:, 0].unique().tolist() == [25]
    assert volume.sum() == pytest.approx(3 * inside_count(config, 4.75))


def inside_count(config, depth_m):
    """Features whose point at a depth lies in the grid."""
    height, width = config.feature_size
    camera = view_at().camera.resized(width, height)
    rays = camera.rays().reshape(-1, 2)
    points = np.column_stack([rays, np.ones(len(rays))]) * depth_m
    return int(config.grid.voxel_of(transform_points(view_at().ego_from_camera, points))[1].sum())


def test_pushing_agrees_with_a_loop():
    config = config_of('push')
    rig = [view_at(0.4), view_at(2.0, (0.5, -0.3, 1.4))]
    height, width = config.feature_size
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(2, 8, height, width, generator=generator)
    depth = torch.rand(2, config.bins, height, width, generator=generator)
    expected = torch.zeros(8, *config.grid.shape)
    for n, view in enumerate(rig):
        rays = view.camera.resized(width, height).rays()
        for bin_number in range(config.bins):
            z = 1.0 + (bin_number + 0.5) * 0.5
            for v in range(height):
                for u in range(width):
                    point = transform_points(view.ego_from_camera, [*(rays[v, u] * z), z])
                    voxel, inside = config.grid.voxel_of(point)
                    if inside:
                        x, y, k = voxel
                        expected[:, x, y, k] += context[n, :, v, u] * depth[n, bin_number, v, u]
    volume = lift(context, depth, make_table(config, rig), config)
    torch.testing.assert_close(volume, expected, atol=1e-4, rtol=1e-4)


def test_pushed_voxels_are_sorted():
    config = config_of('push')
    table = make_table(config, [view_at(), view_at(1.0)])
    assert (table.voxel.diff() >= 0).all()


def test_pulling_finds_where_a_voxel_is_in_the_picture():
    """Features that are their own place in the picture: a voxel gets where its centre projects."""
    config = config_of('pull')
    view = view_at(0.3, (0.2, 0.1, 1.2))
    height, width = config.feature_size
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    context = torch.stack([u, v]).float()[None].repeat(2, 1, 1, 1)
    depth = torch.ones(2, config.bins, height, width)
    volume = lift(context, depth, make_table(config, [view, None]), config)
    centres = config.grid.centres()
    checked = 0
    for index in [(28, 18, 2), (26, 20, 4), (30, 24, 3)]:
        point = transform_points(invert(view.ego_from_camera), centres[index][None])
        expected = view.camera.resized(width, height).project(point)[0]
        if (expected > 0).all() and (expected < (width - 1, height - 1)).all():
            assert volume[(slice(None), *index)].tolist() == pytest.approx(expected, abs=1e-3)
            checked += 1
    assert checked >= 2


def test_pulling_reads_the_depth_bins_between_their_middles():
    config = config_of('pull')
    table = make_table(config, [view_at(), None])
    context = torch.ones(2, 1, *config.feature_size)
    volume = lift(context, peaked(config, 7), table, config)[0]
    # Centres at 4.25, 4.75 and 5.25 m ahead are half a metre, none and half a metre off the bin's.
    ahead = volume[:, 16, 2]
    assert ahead[25].item() == pytest.approx(1.0, abs=1e-4)
    assert ahead[[24, 26]].abs().max() < 1e-4


def test_voxels_of_several_cameras_get_the_mean():
    config = config_of('pull')
    table = make_table(config, [view_at(), view_at()])
    context = torch.stack([torch.full((1, *config.feature_size), v) for v in (1.0, 3.0)])
    depth = torch.ones(2, config.bins, *config.feature_size)
    volume = lift(context, depth, table, config)
    assert volume[volume != 0].tolist() == pytest.approx([2.0] * int((volume != 0).sum()))
    assert (volume != 0).any()


@pytest.mark.parametrize('method', ['push', 'pull'])
def test_a_missing_camera_leaves_its_side_empty(method):
    config = config_of(method)
    context = torch.ones(2, 1, *config.feature_size)
    depth = torch.ones(2, config.bins, *config.feature_size)
    rig = [view_at(), view_at(np.pi)]
    both = lift(context, depth, make_table(config, rig), config)
    front = lift(context, depth, make_table(config, [rig[0], None]), config)
    assert both[0, :12].abs().sum() > 0
    assert front[0, :12].abs().sum() == 0
    torch.testing.assert_close(front[0, 20:], both[0, 20:])


@pytest.mark.parametrize('method', ['push', 'pull'])
def test_gradients_reach_features_and_depth(method):
    config = config_of(method)
    table = make_table(config, [view_at(), view_at(1.0)])
    context = torch.randn(2, 4, *config.feature_size, requires_grad=True)
    depth = torch.rand(2, config.bins, *config.feature_size, requires_grad=True)
    lift(context, depth, table, config).square().sum().backward()
    assert context.grad.abs().sum() > 0
    assert depth.grad.abs().sum() > 0


@pytest.mark.parametrize('method', ['push', 'pull'])
def test_tables_are_made_again_only_when_calibration_changes(method):
    tables = Tables(config_of(method))
    rig = [view_at(), view_at(1.0)]
    first = tables.of(rig)
    assert tables.of([view_at(), view_at(1.0)]) is first
    assert tables.made == 1
    assert tables.of([view_at(), view_at(1.0 + 1e-3)]) is not first
    assert tables.of([view_at(focal=81.0), view_at(1.0)]) is not first
    assert tables.of([view_at(), None]) is not first
    assert tables.made == 4


def test_the_space_is_the_grid_and_a_margin_at_its_sides_and_on_top():
    config = config_of(margin=2)
    assert config.space == VoxelGrid((-9.0, -9.0, -1.0), (9.0, 9.0, 4.0), 0.5)
    assert config_of().space == config_of().grid


@pytest.mark.parametrize('method', ['pull', 'push'])
def test_a_margin_changes_nothing_within_the_grid(method):
    rig = [view_at(0.4), view_at(2.0, (0.5, -0.3, 1.4))]
    generator = torch.Generator().manual_seed(0)
    volumes = []
    for margin in (0, 1):
        config = config_of(method, margin=margin)
        if not volumes:
            context = torch.randn(2, 3, *config.feature_size, generator=generator)
            depth = torch.rand(2, config.bins, *config.feature_size, generator=generator)
        volumes.append(lift(context, depth, make_table(config, rig), config))
    assert volumes[1].shape == (3, 34, 34, 9)
    torch.testing.assert_close(volumes[1][:, 1:-1, 1:-1, :-1], volumes[0])
    assert volumes[1][:, 0].any() or volumes[1][:, -1].any()


def test_tables_that_are_not_used_are_forgotten():
    tables = Tables(config_of(), keep=2)
    first = tables.of([view_at(), None])
    tables.of([view_at(0.5), None])
    assert tables.of([view_at(), None]) is first
    tables.of([view_at(1.0), None])
    assert tables.of([view_at(), None]) is first
    assert tables.made == 3
    tables.of([view_at(0.5), None])
    assert tables.made == 4


def test_six_cameras_see_most_of_what_is_about_the_vehicle():
    config = LangOccConfig.small()
    mounts = [MOUNTS[name] for name in CAMERAS]
    rig = [RigView(m.camera(160, 96), m.ego_from_camera) for m in mounts]
    pulled = make_table(config, rig)
    ring = np.linalg.norm(config.space.centres()[..., :2], axis=-1)
    band = (ring > 6) & (ring < 14)
    seen = np.zeros(config.space.shape, bool)
    seen.reshape(-1)[pulled.voxel.numpy()] = True
    level = seen[:, :, 3][band[:, :, 3]]
    assert level.mean() > 0.9


def test_configurations_survive_json_and_name_what_is_wrong():
    config = LangOccConfig.small(lift='push', previous=True)
    assert LangOccConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(LangOccError, match=r'lift.*throw'):
        LangOccConfig(lift='throw')
    with pytest.raises(LangOccError, match='hidden 99'):
        LangOccConfig.small(hidden=99)
    with pytest.raises(LangOccError, match='margin'):
        LangOccConfig(margin=-1)
    with pytest.raises(LangOccError, match='image_size'):
        LangOccConfig(image_size=(90, 160))
    with pytest.raises(LangOccError, match='depth_m'):
        LangOccConfig(depth_m=(5.0, 1.0, 0.5))
    with pytest.raises(LangOccError, match='grid'):
        LangOccConfig.from_dict({'lift': 'push'})
