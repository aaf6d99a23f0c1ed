import numpy as np
import pytest
import torch
from small_cliport import SENTENCE, picture, small_model

from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.checkpoint import save_checkpoint
from vlm_nodes.cliport.heightmap import Heightmap
from vlm_nodes.cliport.policy import APART_PX, CliportPolicy
from vlm_nodes.cliport.samples import Scene
from vlm_nodes.cliport.workspace import Workspace

WORKSPACE = Workspace((0.0, 0.96), (0.0, 0.64), pixel_m=0.01)


@pytest.fixture(scope='module')
def clip() -> FrozenClip:
    return FrozenClip.load('tiny')


@pytest.fixture
def heightmap() -> Heightmap:
    return Heightmap(*picture((64, 96)), WORKSPACE)


def test_the_best_candidate_is_the_maps_maximum(clip: FrozenClip, heightmap: Heightmap) -> None:
    model = small_model(clip)
    plan = CliportPolicy(model).plan(heightmap, SENTENCE)
    for chances, pose in ((plan.pick_map, plan.best.pick), (plan.place_map, plan.best.place)):
        assert chances.shape == (64, 96)
        assert chances.sum() == pytest.approx(1, abs=1e-4)
        if chances is plan.pick_map:
            row, col = divmod(int(chances.argmax()), 96)
            assert abs(pose.row - row) <= 2
            assert abs(pose.col - col) <= 2
    assert plan.best.pick.angle_rad == 0
    assert plan.best.place.angle_rad % (np.pi / 2) == pytest.approx(0, abs=1e-9)


def test_candidates_have_picks_of_their_own(clip: FrozenClip, heightmap: Heightmap) -> None:
    plan = CliportPolicy(small_model(clip)).plan(heightmap, SENTENCE, count=4)
    assert len(plan.candidates) == 4
    scores = [candidate.score for candidate in plan.candidates]
    assert scores == sorted(scores, reverse=True)
    places = np.array([(c.pick.row, c.pick.col) for c in plan.candidates])
    apart = np.abs(places[:, None] - places[None]).max(axis=2) + 1000 * np.eye(4)
    assert apart.min() >= APART_PX - 2


def test_the_same_question_has_the_same_answer(clip, heightmap, tmp_path) -> None:
    model = small_model(clip, pick_angles=2)
    save_checkpoint(model, tmp_path)
    policy = CliportPolicy(model)
    first, second = policy.plan(heightmap, SENTENCE), policy.plan(heightmap, SENTENCE)
    loaded = CliportPolicy.load(tmp_path, clip=clip).plan(heightmap, SENTENCE)
    for other in (second, loaded):
        assert other.candidates == first.candidates
        assert np.array_equal(other.place_map, first.place_map)


def test_a_model_that_has_planned_can_still_be_trained(clip: FrozenClip, heightmap) -> None:
    model = small_model(clip, rotations=5, crop_px=64)
    CliportPolicy(model).plan(heightmap, 'the orange ring')
    scene = Scene.of([(heightmap.color, heightmap.height_m, heightmap.seen)])
    pick, place = model.train()(scene, model.embed(['the orange ring']), torch.tensor([[3, 4]]))
    (pick.logsumexp((1, 2, 3)) + place.logsumexp((1, 2, 3))).sum().backward()
    assert model.reader.content.weight.grad is not None


def test_half_precision_answers_nearly_the_same(clip: FrozenClip, heightmap: Heightmap) -> None:
    model = small_model(clip)
    whole = CliportPolicy(model).plan(heightmap, SENTENCE)
    half = CliportPolicy(model, precision='bf16').plan(heightmap, SENTENCE)
    np.testing.assert_allclose(half.pick_map, whole.pick_map, rtol=0.2, atol=1e-5)


def test_a_peak_between_cells_is_found_there(clip: FrozenClip, heightmap: Heightmap) -> None:
    policy = CliportPolicy(small_model(clip))
    chances = np.zeros((1, 32, 48))
    chances[0, 10, 20] = chances[0, 10, 21] = 0.5
    pose = policy._pixel(chances, (0, 10, 20), (64, 96), 2 * np.pi)
    # Between cells 20 and 21 lies the border of pixels 41 and 42; of cell 10, that of 20 and 21.
    assert (pose.row, pose.col) == (21, 42)


def test_bad_questions_are_refused(clip: FrozenClip, heightmap: Heightmap) -> None:
    policy = CliportPolicy(small_model(clip))
    with pytest.raises(ValueError, match='empty'):
        policy.plan(heightmap, '  ')
    with pytest.raises(ValueError, match='count'):
        policy.plan(heightmap, SENTENCE, count=0)
    with pytest.raises(ValueError, match='precision'):
        CliportPolicy(small_model(clip), precision='int8')
    assert torch.is_inference_mode_enabled() is False


def test_each_candidate_has_a_place_map_of_its_own(clip: FrozenClip, heightmap: Heightmap) -> None:
    plan = CliportPolicy(small_model(clip)).plan(heightmap, SENTENCE, count=3)
    assert len(plan.place_maps) == 3
    assert plan.place_map is plan.place_maps[0]
    for each, chances in zip(plan.candidates, plan.place_maps, strict=True):
        assert chances.sum() == pytest.approx(1, abs=1e-4)
        # A cell holds at least what one of its turns has.
        cell = chances[each.place.row - 1 : each.place.row + 2, each.place.col - 1 :][:, :3]
        assert cell.sum() >= 0.9 * each.place_probability
    assert not np.allclose(plan.place_maps[0], plan.place_maps[1], rtol=1e-3)


def test_one_may_stop_it_between_pick_and_place(clip: FrozenClip, heightmap: Heightmap) -> None:
    model, calls = small_model(clip), []

    def stop() -> None:
        calls.append(len(calls))
        if len(calls) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        CliportPolicy(model).plan(heightmap, SENTENCE, count=3, before_place=stop)
    assert calls == [0, 1]
