"""Rewards, against cases that can be told by hand."""

import numpy as np
import pytest

from vlm_nodes.simulation.tabletop.expert import candidates, carry, pick_point
from vlm_nodes.simulation.tabletop.goals import Goal, Item, Progress, Zone, box_points, turn_to
from vlm_nodes.simulation.tabletop.props import Pose

TARGET = Pose(0.5, 0.1, 0.02, 0.3)


def poses(**where):
    matrices = {name: pose.matrix() for name, pose in where.items()}
    return lambda name: matrices[name]


def test_a_target_is_reached_within_a_centimetre_and_15_degrees():
    goal = Goal('go', (Item('a', 2 * np.pi),), (TARGET,))
    assert goal.score(poses(a=Pose(0.509, 0.1, 0.9, 0.3))) == 1
    assert goal.score(poses(a=Pose(0.511, 0.1, 0.02, 0.3))) == 0
    assert goal.score(poses(a=Pose(0.5, 0.1, 0.02, 0.3 + np.radians(14)))) == 1
    assert goal.score(poses(a=Pose(0.5, 0.1, 0.02, 0.3 - np.radians(16)))) == 0


@pytest.mark.parametrize(('symmetry', 'turn'), [(np.pi / 2, np.pi / 2), (np.pi, np.pi), (0, 1.0)])
def test_turns_count_but_for_symmetry(symmetry, turn):
    goal = Goal('go', (Item('a', symmetry),), (TARGET,))
    assert goal.score(poses(a=Pose(0.5, 0.1, 0.0, 0.3 + turn))) == 1


def test_the_smallest_turn_is_taken():
    turn = turn_to(Pose(0, 0, 0, 0.1).matrix(), Pose(0, 0, 0, 0.1 + np.pi - 0.2), np.pi)
    assert turn == pytest.approx(-0.2)


def test_some_of_the_items_give_some_of_the_reward():
    goal = Goal('go', (Item('a'), Item('b')), (TARGET, Pose(0.3, 0.0)), worth=0.5)
    assert goal.score(poses(a=TARGET, b=Pose(0.7, 0.4))) == 0.25


def test_an_item_at_anothers_target_gives_nothing():
    one_each = np.eye(2, dtype=bool)
    goal = Goal('go', (Item('a'), Item('b')), (TARGET, Pose(0.3, 0.0)), one_each)
    assert goal.score(poses(a=Pose(0.3, 0.0), b=Pose(0.6, 0.4))) == 0


def test_a_zone_gives_the_share_of_points_inside():
    points = box_points((0.04, 0.04, 0.04))
    assert len(points) == 8
    zone = Zone(Pose(0.5, 0.0, 0.02), (0.1, 0.1), 0.05, (points,))
    goal = Goal('go', (Item('a'),), (zone.pose,), zone=zone)
    assert goal.score(poses(a=Pose(0.5, 0.0, 0.02))) == 1
    assert goal.score(poses(a=Pose(0.55, 0.0, 0.02))) == 0.5
    assert goal.score(poses(a=Pose(0.60, 0.0, 0.02))) == 0
    assert goal.score(poses(a=Pose(0.5, 0.0, 0.07))) == 0.5
    assert goal.score(poses(a=Pose(0.5, 0.0, 0.20))) == 0


def test_rewards_are_what_was_gained_and_lost():
    goals = [Goal('one', (Item('a'),), (TARGET,), worth=0.5),
             Goal('two', (Item('b'),), (Pose(0.3, 0.0),), worth=0.5)]  # fmt: skip
    progress = Progress(goals)
    away = Pose(0.7, -0.4)
    assert progress.update(poses(a=away, b=away)) == 0
    assert progress.update(poses(a=TARGET, b=away)) == 0.5
    # The first goal was reached; that it is undone does not matter any more, as published.
    assert progress.update(poses(a=away, b=away)) == 0
    assert not progress.is_done
    assert progress.update(poses(a=away, b=Pose(0.3, 0.0))) == 0.5
    assert progress.is_done
    assert progress.total == 1


def test_the_expert_takes_the_farthest_item_that_is_not_there_yet():
    near, far = Pose(0.52, 0.0), Pose(0.3, 0.4)
    targets = (Pose(0.5, 0.0), Pose(0.6, -0.2), Pose(0.5, 0.05))
    goal = Goal('go', (Item('a'), Item('b'), Item('c')), targets)
    order = candidates(goal, poses(a=near, b=far, c=targets[2]))
    assert order == [(1, 0), (0, 0)]


def test_a_chain_goes_one_way_round():
    targets = tuple(Pose(0.4 + 0.01 * i, 0.0) for i in range(4))
    identity = np.eye(4, dtype=bool)
    items = tuple(Item(name) for name in 'abcd')
    goal = Goal('go', items, targets, identity | identity[::-1], is_chain=True)
    lying = {name: Pose(0.43 - 0.01 * i, 0.1) for i, name in enumerate('abcd')}
    assert sorted(candidates(goal, poses(**lying))) == [(0, 3), (1, 2), (2, 1), (3, 0)]


def test_carrying_brings_the_body_to_its_target():
    body = Pose(0.4, -0.2, 0.02, 0.7)
    turn = 0.3 - 0.7
    pick, place = carry((0.41, -0.19, 0.04), body.matrix(), TARGET, turn)
    moved = place @ np.linalg.inv(pick) @ body.matrix()
    np.testing.assert_allclose(moved, TARGET.matrix(), atol=1e-12)


def test_picks_lie_well_inside_of_what_is_seen():
    mask = np.zeros((320, 160), bool)
    mask[100:120, 50:70] = True
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = pick_point(mask, rng)
        assert abs(x - (0.25 + 60 * 0.003125)) < 0.012
        assert abs(y - (-0.5 + 110 * 0.003125)) < 0.012
