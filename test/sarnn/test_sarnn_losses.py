from __future__ import annotations

import pytest
import torch

from vlm_nodes.sarnn.losses import LossWeights, masked_mean_square
from vlm_nodes.sarnn.schedule import SmoothRamp, WarmUpCosine


def test_padding_counts_for_nothing() -> None:
    target = torch.zeros(2, 3, 4)
    prediction = torch.ones(2, 3, 4, requires_grad=True)
    counts = torch.tensor([[True, True, False], [True, False, False]])
    loss = masked_mean_square(prediction, target, counts, counts.sum())
    assert loss.item() == pytest.approx(1.0)
    loss.backward()
    assert prediction.grad is not None
    assert (prediction.grad.abs().sum(2) > 0).tolist() == counts.tolist()


def test_what_does_not_count_may_be_no_number() -> None:
    target = torch.zeros(1, 2, 1)
    target[0, 1] = torch.nan
    prediction = torch.ones(1, 2, 1, requires_grad=True)
    counts = torch.tensor([[True, False]])
    loss = masked_mean_square(prediction, target, counts, counts.sum())
    loss.backward()
    assert loss.item() == 1.0
    assert prediction.grad is not None
    assert prediction.grad.isfinite().all()


def test_windows_add_up_to_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction, target = torch.rand(2, 2, 7, 3, 4, 5, generator=generator)
    counts = torch.rand(2, 7, generator=generator) < 0.6
    total = counts.sum()
    whole = masked_mean_square(prediction, target, counts, total)
    parts = [
        masked_mean_square(prediction[:, a:b], target[:, a:b], counts[:, a:b], total)
        for a, b in ((0, 3), (3, 6), (6, 7))
    ]
    assert sum(parts).item() == pytest.approx(whole.item())


def test_a_batch_in_which_nothing_counts_is_worth_nothing() -> None:
    counts = torch.zeros(1, 2, dtype=torch.bool)
    loss = masked_mean_square(torch.ones(1, 2, 1), torch.zeros(1, 2, 1), counts, counts.sum())
    assert loss.item() == 0.0


def test_shapes_that_would_be_broadcast_are_refused() -> None:
    counts = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match='do not fit'):
        masked_mean_square(torch.ones(2, 3, 1), torch.zeros(2, 3, 4), counts, counts.sum())


@pytest.mark.parametrize('name', ['image', 'joints', 'keypoints', 'touch'])
def test_a_negative_weight_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f'weight of {name} .* -1'):
        LossWeights(**{name: -1.0})


def test_the_ramp_begins_and_ends_level() -> None:
    ramp = SmoothRamp(0.0, 0.1, 1000)
    assert ramp(0) == 0.0
    assert ramp(500) == pytest.approx(0.05)
    assert ramp(1000) == ramp(5000) == pytest.approx(0.1)
    assert ramp(10) < 1e-5
    values = [ramp(step) for step in range(0, 1001, 50)]
    assert values == sorted(values)
    assert SmoothRamp(0.0, 0.1, 0)(0) == pytest.approx(0.1)


def test_the_learning_rate_goes_up_and_then_down() -> None:
    factor = WarmUpCosine(10, 110, 0.1)
    assert factor(0) == pytest.approx(1 / 11)
    assert factor(10) == pytest.approx(1.0)
    assert factor(60) == pytest.approx(0.55)
    assert factor(110) == factor(500) == pytest.approx(0.1)
