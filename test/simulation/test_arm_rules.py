import numpy as np
import pytest

from vlm_nodes.simulation.arm.placement import make_scene
from vlm_nodes.simulation.arm.rules import (
    FORCE_LIMIT_N,
    FORCE_LIMIT_S,
    REACH_M,
    STOP_TOLERANCE_M,
    Judge,
    Moment,
)
from vlm_nodes.simulation.arm.tasks import BLUE_BALL, PUSH, REACH_BLUE, REACH_RED, RED_BALL

SCENE = make_scene(0)
STEP_S = 0.01
AWAY = np.array([0.3, 0.0, 0.3])


def above(ball, distance_m=0.0):
    return np.array(SCENE.balls[ball]) + np.array([0.0, 0.0, 0.03 + distance_m])


def watch(judge, seconds, *, tip=AWAY, pushed_m=0.0, force_n=0.0):
    for _ in range(round(seconds / STEP_S)):
        judge.watch(Moment(np.array(tip), pushed_m, force_n), STEP_S)
    return judge.outcome()


def test_staying_at_the_ball_is_success():
    judge = Judge(SCENE, REACH_RED)
    assert not watch(judge, 0.45, tip=above(RED_BALL, 0.9 * REACH_M)).success
    assert watch(judge, 0.1, tip=above(RED_BALL, 0.9 * REACH_M)).success
    outcome = watch(judge, 0.1)
    assert not outcome.success
    assert not outcome.failed
    assert 'cm from the red ball' in outcome.reason


def test_near_the_ball_is_not_at_it():
    assert not watch(Judge(SCENE, REACH_RED), 2.0, tip=above(RED_BALL, 1.1 * REACH_M)).success


def test_a_visit_that_is_interrupted_does_not_count():
    judge = Judge(SCENE, REACH_RED)
    for _ in range(5):
        watch(judge, 0.4, tip=above(RED_BALL))
        assert not watch(judge, 0.02).success


@pytest.mark.parametrize(('task', 'wrong'), [(REACH_RED, BLUE_BALL), (REACH_BLUE, RED_BALL)])
def test_the_wrong_ball_spoils_it_for_good(task, wrong):
    judge = Judge(SCENE, task)
    outcome = watch(judge, 0.6, tip=above(wrong))
    assert outcome.failed
    assert outcome.reason == f'went to the {wrong}'
    right = BLUE_BALL if wrong == RED_BALL else RED_BALL
    outcome = watch(judge, 2.0, tip=above(right))
    assert outcome.failed
    assert not outcome.success


def test_passing_over_the_wrong_ball_does_no_harm():
    judge = Judge(SCENE, REACH_RED)
    watch(judge, 0.4, tip=above(BLUE_BALL))
    assert watch(judge, 0.6, tip=above(RED_BALL)).success


def test_a_box_at_its_stop_with_the_finger_away_is_success():
    judge = Judge(SCENE, PUSH)
    assert watch(judge, 0.5, pushed_m=SCENE.stop_m - 0.9 * STOP_TOLERANCE_M).success


def test_stopping_early_is_no_success():
    outcome = watch(Judge(SCENE, PUSH), 2.0, pushed_m=SCENE.stop_m - 1.2 * STOP_TOLERANCE_M)
    assert not outcome.success
    assert not outcome.failed
    assert outcome.reason == 'the green box is 1.0 cm short of its stop'


def test_a_finger_that_stays_on_the_box_is_no_success():
    x, y, _ = SCENE.box
    tip = (x, y - SCENE.stop_m + 0.025 + 0.014 + 0.005, 0.011)
    outcome = watch(Judge(SCENE, PUSH), 2.0, tip=tip, pushed_m=SCENE.stop_m)
    assert not outcome.success
    assert 'finger still on it' in outcome.reason


def test_pressing_too_hard_for_long_spoils_a_push():
    judge = Judge(SCENE, PUSH)
    watch(judge, FORCE_LIMIT_S / 2, force_n=FORCE_LIMIT_N + 1)
    assert not watch(judge, 0.1, force_n=FORCE_LIMIT_N - 1).failed
    outcome = watch(judge, FORCE_LIMIT_S + STEP_S, force_n=FORCE_LIMIT_N + 1)
    assert outcome.failed
    assert outcome.peak_force_n == FORCE_LIMIT_N + 1
    assert not watch(judge, 2.0, pushed_m=SCENE.stop_m).success


def test_an_episode_that_has_not_begun_is_neither():
    for task in (REACH_RED, PUSH):
        outcome = Judge(SCENE, task).outcome()
        assert (outcome.success, outcome.failed, outcome.reason) == (False, False, 'has not begun')
