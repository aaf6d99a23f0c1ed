from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from random_batches import random_batch, small_policy

from vlm_nodes.sarnn.batch import JOINTS, Batch
from vlm_nodes.sarnn.losses import LossWeights
from vlm_nodes.sarnn.model import Sarnn
from vlm_nodes.sarnn.objective import PARTS, make_windows, weighted, window_errors
from vlm_nodes.sarnn.training import (
    TrainingConfig,
    choose_ticks,
    closed_loop_error,
    parameter_groups,
)


def gradients(
    model: Sarnn, batch: Batch, length: int, **more: float
) -> tuple[dict[str, torch.Tensor], float]:
    """Gradients gathered window by window, and the loss."""
    model.zero_grad()
    total = 0.0
    windows = make_windows(batch.steps, length, torch.arange(batch.steps))
    for parts, _ in window_errors(model, batch, batch.observations, windows, **more):
        loss = weighted(parts, LossWeights(), 1.0)
        loss.backward()
        total += loss.item()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}, total


def by_hand(model: Sarnn, batch: Batch) -> tuple[dict[str, torch.Tensor], float]:
    """Full backpropagation, and means over what counts, written out."""
    model.zero_grad()
    seen = batch.observations
    made, _ = model(seen.window(0, batch.steps), batch.task)

    def mean(squared: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
        return squared[counts].flatten(1).mean(1).mean()

    ahead = {name: mask[:, 1:] for name, mask in batch.counts.items()}
    joints = mean((made.joints - seen.joints[:, 1:]) ** 2, ahead[JOINTS])
    image = mean((made.images['color'] - seen.images['color'][:, 1:]) ** 2, ahead['color'])
    points = [
        mean((made.keypoints[n][:, :-1] - made.encoded_keypoints[n][:, 1:]) ** 2, mask)
        for n in made.keypoints
        for mask in [batch.counts['color'][:, 1:-1]]
    ]
    codes = [
        mean(
            (made.codes[n][:, :-1] - made.encoded_codes[n][:, 1:].detach()) ** 2,
            batch.counts[n][:, 1:-1],
        )
        for n in made.codes
    ]
    loss = joints + 0.1 * image + 0.1 * torch.stack(points).mean()
    loss = loss + 0.1 * torch.stack(codes).mean()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters()}, loss.item()


@pytest.mark.parametrize('length', [0, 8, 100])
def test_one_window_has_the_gradients_of_full_backpropagation(length: int) -> None:
    model, batch = small_policy(), random_batch()
    wanted, wanted_loss = by_hand(model, batch)
    made, loss = gradients(model, batch, length)
    assert loss == pytest.approx(wanted_loss, rel=1e-5)
    assert made.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(made[name], gradient, rtol=1e-4, atol=1e-7, msg=name)


def test_windows_see_the_same_errors_of_joints_and_images() -> None:
    model, batch = small_policy(), random_batch()
    sums = {}
    for length in (0, 3):
        windows = make_windows(batch.steps, length, torch.arange(batch.steps))
        parts = [made for made, _ in window_errors(model, batch, batch.observations, windows)]
        assert len(parts) == (1 if length == 0 else 3)
        assert set(parts[0]) == set(PARTS)
        sums[length] = {name: sum(p[name].item() for p in parts) for name in (JOINTS, 'image')}
    assert sums[3] == pytest.approx(sums[0], rel=1e-5)


def test_gradients_end_at_a_window() -> None:
    model, batch = small_policy(), random_batch()
    whole, _ = gradients(model, batch, 0)
    cut, _ = gradients(model, batch, 2)
    assert not torch.allclose(whole['recurrent.weight_hh_l0'], cut['recurrent.weight_hh_l0'])


def test_what_is_padding_changes_nothing() -> None:
    model, batch = small_policy(), random_batch()
    before, _ = gradients(model, batch, 3)

    def spoil(tensor: torch.Tensor) -> torch.Tensor:
        spoilt = tensor.clone()
        spoilt[1, -1] = 7.0
        return spoilt

    spoilt = replace(
        batch, observations=batch.observations.map(spoil), targets=spoil(batch.targets)
    )
    after, _ = gradients(model, spoilt, 3)
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient, msg=name)


@pytest.mark.parametrize('share', [0.3, 0.0])
def test_a_share_of_images_is_decoded(share: float) -> None:
    model, batch = small_policy(), random_batch()
    chosen = choose_ticks(batch.steps, share, torch.Generator().manual_seed(1))
    windows = make_windows(batch.steps, 3, chosen)
    decoded, errors = 0, 0.0
    for parts, made in window_errors(model, batch, batch.observations, windows):
        decoded += made.images['color'].shape[1] if made.images else 0
        errors += parts['image'].item() if 'image' in parts else 0.0
    assert decoded == len(chosen) == round(share * batch.steps)
    full, _ = model(batch.observations.window(0, batch.steps), batch.task)
    squared = (full.images['color'] - batch.observations.images['color'][:, 1:]) ** 2
    counts = batch.counts['color'][:, 1:][:, chosen]
    wanted = squared[:, chosen][counts].mean().item() if share else 0.0
    assert errors == pytest.approx(wanted, rel=1e-4)


def test_the_mean_over_random_ticks_is_the_mean_over_all() -> None:
    counts = torch.zeros(20)
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        counts[choose_ticks(20, 0.25, generator)] += 1
    assert counts.sum() == 400 * 5
    assert counts.min() > 60


def test_closed_loop_training_hears_its_own_predictions() -> None:
    model, batch = small_policy(), random_batch()
    teacher, loss = gradients(model, batch, 4)
    mixed, mixed_loss = gradients(model, batch, 4, measured=0.5)
    assert mixed_loss != pytest.approx(loss, rel=1e-3)
    assert mixed.keys() == teacher.keys()


def test_closed_loop_error_is_of_predictions_fed_back() -> None:
    model, batch = small_policy(), random_batch()
    joints, state = [], model.initial_state(2)
    for t in range(batch.steps):
        made, state = model.step(
            batch.observations.tick(t), batch.task, state, measured=1.0 if t == 0 else 0.0
        )
        joints.append(made.joints)
    squared = (torch.stack(joints, 1) - batch.targets[:, 1:]) ** 2
    wanted = squared[batch.counts[JOINTS][:, 1:]].mean()
    torch.testing.assert_close(closed_loop_error(model, batch), wanted)


def test_biases_and_temperatures_do_not_decay() -> None:
    model = small_policy()
    decaying, still = parameter_groups(model, 0.1)
    assert (decaying['weight_decay'], still['weight_decay']) == (0.1, 0.0)
    names = {id(p): n for n, p in model.named_parameters()}
    assert all(names[id(p)].split('.')[-1].startswith('weight') for p in decaying['params'])
    count = len(decaying['params']) + len(still['params'])
    assert count == len(names)


@pytest.mark.parametrize(
    ('name', 'value'),
    [('learning_rate', 0.0), ('tbptt', -1), ('image_share', 1.1), ('measured', -0.1), ('steps', 0)],
)
def test_a_bad_number_is_named(name: str, value: float) -> None:
    build: Callable[..., TrainingConfig] = TrainingConfig
    with pytest.raises(ValueError, match=f'{name} = {value}'):
        build(**{name: value})
