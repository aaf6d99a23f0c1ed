"""What a policy sees of recorded and live arrays: the same numbers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bag_tools.images import NO_DIFFERENCE, ImageMaker, fit, subtract_reference
from bag_tools.settings import StreamSettings
from vlm_nodes.sarnn import (
    ClipBranchConfig,
    DepthConfig,
    PatchFeatures,
    Preprocessor,
    SarnnConfig,
)


def policy(**changes):
    given = {
        'joint_names': ('base', 'elbow'),
        'joint_bounds': ((-1.0, 0.0), (1.0, 4.0)),
        'image_size': (32, 48),
        'tactile': ('gelsight1',),
        'tactile_size': (24, 32),
        'depth': DepthConfig('depth', (16, 20), (0.5, 2.5)),
    }
    return SarnnConfig(**given | changes)


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def test_joints_are_scaled_by_their_bounds_and_back():
    preprocessor = Preprocessor(policy())
    positions = np.array([[[-1.0, 4.0], [0.5, 1.0]]])
    scaled = preprocessor.joints(positions)
    assert scaled.dtype == torch.float32
    np.testing.assert_allclose(scaled, [[[0.0, 1.0], [0.75, 0.25]]], atol=1e-7)
    np.testing.assert_allclose(preprocessor.unscale(scaled), positions, atol=1e-6)


def test_joints_beyond_the_bounds_are_not_cut():
    preprocessor = Preprocessor(policy())
    np.testing.assert_allclose(preprocessor.joints([3.0, -4.0]), [2.0, -1.0], atol=1e-7)


def test_joints_are_taken_by_name_whatever_their_order():
    preprocessor = Preprocessor(policy())
    named = {'elbow': 1.0, 'gripper': 7.0, 'base': 0.5}
    np.testing.assert_allclose(preprocessor.joints_by_name(named), [0.75, 0.25], atol=1e-7)


def test_a_missing_joint_is_named():
    with pytest.raises(ValueError, match='no position of elbow; there are base, gripper'):
        Preprocessor(policy()).joints_by_name({'base': 0.0, 'gripper': 1.0})


def test_a_joint_that_is_not_finite_is_named():
    with pytest.raises(ValueError, match='elbow is nan'):
        Preprocessor(policy()).joints_by_name({'base': 0.0, 'elbow': float('nan')})


def test_joints_of_another_number_are_refused():
    with pytest.raises(ValueError, match=r'\(\.\.\., 2\): base, elbow; got \(3,\)'):
        Preprocessor(policy()).joints(np.zeros(3))


@pytest.mark.parametrize('size', [(48, 72), (120, 160), (20, 30)])
def test_images_are_resized_as_the_converter_does(size):
    image = random_images(*size)
    settings = StreamSettings(('/rgb',), 'color', resize=(48, 32))
    made = Preprocessor(policy()).fit('color', image)
    np.testing.assert_array_equal(made, fit(image, settings))


def test_a_live_image_becomes_what_the_converter_recorded():
    camera = random_images(120, 160)
    settings = StreamSettings(('/rgb',), 'color', crop=(20, 0, 90, 100), resize=(48, 32))
    message = SimpleNamespace(
        height=120, width=160, encoding='rgb8', step=480, is_bigendian=0, data=camera.ravel()
    )
    maker = ImageMaker(settings)
    maker.learn(message)
    recorded = maker(message)
    live = Preprocessor(policy(), {'color': (20, 0, 90, 100)}).fit('color', camera)
    np.testing.assert_array_equal(live, recorded)


def test_images_of_the_right_size_are_passed_on():
    images = random_images(2, 5, 32, 48)
    assert Preprocessor(policy()).fit('color', images) is images


def test_sequences_are_fitted_image_by_image():
    images = random_images(2, 3, 64, 96)
    preprocessor = Preprocessor(policy())
    fitted = preprocessor.fit('color', images)
    assert fitted.shape == (2, 3, 32, 48, 3)
    np.testing.assert_array_equal(fitted[1, 2], preprocessor.fit('color', images[1, 2]))


def test_red_is_the_first_channel():
    red = np.zeros((64, 96, 3), dtype=np.uint8)
    red[..., 0] = 255
    preprocessor = Preprocessor(policy())
    seen = preprocessor.image(preprocessor.fit('color', red))
    assert seen.shape == (3, 32, 48)
    assert (seen[0] == 1).all()
    assert (seen[1:] == 0).all()


def test_what_clip_sees_is_rgb_of_the_recorded_size():
    seen = []

    def encode(images):
        seen.extend(images)
        return np.arange(4 * 8 * 3, dtype=np.float32).reshape(1, 4, 8, 3)

    encoder = SimpleNamespace(identity='tiny/0/naclip', dim=3, encode_dense_batch=encode)
    branch = ClipBranchConfig('tiny', None, 'naclip', 'tiny/0/naclip', 3, (2, 4), None, (30, 40))
    image = np.zeros((60, 80, 3), dtype=np.uint8)
    image[:, :40, 0] = 200
    (features,) = PatchFeatures(encoder, branch)(image[None])
    assert seen[0].shape == (30, 40, 3)
    assert (seen[0][:, 5] == (200, 0, 0)).all()
    assert features.shape == (3, 2, 4)
    # Channel 1 of the upper left cell: the mean of patches (0, 0), (0, 1), (1, 0) and (1, 1).
    assert features[1, 0, 0] == np.mean([1, 4, 25, 28])


def test_another_encoder_than_in_training_is_refused():
    encoder = SimpleNamespace(identity='other/1/naclip', dim=3)
    branch = ClipBranchConfig('tiny', None, 'naclip', 'tiny/0/naclip', 3, (2, 4), None, (30, 40))
    with pytest.raises(ValueError, match=r'tiny/0/naclip .* other/1/naclip'):
        PatchFeatures(encoder, branch)


def test_touch_is_the_difference_to_no_contact():
    preprocessor = Preprocessor(policy())
    reference = np.full((24, 32, 3), 100, dtype=np.uint8)
    image = reference.copy()
    image[5, 7] = (151, 49, 100)
    touch = preprocessor.tactile(image, reference)
    assert touch.shape == (3, 24, 32)
    np.testing.assert_allclose(touch[:, 5, 7], [0.2, -0.2, 0.0], atol=1e-7)
    assert touch.count_nonzero() == 2


def test_touch_that_the_converter_subtracted_is_the_same():
    preprocessor = Preprocessor(policy())
    images = random_images(4, 24, 32) // 2 + 64
    reference = np.full((24, 32, 3), NO_DIFFERENCE, dtype=np.uint8)
    subtracted = np.stack([subtract_reference(image, reference) for image in images])
    torch.testing.assert_close(
        preprocessor.tactile(subtracted), preprocessor.tactile(images, reference)
    )


def test_each_episode_of_touch_has_its_own_reference():
    images = random_images(2, 3, 24, 32)
    touch = Preprocessor(policy()).tactile(images, images[:, :1])
    assert (touch[:, 0] == 0).all()
    assert (touch[:, 1] != 0).any()


@pytest.mark.parametrize('hole', [np.nan, np.inf, 0.0, -1.0])
def test_depth_is_nearness_and_holes_are_far(hole):
    depth = np.full((16, 20), 1.0, dtype=np.float32)
    depth[0, :3] = (0.2, 5.0, hole)
    seen = Preprocessor(policy()).depth(depth)
    assert seen.shape == (1, 16, 20)
    np.testing.assert_allclose(seen[0, 0, :4], [1.0, 0.0, 0.0, 0.75], atol=1e-6)


def test_depth_in_millimetres_is_the_same_as_in_metres():
    millimetres = np.random.default_rng(0).integers(0, 3000, (2, 16, 20), dtype=np.uint16)
    millimetres[0, 0, :2] = (0, 65535)
    metres = np.where(millimetres == 65535, np.nan, millimetres / 1000).astype(np.float32)
    preprocessor = Preprocessor(policy())
    torch.testing.assert_close(preprocessor.depth(millimetres), preprocessor.depth(metres))


def test_depth_is_never_averaged():
    depth = np.where(np.indices((64, 80))[1] % 3 == 0, 0.7, 2.0).astype(np.float32)
    fitted = Preprocessor(policy()).fit('depth', depth)
    assert fitted.shape == (16, 20)
    assert set(np.unique(fitted)) == set(np.float32([0.7, 2.0]))


def test_a_tick_of_live_inputs_is_what_a_recording_of_it_is():
    preprocessor = Preprocessor(policy())
    color, touched = random_images(64, 96), random_images(48, 64, seed=1)
    reference = random_images(48, 64, seed=2)
    depth = np.random.default_rng(3).uniform(0.3, 3.0, (32, 40)).astype(np.float32)
    live = preprocessor.observe(
        {'elbow': 1.0, 'base': 0.5},
        {'color': color, 'gelsight1': touched, 'depth': depth, 'wrist': color},
        {'gelsight1': reference},
    )
    live.check(policy(), (1,))
    recorded = preprocessor.image(preprocessor.fit('color', color[None, None]))
    torch.testing.assert_close(live.images['color'], recorded[0])
    recorded = preprocessor.tactile(
        preprocessor.fit('gelsight1', touched[None]),
        preprocessor.fit('gelsight1', reference[None]),
    )
    torch.testing.assert_close(live.tactile['gelsight1'], recorded)
    recorded = preprocessor.depth(preprocessor.fit('depth', depth[None]))
    torch.testing.assert_close(live.depth, recorded)


@pytest.mark.parametrize(
    ('images', 'references', 'message'),
    [
        ({'gelsight1'}, {'gelsight1'}, 'no image of color'),
        ({'color', 'gelsight1'}, set(), 'no image without contact of gelsight1'),
    ],
)
def test_what_a_tick_lacks_is_named(images, references, message):
    preprocessor = Preprocessor(policy(depth=None))
    with pytest.raises(ValueError, match=message):
        preprocessor.observe(
            {'base': 0.0, 'elbow': 0.0},
            {name: random_images(24, 32) for name in images},
            {name: random_images(24, 32) for name in references},
        )


@pytest.mark.parametrize(
    ('stream', 'images', 'message'),
    [
        ('wrist', np.zeros((4, 4, 3), np.uint8), 'no stream wrist; it has color, gelsight1, depth'),
        ('color', np.zeros((4, 4), np.uint8), r'color: .* RGB needed, got \(4, 4\) uint8'),
        ('color', np.zeros((4, 4, 3), np.float32), r'color: .* got \(4, 4, 3\) float32'),
        ('color', np.zeros((0, 4, 3), np.uint8), r'color: .* got \(0, 4, 3\)'),
        ('depth', np.zeros((4, 4), np.int32), r'depth: .* millimetres needed, got .* int32'),
    ],
)
def test_wrong_images_are_named(stream, images, message):
    with pytest.raises(ValueError, match=message):
        Preprocessor(policy()).fit(stream, images)


def test_a_crop_outside_the_image_is_refused():
    with pytest.raises(ValueError, match='does not lie in an image of 30x20'):
        Preprocessor(policy(), {'color': (0, 0, 40, 10)}).fit('color', random_images(20, 30))


def test_a_crop_of_an_unknown_stream_is_refused():
    with pytest.raises(ValueError, match='no stream wrist'):
        Preprocessor(policy(), {'wrist': (0, 0, 4, 4)})
