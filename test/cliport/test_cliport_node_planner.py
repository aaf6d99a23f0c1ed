"""From views and an instruction to poses, without ROS: closed-form tables, hand-made maps."""

from types import SimpleNamespace

import numpy as np
import pytest
from small_cliport import SENTENCE, small_model
from tabletop_scenes import FRONT, LEFT, MIDDLE, RIGHT, Box, cast, published_camera

from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.matching import UNJUDGED, WordMatch
from vlm_nodes.cliport.planner import STAGES, Planner, PlannerConfig
from vlm_nodes.cliport.policy import Candidate, CliportPolicy, Plan
from vlm_nodes.cliport.poses import PixelPose
from vlm_nodes.cliport.vocabulary import sort_words
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.geometry.rigid import look_at

WORKSPACE = Workspace(pixel_m=0.01)  # 100 rows, 50 columns
BLOCK = Box((0.38, -0.22, 0.0), (0.42, -0.18, 0.04))
PLINTH = Box((0.55, 0.15, 0.0), (0.65, 0.25, 0.03), (30, 30, 200))
PICK, PLACE = PixelPose(30, 15), PixelPose(70, 35, np.pi / 2)
NAMES = ('front', 'left', 'right')


@pytest.fixture(scope='module')
def clip():
    return FrozenClip.load('tiny')


def views(*boxes, eyes=(FRONT, LEFT, RIGHT)):
    camera = published_camera(320, 240)
    return [cast(camera, look_at(eye, MIDDLE), boxes) for eye in eyes]


def peak(row, col, share=1.0):
    """A map with a share of its probability in one pixel, and the rest everywhere."""
    shape = WORKSPACE.shape
    chances = np.full(shape, (1 - share) / (shape[0] * shape[1]), dtype=np.float32)
    chances[row, col] += share
    return chances


class Scripted:
    """A policy whose answer is known."""

    def __init__(self, clip, pick=PICK, place=PLACE, share=1.0, others=(), match=UNJUDGED):
        self.model = SimpleNamespace(config=SimpleNamespace(words=('block', 'red')), clip=clip)
        self.asked = []
        best = Candidate(pick, place, share, share)
        self.answer = Plan(
            (best, *others),
            peak(pick.row, pick.col, share),
            tuple(peak(c.place.row, c.place.col, c.place_probability) for c in (best, *others)),
            match,
        )

    def plan(self, heightmap, instruction, count=1, *, before_place):
        self.asked.append((heightmap, instruction, count))
        for _ in self.answer.candidates:
            before_place()
        return self.answer


def planner(clip, config=None, **script):
    return Planner(Scripted(clip, **script), config or PlannerConfig(WORKSPACE))


def test_poses_are_on_the_block_and_on_the_plinth(clip):
    answer = planner(clip).plan(views(BLOCK, PLINTH), SENTENCE, 1)
    assert answer.refusal == ''
    (action,) = answer.actions
    np.testing.assert_allclose(action.pick[:3, 3], (0.405, -0.195, 0.04), atol=2e-3)
    # The block's 4 cm on the plinth's 3.
    np.testing.assert_allclose(action.place[:3, 3], (0.605, 0.205, 0.07), atol=2e-3)
    np.testing.assert_allclose(action.pick[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-9)
    np.testing.assert_allclose(action.place[:3, 0], (0, 1, 0), atol=1e-9)  # a quarter turn
    np.testing.assert_allclose(action.place[:3, 2], (0, 0, -1), atol=1e-9)
    assert (action.pick_score, action.place_score) == pytest.approx((1, 1))
    assert (answer.pick_entropy, answer.place_entropy) == (0, 0)
    assert [(a.first, a.second) for a in answer.agreements] == [(0, 1), (0, 2), (1, 2)]


def test_a_place_turns_with_its_pick_and_tools_point_up_if_asked(clip):
    config = PlannerConfig(WORKSPACE, tool_down=False)
    turned = PixelPose(PICK.row, PICK.col, np.pi / 4)
    answer = planner(clip, config, pick=turned).plan(views(BLOCK), SENTENCE, 1)
    (action,) = answer.actions
    np.testing.assert_allclose(action.pick[:2, 0], np.full(2, np.sqrt(0.5)), atol=1e-9)
    np.testing.assert_allclose(action.place[:2, 0], np.sqrt(0.5) * np.array([-1, 1]), atol=1e-9)
    np.testing.assert_allclose(action.pick[:3, 2], (0, 0, 1), atol=1e-9)


def test_what_is_not_sure_is_refused(clip):
    scene = views(BLOCK)
    vague = planner(clip, share=0.02).plan(scene, SENTENCE, 1)
    assert vague.kind == 'pick score'
    assert 'I see no such thing to pick' in vague.refusal
    assert 'least_pick_score = 0.1' in vague.refusal
    assert vague.actions == ()
    assert vague.plan is not None  # to be looked at
    config = PlannerConfig(WORKSPACE, most_pick_entropy=0.5)
    assert planner(clip, config, share=0.3).plan(scene, SENTENCE, 1).kind == 'pick entropy'
    config = PlannerConfig(WORKSPACE, least_pick_score=0.0, most_pick_entropy=1.0)
    answer = planner(clip, config, share=0.02).plan(scene, SENTENCE, 1)
    assert answer.kind == 'place score'
    assert 'I see no such place to put it' in answer.refusal


def test_holes_are_refused_and_alternatives_in_holes_left_out(clip):
    # From the front alone the far side of a wall is a hole.
    wall = Box((0.45, -0.5, 0.0), (0.47, 0.5, 0.25), (90, 200, 90))
    behind, before = PixelPose(30, 8), PixelPose(30, 40)
    config = PlannerConfig(WORKSPACE, least_coverage=0.0)
    scene = views(wall, eyes=(FRONT,))
    hidden = planner(clip, config, pick=behind).plan(scene, SENTENCE, 1)
    assert hidden.kind == 'hole'
    assert 'around the pick at pixel (30, 8)' in hidden.refusal
    beyond = planner(clip, config, pick=before, place=PixelPose(70, 8)).plan(scene, SENTENCE, 1)
    assert beyond.kind == 'hole'
    assert 'under the object placed at pixel (70, 8)' in beyond.refusal
    others = (
        Candidate(behind, before, 0.2, 0.2),
        Candidate(PixelPose(60, 40), PixelPose(80, 40), 0.1, 0.3),
    )
    script = {'pick': before, 'place': PixelPose(70, 40), 'others': others}
    answer = planner(clip, config, **script).plan(scene, SENTENCE, 3)
    assert [action.candidate.pick for action in answer.actions] == [before, PixelPose(60, 40)]
    assert answer.actions[1].place_score == pytest.approx(0.3, abs=0.01)


def test_low_coverage_and_no_depth_are_refused_before_the_network_is_asked(clip):
    asked = planner(clip, PlannerConfig(WORKSPACE, least_coverage=0.9))
    scene = views(BLOCK, eyes=(FRONT,))
    wide = planner(clip, PlannerConfig(WORKSPACE, least_coverage=0.9))
    scene[0].depth_m[:, :160] = np.nan
    low = asked.plan(scene, SENTENCE, 1)
    assert low.kind == 'low coverage'
    assert '90% is needed' in low.refusal
    assert low.heightmap is not None
    scene[0].depth_m[:] = 0
    none = wide.plan(scene, SENTENCE, 1)
    assert none.kind == 'no depth'
    assert 'view 0 has no reading of depth at all' in none.refusal
    assert asked.policy.asked == wide.policy.asked == []


def test_views_that_disagree_are_named(clip):
    front, left, right = views(BLOCK)
    right.depth_m[:] *= np.float32(0.97)
    answer = planner(clip).plan([front, left, right], SENTENCE, 1, names=NAMES)
    assert answer.refusal == ''
    assert any('heights of front and right differ' in note for note in answer.notes)
    assert not any('front and left' in note for note in answer.notes)


def test_words_are_sorted_by_who_knows_them(clip):
    words = sort_words('Put the red block, red! on the purple frobnicator', ('red', 'block'), clip)
    assert words.learned == ('red', 'block')
    assert 'purple' in words.understood
    assert 'frobnicator' in words.unknown


@pytest.mark.parametrize('instruction', ['', '  ', '?!'])
def test_an_instruction_without_words_is_refused(clip, instruction):
    answer = planner(clip).plan(views(BLOCK), instruction, 1)
    assert answer.kind == 'instruction'
    assert 'say what to pick' in answer.refusal


def test_unknown_words_are_said_or_refused(clip):
    nonsense = planner(clip).plan(views(BLOCK), 'frobnicate xyzzy', 1)
    assert nonsense.kind == 'instruction'
    assert "I know none of the words of 'frobnicate xyzzy'" in nonsense.refusal
    partly = planner(clip).plan(views(BLOCK), 'frobnicate red block', 1)
    assert partly.refusal == ''
    assert "I do not know 'frobnicate', and read on without" in partly.notes
    unseen = planner(clip).plan(views(BLOCK), 'purple block', 1)
    assert "no demonstration had 'purple', which CLIP knows" in unseen.notes
    strict = planner(clip, PlannerConfig(WORKSPACE, refuse_unknown_words=True))
    assert strict.plan(views(BLOCK), 'frobnicate red block', 1).kind == 'instruction'
    assert strict.plan(views(BLOCK), 'purple block', 1).refusal == ''


def test_stages_come_in_order_and_what_they_raise_ends_the_planning(clip):
    stages = []
    planner(clip).plan(views(BLOCK), SENTENCE, 1, progress=stages.append)
    assert ('waiting for images', *stages) == STAGES

    def stop(stage):
        if stage == 'pick':
            raise KeyError(stage)

    asked = planner(clip)
    with pytest.raises(KeyError):
        asked.plan(views(BLOCK), SENTENCE, 1, progress=stop)
    assert asked.policy.asked == []


def test_the_place_of_each_candidate_is_a_stage_of_its_own(clip):
    stages = []
    two = planner(clip, others=(Candidate(PixelPose(60, 40), PixelPose(80, 40), 0.1, 0.3),))
    two.plan(views(BLOCK), SENTENCE, 2, progress=stages.append)
    assert stages == ['heightmap', 'pick', 'place', 'place']


def test_what_looks_like_no_word_that_was_looked_for_is_refused(clip):
    scene = views(BLOCK)
    other = WordMatch(('blue', 'green'), 0.1)
    answer = planner(clip, match=other).plan(scene, SENTENCE, 1)
    assert answer.kind == 'words'
    assert "looks like none of 'blue', 'green'" in answer.refusal
    assert 'least_word_match = 0.4' in answer.refusal
    assert answer.plan is not None
    off = PlannerConfig(WORKSPACE, least_word_match=0.0)
    assert planner(clip, off, match=WordMatch(('blue',), -0.5)).plan(scene, SENTENCE, 1).actions
    assert planner(clip, match=WordMatch(('red',), 0.6)).plan(scene, SENTENCE, 1).actions
    # Words that CLIP does not know: nobody can say.
    assert planner(clip, match=UNJUDGED).plan(scene, SENTENCE, 1).actions


def test_a_real_network_answers_with_what_it_would_alone(clip):
    policy = CliportPolicy(small_model(clip))
    config = PlannerConfig(
        WORKSPACE,
        least_pick_score=0,
        least_place_score=0,
        most_pick_entropy=1,
        most_place_entropy=1,
        least_word_match=0,
    )
    answer = Planner(policy, config).plan(views(BLOCK, PLINTH), SENTENCE, 2)
    alone = policy.plan(answer.heightmap, SENTENCE, 2)
    assert answer.plan.candidates == alone.candidates
    np.testing.assert_array_equal(answer.plan.place_map, alone.place_map)
    assert 0 < answer.pick_entropy <= 1


@pytest.mark.parametrize(
    ('name', 'value'),
    [('least_coverage', 1.5), ('most_pick_entropy', -0.1), ('score_radius_m', 0.0)],
)
def test_a_bad_setting_is_named(name, value):
    with pytest.raises(ValueError, match=name):
        PlannerConfig(**{name: value})
