"""The network: ticks against sequences, predictions fed back, and what may be absent."""

from dataclasses import fields, replace

import pytest
import torch
from small_policies import CLIP, TEXT, TEXT_DIM, config, everything, observation, policy, task

from vlm_nodes.sarnn import DepthConfig, Observation, Prediction

ABSENT = {
    'color alone': {},
    'joints alone': {'cameras': ()},
    'no camera': {'cameras': (), 'tactile': ('gelsight1',), 'depth': DepthConfig(size=(8, 8))},
    'touch': {'tactile': ('gelsight1',)},
    'depth': {'depth': DepthConfig('depth_image', (8, 12))},
    'language': {'text_dim': TEXT_DIM, 'text': TEXT},
    'clip without language': {'clip': CLIP},
    'language and clip': {'clip': CLIP, 'text_dim': TEXT_DIM},
    'no residual': {'residual': False},
}


def parts(prediction):
    """Every tensor of a prediction by its name."""
    found = {}
    for part in fields(prediction):
        value = getattr(prediction, part.name)
        if isinstance(value, torch.Tensor):
            found[part.name] = value
        else:
            found |= {f'{part.name}/{name}': tensor for name, tensor in value.items()}
    return found


def assert_same(made, expected, **tolerance):
    made, expected = parts(made), parts(expected)
    assert made.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            made[name], tensor, msg=lambda m, n=name: f'{n}: {m}', **tolerance
        )


def test_predictions_have_the_shapes_that_are_said():
    made = everything()
    prediction, state = policy(made)(observation(made, 2, 5), task(made, 2))
    assert prediction.joints.shape == (2, 5, 3)
    for points in (prediction.keypoints, prediction.encoded_keypoints):
        assert {n: t.shape[2:] for n, t in points.items()} == {
            'color': (4, 2),
            'wrist': (4, 2),
            'color/clip': (3, 2),
            'wrist/clip': (3, 2),
        }
    for codes in (prediction.codes, prediction.encoded_codes):
        assert {n: t.shape for n, t in codes.items()} == dict.fromkeys(
            ('gelsight1', 'gelsight2', 'depth'), (2, 5, 8)
        )
    assert {n: t.shape for n, t in prediction.images.items()} == dict.fromkeys(
        ('color', 'wrist'), (2, 5, 3, 16, 24)
    )
    assert state.hidden.shape == state.cell.shape == (2, 16)


def test_encoded_keypoints_lie_in_the_image_and_codes_are_bounded():
    made = everything()
    prediction, _ = policy(made)(observation(made, 2, 5), task(made, 2))
    for points in prediction.encoded_keypoints.values():
        assert (points > 0).all()
        assert (points < 1).all()
    for code in prediction.encoded_codes.values():
        assert code.abs().max() <= 1


@pytest.mark.parametrize('changes', [*ABSENT.values(), None], ids=[*ABSENT, 'everything'])
def test_a_sequence_is_its_ticks_one_by_one(changes):
    made = everything() if changes is None else config(**changes)
    model, observations, text = policy(made), observation(made, 2, 6), task(made, 2)
    whole, last = model(observations, text)
    state = model.initial_state(2)
    for t in range(6):
        prediction, state = model.step(observations.tick(t), text, state)
        assert_same(prediction, whole.tick(t), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state.hidden, last.hidden, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(state.cell, last.cell, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('measured', [1.0, 0.6, 0.0])
def test_state_carried_over_two_windows_is_one_long_window(measured):
    made = everything()
    model, observations, text = policy(made), observation(made, 2, 7), task(made, 2)
    whole, _ = model(observations, text, measured=measured)
    first, state = model(observations.window(0, 3), text, measured=measured)
    second, _ = model(observations.window(3, 7), text, state.detach(), measured=measured)
    assert_same(first, whole.window(0, 3), atol=1e-5, rtol=1e-5)
    assert_same(second, whole.window(3, 7), atol=1e-5, rtol=1e-5)


def test_a_detached_state_ends_the_gradient():
    made = everything()
    model, text = policy(made), task(made, 2)
    _, state = model(observation(made, 2, 3), text, measured=0.5)
    assert state.hidden.requires_grad
    cut = state.detach()
    assert not cut.hidden.requires_grad
    assert not any(tensor.requires_grad for tensor in parts(cut.predicted).values())


def test_closed_loop_is_predictions_fed_back_by_hand():
    """Without CLIP and touch all that is fed back can be put into an observation."""
    made = config(text_dim=TEXT_DIM, text=TEXT)
    model, observations, text = policy(made), observation(made, 2, 5), task(made, 2)
    closed, _ = model(observations, text, measured=0.0)
    state, fed = model.initial_state(2), observations.tick(0)
    for t in range(5):
        prediction, state = model.step(fed, text, state)
        assert_same(prediction, closed.tick(t), atol=1e-5, rtol=1e-5)
        images = {name: image.clamp(0, 1) for name, image in prediction.images.items()}
        fed = Observation(prediction.joints, images)


def test_a_mix_is_a_mix_of_measurement_and_prediction():
    made = config()
    model, observations = policy(made), observation(made, 2, 2)
    first, state = model.step(observations.tick(0), None, model.initial_state(2))
    mixed, _ = model.step(observations.tick(1), None, state, measured=0.3)
    seen = observations.tick(1)
    joints = 0.3 * seen.joints + 0.7 * first.joints
    images = {n: 0.3 * seen.images[n] + 0.7 * first.images[n].clamp(0, 1) for n in seen.images}
    expected, _ = model.step(Observation(joints, images), None, state)
    assert_same(mixed, expected, atol=1e-5, rtol=1e-5)


def test_closed_loop_hears_nothing_of_the_measurements():
    made = everything()
    model, observations, text = policy(made), observation(made, 2, 4), task(made, 2)
    closed, _ = model(observations, text, measured=0.0)
    other = observation(made, 2, 4, seed=1)
    swapped = other.map(torch.clone)
    for name in ('joints', 'depth'):
        getattr(swapped, name)[:, 0] = getattr(observations, name)[:, 0]
    for name in ('images', 'tactile', 'clip'):
        for stream, tensor in getattr(swapped, name).items():
            tensor[:, 0] = getattr(observations, name)[stream][:, 0]
    again, _ = model(swapped, text, measured=0.0)
    torch.testing.assert_close(again.joints, closed.joints)
    heard, _ = model(swapped, text, measured=0.1)
    assert (heard.joints[:, 1:] - closed.joints[:, 1:]).abs().max() > 1e-5


def test_chosen_ticks_alone_are_decoded():
    made = everything()
    model, observations, text = policy(made), observation(made, 2, 6), task(made, 2)
    whole, _ = model(observations, text)
    ticks = torch.tensor([4, 1])
    chosen, _ = model(observations, text, decode_images=ticks)
    for name, images in whole.images.items():
        torch.testing.assert_close(chosen.images[name], images[:, ticks])
    torch.testing.assert_close(chosen.joints, whole.joints)
    without, state = model(observations, text, decode_images=False)
    assert without.images == {}
    torch.testing.assert_close(without.joints, whole.joints)
    with pytest.raises(ValueError, match='feeds images back'):
        model.step(observations.tick(0), text, state, measured=0.5)
    with pytest.raises(ValueError, match='feeds images back'):
        model(observations, text, measured=0.5, decode_images=ticks)


def test_the_task_changes_what_is_looked_at_and_what_is_done():
    made = everything()
    model, observations = policy(made), observation(made, 1, 3)
    text = task(made, 2)
    # Untrained, the text reaches the recurrent layer alone: stand in for training.
    for module in (*model.cameras.values(), *model.clips.values()):
        torch.nn.init.normal_(module.film.to_scale_shift.weight, std=0.3)
    one, other = (model(observations, row[None])[0] for row in text)
    for name in ('color', 'color/clip'):
        change = (one.encoded_keypoints[name] - other.encoded_keypoints[name]).abs().max()
        assert change > 1e-3
    assert (one.joints - other.joints).abs().max() > 1e-5


def test_each_sequence_hears_its_own_task():
    made = everything()
    model, observations, text = policy(made), observation(made, 3, 4), task(made, 3)
    for module in (*model.cameras.values(), *model.clips.values()):
        torch.nn.init.normal_(module.film.to_scale_shift.weight, std=0.3)
    together, _ = model(observations, text)
    for row in range(3):
        alone, _ = model(observations.map(lambda t, r=row: t[r : r + 1]), text[row : row + 1])
        assert_same(alone, together.map(lambda t, r=row: t[r : r + 1]), atol=1e-5, rtol=1e-5)


def test_texts_that_differ_little_are_heard_apart():
    made = config(text_dim=TEXT_DIM, text=TEXT)
    model = policy(made)
    base = task(made, 1)
    texts = torch.nn.functional.normalize(base + 0.01 * task(made, 3, seed=1), dim=1)
    assert (texts @ texts.T).min() > 0.999
    model.text_scale.fit(texts)
    heard = model.text_scale(texts)
    torch.testing.assert_close(heard.mean(0), torch.zeros(TEXT_DIM), atol=1e-4, rtol=0)
    torch.testing.assert_close(heard.square().mean(), torch.tensor(1.0), atol=1e-3, rtol=0)


def test_a_single_text_is_not_taken_off_itself():
    model = policy(config(text_dim=TEXT_DIM, text=TEXT))
    text = task(model.config, 1)
    model.text_scale.fit(text)
    heard = model.text_scale(text)
    torch.testing.assert_close(heard.square().mean(), torch.tensor(1.0))


@pytest.mark.parametrize('measured', [1.0, 0.5])
def test_in_half_precision_places_keep_theirs(measured):
    made = everything()
    model, observations, text = policy(made), observation(made, 2, 4), task(made, 2)
    expected, _ = model(observations, text, measured=measured)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        half, _ = model(observations, text, measured=measured)
    assert half.joints.dtype == torch.float32
    for name, points in half.encoded_keypoints.items():
        assert points.dtype == torch.float32
        torch.testing.assert_close(points, expected.encoded_keypoints[name], atol=0.01, rtol=0)
    torch.testing.assert_close(half.joints, expected.joints, atol=0.01, rtol=0)


@pytest.mark.parametrize('residual', [True, False])
def test_every_weight_is_reached_by_a_gradient(residual):
    made = everything(residual=residual)
    model = policy(made)
    prediction, _ = model(observation(made, 2, 3), task(made, 2))
    errors = [tensor.square().mean() for tensor in parts(prediction).values()]
    sum(errors).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        # Modulation begins at zero, and what a unit softmax ignores has no gradient: the bias
        # before a map is brought to mean 0.
        if 'to_heatmaps.bias' not in name and 'adapter.bias' not in name:
            assert weight.grad.abs().max() > 0, name


def test_joints_are_not_bounded():
    """Linear to the end: what a residual adds to a joint far out moves it as far."""
    made = config(cameras=())
    model = policy(made)
    observations = observation(made, 1, 1)
    far = replace(observations, joints=observations.joints + 10)
    assert (model(far)[0].joints > 9).all()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'joints': torch.zeros(1, 2)}, r'joints must be \(1, 3\), got \(1, 2\)'),
        ({'images': {}}, r"images must be of \['color', 'wrist'\], got nothing"),
        ({'depth': None}, 'depth is missing'),
        ({'depth': torch.zeros(1, 1, 4, 4)}, r'depth must be \(1, 1, 8, 12\)'),
        ({'tactile': {'gelsight1': torch.zeros(1, 3, 12, 16)}}, 'tactile must be of'),
        ({'clip': {}}, 'clip must be of .*, got nothing'),
    ],
)
def test_what_is_wrong_with_an_observation_is_named(changes, message):
    made = everything()
    model = policy(made)
    with pytest.raises(ValueError, match=message):
        model.step(replace(observation(made, 1), **changes), task(made, 1), model.initial_state(1))


def test_transposed_images_are_refused():
    made = config()
    seen = observation(made, 1)
    turned = replace(seen, images={'color': seen.images['color'].transpose(-1, -2)})
    model = policy(made)
    with pytest.raises(ValueError, match=r'images of color must be \(1, 3, 16, 24\)'):
        model.step(turned, None, model.initial_state(1))


@pytest.mark.parametrize('text', [None, torch.zeros(2, TEXT_DIM), torch.zeros(1, TEXT_DIM + 1)])
def test_a_task_of_another_shape_is_refused(text):
    made = config(text_dim=TEXT_DIM, text=TEXT)
    model = policy(made)
    with pytest.raises(ValueError, match=r'task must be embeddings of shape \(1, 12\)'):
        model.step(observation(made, 1), text, model.initial_state(1))


@pytest.mark.parametrize('measured', [-0.1, 1.1, float('nan')])
def test_a_share_that_is_none_is_refused(measured):
    made = config()
    with pytest.raises(ValueError, match=r'measured = .* must be between 0 and 1'):
        policy(made)(observation(made, 1, 2), measured=measured)


def test_touch_is_reacted_to_within_the_tick():
    """What the finger feels now changes the very next joints: nothing waits for a later tick."""
    made = config(tactile=('gelsight1',))
    model, seen = policy(made), observation(made, 1)
    pressed = replace(seen, tactile={'gelsight1': seen.tactile['gelsight1'] + 0.1})
    free, _ = model.step(seen, None, model.initial_state(1))
    felt, _ = model.step(pressed, None, model.initial_state(1))
    assert (felt.joints - free.joints).abs().max() > 1e-6


def test_a_prediction_moves_as_a_whole():
    made = everything()
    prediction, _ = policy(made)(observation(made, 1, 2), task(made, 1))
    assert isinstance(prediction.detach(), Prediction)
    assert all(
        t.dtype == torch.float64 for t in parts(prediction.map(torch.Tensor.double)).values()
    )
