import math
import threading

from vlm_nodes.live.statistics import Statistics, resident_megabytes
from vlm_nodes.live.throttle import Throttle


def test_counts_and_mean_times_are_texts_in_order_of_name():
    statistics = Statistics()
    statistics.count('b')
    statistics.count('a', 3)
    statistics.time('stage', 1.0)
    statistics.time('stage', 2.0)
    assert list(statistics.values().items()) == [('a', '3'), ('b', '1'), ('ms stage', '1.50')]
    assert statistics.get('a') == 3
    assert statistics.get('never') == 0


def test_times_are_of_the_last_fifty():
    statistics = Statistics()
    for i in range(100):
        statistics.time('stage', float(i >= 50))
    assert statistics.values() == {'ms stage': '1.00'}


def test_counts_of_several_threads_add_up():
    statistics = Statistics()

    def count():
        for _ in range(1000):
            statistics.count('a')

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statistics.get('a') == 4000


def test_this_process_uses_memory():
    megabytes = resident_megabytes()
    assert math.isnan(megabytes) or 5 < megabytes < 1e6


def test_each_kind_is_throttled_by_itself():
    throttle = Throttle(5.0)
    assert throttle.due('a', 0.0)
    assert not throttle.due('a', 4.9)
    assert throttle.due('b', 4.9)
    assert throttle.due('a', 5.0)
    assert not throttle.due('a', 9.9)
