"""Rays, lifting and rendering against what can be said without a network."""

import math

import numpy as np
import pytest
import torch

from vlm_nodes.geometry import Camera
from vlm_nodes.geometry.rigid import BODY_FROM_OPTICAL, invert, transform_points
from vlm_nodes.langocc.config import LangOccConfig
from vlm_nodes.langocc.lifting import RigView, lift, make_table
from vlm_nodes.langocc.rays import Rays, box_span, pixel_rays
from vlm_nodes.langocc.rendering import ray_weights
from vlm_nodes.simulation.street.rig import upright_pose
from vlm_nodes.surround import VoxelGrid

GRID = VoxelGrid((-8.0, -8.0, -1.0), (8.0, 8.0, 3.0), 0.5)
BENT = Camera(160, 96, 80.0, 82.0, 79.5, 47.5, 'plumb_bob', (-0.25, 0.06, 0.001, -0.002, 0.0))


def bent_view():
    return RigView(BENT, upright_pose((0.2, 0.1, 1.2), 0.3) @ BODY_FROM_OPTICAL)


def config_of(method):
    return LangOccConfig.small(
        grid=GRID, margin=0, depth_m=(1.0, 9.0, 0.5), lift=method, cameras=('A',),
        image_size=(96, 160),
    )  # fmt: skip


def test_spans_in_the_box_are_those_of_walking_along_rays():
    rng = np.random.default_rng(0)
    origins = rng.uniform(-12, 12, (200, 3)) * (1, 1, 0.4)
    directions = rng.normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rays = Rays(*(torch.from_numpy(a.astype(np.float32)) for a in (origins, directions)))
    enter, leave = (t.numpy() for t in box_span(rays, GRID))
    step = 0.01
    along = np.arange(0, 40, step)
    points = origins[:, None] + directions[:, None] * along[None, :, None]
    inside = GRID.voxel_of(points)[1]
    hits = inside.any(axis=1)
    assert 50 < hits.sum() < 190
    first, last = inside.argmax(axis=1) * step, inside.sum(axis=1) * step
    np.testing.assert_allclose(enter[hits], first[hits], atol=0.02)
    np.testing.assert_allclose((leave - enter)[hits], last[hits], atol=0.03)
    # A corner may be cut by less than a step.
    assert ((leave - enter)[~hits] < 2 * step).all()


def test_weights_of_two_media_are_those_of_beers_law():
    """Two metres of 0.5/m, then one of 1.5/m, in steps of any length."""
    steps = torch.tensor([0.3, 0.7, 1.0, 0.25, 0.75])
    density = torch.tensor([0.5, 0.5, 0.5, 1.5, 1.5])
    weights, left = ray_weights(density, steps)
    assert weights[:3].sum().item() == pytest.approx(1 - math.exp(-1.0), rel=1e-5)
    second = math.exp(-1.0) * (1 - math.exp(-1.5))
    assert weights[3:].sum().item() == pytest.approx(second, rel=1e-5)
    assert left.item() == pytest.approx(math.exp(-2.5), rel=1e-5)


def test_a_bent_lens_bends_rays():
    view = bent_view()
    pixels = np.array([[0, 0], [159, 0], [80, 48], [20, 90], [159, 95]])
    rays = pixel_rays(view.camera, view.ego_from_camera, pixels)
    points = (rays.origins_m + 7.0 * rays.directions).numpy()
    back = view.camera.project(transform_points(invert(view.ego_from_camera), points))
    np.testing.assert_allclose(back, pixels, atol=0.02)
    straight = Camera(160, 96, 80.0, 82.0, 79.5, 47.5)
    other = pixel_rays(straight, view.ego_from_camera, pixels)
    turned = (rays.directions * other.directions).sum(-1).clamp(-1, 1).arccos()
    # Most in the corner, hardly any in the middle.
    assert turned[0] > math.radians(3)
    assert turned[2] < math.radians(0.1)


def test_pulling_through_a_bent_lens_finds_where_a_voxel_is_seen():
    config, view = config_of('pull'), bent_view()
    height, width = config.feature_size
    v, u = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    context = torch.stack([u, v]).float()[None]
    depth = torch.ones(1, config.bins, height, width)
    volume = lift(context, depth, make_table(config, [view]), config)
    seen = transform_points(invert(view.ego_from_camera), GRID.centres())
    # Of features, not pixels: their middles are half a feature in.
    places = (BENT.project(seen.reshape(-1, 3)) + 0.5) / 8 - 0.5
    inner = ((places > 0) & (places < (width - 1, height - 1))).all(axis=1)
    inner &= (seen.reshape(-1, 3)[:, 2] > 1.5) & (seen.reshape(-1, 3)[:, 2] < 8.5)
    assert inner.sum() > 500
    found = volume.reshape(2, -1).T.numpy()[inner]
    np.testing.assert_allclose(found, places[inner], atol=2e-3)


def test_pushing_through_a_bent_lens_fills_the_voxels_on_its_rays():
    """One feature alone, at every depth: filled voxels are those that its ray runs through."""
    config, view = config_of('push'), bent_view()
    height, width = config.feature_size
    row, column = 3, 2
    context = torch.zeros(1, 8, height, width)
    context[0, :, row, column] = 1.0
    depth = torch.ones(1, config.bins, height, width)
    volume = lift(context, depth, make_table(config, [view]), config)
    small = view.camera.resized(width, height)
    flat = small.rays()[row, column].astype(np.float64)
    near, far, step = config.depth_m
    middles = np.arange(near + step / 2, far, step)
    points = transform_points(view.ego_from_camera, middles[:, None] * np.array([*flat, 1.0])[None])
    voxels, inside = GRID.voxel_of(points)
    expected = np.zeros(GRID.shape)
    np.add.at(expected, tuple(voxels[inside].T), 1.0)
    np.testing.assert_allclose(volume[0].numpy(), expected)
    assert expected.sum() >= 8
