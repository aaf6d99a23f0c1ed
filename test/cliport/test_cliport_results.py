import json

import numpy as np
import pytest

from vlm_nodes.cliport.results import (
    Results,
    mean_interval,
    over_seeds,
    success_interval,
    summary,
)
from vlm_nodes.cliport.rollouts import EpisodeResult

TASK = 'put-block-in-bowl-seen-colors'


def episode(seed: int, reward: float = 1.0) -> EpisodeResult:
    return EpisodeResult(seed, reward, reward > 0.99, 2, ('put it', 'put it'), ('block_0', None))


def results(folder, mode='test') -> Results:
    return Results(Results.path_of(folder, TASK, mode), TASK, mode)


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    inside = 0
    for _ in range(200):
        values = (rng.random(50) < 0.6) * rng.choice([0.5, 1.0], 50)
        low, high = mean_interval(values.tolist())
        inside += low <= 0.45 <= high
    # 95 % of 200 are 190; its standard deviation is 3, and a bootstrap is a little narrow.
    assert 178 <= inside <= 199


def test_the_interval_of_a_share_is_the_exact_one() -> None:
    # Clopper and Pearson's bounds where all or none succeed have a closed form.
    low, high = success_interval(50, 50)
    assert low == pytest.approx(0.025 ** (1 / 50))
    assert high == 1
    low, high = success_interval(0, 20)
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_no_episode_has_no_interval() -> None:
    with pytest.raises(ValueError, match='no episode'):
        mean_interval([])


def test_a_summary_counts_all_of_the_task_and_parts_of_it() -> None:
    found = summary([episode(1), episode(3, 0.5), episode(5, 0), episode(7, 0.999)])
    assert found['count'] == 4
    assert found['mean'] == pytest.approx(0.6248, abs=1e-4)
    assert found['success'] == 0.5
    assert found['mean_interval'][0] < found['mean'] < found['mean_interval'][1]


def test_trainings_of_several_seeds_stand_side_by_side() -> None:
    found = over_seeds([0.8, 0.9, 1.0])
    assert (found['policies'], found['mean'], found['sd']) == (3, 0.9, 0.1)
    assert (found['least'], found['greatest']) == (0.8, 1.0)
    # Student's t of two degrees of freedom: 4.303.
    assert found['half_interval'] == pytest.approx(4.3027 * 0.1 / 3**0.5, abs=1e-4)
    assert 'sd' not in over_seeds([0.8])


def test_what_was_added_is_read_again(tmp_path) -> None:
    first = results(tmp_path)
    assert first.enter('bowls', 'step-000002', 'abc', 7) == {}
    for seed in (10003, 10001):
        first.add('bowls', 'step-000002', episode(seed, 0.5))
    first.choose('bowls', 'step-000002')
    again = results(tmp_path)
    assert again.path.name == f'{TASK}-test-results.json'
    assert again.enter('bowls', 'step-000002', 'abc', 7).keys() == {10001, 10003}
    assert again.of('bowls', 'step-000002', [10003, 10001])[1] == episode(10001, 0.5)
    assert again.chosen('bowls') == 'step-000002'
    assert again.chosen('other') is None
    assert again.page() == first.page()
    assert not list(tmp_path.glob('.*'))
    page = json.loads(again.path.read_text())
    assert page['policies']['bowls']['training_seed'] == 7
    assert page['policies']['bowls']['checkpoints']['step-000002']['mean'] == 0.5
    assert 'bootstrap' in page['interval']


def test_a_training_done_anew_loses_its_old_results(tmp_path) -> None:
    first = results(tmp_path)
    first.enter('bowls', 'step-000002', 'abc', 0)
    first.add('bowls', 'step-000002', episode(10001))
    assert results(tmp_path).enter('bowls', 'step-000002', 'other', 0) == {}


def test_only_chosen_checkpoints_speak_for_a_training(tmp_path) -> None:
    first = results(tmp_path)
    for policy, reward in (('a', 0.2), ('b', 0.6)):
        for checkpoint, more in (('step-000001', 0.0), ('step-000002', 0.4)):
            first.enter(policy, checkpoint, 'w', 0)
            first.add(policy, checkpoint, episode(10001, reward + more))
        first.choose(policy, 'step-000001')
    assert first.page()['seeds']['mean'] == pytest.approx(0.4)


@pytest.mark.parametrize('content', ['{', '[]', '{"format": "cliport results"}'])
def test_a_broken_file_is_named(tmp_path, content) -> None:
    path = Results.path_of(tmp_path, TASK, 'test')
    path.write_text(content)
    with pytest.raises(ValueError, match=r'test-results\.json holds no results'):
        results(tmp_path)


def test_results_of_another_task_are_refused(tmp_path) -> None:
    first = results(tmp_path)
    first.enter('bowls', 'step-000002', 'abc', 0)
    first.add('bowls', 'step-000002', episode(10001))
    with pytest.raises(ValueError, match='not of align-rope'):
        Results(first.path, 'align-rope', 'test')
