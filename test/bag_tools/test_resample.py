"""Policies against looking at every sample."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bag_tools.resample import interpolate, match_latest, match_nearest, rate_ticks

times = st.lists(st.integers(0, 200), max_size=30)


def stamps_of(values: list[int]) -> np.ndarray:
    return np.array(sorted(values), dtype=np.int64)


@given(times, times, st.integers(0, 50))
def test_nearest_is_nearest(samples: list[int], ticks: list[int], tolerance: int) -> None:
    stamps, at = stamps_of(samples), stamps_of(ticks)
    found = match_nearest(stamps, at, tolerance)
    for i, tick in enumerate(at):
        best = min((abs(int(s) - tick) for s in stamps), default=10**9)
        assert found.valid[i] == (best <= tolerance)
        if found.valid[i]:
            assert abs(found.error_ns[i]) == best
            assert stamps[found.index[i]] - tick == found.error_ns[i]


@given(times, times, st.integers(0, 50))
def test_latest_is_never_from_the_future(
    samples: list[int], ticks: list[int], tolerance: int
) -> None:
    stamps, at = stamps_of(samples), stamps_of(ticks)
    found = match_latest(stamps, at, tolerance)
    for i, tick in enumerate(at):
        before = [int(s) for s in stamps if s <= tick]
        assert found.valid[i] == (bool(before) and tick - before[-1] <= tolerance)
        if before:
            assert stamps[found.index[i]] == before[-1]
        else:
            assert found.index[i] == -1


@given(times, times, st.integers(0, 50))
def test_lines_lie_between_their_samples(
    samples: list[int], ticks: list[int], tolerance: int
) -> None:
    stamps, at = np.unique(stamps_of(samples)), stamps_of(ticks)
    values = 3.0 * stamps + 1
    made, valid, _ = interpolate(stamps, values, at, tolerance)
    for i, tick in enumerate(at):
        low = [int(s) for s in stamps if s <= tick]
        high = [int(s) for s in stamps if s >= tick]
        exact = bool(low) and low[-1] == tick
        near = low and high and tick - low[-1] <= tolerance and high[0] - tick <= tolerance
        assert valid[i] == bool(exact or near)
        if valid[i]:
            assert made[i] == pytest.approx(3.0 * tick + 1)
        elif low:
            assert made[i] == 3.0 * low[-1] + 1


def test_what_is_missing_holds_the_sample_before() -> None:
    stamps = np.array([0, 10, 100])
    found = match_nearest(stamps, np.array([2, 40, 95]), 5)
    assert found.index.tolist() == [0, 1, 2]
    assert found.valid.tolist() == [True, False, True]


@pytest.mark.parametrize('rate', [1.0, 10.0, 29.97, 30.0, 1000.0])
@pytest.mark.parametrize('seconds', [0.0, 1.0, 3.5, 7200.0])
def test_ticks_do_not_drift(rate: float, seconds: float) -> None:
    last = int(seconds * 1e9)
    ticks = rate_ticks(0, last, rate)
    assert ticks[0] == 0
    assert ticks[-1] <= last + 1
    assert last - ticks[-1] < 1e9 / rate
    assert abs(ticks[-1] - (len(ticks) - 1) * 1e9 / rate) <= 0.5


def test_no_time_in_common_gives_no_tick() -> None:
    assert len(rate_ticks(10, 5, 30.0)) == 0
