from hypothesis import given
from hypothesis import strategies as st

from vlm_nodes.live.stamps import StampWatch

SECOND_NS = 1_000_000_000


def test_a_jump_is_noticed_once():
    watch = StampWatch()
    stamps = [10, 11, 12, 1, 2, 3]
    assert [watch.jumped_back('rgb', s * SECOND_NS) for s in stamps] == [
        False, False, False, True, False, False,
    ]  # fmt: skip


def test_one_restart_of_two_streams_is_one_jump():
    watch = StampWatch()
    for stream in ('rgb', 'depth'):
        watch.jumped_back(stream, 100 * SECOND_NS)
    jumps = [
        watch.jumped_back(stream, s * SECOND_NS) for s in (1, 2) for stream in ('rgb', 'depth')
    ]
    assert jumps == [True, False, False, False]


@given(st.lists(st.integers(0, SECOND_NS), min_size=1, max_size=30))
def test_disorder_within_the_tolerance_is_no_jump(stamps):
    watch = StampWatch(tolerance_s=1.0)
    assert not any(watch.jumped_back('rgb', stamp) for stamp in stamps)


@given(st.integers(SECOND_NS + 1, 10**18), st.integers(0, 10**18))
def test_more_than_the_tolerance_is_one(step, begin):
    watch = StampWatch(tolerance_s=1.0)
    assert not watch.jumped_back('rgb', begin + step)
    assert watch.jumped_back('rgb', begin)


def test_clearing_begins_anew():
    watch = StampWatch()
    watch.jumped_back('rgb', 100 * SECOND_NS)
    watch.clear()
    assert not watch.jumped_back('rgb', SECOND_NS)
