import numpy as np
import pytest
import torch
from small_cliport import direct_correlation

from vlm_nodes.cliport.correlation import correlate
from vlm_nodes.cliport.losses import map_cross_entropy
from vlm_nodes.cliport.poses import angle_bin
from vlm_nodes.cliport.rotation import bin_angles, rotated_windows, window_mask


def random_pair(seed: int = 0, size: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    key = torch.randn(2, 3, 17, 22, generator=generator)
    return key, torch.randn(2, 5, 3, size, size, generator=generator)


@pytest.mark.parametrize('size', [2, 6, 8])
def test_transforms_give_the_direct_correlation(size: int) -> None:
    key, queries = random_pair(size=size)
    scores = correlate(key, queries).numpy()
    expected = direct_correlation(key.numpy(), queries.numpy())
    assert scores.shape == expected.shape
    np.testing.assert_allclose(scores, expected, atol=2e-5)
    for b in range(2):
        assert scores[b].argmax() == expected[b].argmax()


def test_a_window_is_found_where_it_was_cut() -> None:
    key = torch.nn.functional.pad(torch.randn(1, 3, 24, 30), [4, 4, 4, 4])
    window = key[:, :, 4 + 10 - 4 : 4 + 10 + 4, 4 + 17 - 4 : 4 + 17 + 4]
    scores = correlate(key, window.unsqueeze(1))
    assert scores.shape == (1, 1, 24, 30)
    assert divmod(int(scores.argmax()), 30) == (10, 17)


def test_its_gradients_are_those_of_the_direct_form() -> None:
    key, queries = (t.double().requires_grad_() for t in random_pair(1))
    weights = torch.randn(2, 5, 11, 16, dtype=torch.double)
    windows = key.unfold(2, 6, 1).unfold(3, 6, 1)[:, :, :11, :16]
    expected = torch.einsum('bcyxij,bkcij->bkyx', windows, queries)
    wanted = torch.autograd.grad((expected * weights).sum(), (key, queries))
    scores = correlate(key.float(), queries.float())
    given = torch.autograd.grad((scores * weights).sum(), (key, queries))
    for one, other in zip(given, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ('key', 'queries', 'message'),
    [
        ((1, 3, 9, 9), (1, 4, 3, 4, 5), 'queries'),
        ((1, 3, 9, 9), (1, 4, 2, 4, 4), 'channels'),
        ((2, 3, 9, 9), (1, 4, 3, 4, 4), 'batch'),
        ((1, 3, 9, 4), (1, 4, 3, 4, 4), 'no larger'),
    ],
)
def test_shapes_that_do_not_fit_are_named(key, queries, message) -> None:
    with pytest.raises(ValueError, match=message):
        correlate(torch.zeros(key), torch.zeros(queries))


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    """(row, column) offsets turned from columns towards rows."""
    rows, columns = points.T
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos * rows + sin * columns, -sin * rows + cos * columns], axis=1)


def test_what_lies_at_an_offset_appears_turned() -> None:
    maps = torch.zeros(1, 1, 41, 41)
    maps[0, 0, 20, 20 + 8] = 1  # to the right: along x
    windows = rotated_windows(maps, torch.tensor([[20, 20]]), 36, 32)
    for k in (0, 3, 9, 18, 27, 35):
        row, column = divmod(int(windows[0, k, 0].argmax()), 32)
        # Counterclockwise from x to y: columns towards rows.
        angle = k * np.pi / 18
        assert abs(row - 16 - 8 * np.sin(angle)) <= 0.5 + 1e-4
        assert abs(column - 16 - 8 * np.cos(angle)) <= 0.5 + 1e-4


def test_right_angles_are_exact() -> None:
    maps = torch.randn(1, 2, 33, 33)
    windows = rotated_windows(maps, torch.tensor([[16, 16]]), 4, 16)
    patch = maps[:, :, 9:24, 9:24]
    for k in range(4):
        # In an array whose rows go down, from columns to rows is clockwise.
        expected = torch.rot90(patch, -k, dims=(2, 3))
        torch.testing.assert_close(windows[:, k, :, 1:, 1:], expected, atol=1e-4, rtol=0)


def test_windows_reach_over_the_border_into_nothing() -> None:
    maps = torch.ones(1, 1, 20, 20)
    windows = rotated_windows(maps, torch.tensor([[0, 0]]), 4, 8)
    assert windows[0, 0, 0, :4].abs().max() < 1e-5
    torch.testing.assert_close(windows[0, 0, 0, 4:, 4:], torch.ones(4, 4))


def test_grouped_cells_turn_about_the_centre_of_a_group() -> None:
    maps = torch.arange(400.0).reshape(1, 1, 20, 20)
    windows = rotated_windows(maps, torch.tensor([[10.5, 8.5]]), 4, 8, group=2)
    torch.testing.assert_close(windows[0, 0, 0], maps[0, 0, 6:14, 4:12])
    groups = torch.nn.functional.avg_pool2d(windows[:, :, 0], 2)
    torch.testing.assert_close(groups[0, :, 2, 2], groups[0, :1, 2, 2].expand(4))


def test_the_disc_looks_the_same_from_all_sides() -> None:
    mask = window_mask(16)
    assert mask[0].sum() == mask[:, 0].sum() == 0
    inner = mask[1:, 1:]
    assert torch.equal(inner, torch.rot90(inner))
    assert torch.equal(inner, inner.flip(0))
    assert mask[8, 8] == 1


@pytest.mark.parametrize('turns', [1, 2, 3])
def test_a_turned_scene_turns_the_answer_of_the_correlation(turns: int) -> None:
    """Turning key and query features by a quarter turns place and pick; the angle stays."""
    size, count = 8, 36
    key, query = torch.randn(1, 3, 31, 31), torch.randn(1, 3, 31, 31)
    pick = torch.tensor([[12, 19]])
    middle = torch.tensor([15, 15])

    def scores(key, query, pick):
        windows = rotated_windows(query, pick, count, size) * window_mask(size)
        return correlate(torch.nn.functional.pad(key, [size // 2] * 4), windows)

    def turn(maps):
        return torch.rot90(maps, -turns, dims=(2, 3))

    moved = torch.from_numpy(turned((pick - middle).double().numpy(), turns * np.pi / 2)) + middle
    # A quarter turn of columns towards rows takes (row, column) offset (0, 1) to (1, 0).
    before, after = scores(key, query, pick), scores(turn(key), turn(query), moved.round())
    torch.testing.assert_close(after, turn(before), atol=1e-3, rtol=1e-4)


def test_a_thing_placed_at_an_angle_is_found_there() -> None:
    """An L at the pick; the key holds it turned by 60 degrees elsewhere: bin 6 and that place."""
    shape = torch.zeros(1, 1, 61, 61)
    shape[0, 0, 18:30, 20:23] = 1
    shape[0, 0, 27:30, 20:32] = 1
    query = shape.clone()
    pick = torch.tensor([[25, 24]])
    wanted = rotated_windows(shape, pick, 36, 32)[:, 6]
    key = torch.zeros(1, 1, 96, 96)
    key[:, :, 50 - 16 : 50 + 16, 41 - 16 : 41 + 16] = wanted - wanted.mean()
    windows = rotated_windows(query, pick, 36, 32) * window_mask(32)
    scores = correlate(torch.nn.functional.pad(key, [16] * 4), windows)
    angle, place = divmod(int(scores.argmax()), 96 * 96)
    assert (angle, *divmod(place, 96)) == (6, 50, 41)


def test_windows_turn_by_the_angles_of_the_bins() -> None:
    assert angle_bin(bin_angles(36).numpy(), 36).tolist() == list(range(36))


def test_cross_entropy_is_that_of_one_label() -> None:
    logits = torch.randn(2, 3, 4, 5)
    cells = torch.tensor([[1, 2], [3, 4]])
    loss = map_cross_entropy(logits, torch.tensor([0, 2]), cells)
    log = torch.stack([x.flatten().log_softmax(0).reshape(3, 4, 5) for x in logits])
    torch.testing.assert_close(loss, -(log[0, 0, 1, 2] + log[1, 2, 3, 4]) / 2)


def test_its_gradient_does_not_shrink_with_the_map() -> None:
    for side in (4, 64):
        logits = torch.zeros(1, 2, side, side, requires_grad=True)
        loss = map_cross_entropy(logits, torch.tensor([1]), torch.tensor([[1, 2]]))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert gradient[0, 1, 1, 2] == pytest.approx(-1 + 1 / (2 * side**2))


def test_a_label_outside_is_refused() -> None:
    with pytest.raises(ValueError, match='row'):
        map_cross_entropy(torch.zeros(1, 1, 4, 9), torch.tensor([0]), torch.tensor([[4, 2]]))
