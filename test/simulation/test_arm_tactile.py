import itertools

import numpy as np
import pytest

from vlm_nodes.simulation.arm.tactile import (
    FULL_FORCE_N,
    HEIGHT,
    WIDTH,
    Press,
    height_map,
    press_from_contact,
    tactile_image,
)

FREE = tactile_image([]).astype(int)


def change(image):
    return np.abs(image.astype(int) - FREE)


def middle_of(amount):
    """(u, v) of the centre of what changed, in the picture's own units."""
    row, column = np.indices((HEIGHT, WIDTH))
    total = amount.sum()
    u = ((column + 0.5 - WIDTH / 2) * amount).sum() / total / (HEIGHT / 2)
    v = ((row + 0.5 - HEIGHT / 2) * amount).sum() / total / (HEIGHT / 2)
    return u, v


def test_a_free_pad_always_looks_the_same():
    np.testing.assert_array_equal(tactile_image([]), FREE)
    np.testing.assert_array_equal(tactile_image([Press((0.1, 0.2), 0.0)]), FREE)
    assert FREE.shape == (HEIGHT, WIDTH, 3)


def test_more_force_shows_more():
    amounts = [
        change(tactile_image([Press((0.0, 0.0), force)])).sum() for force in (0.5, 1, 2, 4, 8)
    ]
    assert all(b > 1.2 * a for a, b in itertools.pairwise(amounts))


def test_pushing_and_pressing_against_the_stop_look_different():
    push, stop = (tactile_image([Press((0.0, -0.5), force)]) for force in (0.95, 3.0))
    assert change(push).max() > 15
    assert change(stop).max() > 2 * change(push).max()


@pytest.mark.parametrize('at', [(-0.6, 0.2), (0.0, -0.5), (0.5, 0.4)])
def test_the_dent_is_where_the_press_is(at):
    np.testing.assert_allclose(middle_of(height_map([Press(at, 3.0)])), at, atol=0.03)


def test_shear_moves_the_dent_along():
    still = middle_of(height_map([Press((0.0, 0.0), 3.0)]))
    moved = middle_of(height_map([Press((0.0, 0.0), 3.0, (2.0, -2.0))]))
    assert moved[0] > still[0] + 0.02
    assert moved[1] < still[1] - 0.02


def test_each_side_of_a_dent_is_lit_by_another_lamp():
    image = tactile_image([Press((0.0, 0.0), 4.0)]).astype(int) - FREE
    brightest = [
        np.unravel_index(image[..., channel].argmax(), image.shape[:2]) for channel in range(3)
    ]
    assert len(set(brightest)) == 3


def test_height_is_bounded():
    presses = [Press((0.0, 0.0), 50.0), Press((0.1, 0.0), 50.0)]
    assert 0.9 < height_map(presses).max() <= 1.0
    assert height_map([Press((0.0, 0.0), FULL_FORCE_N / 2)]).max() == pytest.approx(0.5, abs=0.01)


def test_contacts_on_the_left_and_below_are_felt_at_different_places():
    left = press_from_contact((0, -1, 0), (0, 2.0, 0))
    below = press_from_contact((0, 0, -1), (0, 0, 2.0))
    assert left.force_n == pytest.approx(2.0)
    assert below.force_n == pytest.approx(2.0)
    assert left.at[1] < -0.3
    assert below.at[1] > 0.3
    np.testing.assert_allclose(left.shear_n, 0, atol=1e-12)


def test_the_back_of_the_finger_feels_nothing():
    assert press_from_contact((0, 1, 0.2), (0, -2.0, 0)) is None


def test_what_pulls_does_not_press():
    assert press_from_contact((0, -1, 0), (0, -2.0, 0)) is None


def test_a_rubbing_contact_shears():
    press = press_from_contact((0, -1, 0), (-0.5, 2.0, 0))
    assert press.force_n == pytest.approx(2.0)
    assert press.shear_n[0] == pytest.approx(0.5)


@pytest.mark.parametrize('values', [((0.0, 0.0), -1.0), ((np.nan, 0.0), 1.0), ((0.0, 0.0), np.inf)])
def test_a_press_names_what_is_wrong_with_it(values):
    with pytest.raises(ValueError, match=r'must be finite|must not be negative'):
        Press(*values)
