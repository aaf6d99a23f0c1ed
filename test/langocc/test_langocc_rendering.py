import itertools
import math

import pytest
import torch

from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.rays import Rays, box_span
from vlm_nodes.langocc.rendering import (
    Sampling,
    even_edges,
    importance_edges,
    ray_spread,
    ray_weights,
    render,
    sample_volume,
)
from vlm_nodes.surround import VoxelGrid

GRID = VoxelGrid((-4.0, -3.0, -1.0), (4.0, 3.0, 3.0), 0.5)


def random_rays(count, seed=0, batch=1):
    g = torch.Generator().manual_seed(seed)
    origins = torch.rand(batch, count, 3, generator=g) * 2 - 1
    directions = torch.randn(batch, count, 3, generator=g)
    return Rays(origins, torch.nn.functional.normalize(directions, dim=-1))


def random_volumes(channels=5, seed=0, batch=1, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    density = torch.rand(batch, 1, *GRID.shape, generator=g, dtype=torch.float64) ** 4 * 6
    features = torch.randn(batch, channels, *GRID.shape, generator=g, dtype=torch.float64)
    return density.to(dtype), features.to(dtype)


def along(direction, count=1, origin=(0.0, 0.0, 0.0)):
    unit = torch.nn.functional.normalize(torch.tensor(direction, dtype=torch.float32), dim=-1)
    return Rays(torch.tensor(origin).expand(1, count, 3), unit.expand(1, count, 3))


def slow_lookup(volume, point):
    """(C, X, Y, Z) at a point: trilinear by hand, clamped to the outermost centres."""
    total = torch.zeros(volume.shape[0], dtype=torch.float64)
    place = [
        min(max((float(point[a]) - GRID.lower_m[a]) / GRID.voxel_m - 0.5, 0.0), GRID.shape[a] - 1.0)
        for a in range(3)
    ]
    for corner in range(8):
        index, weight = [], 1.0
        for axis in range(3):
            low = min(int(place[axis]), GRID.shape[axis] - 2)
            part = place[axis] - low
            up = corner >> axis & 1
            index.append(low + up)
            weight *= part if up else 1 - part
        total += weight * volume[:, index[0], index[1], index[2]].double()
    return total


def slow_render(density, features, rays, sampling):
    """One ray after the other, one sample after the other, every sample's features."""
    near, far = (v[0] for v in box_span(rays, GRID, sampling.near_m))
    edges = even_edges(near, far, sampling.proposals, jitter=False)
    result = []
    for r in range(edges.shape[0]):
        line = edges[r].tolist()
        origin, direction = rays.origins_m[0, r], rays.directions[0, r]

        def look(volume, distance, origin=origin, direction=direction):
            return slow_lookup(volume, origin + direction * distance)

        passing, proposal = 1.0, []
        for begin, end in itertools.pairwise(line):
            sigma = look(density[0], (begin + end) / 2)[0].item()
            alpha = 1 - math.exp(-sigma * (end - begin))
            proposal.append(passing * alpha)
            passing *= 1 - alpha
        fine = importance_edges(edges[r], torch.tensor(proposal), sampling.samples, jitter=False)
        passing, feature, depth = 1.0, torch.zeros(features.shape[1], dtype=torch.float64), 0.0
        for begin, end in itertools.pairwise(fine.tolist()):
            middle = (begin + end) / 2
            alpha = 1 - math.exp(-look(density[0], middle)[0].item() * (end - begin))
            feature += passing * alpha * look(features[0], middle)
            depth += passing * alpha * middle
            passing *= 1 - alpha
        result.append((feature, 1 - passing, depth + passing * float(far[r])))
    return result


def test_looking_up_a_linear_volume_gives_the_line_between_the_outermost_centres():
    centres = torch.from_numpy(GRID.centres()).float()
    volume = centres.permute(3, 0, 1, 2)[None]
    points = torch.rand(1, 40, 3, 3) * torch.tensor([7.4, 5.4, 3.4]) + torch.tensor(
        [-3.7, -2.7, -0.7]
    )
    found = sample_volume(volume, points, GRID)
    torch.testing.assert_close(found.permute(0, 2, 3, 1), points, atol=1e-5, rtol=1e-5)


def test_even_fog_has_the_opacity_of_beers_law():
    density = torch.full((1, 1, *GRID.shape), 0.7)
    features = torch.ones(1, 2, *GRID.shape)
    seen = render(density, features, along((1, 0, 0)), GRID, Sampling(8, 16, 16, 0.0))
    expected = 1 - math.exp(-0.7 * 4.0)
    assert seen.opacity.item() == pytest.approx(expected, rel=1e-5)
    assert seen.features[0, 0].tolist() == pytest.approx([expected] * 2, rel=1e-5)


def test_the_mean_depth_of_fog_is_that_of_its_integral():
    density = torch.full((1, 1, *GRID.shape), 0.7)
    features = torch.ones(1, 1, *GRID.shape)
    seen = render(density, features, along((1, 0, 0)), GRID, Sampling(64, 256, 4, 0.0))
    assert seen.depth_m.item() == pytest.approx((1 - math.exp(-0.7 * 4.0)) / 0.7, rel=1e-3)


def test_a_wall_hides_what_is_behind_it():
    density, features = torch.zeros(1, 1, *GRID.shape), torch.zeros(1, 2, *GRID.shape)
    density[:, :, 12:] = 200.0  # from x = 2 m
    features[:, 0, 10:14] = 1.0
    features[:, 1, 14:] = 1.0
    seen = render(density, features, along((1, 0, 0)), GRID, Sampling(50, 100, 16))
    # Linear between centres: density begins to rise at 1.75 m.
    assert 1.7 < seen.depth_m.item() < 2.0
    assert seen.features[0, 0].tolist() == pytest.approx([1.0, 0.0], abs=1e-4)
    assert seen.opacity.item() == pytest.approx(1.0, abs=1e-5)


def test_nothing_is_seen_in_empty_space_or_past_the_box():
    density, features = random_volumes()
    past = render(density, features, along((1, 0, 0), origin=(0.0, 0.0, 9.0)), GRID, Sampling())
    empty = render(density * 0, features, along((1, 0, 0)), GRID, Sampling())
    for seen in (past, empty):
        assert seen.opacity.item() == 0
        assert seen.features.abs().max() == 0
    assert empty.depth_m.item() == pytest.approx(4.0)


def test_all_samples_agree_with_a_slow_reference():
    density, features = random_volumes()
    rays = random_rays(6)
    sampling = Sampling(10, 16, 16)
    seen = render(density, features, rays, GRID, sampling)
    for r, (feature, opacity, depth) in enumerate(slow_render(density, features, rays, sampling)):
        assert seen.opacity[0, r].item() == pytest.approx(opacity, abs=2e-5)
        assert seen.depth_m[0, r].item() == pytest.approx(depth, abs=2e-4)
        torch.testing.assert_close(seen.features[0, r].double(), feature, atol=2e-4, rtol=1e-4)


def test_the_largest_weights_are_exact_where_there_are_no_others():
    """A thin wall fills few samples: leaving the others out changes nothing."""
    density, features = random_volumes()
    density = torch.zeros_like(density)
    density[:, :, 12:14] = 500.0
    rays = along((1.0, 0.1, 0.05), 3)
    every = render(density, features, rays, GRID, Sampling(1, 60, 60))
    few = render(density, features, rays, GRID, Sampling(1, 60, 30))
    torch.testing.assert_close(few.features, every.features, atol=1e-5, rtol=1e-5)


def test_the_largest_weights_keep_the_opacity():
    density, _ = random_volumes()
    rays = random_rays(50)
    few = render(density, torch.ones(1, 1, *GRID.shape), rays, GRID, Sampling(20, 60, 6))
    torch.testing.assert_close(few.features[..., 0], few.opacity)


def test_weights_and_what_is_left_add_up_to_one():
    weights, left = ray_weights(torch.rand(7, 30) * 5, torch.rand(7, 30))
    torch.testing.assert_close(weights.sum(-1) + left, torch.ones(7))
    assert (weights >= 0).all()


def test_spread_is_that_of_all_pairs():
    weights, edges = torch.rand(5, 9), torch.rand(5, 10).cumsum(-1)
    middles, steps = (edges[:, 1:] + edges[:, :-1]) / 2, edges.diff()
    pairs = weights[:, :, None] * weights[:, None]
    expected = (pairs * (middles[:, :, None] - middles[:, None]).abs()).sum((1, 2))
    expected += (weights.square() * steps).sum(1) / 3
    torch.testing.assert_close(ray_spread(weights, middles, steps), expected)
    two = ray_spread(torch.tensor([0.5, 0, 0.5]), torch.tensor([1.0, 2, 5]), torch.zeros(3))
    assert two.item() == pytest.approx(2 * 0.25 * 4)


def test_importance_follows_the_weights():
    edges = torch.linspace(0, 10, 11)[None]
    weights = torch.zeros(1, 10)
    weights[0, 6] = 1.0
    fine = importance_edges(edges, weights, 100, jitter=False)
    assert fine[0, 0] == 0
    assert fine[0, -1] == 10
    assert (fine.diff() >= 0).all()
    inside = ((fine >= 6) & (fine <= 7)).float().mean()
    assert inside > 0.75
    # About 1.3 parts of which 0.3 are spread over 10 m: no step is much longer than half a metre.
    assert fine.diff().max() < 0.5


def test_importance_of_nothing_is_even():
    edges = torch.linspace(0, 10, 6)[None]
    fine = importance_edges(edges, torch.zeros(1, 5), 20, jitter=False)
    torch.testing.assert_close(fine, torch.linspace(0, 10, 21)[None], atol=1e-4, rtol=0)


def test_moved_samples_stay_in_order_and_between_the_ends():
    torch.manual_seed(0)
    edges = even_edges(torch.tensor([1.0]), torch.tensor([5.0]), 30, jitter=True)
    assert (edges.diff() >= 0).all()
    assert (edges[0, 0], edges[0, -1]) == (1.0, 5.0)
    assert not torch.equal(
        edges, even_edges(torch.tensor([1.0]), torch.tensor([5.0]), 30, jitter=False)
    )


def test_gradients_are_those_of_finite_differences():
    """Proposals move samples without a gradient, so that they are held: one even step."""
    grid_density, grid_features = random_volumes(2, dtype=torch.float64)
    rays = random_rays(3)
    rays = Rays(rays.origins_m.double(), rays.directions.double())

    def rendered(density, features):
        seen = render(density, features, rays, GRID, Sampling(1, 6, 6))
        return seen.features, seen.opacity, seen.depth_m

    small = VoxelGrid(GRID.lower_m, GRID.upper_m, 2.0)
    density = grid_density[..., ::4, ::4, ::4].contiguous().requires_grad_()
    features = grid_features[..., ::4, ::4, ::4].contiguous().requires_grad_()
    assert density.shape[2:] == small.shape
    assert torch.autograd.gradcheck(rendered, (density, features), atol=1e-6)


def test_top_samples_give_gradients_to_density():
    density, features = random_volumes()
    density.requires_grad_()
    seen = render(density, features, random_rays(20), GRID, Sampling(20, 40, 4))
    seen.features.sum().backward()
    assert torch.isfinite(density.grad).all()
    assert density.grad.abs().sum() > 0


def test_samplings_name_what_is_wrong():
    with pytest.raises(LangOccError, match='top must be 1 to samples = 8, is 9'):
        Sampling(4, 8, 9)
    with pytest.raises(LangOccError, match='at least 1'):
        Sampling(0, 8, 8)
    with pytest.raises(LangOccError, match='near_m'):
        Sampling(near_m=-1)
