import math

import numpy as np
import pytest
import torch

from vlm_nodes.clip.losses import cell_labels, label_loss, ranking_loss


def slow_ranking_loss(logits, negatives, targets, weights) -> float:
    total = 0.0
    for row, negative, pixels, shares in zip(logits, negatives, targets, weights, strict=True):
        everything = [math.exp(x) for x in [*row, *negative]]
        nothing = sum(math.exp(x) for x in negative)
        wrong = sum(math.exp(x) for i, x in enumerate(row) if i not in set(pixels))
        for pixel, share in zip(pixels, shares, strict=True):
            if pixel >= 0:
                total -= share * math.log(math.exp(row[pixel]) / sum(everything))
                total -= share * math.log(nothing / (nothing + wrong))
    return total / weights.sum()


def test_ranking_loss_follows_its_formula() -> None:
    rng = np.random.default_rng(0)
    logits, negatives = rng.normal(size=(7, 5)) * 3, rng.normal(size=(7, 2)) * 3
    targets = rng.integers(-1, 5, size=(7, 4))
    weights = rng.uniform(0, 1, size=(7, 4)) * (targets >= 0)
    got = ranking_loss(*(torch.from_numpy(a) for a in (logits, negatives, targets, weights)))
    assert float(got) == pytest.approx(slow_ranking_loss(logits, negatives, targets, weights))


def test_label_loss_is_the_cross_entropy_with_the_shares_in_the_cell() -> None:
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 0], [1, 3], [2, -1], [-1, -1], [3, 3]])
    shares = torch.zeros(5, 4)
    for row, pixels in enumerate(targets.tolist()):
        for pixel in pixels:
            shares[row, pixel] += pixel >= 0
    expected = torch.nn.functional.cross_entropy(logits, shares, reduction='sum') / shares.sum()
    got = label_loss(logits, targets, (targets >= 0).float())
    torch.testing.assert_close(got, expected)


def test_the_right_order_costs_nothing_and_others_do() -> None:
    targets, weights = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1)

    def loss(right: float, negative: float, wrong: float) -> float:
        logits = torch.tensor([[right, wrong]]).float()
        return float(ranking_loss(logits, torch.tensor([[negative]]).float(), targets, weights))

    assert loss(60, 30, 0) < 1e-6
    assert loss(60, 0, 30) > 10
    assert loss(30, 60, 0) > 10
    assert loss(0, 30, 60) > 50


def test_cells_of_every_label_and_of_none_have_finite_gradients() -> None:
    logits = torch.zeros(2, 2, requires_grad=True)
    targets = torch.tensor([[0, 1], [-1, -1]])
    loss = ranking_loss(logits, torch.zeros(2, 1), targets, (targets >= 0).float())
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert torch.equal(logits.grad[1], torch.zeros(2))
    nothing = ranking_loss(logits, torch.zeros(2, 1), torch.full((2, 2), -1), torch.zeros(2, 2))
    assert float(nothing.detach()) == 0


def test_cells_hold_the_pixels_they_cover() -> None:
    labels = torch.arange(2 * 4 * 6).reshape(2, 4, 6)
    cells = cell_labels(labels, (2, 3))
    assert cells.shape == (12, 4)
    assert cells[0].tolist() == [0, 1, 6, 7]
    assert cells[4].tolist() == [14, 15, 20, 21]
    assert cells[6].tolist() == [24, 25, 30, 31]
    with pytest.raises(ValueError, match='4 x 6 do not divide into 3 x 3'):
        cell_labels(labels, (3, 3))
