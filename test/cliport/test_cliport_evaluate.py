import json
import shutil

import pytest
from small_cliport import small_model

from vlm_nodes.cliport import evaluate
from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.checkpoint import save_checkpoint
from vlm_nodes.cliport.evaluate import Policy, main, tasks_of
from vlm_nodes.cliport.rollouts import EpisodeResult

TASK, OTHER = 'put-block-in-bowl-seen-colors', 'put-block-in-bowl-unseen-colors'
FEW = ('--n', 2, '--val-n', 2)


def save(folder, *steps: int, seed: int = 0, tasks=(TASK,)):
    """A training's folder with networks that were not trained."""
    clip = FrozenClip.load('tiny')
    for step in steps:
        save_checkpoint(
            small_model(clip, seed=100 * seed + step),
            folder / 'checkpoints' / f'step-{step:06d}',
            training={'seed': seed, 'tasks': list(tasks), 'step': step},
        )
    return folder


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    return save(tmp_path_factory.mktemp('policies') / 'bowls', 1, 2, 3)


@pytest.fixture
def played(monkeypatch):
    """Jobs that were played; each has a reward that the test writes down, in place of physics."""
    jobs, rewards = [], {}

    def play_all(wanted, workers):
        for job in wanted:
            jobs.append(job)
            reward = rewards.get((job.checkpoint.name, job.task, job.mode), 0.5)
            success = reward > 0.99
            yield job, EpisodeResult(job.seed, reward, success, 1, ('put it',), (None,))

    monkeypatch.setattr(evaluate, 'play_all', play_all)
    play_all.jobs, play_all.rewards = jobs, rewards
    return play_all


def figures_of(capsys, *words) -> dict:
    assert main([*map(str, words), '--json']) == 0
    return json.loads(capsys.readouterr().out)


def test_an_untrained_policy_plays_real_tables(trained, tmp_path, capsys) -> None:
    out = tmp_path / 'results'
    words = [trained / 'checkpoints' / 'step-000003', '--out', out, '--n', 1, '--val-n', 1]
    figures = figures_of(capsys, *words, '--record', 1, '--pictures', 1)
    assert figures['bowls']['chosen'] == 'step-000003'
    assert figures['bowls']['test'][TASK]['count'] == 1
    page = json.loads((out / f'{TASK}-test-results.json').read_text())
    ((episode,),) = (
        [each['episodes'] for each in page['policies']['bowls']['checkpoints'].values()],
    )
    assert episode[0]['seed'] == 10001
    assert episode[0]['instructions'][0].startswith('put the ')
    films = sorted(path.name for path in out.rglob('*.mp4'))
    assert films == ['000001.mp4', '010001.mp4']
    assert (out / f'{TASK}-test' / 'bowls' / 'step-000003' / '010001-0.png').is_file()


def test_validation_tables_choose_and_test_tables_do_not(trained, tmp_path, capsys, played) -> None:
    played.rewards |= {('step-000002', TASK, 'val'): 0.9, ('step-000003', TASK, 'test'): 1.0}
    words = [trained, '--out', tmp_path, '--task', TASK, OTHER, '--n', 3, '--val-n', 2]
    found = figures_of(capsys, *words)['bowls']
    assert found['chosen'] == 'step-000002'
    assert found['val'] == {'step-000001': 0.5, 'step-000002': 0.9, 'step-000003': 0.5}
    assert set(found['test']) == {TASK, OTHER}
    by_mode = {(job.mode, job.task): set() for job in played.jobs}
    for job in played.jobs:
        by_mode[job.mode, job.task].add((job.checkpoint.name, job.seed))
    assert {seed for _, seed in by_mode['val', TASK]} == {1, 3}
    assert by_mode['test', OTHER] == {('step-000002', seed) for seed in (10001, 10003, 10005)}
    # Unseen colours have no part in the choice.
    assert ('val', OTHER) not in by_mode


def test_of_equals_the_later_is_chosen(trained, tmp_path, capsys, played) -> None:
    assert figures_of(capsys, trained, '--out', tmp_path, *FEW)['bowls']['chosen'] == 'step-000003'


def test_what_was_played_is_not_played_again(trained, tmp_path, capsys, played) -> None:
    words = [trained, '--out', tmp_path, '--n', 2, '--val-n', 2]
    first = figures_of(capsys, *words)
    count = len(played.jobs)
    assert count == 3 * 2 + 2
    assert figures_of(capsys, *words) == first
    assert len(played.jobs) == count
    figures_of(capsys, trained, '--out', tmp_path, '--n', 3, '--val-n', 2)
    assert [job.seed for job in played.jobs[count:]] == [10005]


def test_an_interrupted_evaluation_goes_on(trained, tmp_path, capsys, played, monkeypatch) -> None:
    whole = evaluate.play_all

    def interrupted(jobs, workers):
        for number, done in enumerate(whole(jobs, workers)):
            if number == 4:
                raise OSError('the power is gone')
            yield done

    words = [trained, '--out', tmp_path, '--n', 2, '--val-n', 2]
    monkeypatch.setattr(evaluate, 'play_all', interrupted)
    assert main(list(map(str, words))) == 2
    assert 'power' in capsys.readouterr().err
    monkeypatch.setattr(evaluate, 'play_all', whole)
    begun = len(played.jobs)
    figures_of(capsys, *words)
    # One of the first five was played, but not kept.
    assert len(played.jobs) - begun == 3 * 2 + 2 - 4


def test_both_halves_apart_are_as_both_at_once(trained, tmp_path, capsys, played) -> None:
    played.rewards[('step-000001', TASK, 'val')] = 0.8
    at_once = figures_of(capsys, trained, '--out', tmp_path / 'a', *FEW)['bowls']
    val = figures_of(capsys, trained, '--out', tmp_path / 'b', '--mode', 'val', *FEW)['bowls']
    test = figures_of(capsys, trained, '--out', tmp_path / 'b', '--mode', 'test', *FEW)['bowls']
    assert val | test == at_once


def test_a_test_without_a_choice_says_what_to_do(trained, tmp_path, capsys, played) -> None:
    assert main([str(trained), '--out', str(tmp_path), '--mode', 'test']) == 2
    assert '--mode val first' in capsys.readouterr().err


def test_a_policy_of_several_tasks_is_chosen_by_their_mean(tmp_path, capsys, played) -> None:
    folder = save(tmp_path / 'both', 1, 2, tasks=(TASK, OTHER))
    played.rewards |= {
        ('step-000001', TASK, 'val'): 1.0,
        ('step-000001', OTHER, 'val'): 0.1,
        ('step-000002', TASK, 'val'): 0.7,
        ('step-000002', OTHER, 'val'): 0.8,
    }
    found = figures_of(capsys, folder, '--out', tmp_path / 'out', *FEW)['both']
    assert found['chosen'] == 'step-000002'
    assert found['val']['step-000001'] == 0.55
    assert set(found['test']) == {TASK, OTHER}


def test_one_checkpoint_does_not_overrule_the_choice(trained, tmp_path, capsys, played) -> None:
    figures_of(capsys, trained, '--out', tmp_path, *FEW)
    one = trained / 'checkpoints' / 'step-000001'
    assert figures_of(capsys, one, '--out', tmp_path, *FEW)['bowls']['chosen'] == 'step-000001'
    words = [trained, '--out', tmp_path, '--mode', 'test', *FEW]
    assert figures_of(capsys, *words)['bowls']['chosen'] == 'step-000003'


def test_sets_of_tasks_are_all_of_their_tasks() -> None:
    tasks = tasks_of(['multi-language-conditioned', TASK], 'test')
    assert {TASK, OTHER, 'align-rope'} <= set(tasks)
    assert len(set(tasks)) == len(tasks)
    assert tasks_of(['multi-attr-put-block-in-bowl-unseen-colors'], 'test') == (OTHER,)


def test_trainings_of_two_seeds_stand_side_by_side(trained, tmp_path, capsys, played) -> None:
    other = save(tmp_path / 'bowls-1', 4, seed=1)
    played.rewards[('step-000004', TASK, 'test')] = 0.7
    out = tmp_path / 'out'
    figures = figures_of(capsys, trained, other, '--out', out, '--n', 2, '--val-n', 1)
    assert set(figures) == {'bowls', 'bowls-1'}
    page = json.loads((out / f'{TASK}-test-results.json').read_text())
    assert page['seeds']['policies'] == 2
    assert page['seeds']['mean'] == pytest.approx(0.6)
    assert page['policies']['bowls-1']['training_seed'] == 1


def test_chosen_seeds_are_played(trained, tmp_path, capsys, played) -> None:
    words = [trained / 'checkpoints' / 'step-000001', '--out', tmp_path, '--mode', 'test']
    figures_of(capsys, *words, '--seeds', 10101, 20001)
    assert [job.seed for job in played.jobs] == [10101, 20001]


def test_the_last_checkpoints_may_be_enough(trained) -> None:
    assert [path.name for path in Policy.of(trained, 2).checkpoints] == [
        'step-000002',
        'step-000003',
    ]
    assert Policy.of(trained).tasks == (TASK,)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--task', 'put-block-in-bowl'], 'full name'),
        (['--task', 'no-such-task'], 'there is no task'),
        (['--n', '0'], '--n'),
        (['--workers', '0'], '--workers'),
        (['--last', '0'], '--last'),
        (['--seeds', '3'], 'odd seeds from 10001'),
    ],
)
def test_what_cannot_be_evaluated_is_said(trained, tmp_path, capsys, words, message) -> None:
    assert main([str(trained), '--out', str(tmp_path), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_checkpoints_is_named(tmp_path, capsys) -> None:
    assert main([str(tmp_path), '--out', str(tmp_path / 'out')]) == 2
    assert 'holds no checkpoint' in capsys.readouterr().err


def test_two_policies_of_one_name_are_refused(trained, tmp_path, capsys) -> None:
    shutil.copytree(trained, tmp_path / 'bowls')
    words = [str(trained), str(tmp_path / 'bowls'), '--out', str(tmp_path / 'out')]
    assert main(words) == 2
    assert 'different names' in capsys.readouterr().err
