from __future__ import annotations

import numpy as np
import pytest

from vlm_nodes.cliport.confidence import (
    best_pixels,
    normalised_entropy,
    probabilities,
    window_mass,
)


def test_probabilities_of_large_scores_sum_to_one() -> None:
    p = probabilities(np.array([[1000.0, 1001.0], [-np.inf, 999.0]]))
    assert p.sum() == pytest.approx(1.0)
    assert p[1, 0] == 0
    assert p[0, 1] / p[0, 0] == pytest.approx(np.e)


@pytest.mark.parametrize('scores', [[], [np.nan, 1.0], [np.inf, 1.0], [-np.inf, -np.inf]])
def test_scores_without_a_maximum_are_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match='no finite maximum'):
        probabilities(scores)


def test_entropy_runs_from_none_to_one() -> None:
    single = np.zeros((4, 5))
    single[2, 3] = 1
    assert normalised_entropy(single) == 0
    assert normalised_entropy(np.full((36, 4, 5), 1 / 720)) == pytest.approx(1.0)
    two = np.zeros(16)
    two[:2] = 0.5
    assert normalised_entropy(two) == pytest.approx(0.25)  # log 2 / log 16
    assert normalised_entropy([1.0]) == 0


def test_window_mass_sums_angles_and_stops_at_the_edge() -> None:
    p = np.full((2, 10, 10), 1 / 200)
    assert window_mass(p, 5, 5, 1) == pytest.approx(18 / 200)
    assert window_mass(p, 0, 0, 2) == pytest.approx(18 / 200)
    assert window_mass(p, 5, 5, 50) == pytest.approx(1.0)


def test_best_pixels_keep_apart() -> None:
    p = np.zeros((3, 20, 20))
    p[1, 5, 5], p[2, 6, 6], p[0, 15, 3] = 0.5, 0.3, 0.2
    assert best_pixels(p, 5, 2) == [((1, 5, 5), 0.5), ((0, 15, 3), 0.2)]
    assert [index for index, _ in best_pixels(p[1], 5, 2)] == [(5, 5)]
    assert len(best_pixels(p, 1, 2)) == 1
