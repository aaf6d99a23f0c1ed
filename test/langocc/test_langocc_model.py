import numpy as np
import pytest
import torch
from small_langocc import GRID, random_rays, random_surround, rig_of, small_config, small_model
from torch.nn import functional

from vlm_nodes.langocc.backbone import Backbone, load_resnet50
from vlm_nodes.langocc.config import LangOccConfig
from vlm_nodes.langocc.errors import LangOccError
from vlm_nodes.langocc.losses import LossWeights, rarity, ray_losses, sky_loss
from vlm_nodes.langocc.model import Seen, Surround, Volume
from vlm_nodes.langocc.predictor import Prediction
from vlm_nodes.langocc.rays import Rays
from vlm_nodes.langocc.rendering import Sampling, render, sample_volume
from vlm_nodes.langocc.volume import coordinates, parts_of, split, warp


@pytest.mark.parametrize('lift', ['push', 'pull'])
def test_a_network_says_density_and_unit_features_of_every_voxel(lift):
    model = small_model(lift=lift)
    volume = model(random_surround(batch=2))
    x, y, z = GRID.shape
    assert volume.density.shape == (2, 1, x, y, 4 * z)
    assert (volume.density > 0).all()
    assert volume.hidden.shape == (2, 6, *GRID.shape)
    torch.testing.assert_close(volume.hidden.norm(dim=1), torch.ones(2, *GRID.shape))


def test_untrained_density_lets_light_through_and_stops_it_somewhere():
    model = small_model()
    seen = model.render(model(random_surround()), random_rays())
    assert 0.05 < seen.opacity.mean() < 0.95


def test_decoding_keeps_lengths_and_products_with_texts():
    model = small_model()
    hidden = functional.normalize(torch.randn(9, 6), dim=-1)
    texts = np.random.default_rng(0).normal(size=(4, 12)).astype(np.float32)
    decoded = model.decode(hidden)
    torch.testing.assert_close(decoded.norm(dim=-1), torch.ones(9))
    expected = decoded.detach().numpy() @ texts.T
    np.testing.assert_allclose(hidden.numpy() @ model.encode_text(texts).T, expected, atol=1e-5)


def test_decoding_a_rays_sum_is_the_sum_of_its_decoded_samples():
    """Features of D numbers at every sample, rendered slowly, against hidden ones decoded once."""
    model = small_model(sampling=Sampling(6, 10, 10))
    volume, rays = model(random_surround()), random_rays(count=15)
    seen = model.render(volume, rays)
    decoded = model.decode(volume.hidden.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)
    slow = render(volume.density, decoded, rays, GRID, model.config.sampling)
    sky = model.decode(model.sky(rays.directions)) * (1 - slow.opacity)[..., None]
    # Eight metres to the walls, 2.5 to the floor: steeper rays leave through it.
    flat = rays.directions[..., :2].abs().amax(-1)
    sky[rays.directions[..., 2] * 8 < -2.5 * flat] = 0
    torch.testing.assert_close(seen.features, slow.features + sky, atol=1e-5, rtol=1e-4)


def test_rays_that_miss_the_grid_see_the_sky_alone():
    model = small_model()
    rays = random_rays()
    above = type(rays)(rays.origins_m + torch.tensor([0, 0, 100.0]), rays.directions.abs())
    above = type(rays)(above.origins_m, functional.normalize(above.directions, dim=-1))
    seen = model.render(model(random_surround()), above)
    torch.testing.assert_close(seen.features, model.decode(model.sky(above.directions)))


def test_what_a_missing_camera_shows_does_not_matter():
    model = small_model().eval()
    one = random_surround(missing=('CAM_BACK',))
    images = one.images.clone()
    images[:, 4] = 0.123
    with torch.no_grad():
        first, second = model(one), model(Surround(images, one.rigs))
        whole = model(random_surround())
    torch.testing.assert_close(first.density, second.density)
    assert not torch.allclose(first.density, whole.density)


def test_gradients_reach_every_weight():
    model = small_model(previous=True)
    pose = torch.eye(4)[None]
    volume = model(random_surround(), random_surround(seed=1), pose)
    seen = model.render(volume, random_rays(count=200))
    target = functional.normalize(torch.randn(1, 200, 12), dim=-1)
    losses = ray_losses(seen, volume, target, LossWeights(), GRID.voxel_m)
    (losses['loss'] + (volume.pictures.sum(-1) - 1).square().sum()).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_an_earlier_moment_changes_the_answer_and_may_be_missing():
    model = small_model(previous=True).eval()
    now, earlier = random_surround(), random_surround(seed=1)
    with torch.no_grad():
        alone, both = model(now), model(now, earlier, torch.eye(4)[None])
    assert not torch.allclose(alone.density, both.density)
    with pytest.raises(ValueError, match='together'):
        model(now, earlier)


def test_warping_by_a_voxel_moves_values_by_one():
    volume = torch.randn(1, 3, *GRID.shape)
    then_from_now = torch.eye(4)[None].clone()
    then_from_now[0, 0, 3] = GRID.voxel_m  # the vehicle drove backwards by a voxel
    moved = warp(volume, GRID, then_from_now)
    torch.testing.assert_close(moved[:, :, :-1], volume[:, :, 1:], atol=1e-5, rtol=1e-4)
    assert moved[:, :, -1].abs().max() < 1e-5


def test_warping_by_a_quarter_turn_turns_the_grid():
    volume = torch.randn(1, 2, *GRID.shape)
    turn = torch.eye(4)[None].clone()
    turn[0, :2, :2] = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    moved = warp(volume, GRID, turn)
    # What is at (x, y) now was at (-y, x) then.
    centres = torch.from_numpy(GRID.centres()).float()[None]
    there = torch.einsum('ij,bxyzj->bxyzi', turn[0, :3, :3], centres)
    looked_up = sample_volume(volume, there.flatten(2, 3)[0][None], GRID)
    torch.testing.assert_close(moved.flatten(3), looked_up, atol=1e-5, rtol=1e-4)


def test_coordinates_are_even_about_the_vehicle():
    places = coordinates(GRID)
    torch.testing.assert_close(places[0], -places[0].flip(0))
    torch.testing.assert_close(places[3], places[3].flip(0))
    assert places[:3].abs().max() < 1


def test_mirrored_rays_see_the_same_in_a_mirrored_volume():
    model = small_model()
    volume, rays = model(random_surround()), random_rays(count=40)
    there = model.render(volume, rays)
    for axis in (0, 1):
        mirrored = model.render(volume.mirrored(axis), rays.mirrored(axis))
        torch.testing.assert_close(mirrored.depth_m, there.depth_m, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(mirrored.opacity, there.opacity, atol=1e-4, rtol=1e-3)


def test_losses_vanish_where_rays_see_what_they_should():
    features = functional.normalize(torch.randn(1, 8, 12), dim=-1)
    seen = Seen(features, torch.ones(1, 8), torch.full((1, 8), 5.0), torch.zeros(1, 8))
    empty = Volume(torch.zeros(1, 1, *GRID.shape), torch.zeros(1, 6, *GRID.shape))
    depth = torch.full((1, 8), 5.0)
    depth[0, 3] = float('nan')
    weights = LossWeights(depth=1.0)
    parts = ray_losses(seen, empty, features, weights, 0.8, depth)
    assert parts['loss'].item() == pytest.approx(0.0, abs=1e-5)
    wrong = ray_losses(seen, empty, -features, weights, 0.8, depth * 2)
    assert wrong['squared'].item() == pytest.approx(4.0, rel=1e-4)
    assert wrong['cosine'].item() == pytest.approx(0.3 * 2, rel=1e-4)
    assert wrong['depth'].item() == pytest.approx(0.5)


def test_losses_name_what_is_wrong():
    with pytest.raises(LangOccError, match='cosine'):
        LossWeights(cosine=-1)
    with pytest.raises(LangOccError, match='must count'):
        LossWeights(squared=0, cosine=0)


def test_descending_the_loss_makes_rays_see_more_alike():
    model = small_model()
    surround, rays = random_surround(), random_rays(count=60)
    up = (rays.directions[..., 2:] > 0).float()
    target = torch.zeros(1, 60, 12)
    target[..., :1], target[..., 1:2] = up, 1 - up
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(15):
        volume = model(surround)
        loss = ray_losses(model.render(volume, rays), volume, target, LossWeights(), 1.6)['loss']
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def resnet_config():
    return LangOccConfig.small(backbone='resnet50', stride=16, neck=16, image_size=(64, 96))


def test_resnet50_takes_weights_of_its_own_names_alone(tmp_path):
    torch.manual_seed(0)
    backbone = Backbone(resnet_config())
    assert backbone(torch.rand(1, 3, 64, 96)).shape == (1, 16, 4, 6)
    state = {k: torch.zeros_like(v) for k, v in backbone.trunk.state_dict().items()}
    state['fc.weight'] = torch.zeros(3, 2048)
    torch.save(state, tmp_path / 'good.pth')
    load_resnet50(backbone, tmp_path / 'good.pth')
    assert backbone.trunk.state_dict()['conv1.weight'].abs().sum() == 0
    torch.save({'conv1.weight': torch.zeros(3)}, tmp_path / 'bad.pth')
    with pytest.raises(LangOccError, match='not of a ResNet-50'):
        load_resnet50(backbone, tmp_path / 'bad.pth')
    (tmp_path / 'junk.pth').write_bytes(b'junk')
    with pytest.raises(LangOccError, match=r'junk\.pth'):
        load_resnet50(backbone, tmp_path / 'junk.pth')
    with pytest.raises(LangOccError, match='no backbone weights'):
        load_resnet50(backbone, tmp_path / 'none.pth')


def test_rigs_of_another_length_are_refused():
    with pytest.raises(ValueError, match='5 views'):
        small_model()(Surround(torch.rand(1, 6, 3, 32, 64), [rig_of()[:5]]))
    assert small_config().bins == 12


def test_channels_become_parts_of_voxels_and_are_found_again():
    coarse = torch.arange(2 * 3 * 4 * 5 * 6 * 7.0).reshape(2, 12, 5, 6, 7)[:, :, :5]
    fine = split(coarse, (1, 2, 3))
    assert fine.shape == (2, 2, 5, 12, 21)
    # Channel c of part (0, j, k) is number 6 c + 3 j + k.
    assert fine[1, 1, 2, 2 * 3 + 1, 3 * 4 + 2] == coarse[1, 6 + 3 + 2, 2, 3, 4]
    parts = parts_of(fine, (5, 6, 7))
    torch.testing.assert_close(parts, coarse.unflatten(1, (2, 6)).movedim(2, -1))
    assert split(coarse, (1, 1, 1)) is coarse


def test_a_grazing_ray_reaches_the_ground_of_a_thin_layer_and_not_of_a_thick_one():
    """The lowest 0.4 of 1.6 m are opaque: of thick voxels, all of it would be."""
    x, y, z = GRID.shape
    thin, thick = torch.zeros(1, 1, x, y, 4 * z), torch.zeros(1, 1, x, y, z)
    thin[..., 0], thick[..., 0] = 100.0, 100.0
    slope = torch.tensor([3.0, 0.0, -1.0])
    rays = Rays(torch.tensor([[[-7.0, 0.0, 2.0]]]), (slope / slope.norm())[None, None])
    features = torch.zeros(1, 1, x, y, z)
    seen = {
        name: render(density, features, rays, GRID, Sampling(64, 64, 64)).depth_m.item()
        for name, density in (('thin', thin), ('thick', thick))
    }
    height = {name: 2.0 - depth / float(slope.norm()) for name, depth in seen.items()}
    # Between centres of layers density rises along a line: half a layer too early is right.
    assert -0.65 < height['thin'] < -0.1
    assert height['thick'] > 0.6


def test_what_is_rare_counts_more():
    common, rare = torch.eye(4)[0].expand(95, 4), torch.eye(4)[1].expand(5, 4)
    features = torch.cat([common, rare])[None]
    found = rarity(features)[0]
    torch.testing.assert_close(found[:95], torch.full((95,), 1 / 0.95), atol=0.03, rtol=0)
    torch.testing.assert_close(found[95:], torch.full((5,), 20.0), atol=1.5, rtol=0)


def test_equal_counts_of_kinds_make_losses_of_their_means():
    features = torch.cat([torch.eye(4)[0].expand(90, 4), torch.eye(4)[1].expand(10, 4)])[None]
    volume = Volume(torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, 4, 2, 2, 2))
    # All rays see the common kind: the rare ones have a squared difference of 2.
    shown = torch.eye(4)[0].expand(1, 100, 4)
    seen = Seen(shown, *(torch.zeros(1, 100) for _ in range(3)))
    plain = LossWeights(cosine=0.0, sparsity=0.0, spread=0.0)
    even = LossWeights(cosine=0.0, sparsity=0.0, spread=0.0, rarity=1.0)
    found = [ray_losses(seen, volume, features, w, 0.8)['loss'].item() for w in (plain, even)]
    np.testing.assert_allclose(found, (0.2, 1.0), atol=0.02)


def test_a_house_goes_on_above_the_grid():
    """A ray that leaves through the top, 1.4 m before the house, meets it above."""
    density = torch.zeros(1, 1, *GRID.shape)
    density[:, :, 8:, :, 3:] = 100.0
    up = torch.tensor([1.0, 0.0, 1.0]) / 2**0.5
    rays = Rays(torch.tensor([[[-1.0, 0.0, 2.0]]]), up[None, None])
    features = torch.zeros(1, 1, *GRID.shape)
    found = [
        render(density, features, rays, GRID, Sampling(64, 64, 64, beyond_m=beyond))
        for beyond in (0.0, 4.0)
    ]
    assert found[0].opacity.item() == 0
    assert found[1].opacity.item() > 0.99
    # Its first voxels' centres are 5.6 + 1 m ahead, from where on density falls off.
    assert 5.0 < found[1].depth_m.item() / 2**0.5 < 6.6


def test_rays_of_sky_should_be_clear_and_others_count_nothing():
    opacity = torch.tensor([[0.9, 0.9, 0.2, 1.0]])
    is_sky = torch.tensor([[False, True, True, True]])
    found = sky_loss(opacity, is_sky, LossWeights(sky=2.0))
    np.testing.assert_allclose(found, -2 * np.log([0.1, 0.8, 1e-4]).sum() / 4, rtol=1e-4)
    assert sky_loss(opacity, torch.zeros(1, 4).bool(), LossWeights(sky=2.0)) == 0


def test_a_margin_is_part_of_what_rays_go_through_and_not_of_the_answer():
    with torch.no_grad():
        volume = small_model(margin=1)(random_surround())
    x, y, z = GRID.shape
    assert volume.density.shape == (1, 1, x + 2, y + 2, 4 * (z + 1))
    assert volume.hidden.shape == (1, 6, x + 2, y + 2, z + 1)
    inside = volume.within(GRID.shape)
    torch.testing.assert_close(inside.density, volume.density[:, :, 1:-1, 1:-1, :-4])
    torch.testing.assert_close(inside.hidden, volume.hidden[:, :, 1:-1, 1:-1, :-1])
    assert inside.within(GRID.shape) is inside
    prediction, alone = Prediction(volume, GRID), Prediction(inside, GRID)
    np.testing.assert_array_equal(prediction.opacity(), alone.opacity())
    np.testing.assert_array_equal(prediction.hidden(), alone.hidden())
    corners = np.array([GRID.lower_m, GRID.upper_m, (0.0, 3.0, 1.0)])
    np.testing.assert_array_equal(prediction.features_at(corners), alone.features_at(corners))


def test_what_lies_beyond_the_grid_is_seen_in_its_margin():
    """A wall in the margin alone stops level rays behind the edge of a grid that stays free."""
    model = small_model(margin=1)
    wall = torch.full((1, 1, 12, 12, 20), 100.0)
    wall[:, :, 1:-1, 1:-1] = 0.0
    hidden = functional.normalize(torch.ones(1, 6, 12, 12, 5), dim=1)
    level = torch.tensor([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.6, 0.8, 0.0]])
    rays = Rays(torch.tensor([0.0, 0.0, 1.5]).expand(1, 3, 3), level[None])
    with torch.no_grad():
        seen = model.render(Volume(wall, hidden), rays)
    assert (seen.opacity > 0.99).all()
    # Between the outermost voxels' middles, 7.2 m, and those of the margin, 8.8 m, density rises.
    reached = (level * seen.depth_m[0, :, None]).abs().amax(-1)
    assert ((reached > 7.0) & (reached < 9.6)).all()
    assert not Prediction(Volume(wall, hidden), GRID).occupied().any()
