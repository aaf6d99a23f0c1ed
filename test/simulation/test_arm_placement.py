import dataclasses

import numpy as np
import pytest

from vlm_nodes.simulation import vocabulary
from vlm_nodes.simulation.arm.kinematics import joints_for_tip
from vlm_nodes.simulation.arm.placement import STOP_RANGE_M, ArmScene, make_scene
from vlm_nodes.simulation.arm.tasks import (
    BALLS,
    GREEN_BOX,
    TASKS,
    check_task,
    held_out_seed,
    training_seed,
)

SCENES = [make_scene(seed) for seed in range(1000)]


def test_scenes_follow_from_their_seed():
    assert make_scene(7) == make_scene(7)
    assert make_scene(7) != make_scene(8)


def test_things_are_apart_and_out_of_the_boxs_way():
    for scene in SCENES:
        red, blue = (np.array(scene.balls[ball][:2]) for ball in BALLS)
        assert np.hypot(*(red - blue)) >= 0.1
        for ball in (red, blue):
            # The box's way, whatever its stop: 5 cm wide, with the finger behind it.
            nearest = np.clip(ball[1], scene.box[1] - STOP_RANGE_M[1], scene.box[1] + 0.06)
            assert np.hypot(ball[0] - scene.box[0], ball[1] - nearest) > 0.049


def test_all_can_be_reached():
    for scene in SCENES:
        joints_for_tip(scene.start_tip)
        for x, y, z in (*scene.balls.values(), scene.box):
            joints_for_tip((x, y, z + 0.03))
        joints_for_tip((scene.box[0], scene.box[1] - scene.stop_m, 0.01))


def test_stops_differ_and_do_not_follow_from_the_places():
    stops = np.array([scene.stop_m for scene in SCENES])
    assert stops.min() < STOP_RANGE_M[0] + 0.01
    assert stops.max() > STOP_RANGE_M[1] - 0.01
    places = np.array(
        [
            [*scene.box[:2], *scene.balls[BALLS[0]][:2], *scene.balls[BALLS[1]][:2]]
            for scene in SCENES
        ]
    )
    for column in places.T:
        assert abs(np.corrcoef(column, stops)[0, 1]) < 0.1


def test_training_and_held_out_seeds_do_not_meet():
    training = {training_seed(number) for number in range(1000)}
    held_out = {held_out_seed(number) for number in range(1000)}
    assert not training & held_out
    assert {seed % 2 for seed in training} == {0}
    assert max(training) < 1_000_000
    assert {seed % 2 for seed in held_out} == {1}
    assert min(held_out) == 1_000_001
    for bad in (lambda: training_seed(500_001), lambda: held_out_seed(-1)):
        with pytest.raises(ValueError, match='there is no scene number'):
            bad()


def test_the_tasks_speak_the_vocabulary():
    for label in (*BALLS, GREEN_BOX):
        assert label in vocabulary.LABELS
        assert any(label in task for task in TASKS)
    with pytest.raises(ValueError, match="task is 'dance', not one of 'reach the red ball'"):
        check_task('dance')


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'stop_m': 0.0}, 'stop_m must be positive'),
        ({'stop_m': np.nan}, 'stop_m must be positive'),
        ({'box': (0.4, np.inf, 0.025)}, 'box must be three finite numbers'),
        ({'balls': {'red ball': (0.3, 0.0, 0.03)}}, 'balls must be'),
    ],
)
def test_a_scene_names_what_is_wrong_with_it(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(make_scene(0), **change)


def test_seeds_out_of_range_are_refused():
    for seed in (-1, 2_000_000):
        with pytest.raises(ValueError, match='seed must be from 0 to 1999999'):
            make_scene(seed)
    assert isinstance(make_scene(1_999_999), ArmScene)
