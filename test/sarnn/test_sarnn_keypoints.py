"""Heatmaps to places and back, against places known beforehand; maps are never square."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_nodes.sarnn.encoders import CameraEncoder, ClipBranch
from vlm_nodes.sarnn.keypoints import SpatialSoftmax, inverse_spatial_softmax

HEIGHT, WIDTH = 12, 20


def blobs(places, height, width, spread):
    """(..., 2) places (x, y) in [0, 1] -> (..., H, W), a Gaussian of a spread in pixels at each."""
    columns, rows = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    x, y = places[..., 0, None, None] * width, places[..., 1, None, None] * height
    return torch.exp(-((columns - x) ** 2 + (rows[:, None] - y) ** 2) / (2 * spread**2))


@pytest.mark.parametrize(('row', 'column'), [(0, 0), (3, 17), (11, 4), (11, 19)])
def test_a_delta_gives_its_place(row, column):
    heatmaps = torch.zeros(1, 1, HEIGHT, WIDTH)
    heatmaps[0, 0, row, column] = 1.0
    place = SpatialSoftmax(temperature=0.5)(heatmaps)[0, 0]
    expected = torch.tensor([(column + 0.5) / WIDTH, (row + 0.5) / HEIGHT])
    assert (place - expected).abs().max() < 1e-4


@given(st.floats(0.3, 0.7), st.floats(0.3, 0.7))
@settings(max_examples=50, deadline=None)
def test_a_blob_between_pixels_gives_its_place(x, y):
    place = torch.tensor([x, y])
    logits = 40 * blobs(place[None, None], HEIGHT, WIDTH, spread=1.5)
    found = SpatialSoftmax(temperature=0.3)(logits)[0, 0]
    assert ((found - place) * torch.tensor([WIDTH, HEIGHT])).abs().max() < 0.2


def test_a_place_does_not_depend_on_contrast_or_offset():
    heatmaps = torch.randn(2, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    softmax = SpatialSoftmax()
    torch.testing.assert_close(softmax(heatmaps), softmax(1e-2 * heatmaps + 7), atol=1e-3, rtol=0)


def test_a_flat_map_points_to_the_middle():
    places = SpatialSoftmax()(torch.full((1, 2, HEIGHT, WIDTH), 3.0))
    torch.testing.assert_close(places, torch.full((1, 2, 2), 0.5))


def test_lower_temperature_is_sharper_and_has_a_gradient():
    heatmaps = blobs(torch.tensor([[[0.9, 0.2]]]), HEIGHT, WIDTH, spread=2.0)
    sharp, soft = (SpatialSoftmax(t)(heatmaps)[0, 0, 0] for t in (0.1, 2.0))
    assert sharp > soft > 0.5
    softmax = SpatialSoftmax(1.0)
    softmax(heatmaps)[0, 0, 0].backward()
    assert softmax.log_temperature.grad < 0


def test_the_heatmap_of_a_key_peaks_where_x_is_right_and_y_is_up():
    window = inverse_spatial_softmax(torch.tensor([[0.9, 0.1]]), (10, 40), 0.1)[0]
    row, column = divmod(int(window.argmax()), 40)
    # Row 0 or 1 of 10 lies around y = 0.1, column 35 or 36 of 40 around x = 0.9.
    assert row in (0, 1)
    assert column in (35, 36)
    assert window.shape == (10, 40)


def test_a_window_is_the_bell_of_the_distance():
    window = inverse_spatial_softmax(torch.tensor([[[0.3, 0.75]]]), (4, 5), 0.1)
    for row in range(4):
        for column in range(5):
            distance2 = ((column + 0.5) / 5 - 0.3) ** 2 + ((row + 0.5) / 4 - 0.75) ** 2
            expected = torch.exp(torch.tensor(-distance2 / 0.1))
            torch.testing.assert_close(window[0, 0, row, column], expected)


def test_a_key_comes_back_from_its_own_window():
    keys = torch.tensor([[[0.4, 0.6], [0.55, 0.35]]])
    windows = inverse_spatial_softmax(keys, (30, 50), 0.01)
    found = SpatialSoftmax(temperature=0.2)(windows)
    assert (found - keys).abs().max() < 0.01


def test_gradients_reach_the_adapter_and_the_temperature():
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    branch = ClipBranch(dim=16, k_dim=3, text_dim=6)
    features = torch.nn.functional.normalize(torch.randn(2, 16, 6, 8, generator=generator), dim=1)
    keypoints = branch(features, torch.randn(2, 6, generator=generator))
    (keypoints - torch.rand(keypoints.shape, generator=generator)).square().sum().backward()
    assert branch.adapter.weight.grad.norm() > 1e-3
    assert branch.softmax.log_temperature.grad.abs() > 1e-4
    assert branch.film.to_scale_shift.weight.grad.norm() > 1e-3


def test_points_of_patch_features_are_continuous():
    """Not quantised to the grid: a small change of the features moves them by a little."""
    torch.manual_seed(0)
    branch = ClipBranch(dim=16, k_dim=3, text_dim=0)
    features = torch.nn.functional.normalize(torch.randn(1, 16, 6, 8), dim=1)
    before = branch(features, None)
    moved = (branch(features + 1e-3 * torch.randn(features.shape), None) - before).abs()
    assert (moved > 0).all()
    assert moved.max() < 0.01


def test_a_keypoint_learns_to_track_a_moving_blob():
    """To less than a pixel on average, in a picture that is not square, in colours it must find."""
    height, width = 48, 80
    size = torch.tensor([width, height])
    generator = torch.Generator().manual_seed(0)

    def picture(places):
        shape = blobs(places, height, width, spread=2.0)
        other = blobs(places.flip(0), height, width, spread=2.0)
        return torch.stack([0.2 + 0.7 * shape, 0.3 + 0.6 * other, 0.5 - 0.3 * shape], dim=1)

    def random_places(count):
        return 0.1 + 0.8 * torch.rand(count, 2, generator=generator)

    torch.manual_seed(0)
    encoder = CameraEncoder(stem_dim=16, trunk_dim=32, k_dim=2, text_dim=0)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
    for _ in range(60):
        places = random_places(16)
        keypoints, _ = encoder(picture(places), None)
        optimizer.zero_grad()
        (keypoints[:, 0] - places).square().mean().backward()
        optimizer.step()
    turn = torch.linspace(0, 6.28, 100)
    path = torch.stack([0.5 + 0.35 * turn.cos(), 0.5 + 0.3 * (2 * turn).sin()], dim=1)
    with torch.no_grad():
        keypoints, _ = encoder(picture(path), None)
    assert ((keypoints[:, 0] - path) * size).norm(dim=1).mean() < 1.0
