import math

import numpy as np
import pytest
import torch

from vlm_nodes.geometry.rigid import invert, transform_points
from vlm_nodes.langocc.driven import SMALL_CAR, Body, driven_points, optical_depth
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.surround import NuScenes, VoxelGrid

GRID = VoxelGrid((-4.0, -4.0, -0.2), (4.0, 4.0, 3.0), 0.8)


def test_driven_points_are_inside_the_body_of_some_keyframe(street):
    drives = NuScenes(street)
    now, later = drives[0], drives[2]
    body = SMALL_CAR
    now_from_later = invert(now.map_from_ego) @ later.map_from_ego
    later_from_now = invert(now_from_later)
    points = driven_points([np.eye(4), now_from_later], body, 200, np.random.default_rng(0))
    inside = [
        ((p >= np.array(body.lower_m) - 1e-4) & (p <= np.array(body.upper_m) + 1e-4)).all(1)
        for p in (points, transform_points(later_from_now, points.astype(np.float64)))
    ]
    assert (inside[0] | inside[1]).all()
    assert 60 < inside[0].sum() < 160
    assert (inside[1] & ~inside[0]).sum() > 20


def test_the_optical_depth_of_even_fog_is_its_density_times_an_edge():
    density = torch.full((1, 1, 10, 10, 16), 0.5)
    points = torch.tensor([[[0.0, 0.0, 1.0], [3.9, -3.9, 0.3]]])
    assert optical_depth(density, points, GRID).item() == pytest.approx(0.4)


def depth_at(height_m, layers, lowest_m=-0.2):
    """With the lowest layers, up to the ground's, as dense as can be."""
    grid = VoxelGrid((-4.0, -4.0, lowest_m), (4.0, 4.0, lowest_m + 3.2), 0.8)
    density = torch.zeros(1, 1, 10, 10, layers)
    ground = next(k for k in range(layers) if lowest_m + (k + 1) * 3.2 / layers > -1e-6)
    density[..., : ground + 1] = 9.0
    return optical_depth(density, torch.tensor([[[0.0, 0.0, height_m]]]), grid).item()


@pytest.mark.parametrize('layers', [4, 8, 16])
@pytest.mark.parametrize('lowest_m', [-0.2, -1.0])
def test_the_layer_of_the_ground_may_be_dense(layers, lowest_m):
    for height_m in (0.15, 0.3, 0.5, 0.79, 1.0, 1.39):
        assert depth_at(height_m, layers, lowest_m) == 0


def test_the_layer_above_the_ground_may_not():
    density = torch.zeros(1, 1, 10, 10, 16)
    density[..., 1] = 9.0  # from 0 to 0.2 m
    found = [
        optical_depth(density, torch.tensor([[[0.0, 0.0, z]]]), GRID).item()
        for z in (0.15, 0.2, 0.31)
    ]
    assert found == pytest.approx([0.75 * 7.2, 0.5 * 7.2, 0.0])


def test_points_off_the_grid_do_not_count():
    density = torch.ones(1, 1, 10, 10, 16)
    away = torch.tensor([[[5.0, 0.0, 1.0], [0.0, 0.0, 3.1]]])
    assert optical_depth(density, away, GRID).item() == 0


def test_its_gradient_lowers_density_where_the_vehicle_was_and_nowhere_else():
    density = torch.ones(1, 1, 10, 10, 16, requires_grad=True)
    optical_depth(density, torch.tensor([[[0.4, 0.4, 1.1]]]), GRID).backward()
    touched = density.grad[0, 0].nonzero()
    assert len(touched)
    assert density.grad.min() >= 0
    centres = GRID.lower_m[0] + 0.8 * (touched[:, :2] + 0.5)
    assert (centres - 0.4).abs().max() < 0.8


@pytest.mark.parametrize('upper', [(3.0, -1.0, 1.0), (3.0, 0.8, math.nan)])
def test_a_body_inside_out_is_refused(upper):
    with pytest.raises(LangOccError, match='in order'):
        Body(SMALL_CAR.lower_m, upper)
