"""Names, splits and what tables of a task hold; no rendering."""

import numpy as np
import pytest

from vlm_nodes.simulation.tabletop import make_task, task_names, task_set, task_set_names
from vlm_nodes.simulation.tabletop import towers_of_hanoi as hanoi
from vlm_nodes.simulation.tabletop.assembling_kits import where_words
from vlm_nodes.simulation.tabletop.colors import ALL_COLORS, COLOR_RGB, EVAL_COLORS, TRAIN_COLORS
from vlm_nodes.simulation.tabletop.layout import Layout, NoRoomError
from vlm_nodes.simulation.tabletop.outlines import OUTLINES, pieces_of
from vlm_nodes.simulation.tabletop.props import Pose
from vlm_nodes.simulation.tabletop.registry import FAMILIES

COLORED = [name for name, family in FAMILIES.items() if 'full' in family.full_names]


def setting_of(task, seed):
    """The first table of a seed that has room for everything."""
    rng = np.random.default_rng(seed)
    for _ in range(100):
        try:
            return task.setting(rng)
        except NoRoomError:
            continue
    raise AssertionError('no table has room')


def named_colors(instruction):
    return {color for color in COLOR_RGB if color in instruction.split()}


def test_colors_are_the_published_ones():
    assert set(TRAIN_COLORS) == {'blue', 'red', 'green', 'yellow', 'brown', 'gray', 'cyan'}
    assert set(EVAL_COLORS) == {'blue', 'red', 'green', 'orange', 'purple', 'pink', 'white'}
    assert set(TRAIN_COLORS) & set(EVAL_COLORS) == {'blue', 'red', 'green'}
    assert len(ALL_COLORS) == len(set(ALL_COLORS)) == 11


@pytest.mark.parametrize(
    ('split', 'mode', 'allowed'),
    [
        ('seen', 'train', TRAIN_COLORS),
        ('seen', 'test', TRAIN_COLORS),
        ('unseen', 'train', TRAIN_COLORS),
        ('unseen', 'val', EVAL_COLORS),
        ('unseen', 'test', EVAL_COLORS),
        ('full', 'train', ALL_COLORS),
    ],
)
@pytest.mark.parametrize('family', ['put-block-in-bowl', 'separating-piles'])
def test_instructions_name_the_colors_of_their_split(family, split, mode, allowed):
    task = make_task(family, split, mode=mode)
    named = set()
    for seed in range(12):
        for goal in setting_of(task, seed).goals:
            named |= named_colors(goal.instruction)
    assert named <= set(allowed)
    assert len(named) > 3


@pytest.mark.parametrize('name', task_names())
def test_a_task_draws_a_whole_table(name):
    setting = setting_of(make_task(name), 1)
    assert sum(goal.worth for goal in setting.goals) == pytest.approx(1)
    names = [prop.name for prop in setting.props]
    assert len(set(names)) == len(names)
    for goal in setting.goals:
        assert {item.name for item in goal.items} <= set(names)
        assert goal.allowed().shape == (len(goal.items), len(goal.targets))
        assert goal.allowed().any(axis=1).all()
    assert setting.max_steps >= len(setting.goals)


@pytest.mark.parametrize(
    ('name', 'sentence'),
    [
        ('put-block-in-bowl', 'put the {} blocks in a {} bowl'),
        ('towers-of-hanoi-seq', 'move the {} ring to the '),
        ('stack-block-pyramid-seq', 'put the {} block on the lightest brown block'),
        ('separating-piles', 'push the pile of {} blocks into the {} square'),
        ('packing-boxes-pairs', ' blocks into the brown box'),
        ('packing-shapes', ' in the brown box'),
        ('assembling-kits-seq', ' hole'),
        ('align-rope', 'align the rope from '),
    ],
)
def test_instructions_have_the_published_form(name, sentence):
    instruction = setting_of(make_task(name), 3).goals[0].instruction
    for part in sentence.split('{}'):
        assert part in instruction


def test_a_name_says_its_split_and_others_are_refused():
    assert make_task('put-block-in-bowl-unseen-colors').variant.split == 'unseen'
    assert make_task('put-block-in-bowl').name == 'put-block-in-bowl-seen-colors'
    with pytest.raises(ValueError, match=r"no task 'put-block-in-cup'.*put-block-in-bowl"):
        make_task('put-block-in-cup')
    with pytest.raises(ValueError, match="is of split 'unseen', not 'seen'"):
        make_task('put-block-in-bowl-unseen-colors', 'seen')
    with pytest.raises(ValueError, match=r"no split 'seen'.*full"):
        make_task('align-rope', 'seen')
    with pytest.raises(ValueError, match=r"mode 'tset'.*train, val, test"):
        make_task('put-block-in-bowl', mode='tset')


def test_unseen_shapes_are_not_in_training():
    seen, unseen = set(), set()
    for seed in range(15):
        train = setting_of(make_task('packing-shapes', mode='train'), seed)
        test = setting_of(make_task('packing-shapes', mode='test'), seed)
        seen |= {prop.label.split(' ', 1)[1] for prop in train.props[1:]}
        unseen |= {prop.label.split(' ', 1)[1] for prop in test.props[1:]}
    assert len(seen) > 10
    assert unseen == {'letter E shape', 'letter L shape', 'ring', 'hexagon', 'heart',
                      'letter M shape'}  # fmt: skip
    assert not seen & unseen


def test_sets_hold_out_what_they_say():
    everything = task_set('multi-language-conditioned', 'train')
    assert len(everything.tasks) == len(FAMILIES)
    assert not any(name.endswith('-full') for name in everything.tasks)
    held = task_set('multi-attr-put-block-in-bowl-unseen-colors', 'train')
    assert held.main_task == 'put-block-in-bowl-seen-colors'
    assert 'stack-block-pyramid-seq-full' in held.tasks
    assert 'put-block-in-bowl-full' not in held.tasks
    tested = task_set('multi-attr-put-block-in-bowl-unseen-colors', 'test')
    assert tested.tasks == ('put-block-in-bowl-unseen-colors',)
    for name in task_set_names():
        for mode in ('train', 'val', 'test'):
            assert set(task_set(name, mode).tasks) <= set(task_names())
    with pytest.raises(ValueError, match="no set of tasks 'multi'"):
        task_set('multi', 'train')


def test_the_moves_of_hanoi_solve_it():
    rods = [[2, 1, 0], [], []]
    for ring, rod in hanoi.moves(3):
        source = next(stack for stack in rods if ring in stack)
        assert source.pop() == ring
        assert not rods[rod] or rods[rod][-1] > ring
        rods[rod].append(ring)
    assert rods == [[], [], [2, 1, 0]]


def test_places_in_a_layout_do_not_overlap():
    layout = Layout(np.random.default_rng(5))
    places = [layout.find((0.06, 0.06)) for _ in range(12)]
    for i, a in enumerate(places):
        assert 0.25 < a.x < 0.75
        assert -0.5 < a.y < 0.5
        for b in places[:i]:
            assert np.hypot(a.x - b.x, a.y - b.y) > 0.06
    with pytest.raises(NoRoomError, match='no free place'):
        layout.find((0.5, 0.5))


@pytest.mark.parametrize('index', range(len(OUTLINES)))
def test_a_shape_fits_its_place_and_looks_the_same_after_its_turn(index):
    corners = np.vstack(pieces_of(index, 1.0))
    assert np.abs(corners).max() <= 0.56
    turn = OUTLINES[index].symmetry_rad
    if turn not in (0.0, 2 * np.pi):
        c, s = np.cos(turn), np.sin(turn)
        turned = corners @ np.array([[c, s], [-s, c]])
        gaps = np.linalg.norm(turned[:, None] - corners, axis=-1).min(axis=1)
        # Circles are polygons.
        assert gaps.max() < 0.03


def test_twin_prints_are_told_apart():
    places = [Pose(0.4, 0.0), Pose(0.6, 0.0), Pose(0.5, 0.3)]
    assert where_words([1, 1, 2], places) == ['top ', 'bottom ', '']
    assert where_words([1, 2, 1], places) == ['left ', '', 'right ']
