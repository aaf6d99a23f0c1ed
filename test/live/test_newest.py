import threading

import pytest

from vlm_nodes.live.newest import NewestWorker

PATIENCE_S = 20.0


class Held:
    """Work that waits to be let go, so that what queues up behind it is known."""

    def __init__(self, **options):
        self.done = []
        self.errors = []
        self.threads = set()
        self._at_work = threading.Semaphore(0)
        self._go = threading.Semaphore(0)
        self.worker = NewestWorker(self._work, on_error=self.errors.append, **options)

    def _work(self, item):
        self._at_work.release()
        assert self._go.acquire(timeout=PATIENCE_S)
        self.threads.add(threading.get_ident())
        self.done.append(item)
        if item == 'bad':
            raise ValueError(item)

    def wait_for_work(self):
        assert self._at_work.acquire(timeout=PATIENCE_S)

    def let_go(self, times=1):
        for _ in range(times):
            self._go.release()

    def finish(self):
        self.let_go(100)
        while not self.worker.idle():
            threading.Event().wait(0.001)
        assert self.worker.stop(PATIENCE_S)
        return self.done


@pytest.fixture
def make():
    made = []

    def build(**options):
        made.append(Held(**options))
        return made[-1]

    yield build
    for held in made:
        held.let_go(100)
        held.worker.stop(PATIENCE_S)


def test_only_the_newest_item_waits(make):
    held = make()
    held.worker.offer('a', 0)
    held.wait_for_work()
    assert [held.worker.offer('a', i) for i in range(1, 5)] == [0, 1, 1, 1]
    assert held.finish() == [0, 4]
    assert len(held.threads) == 1


def test_more_may_wait_and_keep_their_order(make):
    held = make(waiting=3)
    held.worker.offer('a', 0)
    held.wait_for_work()
    assert sum(held.worker.offer('a', i) for i in range(1, 6)) == 2
    assert held.finish() == [0, 3, 4, 5]


def test_sources_take_turns(make):
    held = make(waiting=2)
    held.worker.offer('a', 'a0')
    held.wait_for_work()
    for item in ('a1', 'a2', 'b1', 'b2'):
        assert held.worker.offer(item[0], item) == 0
    assert held.finish() == ['a0', 'a1', 'b1', 'a2', 'b2']


def test_a_bad_item_does_not_end_it(make):
    held = make(waiting=5)
    for item in ('bad', 'good'):
        held.worker.offer('a', item)
    assert held.finish() == ['bad', 'good']
    assert [str(error) for error in held.errors] == ['bad']


def test_nothing_is_an_item_like_any_other(make):
    held = make(waiting=5)
    for item in (None, 0, '', 'last'):
        held.worker.offer('a', item)
    assert held.finish() == [None, 0, '', 'last']


def test_clearing_drops_what_waits(make):
    held = make(waiting=5)
    held.worker.offer('a', 0)
    held.wait_for_work()
    for i in range(3):
        held.worker.offer(f'source {i}', i)
    assert held.worker.clear() == 3
    assert held.finish() == [0]


def test_stopping_drops_what_waits_and_says_whether_it_ended(make):
    held = make(waiting=5)
    held.worker.offer('a', 0)
    held.wait_for_work()
    held.worker.offer('a', 1)
    assert not held.worker.stop(0.01)
    assert held.worker.stopping.is_set()
    held.let_go(2)
    assert held.worker.stop(PATIENCE_S)
    assert held.done == [0]


def test_no_room_to_wait_is_refused():
    with pytest.raises(ValueError, match='waiting = 0'):
        NewestWorker(print, on_error=print, waiting=0)
