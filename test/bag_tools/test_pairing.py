import pytest
from hypothesis import given
from hypothesis import strategies as st

from bag_tools.pairing import StampPairer

MS = 1_000_000


def paired(
    events: list[tuple[int, int]], slop_ms: float
) -> tuple[list[tuple[int, int]], list[int]]:
    """Pairs of (stream, stamp in ms) events, in the order given, and how many stayed alone."""
    pairer: StampPairer[int] = StampPairer(slop_ms / 1e3)
    pairs = [pair for s, t in events for pair in pairer.add(s, t * MS, t)]
    return pairs + list(pairer.flush()), pairer.unpaired


def test_a_dropped_frame_shifts_nothing() -> None:
    events = [(0, 0), (1, 4), (0, 33), (1, 37), (0, 66), (0, 100), (1, 104)]
    pairs, unpaired = paired(events, 20)
    assert pairs == [(0, 4), (33, 37), (100, 104)]
    assert unpaired == [1, 0]


def test_the_nearer_partner_wins_whatever_comes_first() -> None:
    assert paired([(0, 0), (1, 10), (0, 12), (1, 40)], 15) == ([(12, 10)], [1, 1])
    assert paired([(1, 0), (1, 12), (0, 10)], 15) == ([(10, 12)], [0, 1])


def test_out_of_order_arrival_within_a_stream() -> None:
    events = [(0, 40), (0, 0), (1, 1), (1, 41), (0, 80), (1, 81)]
    assert sorted(paired(events, 10)[0]) == [(0, 1), (40, 41), (80, 81)]


def test_streams_that_arrive_far_apart_are_paired() -> None:
    events = [(0, t) for t in range(0, 2000, 40)] + [(1, t + 3) for t in range(0, 2000, 40)]
    pairs, unpaired = paired(events, 10)
    assert pairs == [(t, t + 3) for t in range(0, 2000, 40)]
    assert unpaired == [0, 0]


def test_a_clock_that_jumps_back_pairs_on() -> None:
    run = [(s, t + 3 * s) for t in range(0, 3000, 100) for s in (0, 1)]
    pairs, unpaired = paired(run + run, 10)
    assert pairs == [(t, t + 3) for t in range(0, 3000, 100)] * 2
    assert unpaired == [0, 0]


def test_what_is_held_is_bounded() -> None:
    pairer: StampPairer[int] = StampPairer(0.01, max_pending=10)
    for t in range(500):
        assert not list(pairer.add(0, t * 40 * MS, t))
        assert len(pairer._streams[0].items) <= 11
    for t in range(500):
        list(pairer.add(1, (20_000 + t * 40 + 20) * MS, t))
        assert len(pairer._streams[1].items) <= 11
    list(pairer.flush())
    assert pairer.unpaired == [500, 500]


@given(
    st.lists(st.integers(0, 400), unique=True, max_size=25),
    st.lists(st.integers(0, 400), unique=True, max_size=25),
    st.integers(0, 30),
)
def test_pairs_are_nearest_of_what_is_left_and_everything_is_counted(
    first: list[int], second: list[int], slop: int
) -> None:
    events = sorted([(t, 0) for t in first] + [(t, 1) for t in second])
    pairs, unpaired = paired([(s, t) for t, s in events], slop)
    last = (-1, -1)
    for a, b in pairs:
        assert a > last[0]
        assert b > last[1]  # pairs never cross
        assert abs(a - b) <= slop
        assert abs(a - b) == min(abs(a - other) for other in second if other > last[1])
        last = (a, b)
    assert unpaired == [len(first) - len(pairs), len(second) - len(pairs)]


def test_bad_slop_is_named() -> None:
    with pytest.raises(ValueError, match='slop_s = -1'):
        StampPairer(-1)
