from typing import Any

import dense_references as reference
import numpy as np
import pytest
import torch
from torch.nn import functional

from vlm_nodes.clip import dense, sc_clip
from vlm_nodes.clip.backend import open_clip
from vlm_nodes.clip.weights import build_model

TEXT = {'context_length': 8, 'vocab_size': 49408, 'width': 16, 'heads': 2, 'layers': 1}
EMBED_DIM = 12


def transformer(layers: int = 3, *, patch: int = 8, quick_gelu: bool = False) -> Any:
    torch.manual_seed(layers)
    vision = {
        'image_size': 32,
        'layers': layers,
        'width': 24,
        'head_width': 8,
        'patch_size': patch,
    }
    config = {'embed_dim': EMBED_DIM, 'vision_cfg': vision, 'text_cfg': TEXT}
    model = build_model({**config, 'quick_gelu': quick_gelu}).eval().double().requires_grad_(False)
    _make_weights_matter(model.visual)
    return model.visual


def _make_weights_matter(visual: Any) -> None:
    """Freshly made biases are zero and norms one: with those, forgetting one would go unseen."""
    generator = torch.Generator().manual_seed(7)
    for name, value in visual.named_parameters():
        if value.ndim == 1 and name != 'class_embedding':
            value += 0.2 * torch.randn(value.shape, generator=generator)


def images(batch: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randn(batch, 3, height, width, generator=generator).double()


def as_reference(visual: Any, quick_gelu: bool = False) -> reference.ReferenceTransformer:
    state = {key: value.numpy() for key, value in visual.state_dict().items()}
    heads = visual.transformer.resblocks[0].attn.num_heads
    return reference.ReferenceTransformer(state, heads, visual.patch_size[0], quick_gelu)


def resized_positions(visual: Any, grid: tuple[int, int]) -> np.ndarray:
    embedding = visual.positional_embedding
    side = visual.grid_size
    planes = embedding[1:].T.reshape(1, -1, *side).float()
    resized = functional.interpolate(planes, size=grid, mode='bicubic', align_corners=False)
    patches = resized[0].flatten(1).T.double()
    return torch.cat([embedding[:1], patches]).numpy()


GRIDS = [(4, 4), (3, 5), (6, 4)]


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('quick_gelu', [False, True])
@pytest.mark.parametrize('method', ['maskclip', 'naclip'])
def test_transformer_methods_follow_their_formula(
    method: str, quick_gelu: bool, grid: tuple[int, int]
) -> None:
    visual = transformer(quick_gelu=quick_gelu)
    batch = images(2, 8 * grid[0], 8 * grid[1])
    got = dense.dense_features(visual, batch, method)
    tower = as_reference(visual, quick_gelu)
    positions = resized_positions(visual, grid)
    for image, features in zip(batch, got, strict=True):
        outputs = tower.outputs(image.numpy(), positions)
        expected = getattr(reference, method)(tower, outputs, grid)
        np.testing.assert_allclose(
            features.numpy(), expected.reshape(*grid, EMBED_DIM), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(
    ('layers', 'grid', 'middle', 'early'),
    [(4, (5, 7), 1, 1), (6, (6, 4), 3, 2), (12, (5, 6), 9, 4)],
)
def test_sc_clip_follows_its_formula(
    layers: int, grid: tuple[int, int], middle: int, early: int
) -> None:
    visual = transformer(layers)
    batch = images(2, 8 * grid[0], 8 * grid[1])
    got = dense.dense_features(visual, batch, 'sc_clip')
    tower = as_reference(visual)
    positions = resized_positions(visual, grid)
    for image, features in zip(batch, got, strict=True):
        outputs = tower.outputs(image.numpy(), positions)
        expected = reference.sc_clip(tower, outputs, grid, middle, early)
        np.testing.assert_allclose(
            features.numpy(), expected.reshape(*grid, EMBED_DIM), rtol=1e-4, atol=1e-5
        )


def test_sc_clip_finds_the_patches_that_stick_out() -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(2, 60, 6, generator=generator)
    patches[0, 17] += 30
    patches[1, 5] -= 30
    factors = sc_clip.local_outlier_factor(patches)
    for got, image in zip(factors, patches, strict=True):
        expected = reference.local_outlier_factors(image.double().numpy())
        np.testing.assert_allclose(got.numpy(), expected, rtol=2e-3)
    mask = sc_clip.outlier_mask(patches)
    assert mask.sum(dim=1).tolist() == [3, 3]
    assert mask[0, 17]
    assert mask[1, 5]


def test_sc_clip_repairs_from_normal_neighbours_only() -> None:
    patches = torch.arange(12.0).reshape(1, 12, 1)
    outliers = torch.zeros(1, 12, dtype=torch.bool)
    outliers[0, [0, 1, 7]] = True
    got = sc_clip.repair(patches, outliers, (3, 4))[0, :, 0]
    expected = torch.arange(12.0)
    expected[0] = (4 + 5) / 2
    expected[1] = (2 + 4 + 5 + 6) / 4
    expected[7] = (2 + 3 + 6 + 10 + 11) / 5
    torch.testing.assert_close(got, expected)


def test_sc_clip_keeps_an_outlier_among_outliers() -> None:
    patches = torch.arange(4.0).reshape(1, 4, 1)
    outliers = torch.ones(1, 4, dtype=torch.bool)
    torch.testing.assert_close(sc_clip.repair(patches, outliers, (2, 2)), patches)


@pytest.mark.parametrize('method', dense.METHODS)
def test_a_batch_is_its_images_one_by_one(method: str) -> None:
    visual = transformer(4)
    batch = images(3, 40, 48)
    together = dense.dense_features(visual, batch, method)
    for image, features in zip(batch, together, strict=True):
        alone = dense.dense_features(visual, image[None], method)[0]
        torch.testing.assert_close(features, alone, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('method', dense.METHODS)
def test_token_order_of_the_blocks_does_not_matter(method: str) -> None:
    """open_clip before 2.25 builds blocks for (N, B, C) tokens."""
    visual = transformer(4)
    batch = images(2, 32, 24)
    expected = dense.dense_features(visual, batch, method)
    for block in visual.transformer.resblocks:
        block.attn.batch_first = False
    torch.testing.assert_close(dense.dense_features(visual, batch, method), expected)


def test_blocks_agree_with_open_clip_itself() -> None:
    visual = transformer(4)
    batch = images(2, 32, 32)
    outputs, grid = dense.block_outputs(visual, batch)
    theirs = visual.forward_intermediates(batch, output_fmt='NLC', intermediates_only=True)
    assert grid == (4, 4)
    for own, other in zip(outputs, theirs['image_intermediates'], strict=False):
        torch.testing.assert_close(own[:, 1:], other)


def test_towers_are_left_as_they_were() -> None:
    visual = transformer(4)
    batch = images(1, 32, 32)
    before = visual(batch)
    state = {key: value.clone() for key, value in visual.state_dict().items()}
    for method in dense.METHODS:
        dense.dense_features(visual, images(1, 40, 24), method)
    torch.testing.assert_close(visual(batch), before, rtol=0, atol=0)
    for key, value in visual.state_dict().items():
        assert torch.equal(value, state[key])


def resnet() -> Any:
    torch.manual_seed(0)
    vision = {'image_size': 64, 'layers': [1, 1, 1, 1], 'width': 8, 'patch_size': None}
    config = {'embed_dim': EMBED_DIM, 'vision_cfg': vision, 'text_cfg': TEXT}
    return build_model(config).eval().double().requires_grad_(False).visual


@pytest.mark.parametrize('size', [(64, 64), (64, 96)])
def test_resnet_projects_the_value_of_every_place(size: tuple[int, int]) -> None:
    visual = resnet()
    batch = images(2, *size)
    got = dense.dense_features(visual, batch)
    maps = visual.layer4(visual.layer3(visual.layer2(visual.layer1(visual.stem(batch))))).numpy()
    state = {key: value.numpy() for key, value in visual.attnpool.state_dict().items()}
    assert got.shape == (2, size[0] // 32, size[1] // 32, EMBED_DIM)
    for b in range(2):
        for i in range(got.shape[1]):
            for j in range(got.shape[2]):
                value = state['v_proj.weight'] @ maps[b, :, i, j] + state['v_proj.bias']
                expected = state['c_proj.weight'] @ value + state['c_proj.bias']
                np.testing.assert_allclose(got[b, i, j].numpy(), expected, rtol=1e-8, atol=1e-12)


def test_the_image_embedding_of_a_trunk_is_the_mean_of_its_places() -> None:
    """True of average pooling before a linear projection, which is what the head applies."""
    visual = build_model(open_clip.get_model_config('tiny')).eval().requires_grad_(False).visual
    batch = images(2, 64, 96).float()
    places = dense.dense_features(visual, batch)
    assert places.shape == (2, 16, 24, 128)
    torch.testing.assert_close(places.mean(dim=(1, 2)), visual(batch), rtol=1e-4, atol=1e-5)


def test_stride_says_how_large_patches_are() -> None:
    assert dense.patch_stride(transformer(patch=16)) == 16
    assert dense.patch_stride(resnet()) == 32
    assert dense.patch_stride(build_model(open_clip.get_model_config('tiny')).visual) == 4


def test_convolutional_towers_have_one_method() -> None:
    assert {dense.dense_method(resnet(), method) for method in dense.METHODS} == {'value'}
    assert dense.dense_method(transformer(4), 'sc_clip') == 'sc_clip'


def test_bad_input_is_named() -> None:
    visual = transformer()
    with pytest.raises(ValueError, match="got 'clearclip'"):
        dense.dense_features(visual, images(1, 32, 32), 'clearclip')
    with pytest.raises(ValueError, match='at least 4 transformer blocks, got 3'):
        dense.dense_features(visual, images(1, 32, 32), 'sc_clip')
    with pytest.raises(ValueError, match='multiples of the patch 8 x 8, got 30 x 32'):
        dense.dense_features(visual, images(1, 30, 32))
    with pytest.raises(ValueError, match=r'must be \(B, 3, H, W\)'):
        dense.dense_features(visual, images(1, 32, 32)[0])
    with pytest.raises(ValueError, match='type Linear'):
        dense.dense_features(torch.nn.Linear(1, 1), images(1, 32, 32))
