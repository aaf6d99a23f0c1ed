import numpy as np
import pytest

from bag_tools.stamps import count_gaps, find_jumps, sort_stamps

S = 1_000_000_000
START = 1_700_000_000 * S


def clock(count: int, rate: float = 30.0) -> np.ndarray:
    return START + (np.arange(count) * S / rate).astype(np.int64)


def test_steady_stamps() -> None:
    header = clock(90)
    found = sort_stamps(header, header + 5_000_000, use='header', jump_s=1.0)
    report = found.report
    assert report.rate_hz == pytest.approx(30)
    assert report.skew_median_s == pytest.approx(-0.005)
    assert (report.jumps, report.gaps, report.out_of_order, report.unstamped) == (0, 0, 0, 0)
    np.testing.assert_array_equal(found.stamps, header)


def test_out_of_order_is_sorted_and_counted() -> None:
    header = clock(10)
    header[[3, 4]] = header[[4, 3]]
    found = sort_stamps(header, clock(10), use='header', jump_s=1.0)
    assert found.report.out_of_order == 1
    assert found.order.tolist() == [0, 1, 2, 4, 3, 5, 6, 7, 8, 9]
    assert (np.diff(found.stamps) > 0).all()


def test_gaps_are_found() -> None:
    header = np.delete(clock(60), slice(20, 30))
    report = sort_stamps(header, header, use='header', jump_s=1.0).report
    assert report.gaps == 1
    assert report.longest_gap_s == pytest.approx(11 / 30)


def test_one_missing_message_is_a_gap_however_many_are_missing() -> None:
    rng = np.random.default_rng(0)
    stamps = clock(1000) + rng.normal(0, 1e6, 1000).astype(np.int64)
    for share in (0.01, 0.1, 0.3):
        kept = np.sort(rng.choice(1000, round(1000 * (1 - share)), replace=False))
        assert count_gaps(stamps[kept]) == (np.diff(kept) > 1).sum()


def test_intervals_between_two_publishers_are_no_measure_of_gaps() -> None:
    both = np.sort(np.concatenate((clock(100), clock(100) + 2_000_000)))
    assert count_gaps(both) == 0
    assert count_gaps(np.delete(both, [80, 81])) == 1


def test_too_few_stamps_have_no_gaps() -> None:
    assert [count_gaps(clock(n)) for n in (0, 1, 2)] == [0, 0, 0]
    assert count_gaps(np.full(5, START)) == 0


def test_a_restarted_simulation_keeps_its_longest_stretch() -> None:
    receive = clock(100)
    header = receive.copy()
    header[70:] = 5 * S + (np.arange(30) * S // 30)
    found = sort_stamps(header, receive, use='header', jump_s=1.0)
    assert found.report.jumps == 1
    assert found.report.beyond_jumps == 30
    np.testing.assert_array_equal(found.order, np.arange(70))


def test_one_wrong_stamp_costs_one_sample() -> None:
    receive = clock(100)
    for wrong in (-500 * S, 500 * S):
        header = receive.copy()
        header[40] += wrong
        found = sort_stamps(header, receive, use='header', jump_s=1.0)
        assert found.report.jumps >= 1
        assert found.order.tolist() == [i for i in range(100) if i != 40]


def test_unset_stamps_are_left_out() -> None:
    header = clock(20)
    header[:3] = 0
    found = sort_stamps(header, clock(20), use='header', jump_s=1.0)
    assert found.report.unstamped == 3
    assert found.order.tolist() == list(range(3, 20))
    whole = sort_stamps(np.zeros(20, np.int64), clock(20), use='receive', jump_s=1.0)
    assert whole.report.used == 20


def test_what_is_no_jump() -> None:
    receive = clock(60)
    slow = START + (receive - START) // 10
    held_up = receive.copy()
    held_up[30:] += 20 * S
    paused = clock(60)
    paused[30:] += 60 * S
    for header, received in ((slow, receive), (receive, held_up), (paused, paused)):
        jumps, kept = find_jumps(header, received, 1.0)
        assert jumps == 0
        assert kept.all()
    rare = START + np.arange(10) * 5 * S
    assert find_jumps(rare, START + np.arange(10) * S // 2, 1.0)[0] == 0


def test_receive_times_are_not_cut_by_header_jumps() -> None:
    header = clock(50)
    header[25:] += 3600 * S
    found = sort_stamps(header, clock(50), use='receive', jump_s=1.0)
    assert found.report.jumps == 1
    assert found.report.used == 50
