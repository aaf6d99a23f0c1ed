import math
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from small_cliport import small_model

from vlm_nodes.cliport.backbones import FrozenClip
from vlm_nodes.cliport.checkpoint import save_checkpoint
from vlm_nodes.cliport.demos import seed_of
from vlm_nodes.cliport.policy import Candidate, Plan
from vlm_nodes.cliport.poses import PixelPose, labels_of_poses
from vlm_nodes.cliport.record_video import Film, PictureBook
from vlm_nodes.cliport.rollouts import Job, play, play_all, roll_out
from vlm_nodes.cliport.workspace import Workspace
from vlm_nodes.simulation.tabletop import Tabletop, make_task
from vlm_nodes.simulation.tabletop.cameras import Cameras

TASK = 'put-block-in-bowl-seen-colors'
WORKSPACE = Workspace()


def plan_of(pick: PixelPose, place: PixelPose) -> Plan:
    spread = np.full(WORKSPACE.shape, 1 / math.prod(WORKSPACE.shape), np.float32)
    return Plan((Candidate(pick, place, 0.5, 0.5),), spread, (spread,))


class Expert:
    """Answers in pixels what the table's expert would do."""

    def __init__(self, table: Tabletop) -> None:
        self._table = table
        self.told: list[str] = []

    def plan(self, heightmap, instruction, count=1) -> Plan:
        self.told.append(instruction)
        pick, place, _ = self._table.oracle()
        return plan_of(*labels_of_poses(heightmap.workspace, pick, place))


class Corner:
    """Picks where nothing is."""

    def plan(self, heightmap, instruction, count=1) -> Plan:
        return plan_of(PixelPose(1, 1), PixelPose(5, 5))


class Notes:
    def __init__(self) -> None:
        self.lines: list[object] = []

    def begin(self, table) -> None:
        self.lines.append(table.seed)

    def planned(self, action) -> None:
        self.lines.append(('planned', math.isnan(action.reward)))

    def done(self, action) -> None:
        self.lines.append(('done', action.reward))

    def end(self, result) -> None:
        self.lines.append(result)


@pytest.fixture(scope='module')
def cameras():
    with Cameras() as all_of_them:
        yield all_of_them


def table_of(cameras, seed=1, task=TASK) -> Tabletop:
    return Tabletop(make_task(task, mode='val'), seed, cameras)


@pytest.mark.parametrize('task', [TASK, 'towers-of-hanoi-seq-seen-colors'])
def test_what_an_expert_shows_in_pixels_is_done(cameras, task) -> None:
    table = table_of(cameras, task=task)
    result = roll_out(Expert(table), table, WORKSPACE)
    assert result.success
    assert result.reward == pytest.approx(1)
    assert result.steps == len(result.picked) == len(result.instructions)
    assert None not in result.picked


def test_who_picks_nothing_gains_nothing_and_is_stopped(cameras) -> None:
    table = table_of(cameras)
    table.reset()
    asked = table.instruction
    result = roll_out(Corner(), table, WORKSPACE)
    assert (result.reward, result.success) == (0, False)
    assert set(result.picked) == {None}
    assert set(result.instructions) == {asked}
    blocks = sum(body.name.startswith('block') for body in table.truth())
    assert result.steps == blocks + 1


def test_watchers_see_every_action(cameras) -> None:
    table, notes = table_of(cameras), Notes()
    result = roll_out(Expert(table), table, WORKSPACE, [notes])
    assert notes.lines[0] == 1
    assert notes.lines[-1] == result
    assert notes.lines[1] == ('planned', True)
    rewards = [line[1] for line in notes.lines[1:-1] if line[0] == 'done']
    assert len(rewards) == result.steps
    assert sum(rewards) == pytest.approx(result.reward)


def test_another_sentence_can_be_said(cameras) -> None:
    table = table_of(cameras)
    expert = Expert(table)
    result = roll_out(expert, table, WORKSPACE, say=lambda told: told.replace('put', 'lay'))
    assert all(told.startswith('lay the') for told in expert.told)
    assert result.instructions == tuple(expert.told)


def test_a_film_and_pictures_of_an_episode(cameras, tmp_path) -> None:
    table = table_of(cameras)
    film = tmp_path / 'films' / '1.mp4'
    watchers = [Film(film), PictureBook(tmp_path / 'pictures')]
    watched = roll_out(Expert(table), table, WORKSPACE, watchers)
    assert table.world.after_step is None
    reader = cv2.VideoCapture(str(film))
    frames = []
    while True:
        there, frame = reader.read()
        if not there:
            break
        frames.append(frame)
    # Half a second and more is shown still; the carrying is what differs.
    assert len(frames) > 50 * watched.steps
    moving = sum(np.abs(a.astype(int) - b).mean() > 0.01 for a, b in pairwise(frames))
    assert moving > 20
    assert not list(film.parent.glob('.*'))
    pictures = sorted((tmp_path / 'pictures').iterdir())
    assert [path.name for path in pictures] == [f'000001-{k}.png' for k in range(watched.steps)]
    assert cv2.imread(str(pictures[0])).shape == (3 * (320 + 26), 640, 3)
    # Being watched changes nothing.
    assert roll_out(Expert(table), table, WORKSPACE) == watched


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp('policy') / 'checkpoints' / 'step-000001'
    save_checkpoint(small_model(FrozenClip.load('tiny')), folder, training={'seed': 0})
    return folder


def test_the_same_job_has_the_same_result(checkpoint) -> None:
    torch.set_num_threads(1)
    job = Job(checkpoint, TASK, 'val', seed_of('val', 3))
    first, again = play(job), play(job)
    assert first == again
    assert first.seed == 7


def test_jobs_come_back_in_order_from_any_number_of_processes(checkpoint) -> None:
    jobs = [Job(checkpoint, TASK, 'val', seed_of('val', index)) for index in range(2)]
    alone = list(play_all(jobs))
    assert [job for job, _ in alone] == jobs
    assert list(play_all(jobs, workers=2)) == alone


def test_no_worker_plays_nothing(checkpoint) -> None:
    with pytest.raises(ValueError, match='workers'):
        list(play_all([Job(checkpoint, TASK, 'val', 1)], workers=0))
