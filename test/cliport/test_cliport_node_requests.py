"""Requests in a worker's thread: answered, cancelled, failed, and too many."""

import threading
import time

import pytest

from vlm_nodes.cliport.planner import Answer
from vlm_nodes.cliport.requests import PlanRequest
from vlm_nodes.live.newest import NewestWorker
from vlm_nodes.live.requests import MOST_REQUESTS, Requests

PATIENCE_S = 60.0


def request(instruction='put it there'):
    return PlanRequest(instruction, 1, asked_ns=0, asked_s=time.monotonic())


@pytest.fixture
def make():
    workers = []

    def build(plan):
        errors = []
        worker = NewestWorker(lambda job: job(), on_error=errors.append)
        workers.append(worker)
        return Requests(worker, plan, errors.append, Answer), worker, errors

    yield build
    for worker in workers:
        worker.stop(PATIENCE_S)


def test_an_answer_comes_back_and_its_stages_before_it(make):
    requests, _, errors = make(lambda asked: requests.begin(asked, 'pick') or Answer('no', 'kind'))
    asked, told = request(), []
    requests.follow(asked, lambda: told.extend(_drained(asked)))
    assert asked.answer.refusal == 'no'
    assert told == ['pick']
    assert errors == []


def _drained(asked):
    while not asked.stages.empty():
        yield asked.stages.get()


def test_what_fails_is_an_answer_and_the_next_one_is_worked_on(make):
    def plan(asked):
        if asked.instruction == 'bad':
            raise KeyError('gone')
        return Answer()

    requests, _, errors = make(plan)
    bad, good = request('bad'), request('good')
    requests.follow(bad, lambda: None)
    requests.follow(good, lambda: None)
    assert (bad.answer.kind, bad.answer.refusal) == ('error', "KeyError: 'gone'")
    assert errors == ["KeyError: 'gone'"]
    assert good.answer.refusal == ''


def test_who_cancels_gets_no_answer(make):
    def plan(asked):
        requests.wait(asked, lambda: False, time.monotonic() + PATIENCE_S)
        return Answer()

    requests, _, errors = make(plan)
    asked = request()
    requests.follow(asked, asked.cancelled.set)
    assert asked.done.is_set()
    assert asked.answer is None
    assert errors == []


def test_nobody_waits_for_a_worker_that_stops(make):
    go = threading.Event()
    requests, worker, _ = make(lambda asked: go.wait(PATIENCE_S) and Answer())
    asked = request()
    requests.follow(asked, worker.stopping.set)
    assert asked.answer is None
    assert requests.is_over(asked)
    go.set()


def test_one_too_many_is_told_so(make):
    go = threading.Event()
    requests, _, _ = make(lambda asked: go.wait(PATIENCE_S) and Answer())
    held = [request() for _ in range(MOST_REQUESTS)]
    begun = threading.Barrier(MOST_REQUESTS + 1)

    def hold(asked):
        met = []

        def meet():
            if not met:
                met.append(begun.wait(PATIENCE_S))

        requests.follow(asked, meet)

    threads = [threading.Thread(target=hold, args=(asked,)) for asked in held]
    for thread in threads:
        thread.start()
    begun.wait(PATIENCE_S)
    late = request()
    requests.follow(late, lambda: pytest.fail('it is not worked on'))
    assert late.answer.kind == 'busy'
    go.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert all(asked.answer.refusal == '' for asked in held)
    requests.follow(late, lambda: None)
    assert late.answer.kind == ''


def test_waiting_ends_with_what_is_waited_for_or_with_the_time(make):
    requests, _, _ = make(lambda asked: Answer())
    assert requests.wait(request(), lambda: True, 0.0)
    assert not requests.wait(request(), lambda: False, time.monotonic() + 0.02)
